package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/policy"
)

// together is how many verdicts of the worker share one append.
const together = 100

// Work examines policies that are CREATING or UPDATING, and activates or fails them, until ctx ends. Every replica does: what
// another has finished first is refused as stale, and what one leaves behind when it crashes the next state shows again.
func (a *App) Work(ctx context.Context) error {
	done := uint64(0)
	for {
		s, err := a.log.Wait(ctx, done)
		if err != nil {
			return err
		}
		if err := a.examineAll(ctx, s); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			a.logger.WarnContext(ctx, "activating policies", slog.Any("error", err))
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue // the same state again
		}
		done = s.Position
	}
}

// examineAll examines what waits in s.
func (a *App) examineAll(ctx context.Context, s *policy.State) error {
	var batch []eventlog.Request
	for account := range s.Accounts() {
		for ref := range account.Pending() {
			e, ok := a.examine(ctx, account, ref)
			if !ok {
				continue
			}
			batch = append(batch, eventlog.Request{
				Account: account.ID,
				Cause:   policy.Cause{Actor: policy.Actor{Account: account.ID, ID: "verdict", Method: policy.MethodInternal}},
				Command: policy.FinishPolicy{EngineID: ref.Parent, ID: ref.ID, Examination: e},
			})
			if len(batch) == together {
				if err := a.finish(ctx, batch); err != nil {
					return err
				}
				batch = nil
			}
		}
	}
	return a.finish(ctx, batch)
}

// examine has a policy whose examination panics fail with a reason: it would end every replica, one after the other, at each
// start.
func (a *App) examine(ctx context.Context, account *policy.Account, ref policy.Ref) (e policy.Examination, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			a.logger.ErrorContext(ctx, "an examination panicked", slog.String("policy", ref.ID), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			e, ok = policy.Unexaminable(account, ref, a.region)
		}
	}()
	return a.examineWith(account, ref, a.region)
}

// finish records verdicts. One that is stale is dropped: the state that made it so is on its way, and is examined then. One that
// could not be recorded is an error, so that the same state is looked at again.
func (a *App) finish(ctx context.Context, batch []eventlog.Request) error {
	if len(batch) == 0 {
		return nil
	}
	results, err := a.log.Append(ctx, batch...)
	if err != nil {
		return err
	}
	var again []error
	for i, r := range results {
		finished := batch[i].Command.(policy.FinishPolicy)
		switch {
		case errors.Is(r.Err, policy.ErrStale), errors.Is(r.Err, policy.ErrNotFound):
			a.examined.WithLabelValues("stale").Inc()
		case r.Err != nil:
			again = append(again, fmt.Errorf("policy %s: %w", finished.ID, r.Err))
		case len(finished.Examination.Reasons) > 0:
			a.examined.WithLabelValues("failed").Inc()
		default:
			a.examined.WithLabelValues("activated").Inc()
		}
	}
	return errors.Join(again...)
}
