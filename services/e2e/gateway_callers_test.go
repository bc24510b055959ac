package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// signedGateway is a gateway process that is known to control and to a decision node by access keys, and takes signed requests.
type signedGateway struct {
	*doors

	around *surroundings
	path   string // of the gateway, below its process
}

func newSignedGateway(t *testing.T) *signedGateway {
	t.Helper()
	g := &signedGateway{doors: newDoors(t), around: newSurroundings(t)}
	g.control.client = signedBy(keyOne)
	g.loadExample(t, g.control)
	id := g.gateway[strings.LastIndexByte(g.gateway, '/')+1:]
	g.path = "/gateways/" + id + "/mcp"
	_, err := g.control.controlClient().UpdateGateway(t.Context(), &controlv1.UpdateGatewayRequest{GatewayId: id, Definition: &eventv1.GatewayDefinition{
		AuthorizerType: eventv1.AuthorizerType_AUTHORIZER_TYPE_AWS_IAM,
		PolicyEngineConfiguration: &eventv1.GatewayPolicyEngineConfiguration{
			PolicyEngineId: g.engine, Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE,
		},
	}})
	must(t, err)
	return g
}

func signedBy(key string) *http.Client {
	return &http.Client{Transport: identity.SigningTransport(http.DefaultTransport, key, key, "us-east-1")}
}

// process starts one that shows this key to the decision node.
func (g *signedGateway) process(t *testing.T, key string) *service {
	t.Helper()
	credentials := func(key string) string {
		file := filepath.Join(t.TempDir(), key+".json")
		must(t, os.WriteFile(file, []byte(`{"accessKeyId": "`+key+`", "secretAccessKey": "`+key+`"}`), 0o600))
		return file
	}
	s := g.start(t, "gateway", anyAddr, append(g.known, "VERDICT_CONTROL_URL="+g.control.url, "VERDICT_GATEWAY_DECISION="+g.node.url,
		"VERDICT_GATEWAY_CREDENTIALS="+credentials(keyNode), "VERDICT_GATEWAY_DECISION_CREDENTIALS="+credentials(key), "VERDICT_GATEWAY_DIR="+t.TempDir(),
		"VERDICT_GATEWAY_EGRESS_LOOPBACK=true", "VERDICT_GATEWAY_LAMBDA_ENDPOINT="+g.around.lambda, "VERDICT_GATEWAY_NATS_KEY="+g.natsKey("gateway"),
		"VERDICT_GATEWAY_LOG_LEVEL=error")...)
	testenv.Eventually(t, "the gateway takes signed requests", func() error {
		status, body := g.refundThrough(t, s, http.DefaultClient, "1")
		if status != http.StatusUnauthorized {
			return fmt.Errorf("%w: %d %s", errNotYet, status, body)
		}
		return nil
	})
	return s
}

// refundThrough calls the tool for an order.
func (g *signedGateway) refundThrough(t *testing.T, s *service, client *http.Client, order string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+g.path, strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"RefundTarget___process_refund","arguments":{"orderId":"`+order+`","amount":5}}}`))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	resp, err := client.Do(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

// Who signs with a key of the gateway's account, in the role agent, calls tools; nobody else does. The gateway itself shows a key to control
// and another to the decision node: with that of another account nothing is decided, and so nothing called.
func TestGatewayAmongKnownCallers(t *testing.T) {
	t.Parallel()
	g := newSignedGateway(t)
	s := g.process(t, keyOne)
	testenv.Eventually(t, "the tool is there", func() error {
		status, body := g.refundThrough(t, s, signedBy("agent"), "1")
		if status != http.StatusOK || !strings.Contains(body, `"isError":false`) {
			return fmt.Errorf("%w: %d %s", errNotYet, status, body)
		}
		return nil
	})
	called := g.around.functions.Calls("refund")
	for key, want := range map[string]int{"stranger": http.StatusForbidden, keyViewer: http.StatusForbidden, "nobody": http.StatusUnauthorized} {
		if status, body := g.refundThrough(t, s, signedBy(key), "1"); status != want {
			t.Errorf("signed by %s: %d %s", key, status, body)
		}
	}
	// More than the decision node takes in a request is denied, and not cut.
	if status, body := g.refundThrough(t, s, signedBy("agent"), strings.Repeat("x", 5<<20)); status != http.StatusOK || !strings.Contains(body, `"code":-32002`) {
		t.Errorf("5 MiB: %d %.300s", status, body)
	}
	other := g.process(t, keyTwo)
	if status, body := g.refundThrough(t, other, signedBy("agent"), "1"); status != http.StatusOK || !strings.Contains(body, `"code":-32002`) {
		t.Errorf("decided for another account: %d %s", status, body)
	}
	if got := g.around.functions.Calls("refund"); got != called {
		t.Errorf("the function was called %d times, want %d", got, called)
	}
}
