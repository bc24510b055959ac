package follow

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// running is a follower that runs, without NATS, on the time of testing/synctest.
type running struct {
	*Follower
	*published
	control *control
	reg     *prometheus.Registry
	stop    func()
}

// bubbleClock is the time of testing/synctest, by which no machine is ever suspended.
func bubbleClock() clock {
	start := time.Now()
	return clock{boot: func() time.Duration { return time.Since(start) }, wall: time.Now}
}

func start(t *testing.T, c *control, dir string) *running {
	t.Helper()
	r := &running{published: &published{}, control: c, reg: prometheus.NewRegistry()}
	var err error
	r.Follower, err = newFollower(Config{
		Conn: noNATS(t), Events: c.client(), Keys: c.log.keys, Publish: r.published.publish, Dir: dir, Logger: testenv.Logger(t), Registerer: r.reg,
	}, bubbleClock())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returns %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// pass lets time pass, and everything that happens meanwhile happen.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func (r *running) want(t *testing.T, position int, fresh time.Duration, status error) {
	t.Helper()
	if s := r.State(); s == nil || s.Position != uint64(position) || r.last() != s {
		t.Errorf("the state is %v, want position %d", s, position)
	}
	if d, proven := r.Staleness(); !proven || d > fresh {
		t.Errorf("staleness %v, %v, want at most %v", d, proven, fresh)
	}
	if err := r.Status(); !errors.Is(err, status) {
		t.Errorf("status %v, want %v", err, status)
	}
}

// NATS away for ever: what is new is here with the next question, and the wait for a live event that does not come.
func TestFollowsWithoutNATS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		r := start(t, c, "")
		pass(2 * time.Second)
		r.want(t, 3, 2*time.Second, nil)
		for i := range 5 {
			c.set(func(s *served) { s.log.engines(3) })
			pass(1500 * time.Millisecond)
			r.want(t, 9+6*i, 2*time.Second, nil)
		}
		if n := c.count("ReadState"); n != 1 {
			t.Errorf("the state was read %d times", n)
		}
	})
}

// Control away: the state stays, and no freshness is claimed that nobody proved; it is said, and over when control is back.
func TestControlAway(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(s *served, fails bool){
		"away":   func(s *served, fails bool) { s.away = fails },
		"silent": func(s *served, fails bool) { s.silent = fails },
		"replays an old answer": func(s *served, fails bool) {
			if s.nonce = nil; fails {
				s.nonce = []byte("an older question's")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newControl(newHistory(t).engines(1))
				r := start(t, c, "")
				pass(3 * time.Second)
				r.want(t, 3, 2*time.Second, nil)
				c.set(func(s *served) { fail(s, true) })
				pass(time.Minute)
				if d, proven := r.Staleness(); !proven || d < time.Minute || d > 62*time.Second {
					t.Errorf("after a minute without control: %v, %v", d, proven)
				}
				if err := r.Status(); err == nil || errors.Is(err, ErrStopped) {
					t.Errorf("status %v", err)
				}
				c.set(func(s *served) { fail(s, false); s.log.engines(1) })
				pass(7 * time.Second) // a silent question ends after 5
				r.want(t, 5, 2*time.Second, nil)
			})
		})
	}
}

// A node that starts before control: no state and a reason, until there is one.
func TestColdStartWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		c.noState = true
		r := start(t, c, "")
		pass(time.Minute)
		if r.State() != nil || r.last() != nil || r.Status() == nil || !strings.Contains(r.Status().Error(), "not served") {
			t.Errorf("state %v, status %v", r.State(), r.Status())
		}
		if _, proven := r.Staleness(); proven || !math.IsInf(metric(t, r.reg, "staleness_seconds", ""), 1) {
			t.Error("it claims to be fresh")
		}
		if n := c.count("ReadState"); n > 25 {
			t.Errorf("it asked %d times in a minute", n)
		}
		c.set(func(s *served) { s.noState = false })
		pass(7 * time.Second)
		r.want(t, 3, 2*time.Second, nil)
	})
}

// A log that has not begun is no state.
func TestEmptyLogIsNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		c := newControl(h.branch(0))
		r := start(t, c, "")
		pass(10 * time.Second)
		if r.State() != nil || !errors.Is(r.Status(), errNoState) {
			t.Errorf("state %v, status %v", r.State(), r.Status())
		}
		c.set(func(s *served) { s.vouched = &policy.State{LogID: "log-1", Position: 9} })
		pass(10 * time.Second)
		if r.State() != nil || !strings.Contains(r.Status().Error(), "has not begun") {
			t.Errorf("state %v, status %v", r.State(), r.Status())
		}
		c.set(func(s *served) { s.vouched = nil; s.log = h.engines(1) })
		pass(7 * time.Second)
		r.want(t, 3, 2*time.Second, nil)
	})
}

