package decision

import (
	"context"
	"net/http"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

// trace is what joins a record with the logs and traces of its caller.
type trace struct {
	requestID string
	id, span  []byte
}

// traceOf reads what the headers say; what is no trace is ignored.
func traceOf(ctx context.Context) trace {
	t := trace{requestID: rpc.RequestID(ctx)}
	if id, span, ok := rpc.ParseTraceparent(rpc.Traceparent(ctx)); ok {
		t.id, t.span = id, span
	}
	return t
}

// traced is for handlers that are none of Connect's, which keeps the headers of its own.
func traced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(rpc.WithTraceparent(r.Context(), r.Header.Get(rpc.HeaderTraceparent))))
	})
}
