package inbound_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/gateway/internal/egress"
	"github.com/verdict-io/verdict/services/gateway/internal/inbound"
	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	account     = "123456789012"
	metadataURL = "https://gateway.example/.well-known/oauth-protected-resource/gateways/refund-gw-a1b2c3d4e5/mcp"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// testIssuer is an issuer in this process, over HTTP.
type testIssuer struct {
	*httptest.Server

	mu        sync.Mutex
	published []jose.JSONWebKey
	answer    http.HandlerFunc // instead of all documents
	fetches   int
}

func newIssuer(t testing.TB, published ...jose.JSONWebKey) *testIssuer {
	t.Helper()
	is := &testIssuer{published: published}
	mux := http.NewServeMux()
	document := func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": is.name(), "jwks_uri": is.URL + "/keys"})
	}
	mux.HandleFunc("/tenant/.well-known/openid-configuration", document)
	mux.HandleFunc("/.well-known/oauth-authorization-server/tenant", document)
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		is.mu.Lock()
		defer is.mu.Unlock()
		is.fetches++
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: is.published})
	})
	is.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		is.mu.Lock()
		answer := is.answer
		is.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(is.Close)
	return is
}

// name ends as those of some issuers do, and as their discovery URLs do not say.
func (is *testIssuer) name() string { return is.URL + "/tenant/" }

func (is *testIssuer) discovery() string { return is.URL + "/tenant/.well-known/openid-configuration" }

// become changes what the issuer answers.
func (is *testIssuer) become(answer http.HandlerFunc, keys ...jose.JSONWebKey) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.answer, is.published = answer, keys
}

func (is *testIssuer) count() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return is.fetches
}

func (is *testIssuer) claims() claims {
	return claims{"iss": is.name(), "sub": "u-1", "aud": "refunds", "exp": noon.Add(time.Hour).Unix(), "iat": noon.Unix()}
}

// gateway takes tokens of the issuer, and wants of them what change says.
func (is *testIssuer) gateway(change func(*policy.JWTAuthorizer)) *policy.Gateway {
	jwt := &policy.JWTAuthorizer{DiscoveryURL: is.discovery()}
	if change != nil {
		change(jwt)
	}
	return gatewayWith(policy.GatewayDefinition{AuthorizerType: policy.AuthorizerJWT, JWT: jwt})
}

func gatewayWith(d policy.GatewayDefinition) *policy.Gateway {
	return &policy.Gateway{Resource: policy.Resource[policy.GatewayDefinition]{ID: "refund-gw-a1b2c3d4e5", InForce: &d}}
}

func ecKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func public(kid string, key crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: kid, Key: key.Public(), Use: "sig"}
}

type claims map[string]any

// with is a copy with one claim changed; nil removes it.
func (c claims) with(name string, value any) claims {
	next := maps.Clone(c)
	if next[name] = value; value == nil {
		delete(next, name)
	}
	return next
}

