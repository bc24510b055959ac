package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/policy"
)

// together is how many verdicts of the worker share one append.
const together = 100

// attempts is how often a replica tries to finish a version of a policy before it gives up.
const attempts = 3

// Work examines policies that are CREATING or UPDATING, and activates or fails them, until ctx ends. Every replica does: what
// another has finished first is refused as stale, and what one leaves behind when it crashes the next state shows again. A
// policy whose examination panics or whose verdict is refused is tried again while others go on, and fails with a reason
// after three attempts. While the log is away nothing counts as an attempt.
func (a *App) Work(ctx context.Context) error {
	done, failures := uint64(0), map[candidate]failure{}
	for {
		s, err := a.next(ctx, done, len(failures) > 0)
		if err != nil {
			return err
		}
		p := pass{App: a, earlier: failures, failures: map[candidate]failure{}}
		if err := p.examineAll(ctx, s); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			a.logger.WarnContext(ctx, "activating policies", slog.Any("error", err))
			select {
			case <-ctx.Done():
			case <-time.After(a.pause):
			}
			continue // the same state again
		}
		done, failures = s.Position, p.failures
	}
}

// next is a state beyond position, or when something is to be tried again the newest one after a pause.
func (a *App) next(ctx context.Context, position uint64, again bool) (*policy.State, error) {
	if !again {
		return a.log.Wait(ctx, position)
	}
	pause, cancel := context.WithTimeout(ctx, a.pause)
	defer cancel()
	s, err := a.log.Wait(pause, position)
	if err != nil && ctx.Err() == nil {
		return a.log.Known(), nil
	}
	return s, err
}

// candidate is a version of a policy that waits to be examined.
type candidate struct {
	account string
	ref     policy.Ref
	version uint64
}

// failure is that a candidate could not be finished.
type failure struct {
	times int
	again time.Time // not tried before
}

// pass is one look at all that waits in a state. Only what fails in it, or waits to be tried again, is remembered for the next.
type pass struct {
	*App

	earlier, failures map[candidate]failure
	candidates        []candidate
	verdicts          []eventlog.Request // of the candidates
}

func (p *pass) examineAll(ctx context.Context, s *policy.State) error {
	for account := range s.Accounts() {
		for ref := range account.Pending() {
			c := candidate{account: account.ID, ref: ref, version: account.Engine(ref.Parent).Policy(ref.ID).Version}
			if f := p.earlier[c]; time.Now().Before(f.again) {
				p.failures[c] = f
				continue
			}
			if e, ok := p.examine(ctx, account, c); ok {
				p.candidates, p.verdicts = append(p.candidates, c), append(p.verdicts, verdict(c, e))
			}
			if len(p.verdicts) == together {
				if err := p.finish(ctx); err != nil {
					return err
				}
			}
		}
	}
	return p.finish(ctx)
}

// examine survives an examination that panics: it would end every replica, one after the other, at each start.
func (p *pass) examine(ctx context.Context, account *policy.Account, c candidate) (_ policy.Examination, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			p.fail(ctx, c, fmt.Errorf("its examination panicked: %v\n%s", v, debug.Stack()))
		}
	}()
	if p.earlier[c].times >= attempts {
		return policy.Unexaminable(account, c.ref, p.region, attempts)
	}
	return p.examineWith(account, c.ref, p.region)
}

func verdict(c candidate, e policy.Examination) eventlog.Request {
	return eventlog.Request{
		Account: c.account,
		Cause:   policy.Cause{Actor: policy.Actor{Account: c.account, ID: "verdict", Method: policy.MethodInternal}},
		Command: policy.FinishPolicy{EngineID: c.ref.Parent, ID: c.ref.ID, Examination: e},
	}
}

// finish records the verdicts. One that is stale is dropped: the state that made it so is on its way, and is examined then. An
// error means that the log is away, and that the same state is to be looked at again.
func (p *pass) finish(ctx context.Context) error {
	candidates, verdicts := p.candidates, p.verdicts
	p.candidates, p.verdicts = nil, nil
	if len(verdicts) == 0 {
		return nil
	}
	results, err := p.log.Append(ctx, verdicts...)
	if err != nil {
		return err
	}
	for i, r := range results {
		switch {
		case errors.Is(r.Err, policy.ErrStale), errors.Is(r.Err, policy.ErrNotFound):
			p.examined.WithLabelValues("stale").Inc()
		case away(r.Err):
			return r.Err
		case r.Err != nil:
			p.fail(ctx, candidates[i], fmt.Errorf("its verdict was refused: %w", r.Err))
		case len(verdicts[i].Command.(policy.FinishPolicy).Examination.Reasons) > 0:
			p.examined.WithLabelValues("failed").Inc()
		default:
			p.examined.WithLabelValues("activated").Inc()
		}
	}
	return nil
}

// away reports whether it was the log that failed, and not the verdict: in a large append, transactions after the first may.
func away(err error) bool {
	return slices.ContainsFunc([]error{
		eventlog.ErrUnavailable, eventlog.ErrUnknown, eventlog.ErrRefused, eventlog.ErrWentBack, eventlog.ErrCorrupt,
	}, func(e error) bool { return errors.Is(err, e) })
}

// fail remembers that a candidate could not be finished, so that it is tried again, but not at once.
func (p *pass) fail(ctx context.Context, c candidate, err error) {
	f := failure{times: p.earlier[c].times + 1, again: time.Now().Add(p.pause)}
	p.failures[c] = f
	p.examined.WithLabelValues("error").Inc()
	p.logger.ErrorContext(ctx, "a policy could not be finished", slog.String("policy", c.ref.ID), slog.Int("attempt", f.times), slog.Any("error", err))
}