// Promise 3: the log goes back, or differs. The newer state is kept, nothing claims to be fresh, and what is said tells why. When
// the log is whole again, all is well.
func TestLogWentBack(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(10) // 1..21
	other := h.branch(11)
	other.do(bob, policy.CreateEngine{ID: "B-0123456789", Name: "B"})
	another := newHistory(t)
	another.signer, another.keys, another.events, another.states = h.signer, h.keys, nil, another.states[:1:1]
	another.do(policy.LogAccount, policy.CreateLog{ID: "log-2", Region: "us-east-1"})
	tests := map[string]struct {
		log    *history
		status error
		says   string
	}{
		"shorter":                {h.branch(11), ErrWentBack, "ends at position 11"},
		"empty":                  {h.branch(0), ErrWentBack, "no log"},
		"other, shorter":         {other.branch(13), ErrWentBack, "ends at position 13"},
		"other, as long":         {other.branch(13).engines(4), ErrWentBack, "another event at position 21"},
		"other, longer":          {other.branch(13).engines(20), ErrWentBack, "another history"},
		"another log":            {another.branch(1), ErrAnotherLog, "log-2"},
		"another log, as long":   {another.branch(1).engines(10), ErrAnotherLog, "log-2"},
		"another log, of longer": {another.branch(1).engines(20), ErrAnotherLog, "log-2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newControl(h)
				r := start(t, c, "")
				pass(3 * time.Second)
				r.want(t, 21, 2*time.Second, nil)
				c.set(func(s *served) { s.log = test.log })
				pass(time.Minute)
				if r.State().Hash != h.head().Hash || r.halted() {
					t.Errorf("the state is at %d, stopped %v", r.State().Position, r.halted())
				}
				if err := r.Status(); !errors.Is(err, test.status) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("status %v, want %v and %q", err, test.status, test.says)
				}
				if d, _ := r.Staleness(); d < time.Minute {
					t.Errorf("it claims to be %v old", d)
				}
				if n := c.count("ReadEvents"); n > 30 {
					t.Errorf("it read %d times in a minute", n)
				}
				c.set(func(s *served) { s.log = h.branch(21).engines(1) })
				pass(7 * time.Second)
				r.want(t, 23, 2*time.Second, nil)
			})
		})
	}
}

// An unknown type that only control has: it stops, serves, grows stale; the log may go on as it likes.
func TestUnknownTypeFromControl(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t).engines(1)
		c := newControl(h)
		r := start(t, c, "")
		pass(3 * time.Second)
		next := h.branch(3)
		next.events = append(next.events, h.later(otherType))
		next.states = append(next.states, &policy.State{LogID: "log-1", Position: 4, Hash: policy.Hash(next.events[3].GetHash())})
		c.set(func(s *served) { s.log = next })
		pass(time.Minute)
		if err := r.Status(); r.State().Position != 3 || !errors.Is(err, ErrStopped) || !errors.Is(err, stream.ErrUnknownType) {
			t.Errorf("at %d: %v", r.State().Position, err)
		}
		if d, proven := r.Staleness(); !proven || d < 58*time.Second {
			t.Errorf("it claims to be %v old", d)
		}
	})
}

// Control vouches for what it does not give: asked again, but not at every turn, and said.
func TestHeadWithoutEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		r := start(t, c, "")
		pass(3 * time.Second)
		c.set(func(s *served) { s.vouched = &policy.State{LogID: "log-1", Position: 9} })
		pass(time.Minute)
		if err := r.Status(); !errors.Is(err, ErrBehind) {
			t.Errorf("status %v", err)
		}
		if n := c.count("ReadEvents"); n < 10 || n > 60 {
			t.Errorf("it read %d times in a minute", n)
		}
		if d, _ := r.Staleness(); d < 58*time.Second {
			t.Errorf("it claims to be %v old", d)
		}
	})
}

// Wait ends when the position was published, not before, and with what is wrong when it was not.
func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		r := start(t, c, "")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for _, position := range []uint64{0, 1, 3} {
			if err := r.Wait(ctx, position); err != nil {
				t.Error(err)
			}
		}
		got := make(chan error, 3)
		for _, position := range []uint64{4, 5, 6} {
			go func() { got <- r.Wait(ctx, position) }()
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Errorf("%d ended before anything happened", len(got))
		}
		c.set(func(s *served) { s.log.engines(1) })
		pass(2 * time.Second)
		if len(got) != 2 || <-got != nil || <-got != nil {
			t.Error("two positions are reached")
		}
		if err := <-got; !errors.Is(err, ErrBehind) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "position 5") {
			t.Errorf("in the end: %v", err)
		}
		if len(r.queue.waiting) != 0 {
			t.Error("somebody still waits")
		}
	})
}

