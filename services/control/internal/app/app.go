// Package app is what control can do, for whichever API asks: commands, which become events in the log, queries, which are
// answered from a state that has caught up with the log, and the worker that activates policies.
//
// It guarantees that an answer to a write shows the thing as that write left it, also when the same request comes a second
// time, and that a policy that was created is examined in the end, whatever crashes in between.
package app

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// App is the service behind its APIs. It may be used by any number of goroutines.
type App struct {
	log       *eventlog.Log
	region    string
	mayWeaken func(identity.Caller) bool
	logger    *slog.Logger
	// examineWith is policy.Examine; a test has it panic.
	examineWith func(*policy.Account, policy.Ref, string) (policy.Examination, bool)
	// pause is how long the worker waits before it tries again.
	pause time.Duration

	examined *prometheus.CounterVec
}

// New is an App over a log. mayWeaken tells whether a caller may weaken the enforcement that is in force, and propose and approve that.
func New(log *eventlog.Log, region string, mayWeaken func(identity.Caller) bool, logger *slog.Logger, reg prometheus.Registerer) *App {
	a := &App{log: log, region: region, mayWeaken: mayWeaken, logger: logger, examineWith: policy.Examine, pause: time.Second, examined: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "verdict", Subsystem: "worker", Name: "examined_total",
		Help: "Policies that this replica examined, by result: activated, failed, stale when something had changed meanwhile, or error when there was no verdict.",
	}, []string{"result"})}
	reg.MustRegister(a.examined)
	return a
}

// ARN is the Amazon resource name of something in an account.
func (a *App) ARN(account *policy.Account, ref policy.Ref) string {
	return policy.ARN(a.region, account.ID, ref)
}

// ParseARN is the inverse of ARN for what is in the account of the caller; field is the request's.
func (a *App) ParseARN(ctx context.Context, field, arn string) (policy.Ref, error) {
	return policy.ParseARN(a.region, Caller(ctx).Account, field, arn)
}

// Caller is who calls; rpc.Edge lets nobody unknown through.
func Caller(ctx context.Context) identity.Caller {
	c, _ := identity.FromContext(ctx)
	return c
}

// Call is a request as far as all writes have it in common.
type Call struct {
	Caller      identity.Caller
	RequestID   string
	ClientToken string      // "" when the request has none
	RequestHash policy.Hash // of everything that was asked for but the token
	MayWeaken   bool        // whether the caller may weaken enforcement
}

// Call is the request of ctx, without a client token.
func (a *App) Call(ctx context.Context) Call {
	by := Caller(ctx)
	return Call{Caller: by, RequestID: rpc.RequestID(ctx), MayWeaken: a.mayWeaken(by)}
}

func (c Call) cause() policy.Cause {
	cause := policy.Cause{
		Actor:     policy.Actor{Account: c.Caller.Account, ID: c.Caller.ID, Method: c.Caller.Method, SourceAddress: c.Caller.SourceAddress},
		RequestID: c.RequestID, ClientToken: c.ClientToken,
	}
	if c.ClientToken != "" {
		cause.RequestHash = c.RequestHash
	}
	return cause
}

// Outcome is what a write led to.
type Outcome struct {
	Account  *policy.Account // in which the thing is as the write left it
	Ref      policy.Ref      // the thing
	Revision uint64          // the state that holds the write
}

// Create carries out a command that makes something. The command is made for a random suffix of its id, and made again for
// another one in the rare case that the id is taken.
func (a *App) Create(ctx context.Context, call Call, command func(suffix string) policy.Command) (Outcome, error) {
	if err := checkToken(call.ClientToken); err != nil {
		return Outcome{}, err
	}
	var result eventlog.Result
	var err error
	for range 3 {
		result, err = a.append(ctx, call, command(strings.ToLower(rand.Text()[:policy.SuffixLength])))
		if refused, ok := errors.AsType[*policy.Error](err); !ok || refused.Reason != "id_taken" {
			break
		}
	}
	if err != nil {
		return Outcome{}, err
	}
	account, err := policy.Born(result.Events)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Account: account, Ref: result.Events[0].Event.Ref(), Revision: result.Revision}, nil
}

// Approve carries out a change that somebody else proposed. It is what happened, also when the same request comes a second time.
func (a *App) Approve(ctx context.Context, call Call, changeID string) ([]policy.Event, uint64, error) {
	if err := checkToken(call.ClientToken); err != nil {
		return nil, 0, err
	}
	result, err := a.append(ctx, call, policy.ApproveChange{ID: changeID})
	if err != nil {
		return nil, 0, err
	}
	var events []policy.Event
	for _, r := range result.Events[1:] { // the first is the approval
		events = append(events, r.Event)
	}
	return events, result.Revision, nil
}

// Reject throws a change away, and shows it as it was.
func (a *App) Reject(ctx context.Context, call Call, command policy.RejectChange) (Outcome, error) {
	result, err := a.append(ctx, call, command)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Account: result.Before.Account(call.Caller.Account), Ref: policy.ChangeRef(command.ID), Revision: result.Revision}, nil
}

// Change carries out a command that changes something.
func (a *App) Change(ctx context.Context, call Call, command policy.Command) (Outcome, error) {
	result, err := a.append(ctx, call, command)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Account: result.After.Account(call.Caller.Account), Revision: result.Revision}, nil
}

// Delete carries out a command that deletes something, and shows it as it was, DELETING.
func (a *App) Delete(ctx context.Context, call Call, command policy.Command) (Outcome, error) {
	result, err := a.append(ctx, call, command)
	if err != nil {
		return Outcome{}, err
	}
	account, err := result.Before.Account(call.Caller.Account).With(result.Events[0])
	return Outcome{Account: account, Revision: result.Revision}, err
}

func (a *App) append(ctx context.Context, call Call, command policy.Command) (eventlog.Result, error) {
	results, err := a.log.Append(ctx, eventlog.Request{Account: call.Caller.Account, Cause: call.cause(), Command: command, MayWeaken: call.MayWeaken})
	if err != nil {
		return eventlog.Result{}, err
	}
	return results[0], results[0].Err
}

// Head is the head of the log, not older than the call.
func (a *App) Head(ctx context.Context) (stream.Head, error) { return a.log.Head(ctx) }

// Account is everything of the caller's account, not older than the call, and the revision of that.
func (a *App) Account(ctx context.Context) (*policy.Account, uint64, error) {
	s, err := a.log.State(ctx)
	if err != nil {
		return nil, 0, err
	}
	return s.Account(Caller(ctx).Account), s.Position, nil
}
