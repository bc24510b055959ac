package rpc

import (
	"context"
	"encoding/hex"

	"connectrpc.com/connect"
)

// HeaderTraceparent is where W3C Trace Context has the ids of a trace.
const HeaderTraceparent = "Traceparent"

type traceparentKey struct{}

// WithTraceparent carries the ids of a trace to where Traceparent reads them. It is for calls within a process; one that leaves it
// needs ClientTrace.
func WithTraceparent(ctx context.Context, value string) context.Context {
	return context.WithValue(ctx, traceparentKey{}, value)
}

// Traceparent is the value of the header as WithTraceparent has it, or else as it came with the call that ctx belongs to; "" when there
// is none. It is as the caller wrote it.
func Traceparent(ctx context.Context) string {
	if value, ok := ctx.Value(traceparentKey{}).(string); ok {
		return value
	}
	if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
		return info.RequestHeader().Get(HeaderTraceparent)
	}
	return ""
}

// ClientTrace makes a client send what WithTraceparent has.
func ClientTrace() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if value, ok := ctx.Value(traceparentKey{}).(string); ok && req.Header().Get(HeaderTraceparent) == "" {
				req.Header().Set(HeaderTraceparent, value)
			}
			return next(ctx, req)
		}
	})
}

// maxTraceparent is longer than the header of any version is likely to be.
const maxTraceparent = 128

// ParseTraceparent is the trace, 16 bytes, and the span, 8 bytes, of a traceparent: version "-" 32 hex "-" 16 hex "-" flags (W3C Trace
// Context, section 3.2). ok is false for what is not so.
func ParseTraceparent(value string) (trace, span []byte, ok bool) {
	if len(value) < 55 || len(value) > maxTraceparent || value[2] != '-' || value[35] != '-' || value[52] != '-' {
		return nil, nil, false
	}
	ids, err := hex.DecodeString(value[3:35] + value[36:52])
	if err != nil {
		return nil, nil, false
	}
	return ids[:16:16], ids[16:], true
}