// Who waits is bounded: each is a request that is held open.
func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, err := New(Config{Conn: noNATS(t), Logger: testenv.Logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range maxWaiters {
			go func() { _ = f.Wait(ctx, 1) }()
		}
		synctest.Wait()
		if err := f.Wait(ctx, 1); !errors.Is(err, ErrBusy) {
			t.Errorf("one more: %v", err)
		}
	})
}

// A control that finds by itself that the log went back refuses to tell a head. Then that is what is said.
func TestControlFindsThatTheLogWentBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		r := start(t, c, "")
		pass(3 * time.Second)
		refusal := connect.NewError(connect.CodeFailedPrecondition, errors.New("writes are refused"))
		c.set(func(s *served) { s.refusal = refusal })
		pass(3 * time.Second)
		if err := r.Status(); errors.Is(err, ErrWentBack) || !strings.Contains(err.Error(), "control refuses") {
			t.Errorf("a refusal without a reason: %v", err)
		}
		detail, err := connect.NewErrorDetail(&controlv1.Problem{Code: "log_went_back"})
		if err != nil {
			t.Fatal(err)
		}
		refusal = connect.NewError(connect.CodeFailedPrecondition, errors.New("writes are refused"))
		refusal.AddDetail(detail)
		c.set(func(s *served) { s.refusal = refusal })
		pass(3 * time.Second)
		r.want(t, 3, 9*time.Second, ErrWentBack)
	})
}

// An answer that took long proves what was true when it was asked for.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		c.delay = 3 * time.Second
		r := start(t, c, "")
		for range 20 {
			pass(time.Second)
			if d, proven := r.Staleness(); proven && d < 3*time.Second {
				t.Errorf("%v old, though every answer takes 3 s", d)
			}
		}
		r.want(t, 3, 7*time.Second, nil)
	})
}

// Whoever waited for a position finds it in what Publish was given.
func TestWaitComesAfterPublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		r := start(t, c, "")
		r.published.set(time.Second)
		for _, position := range []uint64{3, 5} {
			if err := r.Wait(t.Context(), position); err != nil {
				t.Error(err)
			}
			if s := r.last(); s == nil || s.Position < position {
				t.Errorf("%d was waited for, and another published: %v", position, s)
			}
			c.set(func(s *served) { s.log.engines(1) })
		}
	})
}

// A read that hangs ends, and is tried again.
func TestReadHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		c.hangs = "ReadState"
		r := start(t, c, "")
		pass(stateTimeout + 3*time.Second)
		if err := r.Status(); err == nil || !strings.Contains(err.Error(), "nothing came within 1m") {
			t.Errorf("status %v", err)
		}
		c.set(func(s *served) { s.hangs = "" })
		pass(stateTimeout)
		r.want(t, 3, 2*time.Second, nil)
		c.set(func(s *served) { s.hangs = "ReadEvents"; s.log.engines(1) })
		pass(8 * time.Second)
		if err := r.Status(); err == nil || !strings.Contains(err.Error(), "nothing came within 5s") {
			t.Errorf("status %v", err)
		}
		if n := c.count("ReadEvents"); n > 2 {
			t.Errorf("%d reads at a time", n)
		}
		c.set(func(s *served) { s.hangs = "" })
		pass(8 * time.Second)
		r.want(t, 5, 2*time.Second, nil)
	})
}

// A long way behind: the pages are published one at a time, and each is a whole state.
func TestManyPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t).engines(50)
		c := newControl(h.branch(3))
		c.page = 10
		r := start(t, c, dir)
		pass(3 * time.Second)
		r.want(t, 3, 2*time.Second, nil)
		c.set(func(s *served) { s.log = h })
		pass(2 * time.Second)
		r.want(t, 101, 2*time.Second, nil)
		if n := len(r.states); n != 1+10 {
			t.Errorf("published %d times", n)
		}
		for _, s := range r.states {
			if !s.Whole {
				t.Errorf("position %d is not whole", s.Position)
			}
		}
		r.stop()
		again := start(t, c, dir)
		if s := again.State(); s == nil || s.Hash != h.head().Hash {
			t.Errorf("the file has position %d", position(s))
		}
	})
}
