package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/verdict-io/verdict/services/internal/identity"
)

// testIssuer is an OpenID Connect issuer in this process.
type testIssuer struct {
	*httptest.Server

	mu          sync.Mutex
	published   []jose.JSONWebKey
	answer      func(http.ResponseWriter) // instead of the published keys
	discoveries int
	fetches     int
}

func newIssuer(t testing.TB, published ...jose.JSONWebKey) *testIssuer {
	is := &testIssuer{published: published}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		is.mu.Lock()
		defer is.mu.Unlock()
		is.discoveries++
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": is.URL, "jwks_uri": is.URL + "/keys", "more": 1})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		is.mu.Lock()
		is.fetches++
		answer, published := is.answer, is.published
		is.mu.Unlock()
		if answer != nil {
			answer(w)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: published})
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: published})
	})
	is.Server = httptest.NewServer(mux)
	t.Cleanup(is.Close)
	return is
}

// publish changes what the issuer answers.
func (is *testIssuer) publish(answer func(http.ResponseWriter), keys ...jose.JSONWebKey) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.answer, is.published = answer, keys
}

func (is *testIssuer) count() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return is.fetches
}

func (is *testIssuer) callers(more string) string {
	return fmt.Sprintf(`{"issuers": [{"issuer": %q, "audiences": ["verdict", "verdict-cli"]%s, "rules": [
		{"claims": {"groups": ["admins", "ops"], "email_verified": true}, "account": "123456789012", "roles": ["admin"], "idClaim": "email"},
		{"claims": {"kubernetes.io": {"namespace": "verdict"}}, "account": "123456789012", "roles": ["node"]},
		{"claims": {"level": 7}, "account": "222222222222", "roles": ["viewer"]}]}]}`, is.URL, more)
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

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

func (is *testIssuer) claims() claims {
	return claims{
		"iss": is.URL, "sub": "u-1", "aud": "verdict", "exp": noon.Add(time.Hour).Unix(), "iat": noon.Unix(), "nbf": noon.Unix(),
		"email": "ada@example", "email_verified": true, "groups": []string{"staff", "ops"},
	}
}

// token is one, signed.
func token(t testing.TB, alg jose.SignatureAlgorithm, kid string, key any, c claims) string {
	t.Helper()
	options := &jose.SignerOptions{}
	if kid != "" {
		options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(c)
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

func withToken(text string) *http.Request {
	r := post("{}")
	r.Header.Set("Authorization", "Bearer "+text)
	return r
}

// at is auth with a clock that stands at noon.
func at(auth *identity.Authenticator) (*identity.Authenticator, *clock) {
	c := &clock{noon}
	auth.SetClock(c.now)
	return auth, c
}

func TestToken(t *testing.T) {
	ec := ecKey()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	is := newIssuer(t, public("rsa", rsaKey()), public("ec", ec), public("ed", ed),
		jose.JSONWebKey{KeyID: "enc", Key: rsaKey().Public(), Use: "enc"})
	auth, _ := at(knows(t, is.callers("")))
	admin := identity.Caller{Account: "123456789012", ID: "ada@example", Roles: []string{"admin"}, Method: "oidc", SourceAddress: "10.1.2.3"}
	node := identity.Caller{Account: "123456789012", ID: "u-1", Roles: []string{"node"}, Method: "oidc", SourceAddress: "10.1.2.3"}
	viewer := identity.Caller{Account: "222222222222", ID: "u-1", Roles: []string{"viewer"}, Method: "oidc", SourceAddress: "10.1.2.3"}
	other := is.claims().with("groups", nil)
	for name, tt := range map[string]struct {
		text string
		want identity.Caller
	}{
		"RS256":           {token(t, jose.RS256, "rsa", rsaKey(), is.claims()), admin},
		"PS512":           {token(t, jose.PS512, "rsa", rsaKey(), is.claims()), admin},
		"ES256":           {token(t, jose.ES256, "ec", ec, is.claims()), admin},
		"EdDSA":           {token(t, jose.EdDSA, "ed", ed, is.claims()), admin},
		"audiences":       {token(t, jose.ES256, "ec", ec, is.claims().with("aud", []string{"x", "verdict-cli"})), admin},
		"just ended":      {token(t, jose.ES256, "ec", ec, is.claims().with("exp", noon.Add(-59*time.Second).Unix())), admin},
		"just begins":     {token(t, jose.ES256, "ec", ec, is.claims().with("nbf", noon.Add(59*time.Second).Unix())), admin},
		"group as a text": {token(t, jose.ES256, "ec", ec, is.claims().with("groups", "admins")), admin},
		"claims in one":   {token(t, jose.ES256, "ec", ec, other.with("kubernetes.io", claims{"namespace": "verdict"})), node},
		"first rule":      {token(t, jose.ES256, "ec", ec, is.claims().with("level", 7)), admin},
		"number":          {token(t, jose.ES256, "ec", ec, other.with("level", 7)), viewer},
	} {
		for _, again := range []string{"", ", again"} {
			got, err := auth.Authenticate(withToken(tt.text))
			if err != nil {
				t.Errorf("%s%s: %v", name, again, err)
				continue
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(identity.Caller{})); diff != "" {
				t.Errorf("%s%s: %s", name, again, diff)
			}
		}
	}
	if is.count() != 1 || is.discoveries != 1 {
		t.Errorf("the keys were fetched %d times, the discovery document %d times", is.count(), is.discoveries)
	}
}

func TestTokenRefused(t *testing.T) {
	ec, stranger := ecKey(), ecKey()
	is := newIssuer(t, public("ec", ec), public("rsa", rsaKey()))
	good := is.claims()
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	pem := []byte(part(rsaKey().N)) // what a public key is to somebody who takes HS256 with it
	signed := func(c claims) string { return token(t, jose.ES256, "ec", ec, c) }
	text := signed(good)
	parts := strings.Split(text, ".")
	for name, tt := range map[string]struct{ text, says string }{
		"alg none":             {part(claims{"alg": "none"}) + "." + part(good) + ".", "never taken"},
		"alg none, signed":     {part(claims{"alg": "none", "kid": "ec"}) + text[strings.Index(text, "."):], "never taken"},
		"HS256":                {token(t, jose.HS256, "ec", pem, good), "never taken"},
		"no token":             {"", "must be a JWT"},
		"no JWT":               {"abc", "must be a JWT"},
		"JSON":                 {"{}", "must be a JWT"},
		"huge":                 {strings.Repeat("a", 20000), "longer than"},
		"another's key":        {token(t, jose.ES256, "ec", stranger, good), "not signed with a key"},
		"unknown key":          {token(t, jose.ES256, "new", stranger, good), "not signed with a key"},
		"no key id":            {token(t, jose.ES256, "", ec, good), "not signed with a key"},
		"key of another kind":  {token(t, jose.ES256, "rsa", ec, good), "not signed with a key"},
		"claims changed":       {parts[0] + "." + part(good.with("sub", "root")) + "." + parts[2], "not signed with a key"},
		"wrong issuer":         {signed(good.with("iss", "https://evil.example")), "none whose tokens"},
		"issuer with a slash":  {signed(good.with("iss", is.URL+"/")), "none whose tokens"},
		"issuer in upper case": {signed(good.with("iss", strings.ToUpper(is.URL))), "none whose tokens"},
		"no issuer":            {signed(good.with("iss", nil)), "none whose tokens"},
		"wrong audience":       {signed(good.with("aud", "another")), "none of its audiences"},
		"no audience":          {signed(good.with("aud", nil)), "none of its audiences"},
		"empty audience":       {signed(good.with("aud", []string{})), "none of its audiences"},
		"ended":                {signed(good.with("exp", noon.Add(-61*time.Second).Unix())), "ended at 2026-11-29T11:58:59Z and here it is 2026-11-29T12:00:00Z"},
		"no end":               {signed(good.with("exp", nil)), "claim exp"},
		"not begun":            {signed(good.with("nbf", noon.Add(61*time.Second).Unix())), "begins at"},
		"issued later":         {signed(good.with("iat", noon.Add(61*time.Second).Unix())), "issued at"},
		"odd end":              {signed(good.with("exp", "tomorrow")), "cannot be read"},
	} {
		auth, _ := at(knows(t, is.callers("")))
		for _, again := range []string{"", ", again"} {
			_, err := auth.Authenticate(withToken(tt.text))
			if !errors.Is(err, identity.ErrUnauthenticated) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s%s: error %v, want one with %q", name, again, err, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), "evil") {
				t.Errorf("%s%s: %v repeats what nobody signed", name, again, err)
			}
		}
	}
}

func TestTokenWithoutPlace(t *testing.T) {
	ec := ecKey()
	is := newIssuer(t, public("ec", ec))
	auth, _ := at(knows(t, is.callers("")))
	for name, tt := range map[string]struct {
		c    claims
		says string
	}{
		"no group":               {is.claims().with("groups", []string{"staff"}), "fit no rule"},
		"one claim of two":       {is.claims().with("email_verified", "true"), "fit no rule"},
		"a claim's name is near": {is.claims().with("groups", nil).with("Groups", "ops"), "fit no rule"},
		"no id":                  {is.claims().with("email", nil), "claim email"},
		"empty id":               {is.claims().with("email", ""), "claim email"},
		"id that breaks lines":   {is.claims().with("email", "a\nb"), "claim email"},
		"long id":                {is.claims().with("email", strings.Repeat("a", 257)), "claim email"},
		"id that is no text":     {is.claims().with("email", 7), "claim email"},
	} {
		_, err := auth.Authenticate(withToken(token(t, jose.ES256, "ec", ec, tt.c)))
		if !errors.Is(err, identity.ErrForbidden) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want forbidden with %q", name, err, tt.says)
		}
	}
}

// Who takes two issuers must say whether their ids mean the same people.
func TestTwoIssuers(t *testing.T) {
	ec := ecKey()
	one, two := newIssuer(t, public("ec", ec)), newIssuer(t, public("ec", ec))
	entry := func(is *testIssuer, more string) string {
		return fmt.Sprintf(`{"issuer": %q, "audiences": ["verdict"]%s, "rules": [{"claims": {}, "account": "123456789012", "roles": ["viewer"]}]}`, is.URL, more)
	}
	auth, _ := at(knows(t, fmt.Sprintf(`{"issuers": [%s, %s]}`, entry(one, `, "idPrefix": ""`), entry(two, `, "idPrefix": "two:"`))))
	for id, is := range map[string]*testIssuer{"u-1": one, "two:u-1": two} {
		caller, err := auth.Authenticate(withToken(token(t, jose.ES256, "ec", ec, is.claims())))
		if err != nil || caller.ID != id {
			t.Errorf("caller %s, error %v, want %s", caller.ID, err, id)
		}
	}
	path := write(t, "callers.json", fmt.Sprintf(`{"issuers": [%s, %s]}`, entry(one, ""), entry(two, "")))
	if _, err := identity.New(identity.Config{CallersFile: path}); err == nil || !strings.Contains(err.Error(), "idPrefix") {
		t.Errorf("without prefixes: %v", err)
	}
}

// A token that was taken ends all the same.
func TestTokenEnds(t *testing.T) {
	ec := ecKey()
	is := newIssuer(t, public("ec", ec))
	auth, c := at(knows(t, is.callers("")))
	r := withToken(token(t, jose.ES256, "ec", ec, is.claims().with("exp", noon.Add(time.Minute).Unix())))
	for _, after := range []time.Duration{0, 2 * time.Minute, 2*time.Minute + time.Second} {
		c.Time = noon.Add(after)
		if _, err := auth.Authenticate(r); (err == nil) != (after <= 2*time.Minute) {
			t.Errorf("after %s: %v", after, err)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	before, after := ecKey(), ecKey()
	is := newIssuer(t, public("1", before))
	auth, c := at(knows(t, is.callers("")))
	of := func(kid string, key *ecdsa.PrivateKey) error {
		_, err := auth.Authenticate(withToken(token(t, jose.ES256, kid, key, is.claims())))
		return err
	}
	old := token(t, jose.ES256, "1", before, is.claims())
	if _, err := auth.Authenticate(withToken(old)); err != nil {
		t.Fatal(err)
	}
	is.publish(nil, public("2", after))
	if err := of("2", after); !errors.Is(err, identity.ErrUnauthenticated) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("a new key, a moment after the last fetch: %v", err)
	}
	c.Time = c.Add(identity.KeyPause)
	if err := of("2", after); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if _, err := auth.Authenticate(withToken(old)); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("a token that was taken before, of a key that is withdrawn: %v", err)
	}
	// The same id for another key, as issuers have it that make a key when they start.
	is.publish(nil, public("2", before))
	c.Time = c.Add(identity.KeyPause)
	if err := of("2", before); err != nil {
		t.Errorf("another key with the same id: %v", err)
	}
	if is.count() != 3 {
		t.Errorf("the keys were fetched %d times", is.count())
	}
}

// Ten thousand tokens with unknown key ids cost the issuer one question in ten seconds.
func TestFetchesAreBounded(t *testing.T) {
	ec, stranger := ecKey(), ecKey()
	is := newIssuer(t, public("ec", ec))
	path := write(t, "callers.json", is.callers(""))
	registry := prometheus.NewRegistry()
	auth, err := identity.New(identity.Config{CallersFile: path, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	auth, c := at(auth)
	payload := strings.Split(token(t, jose.ES256, "x", stranger, is.claims()), ".")[1]
	unknown := func(i int) string {
		header := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","kid":"no-%d"}`, i))
		return header + "." + payload + "." + strings.Repeat("A", 86)
	}
	const tokens = 10_000
	send := func() {
		var work sync.WaitGroup
		var next atomic.Int64
		for range 8 {
			work.Go(func() {
				for i := next.Add(1); i <= tokens; i = next.Add(1) {
					if _, err := auth.Authenticate(withToken(unknown(int(i)))); !errors.Is(err, identity.ErrUnauthenticated) {
						t.Errorf("token %d: %v", i, err)
						return
					}
				}
			})
		}
		work.Wait()
	}
	send()
	if is.count() != 1 {
		t.Errorf("%d tokens with unknown keys made %d fetches", tokens, is.count())
	}
	is.publish(func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) })
	c.Time = c.Add(identity.KeyPause)
	if err := auth.Reload(); err != nil { // must not make it forget
		t.Fatal(err)
	}
	send()
	if is.count() != 2 {
		t.Errorf("as many after ten seconds, with an issuer that fails, and in all %d fetches", is.count())
	}
	t.Logf("%d tokens with unknown key ids within 10 s each time, twice: %d fetches", tokens, is.count())
	want := fmt.Sprintf(`
# HELP verdict_identity_key_fetches_total Times that the keys of an issuer were fetched, by outcome.
# TYPE verdict_identity_key_fetches_total counter
verdict_identity_key_fetches_total{issuer="%[1]s",outcome="failed"} 1
verdict_identity_key_fetches_total{issuer="%[1]s",outcome="fetched"} 1
`, is.URL)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "verdict_identity_key_fetches_total"); err != nil {
		t.Error(err)
	}
}

