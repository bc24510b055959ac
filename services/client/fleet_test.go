package client

import (
	"errors"
	"log/slog"
	"testing"
	"time"
)

var errAway = errors.New("away")

func newFleet(names ...string) *fleet {
	f := &fleet{logger: slog.New(slog.DiscardHandler), pause: func(failures int) time.Duration { return time.Duration(failures) * time.Second }}
	for _, name := range names {
		f.nodes = append(f.nodes, &node{name: name})
	}
	return f
}

// begun is who is asked at a time, seconds from zero.
func begun(t *testing.T, f *fleet, at int, asked ...*node) pick {
	t.Helper()
	p, ok := f.begin(asked, clock(at))
	if !ok {
		t.Fatal("nobody is asked")
	}
	return p
}

func clock(seconds int) time.Time { return time.Unix(int64(seconds), 0) }

// The node with the fewest requests under way is asked, and equal ones take turns.
func TestLeastLoaded(t *testing.T) {
	f := newFleet("a", "b", "c")
	asked := map[string]int{}
	for range 30 {
		p := begun(t, f, 0)
		asked[p.node.name]++
		f.end(p, well, nil, clock(0))
	}
	if asked["a"] != 10 || asked["b"] != 10 || asked["c"] != 10 {
		t.Errorf("one after the other: %v", asked)
	}
	busy := begun(t, f, 0)
	for range 10 {
		p := begun(t, f, 0)
		if p.node == busy.node {
			t.Fatalf("%s is asked, which is not one of those that are free", p.node.name)
		}
		f.end(p, well, nil, clock(0))
	}
}

// A node that failed is left out while another is there; then one call tries it again, and it is left out for longer.
func TestLeftOut(t *testing.T) {
	f := newFleet("a", "b")
	a, b := f.nodes[0], f.nodes[1]
	first := begun(t, f, 0, b)
	f.end(first, failing, errAway, clock(0)) // until 1
	for range 10 {
		p := begun(t, f, 0)
		if p.node != b {
			t.Fatal("it is asked while it is left out")
		}
		f.end(p, well, nil, clock(0))
	}
	if p := begun(t, f, 1, b); p.node != a || !p.last {
		t.Error("it is not asked when there is no other")
	} else {
		f.end(p, unknown, nil, clock(1))
	}
	probe := begun(t, f, 1)
	if probe.node != a || !probe.probe {
		t.Fatal("it is not tried again")
	}
	if p := begun(t, f, 1); p.node != b {
		t.Error("two calls try it at once")
	}
	f.end(probe, failing, errAway, clock(1)) // until 3
	if p := begun(t, f, 2); p.node != b {
		t.Error("it is not left out for longer")
	}
	f.end(begun(t, f, 3), well, nil, clock(3))
	if a.failures != 0 || !a.until.IsZero() {
		t.Error("it is not back")
	}
}

// A call that another node has failed goes to one that is well, not to one that might be back.
func TestSecondAttempt(t *testing.T) {
	f := newFleet("a", "b", "c")
	f.end(begun(t, f, 0, f.nodes[1], f.nodes[2]), failing, errAway, clock(0)) // a
	if p := begun(t, f, 5, f.nodes[1]); p.node != f.nodes[2] {
		t.Errorf("%s is asked", p.node.name)
	}
}

// What began before a failure was known says nothing after it: neither that the node failed more than once, nor that it is well.
func TestAttemptsFromBefore(t *testing.T) {
	f := newFleet("a")
	together := []pick{begun(t, f, 0), begun(t, f, 0), begun(t, f, 0)}
	f.end(together[0], failing, errAway, clock(0))
	f.end(together[1], failing, errAway, clock(0))
	if f.nodes[0].failures != 1 {
		t.Errorf("%d failures", f.nodes[0].failures)
	}
	f.end(together[2], well, nil, clock(0))
	if f.nodes[0].failures != 1 || f.nodes[0].inFlight != 0 {
		t.Errorf("%d failures, %d under way", f.nodes[0].failures, f.nodes[0].inFlight)
	}
}

// The pause grows from a tenth of a second to ten, whatever the number of failures.
func TestPause(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: minPause, 2: 2 * minPause, 4: 8 * minPause, 8: maxPause, 1000: maxPause} {
		for range 100 {
			if got := pause(failures); got < want*9/10 || got > want*11/10 {
				t.Fatalf("%v after %d failures, want about %v", got, failures, want)
			}
		}
	}
}
