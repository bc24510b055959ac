package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"connectrpc.com/connect"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// Error is an answer to a caller: everything in it but Cause leaves the process. Handlers return one, wrapped or not,
// for what the table of errors does not know.
type Error struct {
	Code    connect.Code
	Reason  string // a stable word for programs; the code's name when empty
	Field   string // the member of the request that is wrong
	Line    int    // 1-based, within a policy statement; 0 when there is none
	Column  int
	Message string // what is wrong and, where it can, how to mend it
	Suggest string // what would be right in place of Field
	Undone  bool   // nothing was done, and the same request may succeed later
	Cause   error  // for the log
}

// Errorf is an *Error with a text for the caller.
func Errorf(code connect.Code, reason, format string, args ...any) *Error {
	return &Error{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.Message }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// forLog is the text with the cause, as the operator should see it.
func (e *Error) forLog() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Cause.Error()
}

// connect is the error as handlers of Connect return it, with its Problem.
func (e *Error) connect() *connect.Error {
	out := connect.NewError(e.Code, errors.New(e.Message))
	detail, err := connect.NewErrorDetail(&controlv1.Problem{
		Code:       e.Reason,
		Field:      e.Field,
		Line:       uint32(max(e.Line, 0)),
		Column:     uint32(max(e.Column, 0)),
		Suggestion: e.Suggest,
	})
	if err == nil { // it fails for text that is not UTF-8; the caller then does without the detail
		out.AddDetail(detail)
	}
	return out
}

// Rule is a line of the table of errors.
type Rule struct {
	Is      error // what errors.Is looks for
	Code    connect.Code
	Reason  string
	Message string // for the caller; the text of Is when empty
	Undone  bool   // that of Error
}

// kinds are the lines of the table for policy.Error.
var kinds = []struct {
	kind error
	code connect.Code
}{
	{policy.ErrInvalid, connect.CodeInvalidArgument},
	{policy.ErrNotFound, connect.CodeNotFound},
	{policy.ErrExists, connect.CodeAlreadyExists},
	{policy.ErrConflict, connect.CodeFailedPrecondition},
	{policy.ErrStale, connect.CodeAborted},
	{policy.ErrDenied, connect.CodePermissionDenied},
	{policy.ErrQuota, connect.CodeResourceExhausted},
}

// errDraining is why the contexts of streams end when the service shuts down.
var errDraining = errors.New("the service is shutting down")

// Refusal is what the caller may know of err, by the one table of errors: an *Error or *policy.Error anywhere in
// its chain as it is, then Config.Errors, Connect's own errors, the end of the context; and for all others no more than
// that something went wrong, with the request id under which the log has the rest. REST handlers translate the result
// into their own form; Connect handlers just return their error. The call is logged and counted as failed with it.
func (e *Edge) Refusal(ctx context.Context, err error) *Error {
	out := e.lookUp(ctx, err)
	if out.Reason == "" {
		out.Reason = out.Code.String()
	}
	out.Cause = err
	if c := callFrom(ctx); c != nil {
		c.refusal = &out
	}
	return &out
}

func (e *Edge) lookUp(ctx context.Context, err error) Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return *own
	}
	if domain, ok := errors.AsType[*policy.Error](err); ok {
		return fromPolicy(ctx, domain)
	}
	for _, rule := range e.cfg.Errors {
		if errors.Is(err, rule.Is) {
			message := rule.Message
			if message == "" {
				message = rule.Is.Error()
			}
			return Error{Code: rule.Code, Reason: rule.Reason, Message: message, Undone: rule.Undone}
		}
	}
	if errors.Is(context.Cause(ctx), errDraining) && isContextError(err) {
		return Error{Code: connect.CodeUnavailable, Reason: "shutting_down", Message: "the service is shutting down: call again"}
	}
	if theirs, ok := errors.AsType[*connect.Error](err); ok {
		return fromConnect(ctx, theirs)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Error{Code: connect.CodeCanceled, Message: "the request was cancelled"}
	case errors.Is(err, context.DeadlineExceeded):
		return Error{Code: connect.CodeDeadlineExceeded, Message: "the answer was not ready within the deadline of the request"}
	}
	return internal(ctx)
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// internal tells nothing but where to look.
func internal(ctx context.Context) Error {
	return Error{Code: connect.CodeInternal, Message: "internal error, request id " + RequestID(ctx)}
}

func fromPolicy(ctx context.Context, err *policy.Error) Error {
	for _, k := range kinds {
		if errors.Is(err.Kind, k.kind) {
			return Error{
				Code: k.code, Reason: err.Reason, Field: err.Field, Line: err.Line, Column: err.Column,
				Message: err.Error(), Suggest: err.Suggest,
			}
		}
	}
	return internal(ctx)
}

// fromConnect passes on what Connect itself found wrong with a request. An answer of another service, and the failure to
// reach one, were not written for this caller: they keep to the log.
func fromConnect(ctx context.Context, err *connect.Error) Error {
	if connect.IsWireError(err) {
		return internal(ctx)
	}
	switch err.Code() {
	case connect.CodeInternal, connect.CodeUnknown, connect.CodeDataLoss:
		return internal(ctx)
	case connect.CodeUnavailable:
		return Error{
			Code:    connect.CodeUnavailable,
			Message: "a service that this one needs does not answer, request id " + RequestID(ctx),
		}
	default:
		return Error{Code: err.Code(), Message: err.Message()}
	}
}

// recovered is the error of a handler that panicked, with the stack for the log.
func (e *Edge) recovered(ctx context.Context, v any) error {
	if c := callFrom(ctx); c != nil {
		e.metrics.panics.WithLabelValues(procedureLabel(c)).Inc()
	}
	return fmt.Errorf("panic: %v\n%s", v, debug.Stack())
}