// What an issuer can answer wrong, as the log calls it, when no key is known and when one is.
func TestIssuerThatFails(t *testing.T) {
	ec := ecKey()
	for name, answer := range map[string]func(http.ResponseWriter){
		"status 502": func(w http.ResponseWriter) { http.Error(w, "no", http.StatusBadGateway) },
		"larger than": func(w http.ResponseWriter) {
			for {
				if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		},
		"not a JWK set":    func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") },
		"is not a JWK set": func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"error": "busy"}`) },
		"has 101 keys":     func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"keys": [{}`+strings.Repeat(",{}", 100)+`]}`) },
		"status 302": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/moved")
			w.WriteHeader(http.StatusFound)
		},
		"EOF": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			is := newIssuer(t, public("ec", ec))
			is.publish(answer)
			var log strings.Builder
			auth, err := identity.New(identity.Config{
				CallersFile: write(t, "callers.json", is.callers("")), Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			auth, c := at(auth)
			text := token(t, jose.ES256, "ec", ec, is.claims())
			for range 3 {
				if _, err := auth.Authenticate(withToken(text)); !errors.Is(err, identity.ErrUnavailable) || !strings.Contains(err.Error(), "try again") {
					t.Errorf("without a key: %v", err)
				}
			}
			if is.count() != 1 {
				t.Errorf("asked %d times", is.count())
			}
			if !strings.Contains(log.String(), is.URL) || !strings.Contains(log.String(), name) || len(log.String()) > 1000 || strings.Contains(log.String(), text) {
				t.Errorf("the log says %s", log.String())
			}
			is.publish(nil, public("ec", ec))
			c.Time = c.Add(identity.KeyPause)
			if _, err := auth.Authenticate(withToken(text)); err != nil {
				t.Errorf("when the issuer is well: %v", err)
			}
			is.publish(answer)
			c.Time = c.Add(identity.KeyPause)
			if _, err := auth.Authenticate(withToken(token(t, jose.ES256, "new", ec, is.claims()))); !errors.Is(err, identity.ErrUnauthenticated) {
				t.Errorf("an unknown key: %v", err)
			}
			if _, err := auth.Authenticate(withToken(token(t, jose.ES256, "ec", ec, is.claims().with("jti", "2")))); err != nil {
				t.Errorf("a known key, while the issuer fails: %v", err)
			}
		})
	}
}

