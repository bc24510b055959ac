package rpc_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
)

// BenchmarkEdge compares an empty handler with and without the edge around it, in process.
func BenchmarkEdge(b *testing.B) {
	const body = `{"orderId":"12345","amount":450,"nested":{"a":[1,2,3]}}`
	handler := func(options ...connect.HandlerOption) http.Handler {
		return connect.NewUnaryHandlerSimple(echo, func(_ context.Context, in *structpb.Struct) (*structpb.Struct, error) {
			return in, nil
		}, options...)
	}
	callers, err := identity.NewLoopback("")
	if err != nil {
		b.Fatal(err)
	}
	edge := rpc.New(rpc.Config{Callers: callers, Access: everybody{}, Registry: prometheus.NewRegistry()})
	for name, h := range map[string]http.Handler{
		"bare": handler(),
		"edge": edge.Handler(handler(edge.HandlerOptions()...)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1"+echo, strings.NewReader(body))
				r.RemoteAddr = "127.0.0.1:5000"
				r.Header.Set("Content-Type", "application/json")
				h.ServeHTTP(discard{http.Header{}}, r)
			}
		})
	}
}

// discard is a ResponseWriter without the cost of keeping the answer.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }
func (d discard) WriteHeader(int)             {}
