package identity_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/verdict-io/verdict/services/internal/identity"
)

func TestSigningTransport(t *testing.T) {
	server, seen := recorder(t, knows(t, twoKeys))
	client := &http.Client{Transport: identity.SigningTransport(nil, "dev", "s3cr3t", "")}
	for _, tt := range []struct{ method, path, body string }{
		{"GET", "/a?z=1&b=%20x&b=&c", ""},
		{"POST", "/verdict.control.v1.EventService/Head", `{"a": 1}`},
		{"DELETE", "/tags/arn%3Aaws%3Ax%2Fy", ""},
		{"POST", "/empty", ""},
	} {
		// A pipe has no length, as the bodies of Connect's streams have none.
		reader, writer := io.Pipe()
		go func() { _, _ = io.WriteString(writer, tt.body); _ = writer.Close() }()
		r, err := http.NewRequestWithContext(t.Context(), tt.method, server.URL+tt.path, reader)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s %s: %v", tt.method, tt.path, *seen)
		}
		if r.Header.Get("Authorization") != "" || !strings.HasSuffix(server.URL+tt.path, r.URL.RequestURI()) {
			t.Error("the request of the caller was changed")
		}
	}
	wrong := &http.Client{Transport: identity.SigningTransport(nil, "dev", "s3cr3t", "eu-west-1")}
	response, err := wrong.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Error("a request for another region was taken")
	}
}

func TestSigningTransportBodyFails(t *testing.T) {
	broken := errors.New("broken")
	reader, writer := io.Pipe()
	_ = writer.CloseWithError(broken)
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:1/", reader)
	response, err := identity.SigningTransport(nil, "dev", "s3cr3t", "").RoundTrip(r)
	if !errors.Is(err, broken) {
		_ = response.Body.Close()
		t.Errorf("error %v", err)
	}
}

func TestCredentialsRefused(t *testing.T) {
	for text, says := range map[string]string{
		``:                         "ends too early",
		`{}`:                       "either",
		`{"accessKeyId": "dev"}`:   "either",
		`{"secretAccessKey": "x"}`: "either",
		`{"accessKeyId": "dev", "secretAccessKey": "s3cr3t", "tokenFile": "t"}`: "either",
		`{"accessKeyId": "dev", "tokenFile": "t"}`:                              "either",
		`{"accessKeyId": "dev", "secretAccesKey": "s3cr3t"}`:                    `unknown field "secretAccesKey"`,
		`{"accessKeyId": "dev", "secretAccessKey": 31415926}`:                   "must be a string",
		`{"tokenFile": "gone"}`:                                                 "gone",
	} {
		_, err := identity.ReadCredentials(write(t, "credentials.json", text))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "31415926") {
			t.Errorf("%s: error %v, want one with %q", text, err, says)
		}
	}
}

func TestCredentials(t *testing.T) {
	server, seen := recorder(t, knows(t, twoKeys))
	credentials, err := identity.ReadCredentials(write(t, "credentials.json", `{"accessKeyId": "dev", "secretAccessKey": "s3cr3t"}`))
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: credentials.Transport(nil, "us-east-1")}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Error(*seen)
	}
}

// A token is replaced in its file while its user runs.
func TestTokenFile(t *testing.T) {
	ec := ecKey()
	is := newIssuer(t, public("ec", ec))
	auth := knows(t, is.callers(""))
	server, seen := recorder(t, auth)
	path := write(t, "credentials.json", `{"tokenFile": "token"}`)
	put := func(email string) {
		t.Helper()
		c := is.claims().with("email", email).with("exp", time.Now().Add(time.Hour).Unix()).with("iat", nil).with("nbf", nil)
		text := token(t, jose.ES256, "ec", ec, c) + "\n"
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "token"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("first@example")
	credentials, err := identity.ReadCredentials(path)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: credentials.Transport(nil, "")}
	get := func() error {
		response, err := client.Get(server.URL + "/")
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	for _, email := range []string{"first@example", "second@example"} {
		put(email)
		if err := get(); err != nil {
			t.Fatal(err)
		}
		if last := (*seen)[len(*seen)-1]; !strings.Contains(last, email) {
			t.Errorf("the server saw %s, want %s", last, email)
		}
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "token"), []byte("two words"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := get(); err == nil || strings.Contains(err.Error(), "two words") {
		t.Errorf("with a file that holds no token: %v", err)
	}
}
