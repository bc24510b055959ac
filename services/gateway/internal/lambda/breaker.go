package lambda

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// After how many failures in a row a target is left alone, and for how long. Then one call finds out whether it is back.
const (
	breakerFailures = 5
	breakerPause    = 10 * time.Second
)

type breaker = gobreaker.CircuitBreaker[[]byte]

// breakers are those of the targets that have been called.
type breakers struct {
	byTarget sync.Map // of Key to *breaker
	changed  func(target Key, to gobreaker.State)
}

func (b *breakers) of(target Key) *breaker {
	if known, ok := b.byTarget.Load(target); ok {
		return known.(*breaker)
	}
	known, _ := b.byTarget.LoadOrStore(target, gobreaker.NewCircuitBreaker[[]byte](gobreaker.Settings{
		MaxRequests: 1, Timeout: breakerPause,
		ReadyToTrip:   func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakerFailures },
		OnStateChange: func(_ string, _, to gobreaker.State) { b.changed(target, to) },
		IsSuccessful:  isTargetsSuccess,
		IsExcluded:    saysNothing,
	}))
	return known.(*breaker)
}

// isTargetsSuccess is what shows that the target is there. A function that fails, is busy, or answers nonsense answers at once:
// leaving it alone would spare nobody anything, and would take the tool from callers whose arguments are better.
func isTargetsSuccess(err error) bool {
	failure, failed := errors.AsType[*Failure](err)
	return !failed || failure.Kind != Timeout && failure.Kind != Unavailable
}

// saysNothing is true when whoever called has not waited for as long as the target may take.
func saysNothing(err error) bool {
	failure, failed := errors.AsType[*Failure](err)
	return failed && failure.hurried
}

// run runs call, unless the target is left alone.
func (b *breakers) run(target Key, call func() ([]byte, *Failure)) ([]byte, *Failure) {
	answer, err := b.of(target).Execute(func() ([]byte, error) {
		answer, failure := call()
		if failure != nil {
			return nil, failure
		}
		return answer, nil
	})
	if err == nil {
		return answer, nil
	}
	if failure, ok := errors.AsType[*Failure](err); ok {
		return nil, failure
	}
	return nil, leftOut()
}

// open says whether run would refuse.
func (b *breakers) open(target Key) bool {
	known, ok := b.byTarget.Load(target)
	if !ok {
		return false
	}
	breaker := known.(*breaker)
	switch breaker.State() {
	case gobreaker.StateOpen:
		return true
	case gobreaker.StateHalfOpen:
		counts := breaker.Counts()
		return counts.Requests > counts.TotalExclusions // one call is finding out
	case gobreaker.StateClosed:
	}
	return false
}

func (b *breakers) retain(keep func(Key) bool) {
	b.byTarget.Range(func(target, _ any) bool {
		if !keep(target.(Key)) {
			b.byTarget.Delete(target)
		}
		return true
	})
}

func (f *Functions) breakerChanged(target Key, to gobreaker.State) {
	if to == gobreaker.StateOpen {
		f.metrics.opened.Inc()
	}
	f.logger.LogAttrs(context.Background(), slog.LevelWarn, "circuit breaker of a target", slog.String("state", to.String()),
		slog.String("account", target.Account), slog.String("gateway", target.Gateway), slog.String("target", target.Target))
}
