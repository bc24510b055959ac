package client_test

import (
	"net/http"
	"testing"

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
	for name, service := range map[string]decisionv1connect.DecisionServiceClient{"generated": bare, "client": ours} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			req := refundOf(500)
			for b.Loop() {
				if _, err := service.Authorize(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
