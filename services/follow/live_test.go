package follow

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// Promise 4: whole commands or nothing, and whoever was concerned.
func TestWholeCommandsArePublished(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(1) // 1 log, 2 and 3 an engine
	h.do(bob, policy.CreateEngine{ID: "B-0123456789", Name: "B"})
	b := newBench(t, h, 1)
	for i, want := range []int{1, 3, 3, 5} {
		b.receive(t.Context(), live(t, h.events[1+i]))
		wantPosition(t, b, want)
	}
	if got := b.published.accounts; len(got) != 3 || got[0] != nil || !slices.Equal(got[1], []string{alice}) || !slices.Equal(got[2], []string{bob}) {
		t.Errorf("accounts %v", got)
	}
}

// Promise 4: it applies an event only if the signature is control's, the position the next, the hash its own. What it refuses
// changes nothing, and has nothing read.
func TestRefusesWhatIsNotNext(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(5) // 1..11
	other := h.branch(3)
	other.do(alice, policy.CreateEngine{ID: "X-0123456789", Name: "X"})
	other.do(alice, policy.CreateEngine{ID: "Y-0123456789", Name: "Y"})
	stranger := h.branch(5)
	stranger.signer, _ = testenv.NewKeys(t)
	stranger.engines(3)
	another := newHistory(t)
	another.signer, another.keys = h.signer, h.keys
	another.events, another.states = nil, another.states[:1]
	another.do(policy.LogAccount, policy.CreateLog{ID: "log-2", Region: "us-east-1"})
	another.engines(5)
	changed := proto.CloneOf(h.events[5])
	changed.Body[len(changed.Body)-1] ^= 1
	stolen := proto.CloneOf(changed)
	stolenHash := stream.HashBody(stolen.GetBody())
	stolen.Hash = stolenHash[:]
	padded := live(t, h.events[5]) // the next, with a member that nobody knows
	padded.Data = protowire.AppendBytes(protowire.AppendTag(padded.Data, 15, protowire.BytesType), make([]byte, stream.MaxEvent))
	forgedHint := h.hint()
	forgedHint.Data = slices.Clone(forgedHint.Data)
	forgedHint.Data[4] ^= 1
	tests := map[string]struct {
		msg   *nats.Msg
		cause string
	}{
		"no message":                          {&nats.Msg{Subject: "verdict.live.x", Data: []byte("junk")}, "junk"},
		"too large":                           {padded, "junk"},
		"nothing":                             {&nats.Msg{Subject: "verdict.live.x"}, "signature"},
		"a hint that is none":                 {&nats.Msg{Subject: stream.HeadSubject, Data: []byte("junk")}, "junk"},
		"a hint that was changed":             {forgedHint, "signature"},
		"a hint of another log":               {another.hint(), "log"},
		"the next, signed by a stranger":      {live(t, stranger.events[5]), "signature"},
		"one far ahead, signed by a stranger": {live(t, stranger.events[9]), "signature"},
		"the next, its body changed":          {live(t, changed), "junk"},
		"… and the hash with it":              {live(t, stolen), "signature"},
		"the next, of another history":        {live(t, other.events[5]), "history"},
		"the next, of another log":            {live(t, another.events[5]), "log"},
		"the same again":                      {live(t, h.events[4]), "duplicate"},
		"an old one":                          {live(t, h.events[0]), "duplicate"},
		"of a later version, by a stranger":   {live(t, stranger.branch(5).later(otherType)), "signature"},
		"of a later version, another history": {live(t, other.branch(5).later(otherType)), "history"},
		"of a later version, of another log":  {live(t, another.branch(5).later(otherType)), "log"},
		"of a later version, an old one":      {live(t, h.branch(3).later(otherType)), "duplicate"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, h, 5)
			b.receive(t.Context(), test.msg)
			wantPosition(t, b, 5)
			if got := metric(t, b.reg, "refused_total", test.cause); got != 1 {
				t.Errorf("refused for %s: %v", test.cause, got)
			}
			if b.halted() || b.wanted > 5 {
				t.Errorf("it made the follower stop (%v) or read up to %d", b.halted(), b.wanted)
			}
			b.receive(t.Context(), live(t, h.events[5]))
			b.receive(t.Context(), live(t, h.events[6]))
			wantPosition(t, b, 7)
		})
	}
}

