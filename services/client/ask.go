package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
)

type service = decisionv1connect.DecisionServiceClient

// ask asks one node after another until one answers, or says why no other could.
func ask[Resp any](ctx context.Context, c *Client, question func(context.Context, service) (*Resp, error)) (*Resp, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
	}
	ctx = context.WithValue(ctx, requestIDKey{}, rand.Text())
	var asked []*node
	var failed unanswered
	for ctx.Err() == nil {
		now := time.Now()
		a, ok := c.nodes.begin(asked, now)
		if !ok {
			break
		}
		resp, err := attempt(ctx, c.budget(ctx, now, a.last), a.node, question)
		again, learnt := judge(ctx, err, time.Since(now), c.cfg.AttemptTimeout)
		c.nodes.end(a, learnt, err, time.Now())
		if err == nil {
			return resp, nil
		}
		if !again && ctx.Err() == nil {
			return nil, err
		}
		asked = append(asked, a.node)
		failed = append(failed, fmt.Errorf("%s: %w", a.node.name, err))
	}
	return nil, failed.asError(ctx)
}

// attempt asks one node.
func attempt[Resp any](ctx context.Context, budget time.Duration, n *node, question func(context.Context, service) (*Resp, error)) (*Resp, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	resp, err := question(told{ctx, time.Now().Add(budget - budget/8)}, n.service)
	if err != nil {
		return nil, err // what came with an error is no answer
	}
	return resp, nil
}

// told is a context whose deadline, which Connect tells the node, is before its end: so a node that is behind can say so itself, and
// is not taken for one that hangs.
type told struct {
	context.Context //nolint:containedctx // it is a context

	deadline time.Time
}

// Deadline is part of context.Context.
func (t told) Deadline() (time.Time, bool) { return t.deadline, true }

// budget is how long a node may take. Half of what is left stays for the others, however little it is.
func (c *Client) budget(ctx context.Context, now time.Time, last bool) time.Duration {
	deadline, _ := ctx.Deadline()
	left := deadline.Sub(now)
	if last {
		return left
	}
	return min(c.cfg.AttemptTimeout, left/2)
}

// slow is when a node that gave no answer is held to be in trouble, though its time was shorter than AttemptTimeout. Callers without
// patience say nothing about nodes.
const slow = 50 * time.Millisecond

// judge is whether another node may be asked after an error, and what it says of this one.
func judge(ctx context.Context, err error, took, patience time.Duration) (again bool, learnt health) {
	if err == nil {
		return false, well
	}
	if errors.Is(ctx.Err(), context.Canceled) { // the caller has gone
		return false, unknown
	}
	if _, ok := errors.AsType[*strangeError](err); ok {
		return true, failing
	}
	wire := connect.IsWireError(err)
	switch code := connect.CodeOf(err); {
	case code == connect.CodeUnavailable && wire && isBehind(err):
		return true, well
	case code == connect.CodeUnavailable:
		return true, failing
	case code == connect.CodeDeadlineExceeded && took < min(slow, patience):
		return true, unknown
	case code == connect.CodeDeadlineExceeded:
		return true, failing
	case code == connect.CodeCanceled, code == connect.CodeUnknown && !wire: // the connection broke, before the answer or within
		return true, failing
	case wire: // it is about the request
		return false, well
	default: // the request cannot be sent, or the answer is too large
		return false, unknown
	}
}

// isBehind reports whether a node is well and has not reached a revision.
func isBehind(err error) bool {
	refusal, _ := errors.AsType[*connect.Error](err)
	for _, detail := range refusal.Details() {
		value, err := detail.Value()
		if problem, ok := value.(*controlv1.Problem); err == nil && ok && problem.GetCode() == "revision_not_reached" {
			return true
		}
	}
	return false
}

// strangeError is an answer that no decision node gives, or none that keeps its promises.
type strangeError struct{ text string }

func (e *strangeError) Error() string { return e.text }

func strange(format string, args ...any) error {
	return &strangeError{fmt.Sprintf(format, args...)}
}

// unanswered are the attempts of a call that got no answer.
type unanswered []error

// Error is part of error.
func (u unanswered) Error() string {
	texts := make([]string, len(u))
	for i, err := range u {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap serves errors.Is and errors.As.
func (u unanswered) Unwrap() []error { return u }

// asError is what the caller hears: that time is up, or that all nodes are in trouble.
func (u unanswered) asError(ctx context.Context) error {
	code := connect.CodeUnavailable
	switch err := ctx.Err(); {
	case errors.Is(err, context.Canceled):
		code = connect.CodeCanceled
	case err != nil:
		code = connect.CodeDeadlineExceeded
	}
	if len(u) == 0 {
		return connect.NewError(code, fmt.Errorf("no decision node was asked: %w", ctx.Err()))
	}
	return connect.NewError(code, fmt.Errorf("no decision node answered: %w", u))
}

type requestIDKey struct{}

const headerRequestID = "X-Request-Id"

// requestID gives all attempts of a call one request id. A caller's own stays.
var requestID = connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if id, ok := ctx.Value(requestIDKey{}).(string); ok && req.Header().Get(headerRequestID) == "" {
			req.Header().Set(headerRequestID, id)
		}
		return next(ctx, req)
	}
})
