package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/policy"
)

// BenchmarkCall is a tools/call through a gateway that decides itself, all of it in this process: client, gateway and function.
func BenchmarkCall(b *testing.B) {
	w := newWorld(b)
	w.update(func(d *policy.GatewayDefinition) { d.Description = "measured" })
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + refund + `","arguments":{"amount":500}}}`
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequest(http.MethodPost, w.url, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "*/*")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status, err)
		}
		_ = resp.Body.Close()
	}
}