// Promise 4: an unknown type stops it, though the events after it are known, by whatever way it comes. It keeps what it has.
func TestUnknownTypeStops(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(2) // 1..5
	tests := map[string]struct {
		change func(*eventv1.EventBody)
		give   func(t *testing.T, b *bench, ev *eventv1.PolicyEvent)
	}{
		"live":               {otherType, func(t *testing.T, b *bench, ev *eventv1.PolicyEvent) { b.receive(t.Context(), live(t, ev)) }},
		"live, other reader": {otherReader, func(t *testing.T, b *bench, ev *eventv1.PolicyEvent) { b.receive(t.Context(), live(t, ev)) }},
		"from control": {otherType, func(t *testing.T, b *bench, ev *eventv1.PolicyEvent) {
			b.fold(t.Context(), []*eventv1.PolicyEvent{h.events[3], h.events[4], ev})
		}},
		"from control, other reader": {otherReader, func(t *testing.T, b *bench, ev *eventv1.PolicyEvent) {
			b.fold(t.Context(), []*eventv1.PolicyEvent{ev})
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, h, 3)
			b.receive(t.Context(), live(t, h.events[3]))
			b.receive(t.Context(), live(t, h.events[4]))
			test.give(t, b, h.later(test.change))
			wantPosition(t, b, 5)
			if err := b.Status(); !b.halted() || !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), "upgrade") || !strings.Contains(err.Error(), "position 5") {
				t.Errorf("stopped %v: %v", b.halted(), err)
			}
			if metric(t, b.reg, "stopped", "") != 1 {
				t.Error("no metric says so")
			}
		})
	}
}

// One that is not behind the state is read first: what stands between may be known.
func TestUnknownTypeFurtherOnIsReadFirst(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(2)
	b := newBench(t, h, 3)
	b.receive(t.Context(), live(t, h.later(otherType)))
	if b.halted() || b.wanted != 6 {
		t.Errorf("stopped %v, reads up to %d", b.halted(), b.wanted)
	}
}

// A genuine event that stands right and cannot have happened: the log, or this program, is wrong, and going on would be worse.
func TestEventThatCannotBeAppliedStops(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(2)
	bad := h.later(func(b *eventv1.EventBody) { b.StreamVersion = 7 })
	stranger := *h
	stranger.signer, _ = testenv.NewKeys(t)
	forged := stranger.later(func(b *eventv1.EventBody) { b.StreamVersion = 7 })
	for name, give := range map[string]func(*bench, *eventv1.PolicyEvent){
		"live":         func(b *bench, ev *eventv1.PolicyEvent) { b.receive(t.Context(), live(t, ev)) },
		"from control": func(b *bench, ev *eventv1.PolicyEvent) { b.fold(t.Context(), []*eventv1.PolicyEvent{ev}) },
	} {
		b := newBench(t, h, 5)
		give(b, forged)
		if b.halted() {
			t.Errorf("%s: a forged one stopped it: %v", name, b.Status())
		}
		give(b, bad)
		wantPosition(t, b, 5)
		if err := b.Status(); !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), "version 7") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Promise 4, as a property: messages may be lost, doubled, late or forged, and reads may come at any time: every state that is
// published is a whole one of the log, none is older than the one before, and a read to the end is all it takes to have it all.
func TestAnyOrderEndsAtTheLog(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(12)
	stranger := h.branch(9)
	stranger.signer, _ = testenv.NewKeys(t)
	stranger.engines(8)
	for seed := range uint64(200) {
		dice := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t, h, 1+2*dice.IntN(6))
		for range 120 {
			at := dice.IntN(len(h.events))
			switch near := int(b.published0()) + dice.IntN(3); {
			case dice.IntN(4) > 0 && near < len(h.events):
				b.receive(t.Context(), live(t, h.events[near]))
			case dice.IntN(5) == 0:
				b.receive(t.Context(), live(t, stranger.events[at%len(stranger.events)]))
			case dice.IntN(10) == 0:
				b.tip, b.torn = b.State(), nil // as a read begins
				from := int(b.published0())
				b.fold(t.Context(), h.events[from:min(len(h.events), from+dice.IntN(5))])
			default:
				b.receive(t.Context(), live(t, h.events[at]))
			}
		}
		b.tip, b.torn = b.State(), nil
		b.fold(t.Context(), h.events[b.published0():])
		wantPosition(t, b, len(h.events))
		for i, s := range b.states {
			if !s.Whole || s.Hash != h.states[s.Position].Hash || i > 0 && s.Position <= b.states[i-1].Position {
				t.Fatalf("seed %d: published %d (whole: %v) as number %d", seed, s.Position, s.Whole, i)
			}
		}
	}
}

func (b *bench) published0() uint64 { return b.loop.published() }

// Events that come before their turn are not lost: when what was missing has come, they are there.
func TestEarlyEventsAreKept(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(4) // 1..9
	b := newBench(t, h, 3)
	for _, ev := range h.events[5:] {
		b.receive(t.Context(), live(t, ev))
	}
	wantPosition(t, b, 3)
	if b.wanted != 9 {
		t.Errorf("it reads up to %d, want 9", b.wanted)
	}
	b.fold(t.Context(), h.events[3:5])
	wantPosition(t, b, 9)
}

// What is kept has a bound.
func TestEarlyEventsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(maxEarly)
	b := newBench(t, h, 1)
	for _, ev := range h.events[2:] {
		b.receive(t.Context(), live(t, ev))
	}
	if n := len(b.early.events); n != maxEarly || metric(t, b.reg, "refused_total", "early") == 0 {
		t.Errorf("%d events are kept", n)
	}
}

