package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/verdict-io/verdict/services/internal/example"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// onlyTokens makes the gateway take the tokens of an issuer, of the client agent.
func (w *world) onlyTokens(issuer string) {
	w.t.Helper()
	w.update(func(d *policy.GatewayDefinition) {
		d.AuthorizerType = policy.AuthorizerJWT
		d.JWT = &policy.JWTAuthorizer{DiscoveryURL: issuer + "/.well-known/openid-configuration", AllowedClients: []string{"agent"}}
	})
}

// newIssuer is the issuer of the example, whose client agent may ask for any claims.
func newIssuer(t testing.TB) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	at := "http://" + server.Listener.Addr().String()
	issuer, err := example.NewIssuer(example.IssuerConfig{URL: at, Clients: []example.Client{{ID: "agent", Secret: "secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = issuer
	server.Start()
	t.Cleanup(server.Close)
	return at
}

// token is one for the client agent. The forms of both issuers are OAuth's.
func token(t testing.TB, issuer string, form url.Values) string {
	t.Helper()
	var document struct {
		TokenEndpoint string `json:"token_endpoint"` //nolint:tagliatelle // OpenID Connect Discovery calls it so
	}
	getJSON(t, issuer+"/.well-known/openid-configuration", &document)
	form.Set("grant_type", "client_credentials")
	form.Set("client_id", "agent")
	form.Set("client_secret", "secret")
	resp, err := http.PostForm(document.TokenEndpoint, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"` //nolint:tagliatelle // OAuth calls it so
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatal(resp.Status, err)
	}
	return answer.AccessToken
}

func getJSON(t testing.TB, at string, into any) {
	t.Helper()
	resp, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(resp.Status, err)
	}
}

// The claims of a token are what policies see, its subject is who is recorded, and nobody behind the gateway sees the token.
func TestTokens(t *testing.T) {
	w, issuer := newWorld(t), newIssuer(t)
	w.onlyTokens(issuer)
	w.write("agents_only", "forbid", refund, `!(principal is AgentCore::OAuthUser && principal.hasTag("role") && principal.getTag("role") == "refund-agent")`)
	var mu sync.Mutex
	var seen []string
	w.functions.Register("refund", func(_ context.Context, event json.RawMessage, client map[string]string) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		text, err := json.Marshal(client)
		seen = append(seen, string(event)+string(text))
		return "done", err
	})
	agent := token(t, issuer, url.Values{"claims": {`{"sub":"u-1","role":"refund-agent"}`}})
	clerk := token(t, issuer, url.Values{"claims": {`{"sub":"u-2","role":"clerk"}`}})
	w.wantText(w.call(refund, `{"amount":5}`, "Authorization", "Bearer "+agent), "done")
	w.wantDenied(w.call(refund, `{"amount":5}`, "Authorization", "Bearer "+clerk), "No policy applies to the request (denied by default).") // it is hidden
	records := w.recorded()
	if got := records[0].GetPrincipal(); got.GetType() != policy.TypeOAuthUser || got.GetId() != "u-1" || got.GetTags()["role"] != "refund-agent" {
		t.Errorf("recorded %v", got)
	}
	if len(seen) != 1 || strings.Contains(seen[0], agent) || strings.Contains(seen[0], "ey") {
		t.Errorf("the function saw %q", seen)
	}
	for name, header := range map[string][]string{
		"none": {}, "garbage": {"Authorization", "Bearer x"}, "basic": {"Authorization", "Basic YTpi"}, "changed": {"Authorization", "Bearer " + agent + "A"},
		"unsigned": {"Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1LTEifQ."}, "what the gateway says to itself": {"Authorization", "Bearer known"},
	} {
		a := w.call(refund, `{"amount":5}`, header...)
		if a.status != http.StatusUnauthorized || a.Error == nil || a.Error.Code != -32001 || string(a.ID) != "1" ||
			!strings.Contains(a.header.Get("Www-Authenticate"), `resource_metadata="`+w.metadata()+`"`) {
			t.Errorf("%s: %d %v %s", name, a.status, a.header, a.body)
		}
	}
	if len(w.recorded()) != 2 || len(seen) != 1 {
		t.Error("somebody unknown was decided about")
	}
	var document struct {
		Resource             string
		AuthorizationServers []string `json:"authorization_servers"` //nolint:tagliatelle // RFC 9728 calls it so
	}
	getJSON(t, w.metadata(), &document)
	if document.Resource != w.url || len(document.AuthorizationServers) != 1 || document.AuthorizationServers[0] != issuer {
		t.Errorf("the metadata are %+v", document)
	}
}

// metadata is where RFC 9728 has the gateway's document.
func (w *world) metadata() string {
	return strings.Replace(w.url, "/gateways/", "/.well-known/oauth-protected-resource/gateways/", 1)
}

// A session is for whoever began it, and at the gateway where it was begun.
func TestSessionsBelongToTheirCaller(t *testing.T) {
	w, issuer := newWorld(t), newIssuer(t)
	w.onlyTokens(issuer)
	w.mcp(policy.MCPConfiguration{Session: &policy.SessionConfiguration{}})
	other := policy.NewID(policy.KindGateway, "other-gw", suffix)
	w.do(account, policy.CreateGateway{ID: other, Name: "other-gw", Definition: *w.state.Account(account).Gateway(gatewayID).InForce})
	bearer := func(sub string) string {
		return "Bearer " + token(t, issuer, url.Values{"claims": {`{"sub":"` + sub + `"}`}})
	}
	mine, theirs := bearer("me"), bearer("them")
	a := w.post(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, "Authorization", mine)
	session := a.header.Get("Mcp-Session-Id")
	if session == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := w.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, "Authorization", mine, "Mcp-Session-Id", session); a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.wantText(w.call(refund, `{"amount":5}`, "Authorization", mine, "Mcp-Session-Id", session), "$5")
	w.wantText(w.call(refund, `{"amount":6}`, "Authorization", bearer("me"), "Mcp-Session-Id", session), "$6") // with a newer token
	if a := w.call(refund, `{"amount":5}`, "Authorization", theirs, "Mcp-Session-Id", session); a.status != http.StatusForbidden {
		t.Errorf("somebody else's session: %d %s", a.status, a.body)
	}
	w.url = strings.Replace(w.url, gatewayID, other, 1)
	if a := w.call(refund, `{"amount":5}`, "Authorization", mine, "Mcp-Session-Id", session); a.status != http.StatusNotFound {
		t.Errorf("another gateway's session: %d %s", a.status, a.body)
	}
	w.wantCalls(2)
}

