package rpc

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
)

// interceptor stands around every call of a Connect handler, unary or streaming: it gives it a deadline and an end,
// recovers from its panics, and turns its error into one that may leave.
type interceptor struct{ edge *Edge }

var _ connect.Interceptor = interceptor{}

// WrapUnary is part of connect.Interceptor.
func (i interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		ctx, cancel := i.edge.deadline(ctx)
		defer cancel()
		if c := callFrom(ctx); c != nil {
			c.reached = true
		}
		defer func() {
			if err = i.edge.settle(ctx, recover(), err); err != nil {
				res = nil
			}
		}()
		return next(ctx, req)
	}
}

// WrapStreamingHandler is part of connect.Interceptor.
func (i interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		ctx, cancel := context.WithCancelCause(ctx)
		ended := make(chan struct{})
		defer func() { <-ended }()
		defer cancel(nil)
		go func() {
			defer close(ended)
			select {
			case <-i.edge.cfg.Draining:
				cancel(errDraining)
			case <-ctx.Done():
			}
		}()
		if c := callFrom(ctx); c != nil {
			c.reached = true
		}
		defer func() { err = i.edge.settle(ctx, recover(), err) }()
		return next(ctx, conn)
	}
}

// WrapStreamingClient is part of connect.Interceptor, and does nothing.
func (i interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// deadline is ctx with the deadline of its caller, within limits. cancel must be called.
func (e *Edge) deadline(ctx context.Context) (_ context.Context, cancel context.CancelFunc) {
	timeout := e.cfg.Timeout
	if _, ok := ctx.Deadline(); ok {
		timeout = e.cfg.MaxTimeout
	}
	late := newLate(ctx, timeout)
	return late, late.cancel
}

// settle is the end of a handler: its panic, if any, or its error, as an error for the caller.
func (e *Edge) settle(ctx context.Context, panicked any, err error) error {
	if panicked == http.ErrAbortHandler { //nolint:errorlint // net/http compares so too
		panic(panicked)
	}
	if panicked != nil {
		err = e.recovered(ctx, panicked)
	}
	if err == nil {
		return nil
	}
	return e.Refusal(ctx, err).connect()
}