// A command that came in part is dropped when control is asked: it has the whole.
func TestTornCommandIsDroppedByARead(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(2)
	b := newBench(t, h, 3)
	b.receive(t.Context(), live(t, h.events[3]))
	if b.tip.Position != 4 || b.loop.published() != 3 {
		t.Fatalf("tip %d, published %d", b.tip.Position, b.loop.published())
	}
	b.want(5, 0)
	b.begin(t.Context())
	if b.tip.Position != 3 || !b.tip.Whole {
		t.Errorf("the tip of a read is %d", b.tip.Position)
	}
	b.readToTheEnd(t)
	wantPosition(t, b, 5)
}

// readToTheEnd turns the loop until the read that is under way has ended.
func (b *bench) readToTheEnd(t *testing.T) {
	t.Helper()
	for b.reading != nil {
		select {
		case page := <-b.pages:
			b.fold(t.Context(), page)
		case r := <-b.results:
			b.readEnded(t.Context(), r)
		}
	}
}

// Somebody repeats a genuine hint, of events that the log lost: control is read for it once in a while, not at every one.
func TestHintsAreNoAmplifier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t).engines(5)
		b := newBench(t, h, 3)
		b.control.log = h.branch(3)
		start := time.Now()
		for range 20 {
			b.receive(t.Context(), h.hint())
			<-b.due.C
			b.begin(t.Context())
			b.readToTheEnd(t)
		}
		if reads, passed := b.control.count("ReadEvents"), time.Since(start); reads != 20 || passed < 17*time.Second {
			t.Errorf("%d reads in %v", reads, passed)
		}
	})
}

// A page counts when the signature of its last event holds, and not before; a command that it cuts waits for the rest.
func TestPages(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(4) // 1..9
	tampered := func(i int, change func(*eventv1.PolicyEvent)) []*eventv1.PolicyEvent {
		var page []*eventv1.PolicyEvent
		for _, ev := range h.events[3:] {
			page = append(page, proto.CloneOf(ev))
		}
		change(page[i])
		return page
	}
	stranger := h.branch(3)
	stranger.signer, _ = testenv.NewKeys(t)
	stranger.engines(3)
	other := h.branch(3)
	other.do(alice, policy.CreateEngine{ID: "X-0123456789", Name: "X"})
	other.engines(2)
	tests := map[string]struct {
		page []*eventv1.PolicyEvent
		want int
	}{
		"whole":                      {h.events[3:], 9},
		"cut":                        {h.events[3:8], 7},
		"one event of two":           {h.events[3:4], 3},
		"empty":                      {nil, 3},
		"with what is here already":  {h.events, 9},
		"with a gap":                 {h.events[5:], 3},
		"a gap in the middle":        {append(slices.Clone(h.events[3:5]), h.events[7:]...), 5},
		"the last signature missing": {tampered(5, func(ev *eventv1.PolicyEvent) { ev.Signature = nil }), 3},
		"a body changed":             {tampered(3, func(ev *eventv1.PolicyEvent) { ev.Body[9] ^= 1 }), 5},
		"signed by a stranger":       {stranger.events[3:], 3},
		"of another history":         {other.events[5:], 3},
		"the end of another history": {append(slices.Clone(h.events[3:7]), other.branch(5).engines(2).events[7:]...), 7},
		"an event that is none":      {[]*eventv1.PolicyEvent{{}}, 3},
		"a signature in the middle is not needed": {tampered(2, func(ev *eventv1.PolicyEvent) { ev.Signature = nil }), 9},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, h, 3)
			b.fold(t.Context(), test.page)
			wantPosition(t, b, test.want)
			if b.halted() {
				t.Error(b.Status())
			}
			if calls := len(b.states); test.want > 3 && calls != 2 {
				t.Errorf("a page was published in %d calls", calls-1)
			}
		})
	}
}

// What comes live before there is a state is not lost: it stands behind the state that control sends, or is refused.
func TestLiveBeforeTheState(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(3) // 1..7
	other := h.branch(1)
	other.do(alice, policy.CreateEngine{ID: "X-0123456789", Name: "X"})
	other.do(alice, policy.CreateEngine{ID: "Y-0123456789", Name: "Y"})
	for name, test := range map[string]struct {
		live []*eventv1.PolicyEvent
		want int
	}{
		"right behind":       {h.events[3:], 7},
		"overlapping":        {h.events[1:], 7},
		"older":              {h.events[:2], 3},
		"of another history": {other.events[3:], 3},
		"of a later version": {[]*eventv1.PolicyEvent{h.later(otherType)}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, h, 0)
			for _, ev := range test.live {
				b.receive(t.Context(), live(t, ev))
			}
			wantPosition(t, b, 0)
			b.adopt(t.Context(), h.states[3])
			wantPosition(t, b, test.want)
			if b.halted() {
				t.Error(b.Status())
			}
			b.fold(t.Context(), h.events[test.want:])
			wantPosition(t, b, 7)
		})
	}
}
