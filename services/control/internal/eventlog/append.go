package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/verdict-io/verdict/services/policy"
)

// Request is a command to be decided and recorded.
type Request struct {
	Account string
	Cause   policy.Cause
	Command policy.Command
	// MayWeaken is set for who may weaken the enforcement that is in force (policy.By).
	MayWeaken bool
}

// Result is what became of one Request.
type Result struct {
	// Err is why the command was refused, nil when it was carried out. A refused command leaves nothing behind and does not
	// hinder others of the same call.
	Err error
	// Events are what happened; none when everything was as it was asked to be.
	Events []policy.Recorded
	// Before and After are the states around the command. Both are nil when Replayed.
	Before, After *policy.State
	// Revision is the position of the state that holds the command.
	Revision uint64
	// Replayed is set when the client token had been used by the same request before; Events are those of then.
	Replayed bool
}

// ErrTokenReused: the client token was used before, for another request.
var ErrTokenReused = &policy.Error{
	Kind: policy.ErrInvalid, Reason: "idempotent_parameter_mismatch", Field: "clientToken",
	Message: "this clientToken was used before for another request: use a new one",
}

// Append carries the requests out, each decided on the state that the one before left; together they are one transaction,
// unless they are large. It returns as many results as there are requests, or an error when none was carried out: ErrRefused,
// ErrUnavailable, ErrWentBack, ErrCorrupt, the error of ctx; or ErrUnknown. Callers that wait at the same time share a
// transaction. An empty log is begun first.
func (l *Log) Append(ctx context.Context, requests ...Request) ([]Result, error) {
	if err := l.Begin(ctx); err != nil {
		return nil, err
	}
	return l.append(ctx, requests)
}

func (l *Log) append(ctx context.Context, requests []Request) ([]Result, error) {
	results := make([]Result, len(requests))
	b := &batch{done: make(chan struct{})}
	var index []int
	for i, r := range requests {
		if results[i].Err = r.Command.Check(); results[i].Err == nil {
			b.requests, index = append(b.requests, r), append(index, i)
		}
	}
	if len(index) == 0 {
		return results, nil
	}
	if err := l.queue.run(ctx, b, l.carryOut); err != nil {
		return nil, err
	}
	for i, at := range index {
		results[at] = b.results[i]
	}
	return results, nil
}

// carryOut decides for several callers, whose contexts must not end each other's work.
func (l *Log) carryOut(batches []*batch) {
	var requests []Request
	for _, b := range batches {
		requests = append(requests, b.requests...)
	}
	results, err := l.appendInTurn(requests)
	for _, b := range batches {
		if b.err = err; err == nil {
			b.results, results = results[:len(b.requests)], results[len(b.requests):]
		}
		close(b.done)
	}
}

// appendInTurn uses as many transactions as the size of the events asks for. When one after the first fails, its error is the
// result of every request that was left.
func (l *Log) appendInTurn(requests []Request) ([]Result, error) {
	var results []Result
	for len(results) < len(requests) {
		done, err := l.appendTimed(requests[len(results):])
		if err != nil && len(results) == 0 {
			return nil, err
		}
		for err != nil && len(results) < len(requests) {
			results = append(results, Result{Err: err})
		}
		results = append(results, done...)
	}
	return results, nil
}

func (l *Log) appendTimed(requests []Request) ([]Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*l.cfg.AppendTimeout)
	defer cancel()
	began := time.Now()
	results, err := l.appendAll(ctx, requests)
	l.metrics.observe(began, results, err)
	return results, err
}

// appendAll tries again when an attempt ended before its commit for a reason that passes: transaction_timeout, most of which
// the lock's holder before may have used up, or a connection that broke while it was idle. Nothing of the attempt has
// happened then.
func (l *Log) appendAll(ctx context.Context, requests []Request) ([]Result, error) {
	for broken := 0; ; {
		t := &transaction{log: l}
		err := t.run(ctx, requests)
		switch {
		case err == nil:
			return t.results, nil
		case errors.Is(err, ErrUnknown):
			return nil, err
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: another writer did not give the lock away in %v: %w", ErrUnavailable, 2*l.cfg.AppendTimeout, err)
		case pgCode(err) == codeTransactionTimeout:
		case connectionLost(err) && broken < 2:
			broken++
		default:
			return nil, err
		}
	}
}

// errCommit: it was the commit that failed, and the log was looked at: nothing was committed.
var errCommit = errors.New("the commit failed")
