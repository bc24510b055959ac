package rpc_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
)

// Why a caller is not known decides what the caller can do about it: other credentials, a smaller request, or the same again later.
func TestNotKnown(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "callers.json")
	const place = `"account": "111111111111", "roles": ["viewer"]`
	err := os.WriteFile(file, []byte(`{"accessKeys": [{"accessKeyId": "k", "secretAccessKey": "s", "id": "k", `+place+`}],
		"issuers": [{"issuer": "http://127.0.0.1:1", "audiences": ["a"], "rules": [{"claims": {}, `+place+`}]}]}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	callers, err := identity.New(identity.Config{CallersFile: file})
	if err != nil {
		t.Fatal(err)
	}
	edge := rpc.New(rpc.Config{Callers: callers, Access: everybody{}, MaxBytes: 1000})
	reached := 0
	server := httptest.NewServer(edge.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reached++; w.WriteHeader(http.StatusOK) })))
	t.Cleanup(server.Close)
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"RS256","kid":"x"}`)) + "." + encode([]byte(`{"iss":"http://127.0.0.1:1"}`)) + "." + encode([]byte("signature"))
	sign := func(secret string) http.RoundTripper {
		return identity.SigningTransport(http.DefaultTransport, "k", secret, "us-east-1")
	}
	for name, tt := range map[string]struct {
		transport    http.RoundTripper
		bearer, body string
		status       int
		challenged   bool
	}{
		"known":                           {transport: sign("s"), body: "x", status: http.StatusOK},
		"wrong secret":                    {transport: sign("t"), body: "x", status: http.StatusUnauthorized, challenged: true},
		"nothing":                         {transport: http.DefaultTransport, status: http.StatusUnauthorized, challenged: true},
		"an issuer that does not answer":  {transport: http.DefaultTransport, bearer: token, status: http.StatusServiceUnavailable},
		"a signed body that is too large": {transport: sign("s"), body: strings.Repeat("x", 200_000), status: http.StatusTooManyRequests},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/x", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if tt.bearer != "" {
			req.Header.Set("Authorization", "Bearer "+tt.bearer)
		}
		resp, err := tt.transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status || (resp.Header.Get("WWW-Authenticate") != "") != tt.challenged {
			t.Errorf("%s: %s, %v", name, resp.Status, resp.Header)
		}
	}
	if reached != 1 {
		t.Errorf("%d requests got through", reached)
	}
}
