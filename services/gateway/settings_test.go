package gateway_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/gateway"
	"github.com/verdict-io/verdict/services/policy"
)

// Without --egress-loopback neither issuers nor functions on this machine are reached, whoever names them.
func TestEgressHasNoWayToThisMachine(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.EgressLoopback = false })
	if a := w.call(refund, `{"amount":5}`); !strings.Contains(a.body, `"isError":true`) {
		t.Errorf("a function on this machine: %d %s", a.status, a.body)
	}
	w.wantCalls(0)
	issuer := newIssuer(t)
	bearer := token(t, issuer, map[string][]string{})
	w.onlyTokens(issuer)
	if a := w.call(refund, `{"amount":5}`, "Authorization", "Bearer "+bearer); a.status != http.StatusServiceUnavailable {
		t.Errorf("an issuer on this machine: %d %s", a.status, a.body)
	}
}

// Under a URL of its own the gateway names that, and is reached under any name, as behind a proxy.
func TestURL(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.URL = "https://tools.example.com/prefix" })
	issuer := newIssuer(t)
	w.onlyTokens(issuer)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "tools.example.com"
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	a := w.send(req)
	want := `resource_metadata="https://tools.example.com/.well-known/oauth-protected-resource/prefix/gateways/` + gatewayID + `/mcp"`
	if got := a.header.Get("Www-Authenticate"); a.status != http.StatusUnauthorized || !strings.Contains(got, want) {
		t.Errorf("%d %s, want %s", a.status, got, want)
	}
	var document struct{ Resource string }
	getJSON(t, w.metadata(), &document)
	if want := "https://tools.example.com/prefix/gateways/" + gatewayID + "/mcp"; document.Resource != want {
		t.Errorf("the resource is %s, want %s", document.Resource, want)
	}
	req = req.Clone(t.Context())
	req.Body, err = req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token(t, issuer, map[string][]string{}))
	if a := w.send(req); a.status != http.StatusOK {
		t.Errorf("by its own name: %d %s", a.status, a.body)
	}
}

// A function has the time of --target-timeout, and is invoked with the credentials of --lambda-credentials.
func TestTargetSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, []byte(`{"accessKeyId":"AKIDEXAMPLE","secretAccessKey":"hush"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *gateway.Config) { c.TargetTimeout, c.LambdaCredentials = 50*time.Millisecond, file })
	w.functions.Register("refund", func(ctx context.Context, _ json.RawMessage, _ map[string]string) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if a := w.call(refund, `{"amount":5}`); !strings.Contains(a.body, "did not answer within 50ms") || !strings.Contains(a.body, `"isError":true`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := os.WriteFile(file, []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := gateway.Config{Decision: gateway.DecisionEmbedded, LambdaEndpoint: w.url, LambdaCredentials: file}
	cfg.LogLevel, cfg.LogFormat = "error", "text"
	if _, err := gateway.New(cfg, w.embed); err == nil || !strings.Contains(err.Error(), "lambda credentials") {
		t.Errorf("credentials that are none: %v", err)
	}
	cfg.LambdaEndpoint, cfg.LambdaCredentials = "", ""
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if _, err := gateway.New(cfg, w.embed); err == nil || !strings.Contains(err.Error(), "takes no unsigned invocations") {
		t.Errorf("AWS without credentials: %v", err)
	}
}

// Where a gateway asks for it answers are streams of events.
func TestStreamedAnswers(t *testing.T) {
	w := newWorld(t)
	w.mcp(policy.MCPConfiguration{Streaming: &policy.StreamingConfiguration{EnableResponseStreaming: new(true)}})
	a := w.call(refund, `{"amount":5}`)
	if got := a.header.Get("Content-Type"); got != "text/event-stream" || !strings.Contains(a.body, `data: {"jsonrpc":"2.0","id":1,"result":{"isError":false,`) {
		t.Errorf("%s: %s", got, a.body)
	}
	if denied := w.call(refund, `{"amount":5000}`); !strings.Contains(denied.body, `"code":-32002`) {
		t.Errorf("%s", denied.body)
	}
	w.wantCalls(1)
}