// An issuer whose discovery names somebody else, or another place without TLS.
func TestDiscoveryIsChecked(t *testing.T) {
	ec := ecKey()
	for document, says := range map[string]string{
		`{"issuer": "https://evil.example", "jwks_uri": "URL/keys"}`: "calls itself",
		`{"issuer": "URL/", "jwks_uri": "URL/keys"}`:                 "calls itself",
		`{"issuer": "URL"}`: "is not a URL",
		`{"issuer": "URL", "jwks_uri": "http://keys.example/"}`: "must begin with https",
		`{"issuer": "URL", "jwks_uri": "file:///etc/passwd"}`:   "is not a URL",
		`[]`: "not the JSON",
	} {
		mux := http.NewServeMux()
		server := httptest.NewServer(mux)
		mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.ReplaceAll(document, "URL", server.URL))
		})
		mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public("ec", ec)}})
		})
		is := &testIssuer{Server: server}
		var log strings.Builder
		auth, err := identity.New(identity.Config{
			CallersFile: write(t, "callers.json", is.callers("")), Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		auth, _ = at(auth)
		_, err = auth.Authenticate(withToken(token(t, jose.ES256, "ec", ec, is.claims())))
		if !errors.Is(err, identity.ErrUnavailable) || !strings.Contains(log.String(), says) {
			t.Errorf("%s: %v; the log says %s, want %q", document, err, log.String(), says)
		}
		server.Close()
	}
}

