package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

// traceparent is the header of W3C Trace Context as the caller sent it, or that of a trace which begins here.
func traceparent(h http.Header) string {
	if given := h[rpc.HeaderTraceparent]; len(given) == 1 && traceID(given[0]) != "" {
		return given[0]
	}
	var id [24]byte
	_, _ = rand.Read(id[:]) // never fails
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-00"
}

// traceID is the trace of a traceparent in hex; "" where it is none.
func traceID(parent string) string {
	id, _, ok := rpc.ParseTraceparent(parent)
	if !ok {
		return ""
	}
	return hex.EncodeToString(id)
}
