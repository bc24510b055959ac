package rpc

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	"github.com/verdict-io/verdict/services/internal/identity"
)

// HeaderRequestID is the canonical form of x-request-id, which requests may bring and all answers have.
const HeaderRequestID = "X-Request-Id"

// call is what is known of a request under way. It belongs to the goroutine that serves the request.
type call struct {
	start     time.Time
	requestID string
	procedure string // "" until a handler is found
	stream    bool
	reached   bool   // the interceptor ran: what failed before it failed to decode
	once      bool   // the signature was taken
	refusal   *Error // why it failed; nil while it has not
	caller    identity.Caller
}

type callKey struct{}

func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// RequestID is the id of the request that ctx belongs to, "" outside of one: the caller's own x-request-id if that is
// 1 to 128 of [A-Za-z0-9._-], else a UUIDv7.
func RequestID(ctx context.Context) string {
	if c := callFrom(ctx); c != nil {
		return c.requestID
	}
	return ""
}

// SetProcedure names the operation that a REST handler serves, for metrics and logs. The name must come from a fixed
// set, never from the request. It is to be called on the goroutine of the request.
func SetProcedure(ctx context.Context, name string) {
	if c := callFrom(ctx); c != nil {
		c.procedure, c.reached = name, true
	}
}

// RequestIDOf is the id of a request with these headers, for those that do not go through an Edge. See RequestID.
func RequestIDOf(h http.Header) string {
	if given := h[HeaderRequestID]; len(given) == 1 && saneRequestID(given[0]) {
		return given[0]
	}
	return uuid.Must(uuid.NewV7()).String()
}

func saneRequestID(id string) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
}

// codeOK is the label of calls that went well; Connect has no code for them.
const codeOK = "ok"

// outcome is the code that the call ended with, as Connect spells it.
func (c *call) outcome(w *answer) string {
	if c.refusal != nil {
		return c.refusal.Code.String()
	}
	if w.status >= http.StatusBadRequest {
		return codeOfStatus(w.status).String()
	}
	// gRPC tells in a header or trailer that a request could not be decoded, or an answer not encoded.
	for _, key := range []string{"Grpc-Status", http.TrailerPrefix + "Grpc-Status"} {
		if code, err := strconv.ParseUint(w.Header().Get(key), 10, 32); err == nil && code != 0 {
			return connect.Code(code).String()
		}
	}
	if c.procedure != "" && !c.reached {
		return connect.CodeInvalidArgument.String() // gRPC-Web hides the code in its body
	}
	return codeOK
}

// codeOfStatus reads the HTTP statuses that Connect answers with when no handler was reached.
func codeOfStatus(status int) connect.Code {
	switch status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType:
		return connect.CodeInvalidArgument
	case http.StatusUnauthorized:
		return connect.CodeUnauthenticated
	case http.StatusForbidden:
		return connect.CodePermissionDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return connect.CodeUnimplemented
	case http.StatusConflict:
		return connect.CodeAborted
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return connect.CodeResourceExhausted
	case 499:
		return connect.CodeCanceled
	case http.StatusServiceUnavailable:
		return connect.CodeUnavailable
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return connect.CodeDeadlineExceeded
	case http.StatusInternalServerError:
		return connect.CodeInternal
	default:
		return connect.CodeUnknown
	}
}

// observe counts the call and, if it failed, logs it.
func (e *Edge) observe(r *http.Request, c *call, code string) {
	took := time.Since(c.start)
	e.metrics.observe(c, code, took)
	ctx := r.Context()
	level := levelOf(code)
	if !e.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("procedure", procedureLabel(c)),
		slog.String("code", code),
		slog.String("request_id", c.requestID),
		slog.Duration("took", took),
		slog.String("peer", r.RemoteAddr),
		slog.String("account", c.caller.Account),
		slog.String("caller", c.caller.ID),
	}
	message := "request served"
	if code != codeOK {
		message = "request failed"
	}
	if c.refusal != nil {
		attrs = append(attrs, slog.String("reason", c.refusal.Reason), slog.String("error", c.refusal.forLog()))
	}
	e.cfg.Logger.LogAttrs(ctx, level, message, attrs...)
}

// levelOf says who should look: the operator at errors, perhaps at warnings, among which is who is refused; what else callers do wrong is
// information.
func levelOf(code string) slog.Level {
	switch code {
	case codeOK:
		return slog.LevelDebug
	case connect.CodeInternal.String(), connect.CodeUnknown.String(), connect.CodeDataLoss.String():
		return slog.LevelError
	case connect.CodeUnavailable.String(), connect.CodeDeadlineExceeded.String(), connect.CodeResourceExhausted.String(),
		connect.CodeUnauthenticated.String(), connect.CodePermissionDenied.String():
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}