// The clients that agents have list and call, and get the denial with its code: with tokens of the example's issuer and of npm's
// oidc-provider, without sessions and with.
func TestClients(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		for name, start := range map[string]func(t *testing.T) (issuer, token string){
			"the example's issuer": func(t *testing.T) (string, string) {
				t.Helper()
				issuer := newIssuer(t)
				return issuer, token(t, issuer, url.Values{})
			},
			"oidc-provider": func(t *testing.T) (string, string) {
				t.Helper()
				const resource = "https://tools.example.com"
				issuer := testenv.NPMIssuer{
					Resource: resource, Clients: []testenv.NPMIssuerClient{{ID: "agent", Secret: "secret", Scopes: []string{"tools"}, Claims: map[string]any{"role": "refund-agent"}}},
				}.Start(t)
				return issuer, token(t, issuer, url.Values{"resource": {resource}, "scope": {"tools"}})
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				issuer, bearer := start(t)
				w.onlyTokens(issuer)
				w.write("orders", "permit", lookup, "true")
				if sessions {
					w.mcp(policy.MCPConfiguration{Session: &policy.SessionConfiguration{}})
				}
				w.useNPMClient(bearer, sessions)
				w.useGoClient(bearer)
				w.wantCalls(2)
			})
		}
	}
}

