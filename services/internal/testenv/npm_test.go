package testenv_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/verdict-io/verdict/services/internal/example"
	"github.com/verdict-io/verdict/services/internal/issuer"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// verifier takes tokens that the keys of one of the issuers verify.
func verifier(t testing.TB, issuers ...string) auth.TokenVerifier {
	var known []*issuer.Issuer
	for _, at := range issuers {
		known = append(known, issuer.New(issuer.Config{
			Name: at, DiscoveryURL: at + "/.well-known/openid-configuration", Client: http.DefaultClient,
			CheckURL: func(string, string) error { return nil }, Logger: testenv.Logger(t),
		}))
	}
	return func(ctx context.Context, text string, _ *http.Request) (*auth.TokenInfo, error) {
		token, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
		if err != nil {
			return nil, auth.ErrInvalidToken
		}
		payload := token.UnsafePayloadWithoutVerification()
		claims, err := issuer.Claims(payload)
		i := slices.Index(issuers, claims.Issuer)
		if err != nil || i < 0 || issuer.Check(claims, issuers[i], nil, time.Now()) != nil {
			return nil, auth.ErrInvalidToken
		}
		if _, err := known[i].Verify(ctx, token, time.Now()); err != nil {
			return nil, auth.ErrInvalidToken
		}
		var extra map[string]any
		if err := json.Unmarshal(payload, &extra); err != nil {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{Expiration: claims.Expiry.Time(), UserID: claims.Subject, Extra: extra}, nil
	}
}

// mcpServer has five tools, two on a page, for callers whose tokens issuers made. The first says who calls, the others fail.
func mcpServer(t testing.TB, stateless bool, issuers ...string) string {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1.2.3"}, &mcp.ServerOptions{PageSize: 2})
	schema := json.RawMessage(`{"type":"object","properties":{"amount":{"type":"integer"}},"required":["amount"]}`)
	for i := range 5 {
		server.AddTool(&mcp.Tool{Name: fmt.Sprintf("T___tool_%d", i), InputSchema: schema}, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			switch i {
			case 0:
				who := r.Extra.TokenInfo
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf("%s %v %s", who.UserID, who.Extra["role"], r.Params.Arguments)}}}, nil
			case 1:
				return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: "it failed"}}}, nil
			}
			return nil, &jsonrpc.Error{Code: -32002, Message: "Tool Execution Denied"}
		})
	}
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: stateless})
	at := httptest.NewServer(auth.RequireBearerToken(verifier(t, issuers...), nil)(handler))
	t.Cleanup(func() {
		at.CloseClientConnections() // the client's stream of a session
		at.Close()
	})
	return at.URL
}

// exampleIssuer is ours.
func exampleIssuer(t testing.TB, client example.Client) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	at := "http://" + server.Listener.Addr().String()
	is, err := example.NewIssuer(example.IssuerConfig{URL: at, Clients: []example.Client{client}})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = is
	server.Start()
	t.Cleanup(server.Close)
	return at
}

// token asks the token endpoint that an issuer's discovery document names.
func token(t testing.TB, at string, more ...string) string {
	t.Helper()
	var document, answer map[string]any
	response, err := http.Get(at + "/.well-known/openid-configuration")
	decode(t, response, err, &document)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"agent"}, "client_secret": {"hush"}}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	endpoint, _ := document["token_endpoint"].(string)
	response, err = http.PostForm(endpoint, form)
	decode(t, response, err, &answer)
	text, _ := answer["access_token"].(string)
	return text
}

func decode(t testing.TB, response *http.Response, err error, into any) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
}

// The client and the issuer of npm work with the SDK of the gateway, and so does our own issuer.
func TestNPM(t *testing.T) {
	ours := exampleIssuer(t, example.Client{ID: "agent", Secret: "hush"})
	theirs := testenv.NPMIssuer{
		Resource: "http://127.0.0.1/mcp",
		Clients:  []testenv.NPMIssuerClient{{ID: "agent", Secret: "hush", Scopes: []string{"refunds:write"}, Claims: map[string]any{"role": "from npm"}}},
	}.Start(t)
	tokens := map[string]string{"agent from npm": token(t, theirs, "scope", "refunds:write"), "u-1 from ours": token(t, ours, "claims", `{"sub":"u-1","role":"from ours"}`)}
	client := testenv.NewNPMClient(t)
	for _, stateless := range []bool{true, false} {
		at := mcpServer(t, stateless, ours, theirs)
		for who, token := range tokens {
			session, err := client.Connect(at, map[string]string{"Authorization": "Bearer " + token})
			if err != nil || session.ServerInfo.Version != "1.2.3" || session.ProtocolVersion < "2025-06-18" || (session.SessionID == "") != stateless {
				t.Fatalf("stateless %v, %s: %+v, %v", stateless, who, session, err)
			}
			checkTools(t, client)
			result, err := client.Call("T___tool_0", map[string]any{"amount": 500})
			if want := `"text":"` + who + ` {\"amount\":500}"`; err != nil || !strings.Contains(string(result), want) {
				t.Errorf("stateless %v: %s, %v; want %s", stateless, result, err, want)
			}
			if err := client.Ping(); err != nil {
				t.Error(err)
			}
			client.Close()
			if err := client.Ping(); err == nil {
				t.Error("a client without a connection reached a server")
			}
		}
	}
}

func checkTools(t testing.TB, client *testenv.NPMClient) {
	t.Helper()
	tools, pages, err := client.List()
	var names []string
	for _, tool := range tools {
		names = append(names, tool.Name)
	}
	if diff := cmp.Diff([]string{"T___tool_0", "T___tool_1", "T___tool_2", "T___tool_3", "T___tool_4"}, names); err != nil || pages != 3 || diff != "" {
		t.Errorf("%d pages, %v: -want +got %s", pages, err, diff)
	}
	if result, err := client.Call("T___tool_1", map[string]any{"amount": 1}); err != nil || !strings.Contains(string(result), `"isError":true`) {
		t.Errorf("a tool that failed: %s, %v", result, err)
	}
	_, err = client.Call("T___tool_2", map[string]any{"amount": 1})
	if failed, ok := errors.AsType[*testenv.NPMError](err); !ok || failed.Code != -32002 || !strings.Contains(failed.Message, "Tool Execution Denied") {
		t.Errorf("a tool that was denied: %v", err)
	}
}

// Who has no token hears the status of HTTP.
func TestNPMClientIsRefused(t *testing.T) {
	ours := exampleIssuer(t, example.Client{ID: "agent", Secret: "hush"})
	at := mcpServer(t, true, ours)
	client := testenv.NewNPMClient(t)
	for name, headers := range map[string]map[string]string{"none": nil, "nonsense": {"Authorization": "Bearer x.y.z"}} {
		_, err := client.Connect(at, headers)
		if failed, ok := errors.AsType[*testenv.NPMError](err); !ok || failed.Code != http.StatusUnauthorized {
			t.Errorf("%s: %#v", name, err)
		}
	}
}
