package rpc

import (
	"context"

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