// hanging is an issuer's network: it answers with text, or, when that is "", not until the asking ends.
type hanging struct {
	text  atomic.Pointer[string]
	asked atomic.Int64
}

func (h *hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	h.asked.Add(1)
	if text := h.text.Load(); text != nil {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(*text)), Request: r}, nil
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A hanging issuer holds up those whose key is not known, all together, for the time of one fetch; nobody else.
func TestIssuerThatHangs(t *testing.T) {
	ec := ecKey()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public("ec", ec)}})
	if err != nil {
		t.Fatal(err)
	}
	text := string(set)
	is := &testIssuer{Server: &httptest.Server{URL: "https://login.example"}}
	synctest.Test(t, func(t *testing.T) {
		auth := knows(t, is.callers(`, "jwksUrl": "https://login.example/keys"`))
		network := &hanging{}
		auth.SetTransport(network)
		now := time.Now()
		good := is.claims().with("exp", now.Add(48*time.Hour).Unix()).with("iat", nil).with("nbf", nil)
		ask := func(kid, jti string) error {
			_, err := auth.Authenticate(withToken(token(t, jose.ES256, kid, ec, good.with("jti", jti))))
			return err
		}
		var callers sync.WaitGroup
		for i := range 100 {
			callers.Go(func() {
				if err := ask("ec", fmt.Sprint(i)); !errors.Is(err, identity.ErrUnavailable) {
					t.Errorf("no key, and the issuer hangs: %v", err)
				}
			})
		}
		callers.Wait()
		if took := time.Since(now); took != 5*time.Second || network.asked.Load() != 1 {
			t.Errorf("100 callers took %s of the clock and %d questions", took, network.asked.Load())
		}

		network.text.Store(&text)
		time.Sleep(identity.KeyPause)
		if err := ask("ec", "well"); err != nil {
			t.Fatal(err)
		}
		network.text.Store(nil)
		time.Sleep(identity.KeyRefresh + time.Second)
		asked := network.asked.Load()
		callers.Go(func() { _ = ask("unknown", "") })
		synctest.Wait() // it waits for the issuer
		before := time.Now()
		if err := ask("ec", "new"); err != nil {
			t.Errorf("a known key, while the issuer hangs: %v", err)
		}
		if took := time.Since(before); took != 0 || network.asked.Load() != asked+1 {
			t.Errorf("who has a known key waited %s; %d questions", took, network.asked.Load()-asked)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		r := withToken(token(t, jose.ES256, "unknown", ec, good)).WithContext(gone)
		if _, err := auth.Authenticate(r); !errors.Is(err, identity.ErrUnavailable) || time.Since(before) != 0 {
			t.Errorf("who is gone waited: %v", err)
		}
		callers.Wait()

		time.Sleep(identity.KeyLife)
		if err := ask("ec", "late"); !errors.Is(err, identity.ErrUnavailable) {
			t.Errorf("keys that nobody has confirmed for a day: %v", err)
		}
	})
}

