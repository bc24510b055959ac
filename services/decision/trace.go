package decision

import (
	"context"
	"encoding/hex"
	"net/http"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

// trace is what joins a record with the logs and traces of its caller.
type trace struct {
	requestID string
	id, span  []byte
}

// traceOf reads what the headers say. W3C Trace Context, section 3.2: version "-" 32 hex "-" 16 hex "-" flags; what is not so is
// ignored.
func traceOf(ctx context.Context) trace {
	t := trace{requestID: rpc.RequestID(ctx)}
	parent := rpc.Traceparent(ctx)
	if len(parent) < 55 || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return t
	}
	id, err := hex.DecodeString(parent[3:35])
	if err != nil {
		return t
	}
	if span, err := hex.DecodeString(parent[36:52]); err == nil {
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