func (c claims) json(t testing.TB) []byte {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// sign is a token with the payload.
func sign(t testing.TB, alg jose.SignatureAlgorithm, kid string, key any, payload []byte) string {
	t.Helper()
	options := &jose.SignerOptions{}
	if kid != "" {
		options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://gateway.example/gateways/refund-gw-a1b2c3d4e5/mcp", strings.NewReader(body))
	r.RemoteAddr = "10.1.2.3:45678"
	return r
}

func withToken(text string) *http.Request {
	r := post("{}")
	r.Header.Set("Authorization", "Bearer "+text)
	return r
}

// world is an Authenticator with a clock that stands, and what it says.
type world struct {
	*inbound.Authenticator

	mu       sync.Mutex
	log      strings.Builder
	clock    time.Time
	registry *prometheus.Registry
}

const secret = "wJalrXUtnFEMI"

const callers = `{"accessKeys": [
	{"accessKeyId": "agent", "secretAccessKey": "wJalrXUtnFEMI", "account": "123456789012", "id": "refunds", "roles": ["agent"]},
	{"accessKeyId": "session", "secretAccessKey": "wJalrXUtnFEMI", "account": "123456789012", "id": "arn:aws:sts::123456789012:assumed-role/Agent/s1", "roles": ["agent"]},
	{"accessKeyId": "role", "secretAccessKey": "wJalrXUtnFEMI", "account": "123456789012", "id": "arn:aws-cn:iam::123456789012:role/path/Agent", "roles": ["admin"]},
	{"accessKeyId": "viewer", "secretAccessKey": "wJalrXUtnFEMI", "account": "123456789012", "id": "viewer", "roles": ["viewer", "gateway"]},
	{"accessKeyId": "other", "secretAccessKey": "wJalrXUtnFEMI", "account": "210987654321", "id": "other", "roles": ["agent", "admin"]}],
	"certificates": [{"subject": "agent.example", "account": "123456789012", "id": "agent", "roles": ["agent"]}]}`

func newWorld(t testing.TB) *world {
	t.Helper()
	file := filepath.Join(t.TempDir(), "callers.json")
	if err := os.WriteFile(file, []byte(callers), 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := identity.New(identity.Config{CallersFile: file, LoopbackAccount: account})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := access.New("")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{clock: noon, registry: prometheus.NewRegistry()}
	w.Authenticator = inbound.New(inbound.Config{
		Client:  egress.Client(egress.Transport(egress.Config{Loopback: true}), 10*time.Second),
		Callers: known, Access: rules, Registerer: w.registry,
		Logger: slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	w.SetClock(func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.clock
	})
	return w
}

// Write is for the log.
func (w *world) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(line)
}

func (w *world) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// ask is what becomes of a request to a gateway.
func (w *world) ask(r *http.Request, g *policy.Gateway) (inbound.Caller, *inbound.Refusal) {
	return w.Authenticate(r, account, g, metadataURL)
}

// secrets are parts of a token by which it could be used or recognised.
func secrets(token string) []string {
	parts := strings.Split(token, ".")
	parts = append(parts, token)
	var long []string
	for _, p := range parts {
		if len(p) >= 16 {
			long = append(long, p)
		}
	}
	return long
}

// wantSilent wants nothing of a token in what is said.
func wantSilent(t *testing.T, token string, said ...string) {
	t.Helper()
	for _, text := range said {
		for _, secret := range secrets(token) {
			if strings.Contains(text, secret) {
				t.Errorf("%q holds a part of the token", text)
			}
		}
	}
}

// Whoever calls a gateway that asks nobody is the same principal, whatever they bring.
func TestNone(t *testing.T) {
	w := newWorld(t)
	for _, r := range []*http.Request{post(""), withToken("x"), signed(t, post("{}"), "agent", secret, "{}")} {
		caller, refusal := w.ask(r, gatewayWith(policy.GatewayDefinition{AuthorizerType: policy.AuthorizerNone}))
		if refusal != nil || caller.Principal.GetType() != "AgentCore::UnauthenticatedUser" || caller.Principal.GetId() != "anonymous" ||
			len(caller.Principal.GetTags()) > 0 || !caller.Expires.IsZero() {
			t.Errorf("%v, %+v", caller, refusal)
		}
	}
}

// What nobody here can check lets nobody in, and the operator hears of it once.
func TestWhatCannotBeChecked(t *testing.T) {
	key := ecKey()
	is := newIssuer(t, public("k", key))
	token := sign(t, jose.ES256, "k", key, is.claims().json(t))
	for name, g := range map[string]*policy.Gateway{
		"workloads":           is.gateway(func(a *policy.JWTAuthorizer) { a.AllowedWorkloads = &policy.AllowedWorkloads{} }),
		"private endpoint":    is.gateway(func(a *policy.JWTAuthorizer) { a.PrivateEndpoint = &policy.PrivateEndpoint{LatticeResource: "x"} }),
		"private endpoints":   is.gateway(func(a *policy.JWTAuthorizer) { a.PrivateEndpointOverrides = []policy.PrivateEndpointOverride{{}} }),
		"authenticate only":   gatewayWith(policy.GatewayDefinition{AuthorizerType: policy.AuthorizerAuthenticateOnly}),
		"no authorizer":       gatewayWith(policy.GatewayDefinition{AuthorizerType: policy.AuthorizerJWT}),
		"unknown":             gatewayWith(policy.GatewayDefinition{AuthorizerType: "MAGIC"}),
		"nothing is in force": {},
	} {
		w := newWorld(t)
		for _, r := range []*http.Request{withToken(token), post(""), withToken(token)} {
			caller, refusal := w.ask(r, g)
			if refusal == nil || refusal.Status != http.StatusForbidden || refusal.Code != -32001 || caller.Principal != nil {
				t.Errorf("%s: %v, %+v", name, caller, refusal)
			}
		}
		warned := strings.Count(w.said(), "level=WARN")
		if expected := name != "unknown" && name != "nothing is in force"; expected && warned != 1 || !expected && warned != 0 {
			t.Errorf("%s: the log says %s", name, w.said())
		}
		if _, ok := w.Metadata(t.Context(), g, "https://gateway.example/mcp"); ok {
			t.Errorf("%s: there is a document that says where to get tokens", name)
		}
	}
	if is.count() != 0 {
		t.Error("an issuer was asked")
	}
}

func TestMetrics(t *testing.T) {
	key := ecKey()
	is := newIssuer(t, public("k", key))
	w := newWorld(t)
	g := is.gateway(func(a *policy.JWTAuthorizer) { a.AllowedScopes = []string{"call"} })
	good := is.claims().with("scope", "call")
	for _, r := range []*http.Request{
		post(""), withToken("x"), withToken(sign(t, jose.ES256, "k", key, good.json(t))), withToken(sign(t, jose.ES256, "k", key, is.claims().json(t))),
	} {
		_, _ = w.ask(r, g)
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			fmt.Fprintf(&got, "%s%v %v\n", f.GetName(), m.GetLabel(), m.GetCounter().GetValue())
		}
	}
	for _, want := range []string{`"missing"`, `"invalid"`, `"accepted"`, `"forbidden"`, `"fetched"`} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("no %s in %s", want, got.String())
		}
	}
	if strings.Contains(got.String(), is.URL) || strings.Contains(got.String(), g.ID) {
		t.Errorf("labels grow with gateways: %s", got.String())
	}
}

// Each part that is needed is missed when it is made, not when the first caller comes.
func TestNewRefusesHalf(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an Authenticator without anything")
		}
	}()
	inbound.New(inbound.Config{})
}

var _ io.Writer = (*world)(nil)
