package client_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	"github.com/verdict-io/verdict/services/client"
)

// BenchmarkAuthorize compares a call over loopback through the generated client and through this one, with the same transport. Its
// server is a node in the same process, so the times are those of both sides.
func BenchmarkAuthorize(b *testing.B) {
	h := newHistory(b)
	s := newServer(b, h.newest()).start()
	transport := client.NewTransport(nil)
	b.Cleanup(transport.CloseIdleConnections)
	bare := decisionv1connect.NewDecisionServiceClient(&http.Client{Transport: transport}, s.url())
	ours := newClient(b, client.Config{Transport: transport}, s.url())
	for _, c := range []struct {
		name    string
		service decisionv1connect.DecisionServiceClient
		timeout time.Duration
	}{
		{name: "generated", service: bare},
		{name: "generated, with a deadline", service: bare, timeout: client.DefaultTimeout},
		{name: "client", service: ours},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			req := refundOf(500)
			for b.Loop() {
				ctx, cancel := b.Context(), context.CancelFunc(func() {})
				if c.timeout > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.timeout)
				}
				_, err := c.service.Authorize(ctx, req)
				cancel()
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