// Keys in use are asked for again, so that a withdrawn one does not stay good.
func TestKeysAreRefreshed(t *testing.T) {
	ec := ecKey()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public("ec", ec)}})
	if err != nil {
		t.Fatal(err)
	}
	full, empty := string(set), `{"keys": []}`
	is := &testIssuer{Server: &httptest.Server{URL: "https://login.example"}}
	synctest.Test(t, func(t *testing.T) {
		auth := knows(t, is.callers(`, "jwksUrl": "https://login.example/keys"`))
		network := &hanging{}
		auth.SetTransport(network)
		network.text.Store(&full)
		good := is.claims().with("exp", time.Now().Add(48*time.Hour).Unix()).with("iat", nil).with("nbf", nil)
		r := withToken(token(t, jose.ES256, "ec", ec, good))
		if _, err := auth.Authenticate(r); err != nil {
			t.Fatal(err)
		}
		network.text.Store(&empty)
		time.Sleep(identity.KeyRefresh + time.Second)
		if _, err := auth.Authenticate(r); err != nil { // and has the keys fetched
			t.Error(err)
		}
		synctest.Wait()
		if _, err := auth.Authenticate(r); !errors.Is(err, identity.ErrUnauthenticated) {
			t.Errorf("with a withdrawn key: %v", err)
		}
	})
}