// A stream that a client holds open ends with the settings of its session, and does not hold up the end of the process.
func TestStreamsEnd(t *testing.T) {
	w := newWorld(t)
	open := func(timeout int32) {
		t.Helper()
		w.mcp(policy.MCPConfiguration{Session: &policy.SessionConfiguration{TimeoutSeconds: &timeout}})
		client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
		session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: w.url, MaxRetries: -1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = session.Close() })
		w.awaitStreams(1)
	}
	open(1000)
	w.mcp(policy.MCPConfiguration{})
	w.awaitStreams(0)
	open(2000)
	w.do(account, policy.DeleteTarget{GatewayID: gatewayID, ID: suffix})
	w.awaitStreams(1)
	w.do(account, policy.DeleteGateway{ID: gatewayID})
	w.awaitStreams(0)
	w.do(account, policy.CreateGateway{ID: gatewayID, Name: "refund-gw", Definition: definition()})
	open(1000)
	w.stop() // reports an error when requests had to be cut off
}

func (w *world) awaitStreams(n int) {
	w.t.Helper()
	testenv.Eventually(w.t, "streams", func() error { return testenv.Contains(w.metricsText(), fmt.Sprintf("verdict_gateway_streams %d\n", n)) })
}

func (w *world) useNPMClient(bearer string, sessions bool) {
	w.t.Helper()
	client := testenv.NewNPMClient(w.t)
	if _, err := client.Connect(w.url, nil); err == nil {
		w.t.Error("npm's client connects without a token")
	}
	session, err := client.Connect(w.url, map[string]string{"Authorization": "Bearer " + bearer})
	if err != nil || session.ServerInfo.Name != "refund-gw" || (session.SessionID != "") != sessions {
		w.t.Fatalf("%+v %v", session, err)
	}
	defer client.Close()
	tools, _, err := client.List()
	if err != nil || len(tools) != 2 || tools[0].Name != lookup || tools[1].Name != refund {
		w.t.Errorf("npm's client lists %+v, %v", tools, err)
	}
	result, err := client.Call(refund, map[string]any{"amount": 500})
	if err != nil || !strings.Contains(string(result), "Refund of $500 processed successfully") {
		w.t.Errorf("npm's client: %s %v", result, err)
	}
	_, err = client.Call(refund, map[string]any{"amount": 2000})
	if denied, ok := errors.AsType[*testenv.NPMError](err); !ok || denied.Code != -32002 || !strings.Contains(denied.Message, "denied by default") {
		w.t.Errorf("npm's client: %v", err)
	}
	if err := client.Ping(); err != nil {
		w.t.Errorf("npm's client: %v", err)
	}
}

func (w *world) useGoClient(bearer string) {
	w.t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(w.t.Context(), &mcp.StreamableClientTransport{Endpoint: w.url, HTTPClient: &http.Client{Transport: shows(bearer)}}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	listed, err := session.ListTools(w.t.Context(), nil)
	if err != nil || len(listed.Tools) != 2 {
		w.t.Errorf("%+v %v", listed, err)
	}
	result, err := session.CallTool(w.t.Context(), &mcp.CallToolParams{Name: refund, Arguments: map[string]any{"amount": 501}})
	if err != nil || result.IsError || !strings.Contains(result.Content[0].(*mcp.TextContent).Text, "$501") {
		w.t.Errorf("%+v %v", result, err)
	}
	_, err = session.CallTool(w.t.Context(), &mcp.CallToolParams{Name: refund, Arguments: map[string]any{"amount": 2001}})
	if denied, ok := errors.AsType[*jsonrpc.Error](err); !ok || denied.Code != -32002 {
		w.t.Errorf("%v", err)
	}
}

// shows sends a token with every request.
type shows string

func (s shows) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(s))
	return http.DefaultTransport.RoundTrip(r)
}
