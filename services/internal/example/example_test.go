package example_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/internal/example"
	"github.com/verdict-io/verdict/services/internal/issuer"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

var (
	anyClaim = example.Client{ID: "refund-agent", Secret: "a b+c%&:d", Scopes: []string{"refunds:write", "orders:read"}}
	noClaim  = example.Client{ID: "strict", Secret: "hush", Claims: []string{"role"}}
)

// serve is an issuer that knows its own URL.
func serve(t testing.TB, keyFile string) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	at := "http://" + server.Listener.Addr().String()
	is, err := example.NewIssuer(example.IssuerConfig{URL: at, KeyFile: keyFile, Clients: []example.Client{anyClaim, noClaim}})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = is
	server.Start()
	t.Cleanup(server.Close)
	return at
}

// form posts to the token endpoint; with a user by HTTP Basic, as RFC 6749 wants its parts encoded.
func form(t testing.TB, at, user, password string, values ...string) (int, map[string]any) {
	t.Helper()
	sent := url.Values{}
	for i := 0; i < len(values); i += 2 {
		sent.Set(values[i], values[i+1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+"/token", strings.NewReader(sent.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if user != "" {
		r.SetBasicAuth(url.QueryEscape(user), url.QueryEscape(password))
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

// keys are those that an issuer publishes, as the gateway finds them.
func keys(t testing.TB, at, document string) *issuer.Issuer {
	return issuer.New(issuer.Config{
		Name: at, DiscoveryURL: at + "/.well-known/" + document, Client: http.DefaultClient,
		CheckURL: func(string, string) error { return nil }, Logger: testenv.Logger(t),
	})
}

// verified are the claims of a token that the keys which its issuer publishes verify.
func verified(t testing.TB, at string, answer map[string]any) map[string]any {
	t.Helper()
	text, _ := answer["access_token"].(string)
	token, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatalf("%v: %v", answer, err)
	}
	for _, document := range []string{"openid-configuration", "oauth-authorization-server"} {
		if _, err := keys(t, at, document).Verify(t.Context(), token, time.Now()); err != nil {
			t.Fatalf("%s: %v", document, err)
		}
	}
	payload := token.UnsafePayloadWithoutVerification()
	registered, err := issuer.Claims(payload)
	if err == nil {
		err = issuer.Check(registered, at, nil, time.Now())
	}
	if err != nil {
		t.Error(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// A token holds what its client asked for, and is signed with the key that the issuer publishes.
func TestTokens(t *testing.T) {
	at := serve(t, "")
	status, answer := form(t, at, anyClaim.ID, anyClaim.Secret, "grant_type", "client_credentials", "scope", "orders:read",
		"claims", `{"sub":"u-1","role":"refund-agent","groups":["a","b"],"level":9007199254740993}`)
	if status != http.StatusOK || answer["token_type"] != "Bearer" || answer["expires_in"] != 3600.0 || answer["scope"] != "orders:read" {
		t.Fatal(status, answer)
	}
	claims := verified(t, at, answer)
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 3600 {
		t.Errorf("it counts for %v s", life)
	}
	for _, name := range []string{"exp", "iat", "jti"} {
		delete(claims, name)
	}
	want := map[string]any{
		"iss": at, "sub": "u-1", "client_id": "refund-agent", "scope": "orders:read", "role": "refund-agent", "groups": []any{"a", "b"}, "level": 9007199254740993.0,
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("-want +got %s", diff)
	}

	status, answer = form(t, at, "", "", "grant_type", "client_credentials", "client_id", anyClaim.ID, "client_secret", anyClaim.Secret)
	if status != http.StatusOK || verified(t, at, answer)["scope"] != "refunds:write orders:read" || verified(t, at, answer)["sub"] != "refund-agent" {
		t.Error("by the form:", status, answer)
	}
}

func TestTokensRefused(t *testing.T) {
	at := serve(t, "")
	ask := []string{"grant_type", "client_credentials"}
	for name, c := range map[string]struct {
		user, password string
		values         []string
		status         int
		code           string
	}{
		"nobody":        {"", "", ask, 401, "invalid_client"},
		"unknown":       {"eve", "hush", ask, 401, "invalid_client"},
		"wrong secret":  {noClaim.ID, "hus", ask, 401, "invalid_client"},
		"other grant":   {noClaim.ID, noClaim.Secret, []string{"grant_type", "password"}, 400, "unsupported_grant_type"},
		"other scope":   {anyClaim.ID, anyClaim.Secret, append(ask, "scope", "orders:read admin"), 400, "invalid_scope"},
		"no object":     {anyClaim.ID, anyClaim.Secret, append(ask, "claims", `["a"]`), 400, "invalid_request"},
		"null":          {anyClaim.ID, anyClaim.Secret, append(ask, "claims", `null`), 400, "invalid_request"},
		"two objects":   {anyClaim.ID, anyClaim.Secret, append(ask, "claims", `{} {}`), 400, "invalid_request"},
		"claim not his": {noClaim.ID, noClaim.Secret, append(ask, "claims", `{"role":"x","sub":"root"}`), 400, "invalid_request"},
		"too large":     {anyClaim.ID, anyClaim.Secret, append(ask, "claims", `{"x":"`+strings.Repeat("x", 1<<20)+`"}`), 400, "invalid_request"},
	} {
		status, answer := form(t, at, c.user, c.password, c.values...)
		if status != c.status || answer["error"] != c.code || answer["access_token"] != nil {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
}

// Whoever has a token may go on using it when the issuer has been started again.
func TestKeyOutlivesRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	first := serve(t, file)
	_, answer := form(t, first, noClaim.ID, noClaim.Secret, "grant_type", "client_credentials")
	token, err := jose.ParseSignedCompact(answer["access_token"].(string), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	second := serve(t, file)
	if _, err := keys(t, second, "openid-configuration").Verify(t.Context(), token, time.Now()); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestIssuerRefuses(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(bad, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]example.IssuerConfig{
		"no URL":        {},
		"off loopback":  {URL: "http://issuer.example"},
		"no key":        {URL: "http://127.0.0.1:1", KeyFile: bad},
		"no folder":     {URL: "http://127.0.0.1:1", KeyFile: bad + "/key.pem"},
		"nobody":        {URL: "http://127.0.0.1:1", Clients: []example.Client{{Secret: "hush"}}},
		"without sense": {URL: "http://127.0.0.1:1", Clients: []example.Client{{ID: "a"}}},
	} {
		if _, err := example.NewIssuer(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Both are for this machine: what is asked from elsewhere, or by a web page under its own name, is refused.
func TestOnlyOnLoopback(t *testing.T) {
	is, err := example.NewIssuer(example.IssuerConfig{URL: "http://127.0.0.1:7405", Clients: []example.Client{anyClaim}})
	if err != nil {
		t.Fatal(err)
	}
	functions := example.NewFunctions()
	functions.Register("tool", example.ProcessRefund)
	for _, c := range []struct {
		remote, host string
		refused      bool
	}{
		{"127.0.0.1:5000", "127.0.0.1:7405", false},
		{"[::1]:5000", "localhost:7405", false},
		{"127.0.0.1:5000", "evil.example:7405", true},
		{"192.0.2.7:5000", "127.0.0.1:7405", true},
	} {
		for path, handler := range map[string]http.Handler{"/token": is, "/2015-03-31/functions/tool/invocations": functions} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.host+path, strings.NewReader(`{"amount":1}`))
			r.RemoteAddr = c.remote
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if (w.Code == http.StatusForbidden) != c.refused {
				t.Errorf("%s from %s for %s: %d", path, c.remote, c.host, w.Code)
			}
		}
	}
	if n := functions.Calls("tool"); n != 2 {
		t.Errorf("run %d times", n)
	}
}

// client is AWS's own, pointed at a server of functions.
func client(t testing.TB, f *example.Functions) (*lambda.Client, string) {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return lambda.New(lambda.Options{
		BaseEndpoint: &server.URL, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1,
	}), server.URL
}

// An SDK of AWS reads the answers, of tools that the quickstart has.
func TestTools(t *testing.T) {
	f := example.NewFunctions()
	f.Register("RefundTool", example.ProcessRefund)
	f.Register("OrderTool", example.LookupOrder)
	c, _ := client(t, f)
	for _, call := range []struct{ function, event, answer string }{
		{"RefundTool", `{"amount":500}`, `{"status":"success","message":"Refund of $500 processed successfully","amount":500}`},
		{"arn:aws:lambda:us-east-1:000000000000:function:RefundTool", `{"amount":9007199254740993}`, `{"status":"success","message":"Refund of $9007199254740993 processed successfully","amount":9007199254740993}`},
		{"000000000000:function:OrderTool", `{"orderId":"12345"}`, `{"orderId":"12345","status":"delivered","total":450}`},
	} {
		output, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &call.function, Payload: []byte(call.event)})
		if err != nil || output.FunctionError != nil || string(output.Payload) != call.answer || *output.ExecutedVersion != "$LATEST" {
			t.Errorf("%s: %+v, %v", call.function, output, err)
		}
	}
	for _, function := range []string{"RefundTool", "OrderTool"} {
		output, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &function, Payload: []byte(`{"amount":{}}`)})
		if err != nil || output.FunctionError == nil || !strings.Contains(string(output.Payload), `"errorMessage":`) {
			t.Errorf("%s: %+v, %v", function, output, err)
		}
	}
	if refunds, orders := f.Calls("RefundTool"), f.Calls("OrderTool"); refunds != 3 || orders != 2 {
		t.Errorf("%d refunds, %d orders", refunds, orders)
	}
}

// What goes wrong is answered as Lambda answers it.
func TestFunctionsFail(t *testing.T) {
	f := example.NewFunctions()
	for name, run := range map[string]example.Function{
		"fails": func(context.Context, json.RawMessage, map[string]string) (any, error) {
			return nil, errors.New("no such order")
		},
		"panics": func(context.Context, json.RawMessage, map[string]string) (any, error) { panic("boom") },
		"odd":    func(context.Context, json.RawMessage, map[string]string) (any, error) { return math.NaN(), nil },
		"large": func(context.Context, json.RawMessage, map[string]string) (any, error) {
			return strings.Repeat("x", 7<<20), nil
		},
	} {
		f.Register(name, run)
	}
	c, at := client(t, f)
	for name, want := range map[string]string{
		"fails": `{"errorMessage":"no such order","errorType":"errorString"`, "panics": `"errorMessage":"Runtime exited: boom","errorType":"crashed"`,
		"odd": `"errorType":"Runtime.MarshalError"`, "large": `"errorType":"Function.ResponseSizeTooLarge"`,
	} {
		output, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name})
		if err != nil || output.FunctionError == nil || *output.FunctionError != "Unhandled" || !strings.Contains(string(output.Payload), want) {
			t.Errorf("%s: %+v %s, %v", name, output, output.Payload, err)
		}
	}

	invoke := func(name string, event []byte, change func(*lambda.InvokeInput)) error {
		in := &lambda.InvokeInput{FunctionName: &name, Payload: event}
		change(in)
		_, err := c.Invoke(t.Context(), in)
		return err
	}
	same := func(*lambda.InvokeInput) {}
	if err := invoke("gone", nil, same); !is[*types.ResourceNotFoundException](err) {
		t.Errorf("none of that name: %v", err)
	}
	if err := invoke("fails:live", nil, same); !is[*types.ResourceNotFoundException](err) {
		t.Errorf("none of that alias: %v", err)
	}
	if err := invoke("fails", []byte("{"), same); !is[*types.InvalidRequestContentException](err) {
		t.Errorf("no JSON: %v", err)
	}
	if err := invoke("fails", []byte(`"`+strings.Repeat("x", 6<<20)+`"`), same); !is[*types.RequestTooLargeException](err) {
		t.Errorf("too large: %v", err)
	}
	if err := invoke("fails", nil, func(in *lambda.InvokeInput) { in.ClientContext = aws.String("{}") }); !is[*types.InvalidRequestContentException](err) {
		t.Errorf("no client context: %v", err)
	}
	if err := invoke("fails", nil, func(in *lambda.InvokeInput) { in.InvocationType = types.InvocationTypeEvent }); !is[*types.InvalidParameterValueException](err) {
		t.Errorf("other type: %v", err)
	}
	if n := f.Calls("fails"); n != 1 {
		t.Errorf("run %d times", n)
	}
	response, err := http.Get(at + "/2015-03-31/functions/fails/invocations")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, _ = io.Copy(io.Discard, response.Body); response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", response.StatusCode)
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// The count is exact, whoever calls at once: tests hold it against decisions.
func TestCalls(t *testing.T) {
	f := example.NewFunctions()
	f.Register("tool", example.ProcessRefund)
	f.Register("tool:live", example.ProcessRefund)
	c, _ := client(t, f)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 25 {
				if _, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("tool"), Payload: []byte(`{"amount":1}`)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	if _, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("tool"), Qualifier: aws.String("live")}); err != nil {
		t.Error(err)
	}
	if n, live, none := f.Calls("tool"), f.Calls("tool:live"), f.Calls("none"); n != 200 || live != 1 || none != 0 {
		t.Errorf("%d, %d of the alias, %d of none", n, live, none)
	}
}
