package follow

import (
	"errors"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// asks is a question that leaves now.
func (b *bench) asks() answer { return answer{sent: b.clock.boot(), from: b.State()} }

// gets is what it is answered.
func (b *bench) gets(t *testing.T, a answer, s *policy.State) {
	t.Helper()
	a.head = stream.Head{LogID: s.LogID, Position: s.Position, Hash: s.Hash}
	b.answered(t.Context(), a)
}

func (b *bench) wantAge(t *testing.T, want time.Duration) {
	t.Helper()
	d, proven := b.Staleness()
	if proven != (want >= 0) || proven && d != want {
		t.Errorf("staleness %v, %v, want %v", d, proven, want)
	}
}

// Promise 5: staleness is the time since the newest question was sent whose answer has been applied: not since the answer, nor
// since an answer that has not been reached.
func TestStalenessCountsFromTheQuestion(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(3) // 1..7
	b := newBench(t, h, 3)
	b.wantAge(t, -1)
	first := b.asks()
	b.hands.pass(2*time.Second, 2*time.Second)
	b.gets(t, first, h.states[3])
	b.wantAge(t, 2*time.Second)

	second := b.asks()
	b.hands.pass(time.Second, time.Second)
	b.gets(t, second, h.states[5])
	b.wantAge(t, 3*time.Second)
	third := b.asks()
	b.hands.pass(time.Second, time.Second)
	b.gets(t, third, h.states[7])
	b.receive(t.Context(), live(t, h.events[3]))
	b.wantAge(t, 4*time.Second) // half a command
	b.receive(t.Context(), live(t, h.events[4]))
	b.wantAge(t, 2*time.Second) // the second question
	b.receive(t.Context(), live(t, h.events[5]))
	b.receive(t.Context(), live(t, h.events[6]))
	b.wantAge(t, time.Second) // the third

	b.hands.pass(time.Hour, time.Second) // the machine was suspended: the clock that counts that counts
	b.wantAge(t, time.Hour+time.Second)
}

// What came live while the question was on its way may stand above the head. That is no log that went back.
func TestHeadMayBeOvertaken(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(3)
	b := newBench(t, h, 3)
	a := b.asks()
	b.receive(t.Context(), live(t, h.events[3]))
	b.receive(t.Context(), live(t, h.events[4]))
	b.gets(t, a, h.states[3])
	b.wantAge(t, 0)
	if err := b.Status(); err != nil {
		t.Error(err)
	}
	b.gets(t, b.asks(), h.states[3])
	if err := b.Status(); !errors.Is(err, ErrWentBack) {
		t.Errorf("a head below what was followed when it was asked for: %v", err)
	}
}

// A hint proves nothing: somebody may have kept it for years. It only has control read, after a while.
func TestHintsProveNothing(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(3)
	b := newBench(t, h, 7)
	b.receive(t.Context(), h.hint())
	b.wantAge(t, -1)
	b = newBench(t, h, 3)
	b.receive(t.Context(), h.hint())
	b.wantAge(t, -1)
	if b.wanted != 7 || b.dueAt.IsZero() {
		t.Errorf("it reads up to %d, want 7", b.wanted)
	}
	wantPosition(t, b, 3)
}

// An answer may be late, doubled by an older one, or not be control's; freshness never goes back to an older question.
func TestFreshnessDoesNotGoBack(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(1)
	b := newBench(t, h, 3)
	old := b.asks()
	b.hands.pass(time.Second, time.Second)
	b.gets(t, b.asks(), h.states[3])
	b.gets(t, old, h.states[3])
	b.wantAge(t, 0)
}

// Followers that were started together must not ask together for ever.
func TestJitter(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := jitter(time.Second)
		if d < 900*time.Millisecond || d > 1100*time.Millisecond {
			t.Fatal(d)
		}
		seen[d] = true
	}
	if len(seen) < 100 {
		t.Errorf("%d different times of 1000", len(seen))
	}
}

// A head of another history, which live events of the own one reach, proves nothing.
func TestHeadOfAnotherHistoryIsNoProof(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(3)
	other := h.branch(3)
	other.do(alice, policy.CreateEngine{ID: "X-0123456789", Name: "X"})
	b := newBench(t, h, 3)
	b.gets(t, b.asks(), other.head())
	b.receive(t.Context(), live(t, h.events[3]))
	b.receive(t.Context(), live(t, h.events[4]))
	wantPosition(t, b, 5)
	b.wantAge(t, -1)
	if err := b.Status(); !errors.Is(err, ErrWentBack) {
		t.Errorf("status %v", err)
	}
}
