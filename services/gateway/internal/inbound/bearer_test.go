package inbound_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/gateway/internal/inbound"
	"github.com/verdict-io/verdict/services/internal/issuer"
	"github.com/verdict-io/verdict/services/policy"
)

// everything is all that a gateway can ask of a token.
func everything(a *policy.JWTAuthorizer) {
	a.AllowedAudience, a.AllowedClients, a.AllowedScopes = []string{"refunds", "billing"}, []string{"app", "cli"}, []string{"call", "admin"}
	a.AdvertisedScopeMapping = map[string]string{"call": "api://refunds/call"}
	a.CustomClaims = []policy.CustomClaim{
		{Name: "department", ValueType: policy.ClaimString, Operator: policy.ClaimEquals, MatchValue: "sales"},
		{Name: "groups", ValueType: policy.ClaimStringArray, Operator: policy.ClaimContains, MatchValue: "staff"},
		{Name: "regions", ValueType: policy.ClaimStringArray, Operator: policy.ClaimContainsAny, MatchValues: []string{"eu", "us"}},
	}
}

func (is *testIssuer) full() claims {
	c := is.claims().with("client_id", "app").with("scope", "openid call").with("department", "sales")
	return c.with("groups", []string{"x", "staff"}).with("regions", []string{"us"})
}

func TestBearer(t *testing.T) {
	ec := ecKey()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	is := newIssuer(t, public("ec", ec), public("ed", ed), public("rsa", rs))
	full := is.full()
	of := func(c claims) string { return sign(t, jose.ES256, "ec", ec, c.json(t)) }
	all := is.gateway(everything)
	w := newWorld(t)
	for name, tt := range map[string]struct {
		text string
		g    *policy.Gateway
	}{
		"RS256":               {sign(t, jose.RS256, "rsa", rs, full.json(t)), all},
		"ES256":               {of(full), all},
		"EdDSA":               {sign(t, jose.EdDSA, "ed", ed, full.json(t)), all},
		"one audience of two": {of(full.with("aud", []string{"x", "billing"})), all},
		"azp":                 {of(full.with("client_id", nil).with("azp", "cli")), all},
		"scp":                 {of(full.with("scope", nil).with("scp", []string{"openid", "admin"})), all},
		"scp as a text":       {of(full.with("scope", nil).with("scp", "admin")), all},
		"just ended":          {of(full.with("exp", noon.Add(-59*time.Second).Unix())), all},
		"nothing is asked":    {of(is.claims().with("aud", nil)), is.gateway(nil)},
		"RFC 8414": {of(full), is.gateway(func(a *policy.JWTAuthorizer) {
			a.DiscoveryURL = is.URL + "/.well-known/oauth-authorization-server/tenant"
		})},
		"one of a list of one": {of(full), is.gateway(func(a *policy.JWTAuthorizer) {
			a.CustomClaims = []policy.CustomClaim{{Name: "groups", ValueType: policy.ClaimStringArray, Operator: policy.ClaimContains, MatchValues: []string{"staff"}}}
		})},
	} {
		for _, again := range []string{"", ", again"} {
			caller, refusal := w.ask(withToken(tt.text), tt.g)
			if refusal != nil {
				t.Errorf("%s%s: %+v\n%s", name, again, refusal, w.said())
				continue
			}
			if p := caller.Principal; p.GetType() != "AgentCore::OAuthUser" || p.GetId() != "u-1" || p.GetTags()["iss"] != is.name() {
				t.Errorf("%s%s: %v", name, again, p)
			}
		}
	}
	if is.count() != 2 {
		t.Errorf("two addresses of keys, and %d fetches", is.count())
	}
}

// A claim is a tag: a text as it is, anything else as JSON of one form.
func TestClaimsAreTags(t *testing.T) {
	key := ecKey()
	is := newIssuer(t, public("k", key))
	payload := fmt.Sprintf(`{"iss": %q, "sub": "u-1", "exp": %d, "role": "a \u0022b\u0022 <c>", "n": 1.50, "big": 12345678901234567890123, "ok": true,
		"groups": [ "\u0061dmin", "<x>&" , 1e3 ], "o": {"z": 1, "a": [null, {}]}, "none": null, "": "empty", "cognito:groups": []}`, is.name(), noon.Add(time.Hour).Unix())
	caller, refusal := newWorld(t).ask(withToken(sign(t, jose.ES256, "k", key, []byte(payload))), is.gateway(nil))
	if refusal != nil {
		t.Fatal(refusal)
	}
	want := map[string]string{
		"iss": is.name(), "sub": "u-1", "exp": fmt.Sprint(noon.Add(time.Hour).Unix()), "role": `a "b" <c>`, "n": "1.50", "big": "12345678901234567890123",
		"ok": "true", "groups": `["admin","<x>&",1e3]`, "o": `{"a":[null,{}],"z":1}`, "": "empty", "cognito:groups": "[]",
	}
	if diff := cmp.Diff(want, caller.Principal.GetTags()); diff != "" {
		t.Error(diff)
	}
	if want := noon.Add(time.Hour + issuer.Leeway); !caller.Expires.Equal(want) {
		t.Errorf("it ends at %s, want %s", caller.Expires, want)
	}
}

// All that is wrong with a token has one text, and the reason is in the log, without the token.
func TestBearerRefused(t *testing.T) {
	ec, stranger := ecKey(), ecKey()
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	is := newIssuer(t, public("ec", ec), public("rsa", rs))
	full := is.full()
	raw := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	of := func(c claims) string { return sign(t, jose.ES256, "ec", ec, c.json(t)) }
	payload := func(text string) string { return sign(t, jose.ES256, "ec", ec, []byte(text)) }
	good := of(full)
	parts := strings.Split(good, ".")
	begin := strings.TrimSuffix(string(full.json(t)), "}")
	many := full
	for i := range inbound.MaxClaims {
		many = many.with(fmt.Sprint("c", i), 1)
	}
	for name, tt := range map[string]struct{ text, reason string }{
		"alg none":              {raw(`{"alg":"none"}`) + "." + parts[1] + ".", "must be a JWT"},
		"alg none, signed":      {raw(`{"alg":"none","kid":"ec"}`) + "." + parts[1] + "." + parts[2], "must be a JWT"},
		"alg NONE":              {raw(`{"alg":"NONE"}`) + "." + parts[1] + "." + parts[2], "must be a JWT"},
		"HS256 with the key":    {sign(t, jose.HS256, "rsa", rs.N.Bytes(), full.json(t)), "must be a JWT"},
		"no JWT":                {"abc", "must be a JWT"},
		"encrypted":             {"a.b.c.d.e", "must be a JWT"},
		"unsigned":              {parts[0] + "." + parts[1] + ".", "not signed with a key"},
		"huge":                  {strings.Repeat("a", inbound.MaxAuthorization), "longer than"},
		"two tokens":            {good + " " + good, "not one token"},
		"two tokens, comma":     {good + "," + good, "not one token"},
		"empty":                 {"", "not one token"},
		"another's key":         {sign(t, jose.ES256, "ec", stranger, full.json(t)), "not signed with a key"},
		"unknown key":           {sign(t, jose.ES256, "new", stranger, full.json(t)), "not signed with a key"},
		"no key id":             {sign(t, jose.ES256, "", ec, full.json(t)), "not signed with a key"},
		"key of another kind":   {sign(t, jose.ES256, "rsa", ec, full.json(t)), "not signed with a key"},
		"claims changed":        {parts[0] + "." + raw(string(full.with("sub", "root").json(t))) + "." + parts[2], "not signed with a key"},
		"another issuer":        {of(full.with("iss", "https://else.example")), "issuer"},
		"issuer without slash":  {of(full.with("iss", strings.TrimSuffix(is.name(), "/"))), "issuer"},
		"no issuer":             {of(full.with("iss", nil)), "issuer"},
		"another audience":      {of(full.with("aud", "else")), "audience"},
		"no audience":           {of(full.with("aud", nil)), "audience"},
		"ended":                 {of(full.with("exp", noon.Add(-61*time.Second).Unix())), "expired"},
		"no end":                {of(full.with("exp", nil)), "claim exp"},
		"end that is text":      {of(full.with("exp", "2099")), "cannot be read"},
		"endless end":           {payload(begin + `,"exp":1e400}`), "cannot be read"},
		"not begun":             {of(full.with("nbf", noon.Add(61*time.Second).Unix())), "not valid yet"},
		"issued later":          {of(full.with("iat", noon.Add(61*time.Second).Unix())), "issued"},
		"another client":        {of(full.with("client_id", "else")), "allowedClients"},
		"client as an array":    {of(full.with("client_id", []string{"app"})), "allowedClients"},
		"no client":             {of(full.with("client_id", nil)), "allowedClients"},
		"claim not equal":       {of(full.with("department", "Sales")), "customClaims[0]"},
		"claim is an array":     {of(full.with("department", []string{"sales"})), "customClaims[0]"},
		"claim is missing":      {of(full.with("department", nil)), "customClaims[0]"},
		"claim does not hold":   {of(full.with("groups", []string{"staffs"})), "customClaims[1]"},
		"claim is a text":       {of(full.with("groups", "staff")), "customClaims[1]"},
		"claim is an object":    {of(full.with("groups", map[string]string{"staff": "staff"})), "customClaims[1]"},
		"claim holds none":      {of(full.with("regions", []any{"asia", 1, nil, []string{"us"}})), "customClaims[2]"},
		"no subject":            {of(full.with("sub", nil)), "claim sub"},
		"empty subject":         {of(full.with("sub", "")), "claim sub"},
		"subject is a number":   {of(full.with("sub", 1)), "cannot be read"},
		"subject of two lines":  {of(full.with("sub", "a\nb")), "claim sub"},
		"half a character":      {payload(strings.Replace(begin, `"u-1"`, `"u-\ud800"`, 1) + "}"), "claim sub"},
		"long subject":          {of(full.with("sub", strings.Repeat("a", 1025))), "claim sub"},
		"claim twice":           {payload(begin + `,"role":"a","role":"b"}`), "cannot be read"},
		"subject twice":         {payload(begin + `,"sub":"root"}`), "cannot be read"},
		"claims are an array":   {payload(`[]`), "cannot be read"},
		"claims are null":       {payload(`null`), "claim exp"},
		"no JSON":               {payload(`{"sub"`), "cannot be read"},
		"text that is no UTF-8": {payload(begin + ",\"role\":\"a\xff\"}"), "cannot be read"},
		"too many claims":       {of(many), "at most"},
	} {
		w := newWorld(t)
		for _, again := range []string{"", ", again"} {
			caller, refusal := w.ask(withToken(tt.text), is.gateway(everything))
			if refusal == nil {
				t.Errorf("%s%s: %v is let in", name, again, caller)
				continue
			}
			want := inbound.Refusal{
				Status: http.StatusUnauthorized, Code: -32001, Message: "Invalid Bearer token",
				Challenge: `Bearer error="invalid_token", resource_metadata="` + metadataURL + `", scope="api://refunds/call admin"`,
			}
			if refusal.Status != want.Status || refusal.Code != want.Code || refusal.Message != want.Message || refusal.Challenge != want.Challenge {
				t.Errorf("%s%s: %+v", name, again, refusal)
			}
			wantSilent(t, tt.text, w.said(), fmt.Sprintf("%+v", refusal))
		}
		if !strings.Contains(w.said(), tt.reason) {
			t.Errorf("%s: the log says %s, want %q", name, w.said(), tt.reason)
		}
	}
}

func TestMissingToken(t *testing.T) {
	is := newIssuer(t)
	w := newWorld(t)
	for name, header := range map[string][]string{"none": nil, "of another kind": {"Basic YTpi"}, "empty": {""}} {
		r := post("")
		r.Header["Authorization"] = header
		_, refusal := w.ask(r, is.gateway(nil))
		if refusal == nil || refusal.Status != http.StatusUnauthorized || refusal.Message != "Missing Bearer token" ||
			refusal.Challenge != `Bearer resource_metadata="`+metadataURL+`"` {
			t.Errorf("%s: %+v", name, refusal)
		}
	}
	r := withToken("a")
	r.Header.Add("Authorization", "Bearer b")
	if _, refusal := w.ask(r, is.gateway(nil)); refusal == nil || refusal.Message != "Invalid Bearer token" {
		t.Errorf("two headers: %+v", refusal)
	}
	r = post("")
	r.URL.RawQuery = "access_token=x"
	if _, refusal := w.ask(r, is.gateway(nil)); refusal == nil || refusal.Message != "Missing Bearer token" {
		t.Errorf("a token in the query: %+v", refusal)
	}
	if is.count() != 0 {
		t.Error("the issuer was asked")
	}
}

func TestInsufficientScope(t *testing.T) {
	key := ecKey()
	is := newIssuer(t, public("k", key))
	w := newWorld(t)
	for name, c := range map[string]claims{
		"none":          is.full().with("scope", nil),
		"others":        is.full().with("scope", "call.read openid"),
		"the mapped":    is.full().with("scope", "api://refunds/call"),
		"in upper case": is.full().with("scope", "CALL"),
		"a number":      is.full().with("scope", 5),
		"deep":          is.full().with("scope", [][]string{{"call"}}),
	} {
		for range 2 {
			_, refusal := w.ask(withToken(sign(t, jose.ES256, "k", key, c.json(t))), is.gateway(everything))
			if refusal == nil || refusal.Status != http.StatusForbidden || refusal.Code != -32001 ||
				refusal.Challenge != `Bearer error="insufficient_scope", resource_metadata="`+metadataURL+`", scope="api://refunds/call admin"` {
				t.Errorf("%s: %+v", name, refusal)
			}
		}
	}
}

// A token that was taken is taken no longer than it, its key, and the definition that took it are good.
func TestTokenIsRemembered(t *testing.T) {
	one, two := ecKey(), ecKey()
	is := newIssuer(t, public("1", one))
	w := newWorld(t)
	g := is.gateway(everything)
	text := sign(t, jose.ES256, "1", one, is.full().with("exp", noon.Add(time.Minute).Unix()).json(t))
	taken := func(what string, g *policy.Gateway, want bool) {
		t.Helper()
		if _, refusal := w.ask(withToken(text), g); (refusal == nil) != want {
			t.Errorf("%s: %+v", what, refusal)
		}
	}
	taken("at first", g, true)
	if _, tokens, _ := w.Remembered(); tokens != 1 {
		t.Errorf("%d tokens are remembered", tokens)
	}
	taken("another definition", is.gateway(func(a *policy.JWTAuthorizer) { a.AllowedAudience = []string{"else"} }), false)
	other := newIssuer(t, public("1", two))
	taken("another issuer", other.gateway(nil), false)
	w.wait(2 * time.Minute)
	taken("within the leeway", g, true)
	w.wait(time.Second)
	taken("when it has ended", g, false)

	text = sign(t, jose.ES256, "1", one, is.full().with("exp", noon.Add(2*time.Hour).Unix()).json(t))
	taken("a newer one", g, true)
	is.become(nil, public("2", two))
	w.wait(issuer.Pause)
	old := text
	text = sign(t, jose.ES256, "2", two, is.full().json(t))
	taken("of a new key", g, true)
	text = old
	taken("of a key that is withdrawn", g, false)
	if is.count() > 3 {
		t.Errorf("the keys were fetched %d times", is.count())
	}
}

// What an issuer can do wrong: nobody is let in, the log has the cause, and it heals.
func TestIssuerThatFails(t *testing.T) {
	key := ecKey()
	for cause, answer := range map[string]http.HandlerFunc{
		"status 502": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) },
		"status 302": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) },
		"larger than": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		},
		"not the JSON of":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"issuer is missing": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") },
		"jwks_uri is not": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"issuer":"x","jwks_uri":"file:///etc/passwd"}`)
		},
		"jwks_uri is not an address that begins": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"issuer":"x","jwks_uri":"https://me:secret@keys.example/"}`)
		},
		"link-local": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"issuer":"x","jwks_uri":"https://169.254.169.254/keys"}`)
		},
		"without TLS": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"issuer":"x","jwks_uri":"http://keys.example/"}`)
		},
		"EOF": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(cause, func(t *testing.T) {
			is := newIssuer(t, public("k", key))
			is.become(answer, public("k", key))
			w := newWorld(t)
			g := is.gateway(nil)
			text := sign(t, jose.ES256, "k", key, is.claims().json(t))
			for range 3 {
				_, refusal := w.ask(withToken(text), g)
				if refusal == nil || refusal.Status != http.StatusServiceUnavailable || refusal.RetryAfter < time.Second || refusal.Challenge != "" ||
					strings.Contains(refusal.Message, is.URL) || !strings.Contains(refusal.Message, "try again in") {
					t.Errorf("%+v", refusal)
				}
			}
			if said := w.said(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, cause) || strings.Contains(said, "secret") {
				t.Errorf("the log says %s", said)
			}
			wantSilent(t, text, w.said())
			is.become(nil, public("k", key))
			w.wait(issuer.Pause)
			if _, refusal := w.ask(withToken(text), g); refusal != nil {
				t.Errorf("when the issuer is well: %+v", refusal)
			}
			is.become(answer)
			w.wait(issuer.Refresh + time.Second)
			if _, refusal := w.ask(withToken(text), g); refusal != nil {
				t.Errorf("a known key, while the issuer fails: %+v", refusal)
			}
		})
	}
}

// Credentials in an address are nobody's to send, and must not be in a log.
func TestDiscoveryURLWithUser(t *testing.T) {
	key := ecKey()
	is := newIssuer(t, public("k", key))
	w := newWorld(t)
	g := is.gateway(func(a *policy.JWTAuthorizer) {
		a.DiscoveryURL = strings.Replace(a.DiscoveryURL, "http://", "http://me:hunter2@", 1)
	})
	_, refusal := w.ask(withToken(sign(t, jose.ES256, "k", key, is.claims().json(t))), g)
	if refusal == nil || refusal.Status != http.StatusServiceUnavailable || is.count() != 0 {
		t.Errorf("%+v, %d fetches", refusal, is.count())
	}
	if !strings.Contains(w.said(), "the discovery URL is not") || strings.Contains(w.said(), "hunter2") {
		t.Errorf("the log says %s", w.said())
	}
}

// Odd keys among those of an issuer are passed over.
func TestOddKeys(t *testing.T) {
	key := ecKey()
	is := newIssuer(t)
	good, err := public("k", key).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	odd := []string{
		`null`, `7`, `"x"`, `{}`, `{"kty":"oct","k":"` + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32)) + `","kid":"k"}`, `{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"k"}`,
		`{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA","kid":"k"}`, `{"kty":"OKP","crv":"Ed25519","x":"","kid":"k"}`,
		`{"kty":"RSA","n":"` + strings.Repeat("A", 4000) + `","e":"AQAB","kid":"k"}`, `{"kty":"EC","x5c":["x"],"kid":"k"}`,
	}
	is.become(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/keys") {
			_, _ = io.WriteString(w, `{"keys": [`+strings.Join(append(slices.Clone(odd), string(good)), ",")+`]}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/keys"}`, is.name(), is.URL)
	})
	w := newWorld(t)
	if _, refusal := w.ask(withToken(sign(t, jose.ES256, "k", key, is.claims().json(t))), is.gateway(nil)); refusal != nil {
		t.Errorf("%+v\n%s", refusal, w.said())
	}
	if _, refusal := w.ask(withToken(sign(t, jose.HS256, "k", bytes.Repeat([]byte("s"), 32), is.claims().json(t))), is.gateway(nil)); refusal == nil {
		t.Error("a shared secret is taken")
	}
}

// Memory does not grow with gateways that are gone or were changed.
func TestRetain(t *testing.T) {
	key := ecKey()
	one, two := newIssuer(t, public("k", key)), newIssuer(t, public("k", key))
	w := newWorld(t)
	kept, changed, gone := one.gateway(nil), two.gateway(nil), gatewayWith(policy.GatewayDefinition{AuthorizerType: policy.AuthorizerAuthenticateOnly})
	for _, g := range []*policy.Gateway{kept, changed, gone} {
		for _, is := range []*testIssuer{one, two} {
			_, _ = w.ask(withToken(sign(t, jose.ES256, "k", key, is.claims().json(t))), g)
		}
	}
	want := func(what string, want [3]int) {
		t.Helper()
		if i, n, d := w.Remembered(); [3]int{i, n, d} != want {
			t.Errorf("%s: %d issuers, %d tokens, %d definitions, want %v", what, i, n, d, want)
		}
	}
	want("at first", [3]int{2, 2, 1})
	w.Retain(slices.Values([]*policy.Gateway{kept, changed, gone}))
	want("nothing changed", [3]int{2, 2, 1})
	changed = two.gateway(everything)
	w.Retain(slices.Values([]*policy.Gateway{kept, changed}))
	want("one changed, one gone", [3]int{2, 1, 0})
	w.Retain(slices.Values([]*policy.Gateway{kept, {}}))
	want("one is left", [3]int{1, 1, 0})
	if _, refusal := w.ask(withToken(sign(t, jose.ES256, "k", key, one.claims().json(t))), kept); refusal != nil || one.count() != 1 {
		t.Errorf("what was kept was asked for again: %+v, %d fetches", refusal, one.count())
	}
}

// Requests go on while the state changes.
func TestRetainWhileAsked(t *testing.T) {
	key := ecKey()
	is := newIssuer(t, public("k", key))
	w := newWorld(t)
	g := is.gateway(everything)
	var work sync.WaitGroup
	for i := range 4 {
		text := sign(t, jose.ES256, "k", key, is.full().with("jti", fmt.Sprint(i)).json(t))
		work.Go(func() {
			for range 100 {
				if _, refusal := w.ask(withToken(text), g); refusal != nil {
					t.Errorf("%+v", refusal)
				}
				w.Retain(slices.Values([]*policy.Gateway{g}))
			}
		})
	}
	work.Wait()
	if issuers, tokens, _ := w.Remembered(); issuers != 1 || tokens != 4 || is.count() != 1 {
		t.Errorf("%d issuers, %d tokens, %d fetches", issuers, tokens, is.count())
	}
}

// The challenge is one header, whatever its parts are.
func TestChallengeIsBounded(t *testing.T) {
	is := newIssuer(t)
	g := is.gateway(func(a *policy.JWTAuthorizer) {
		for i := range 1000 {
			a.AllowedScopes = append(a.AllowedScopes, fmt.Sprint(strings.Repeat("s", 250), i))
		}
	})
	_, refusal := newWorld(t).Authenticate(post(""), account, g, "https://a\"b\\c\r\nd")
	if refusal == nil || len(refusal.Challenge) > 4096 || !strings.HasPrefix(refusal.Challenge, `Bearer resource_metadata="https://a\"b\\cd", scope="sss`) {
		t.Errorf("%+v", refusal)
	}
}

func TestMetadata(t *testing.T) {
	key := ecKey()
	is := newIssuer(t, public("k", key))
	w := newWorld(t)
	const resource = "https://gateway.example/gateways/refund-gw-a1b2c3d4e5/mcp"
	is.become(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
	for discovery, name := range map[string]string{
		is.discovery(): is.URL + "/tenant",
		is.URL + "/.well-known/oauth-authorization-server/tenant": is.URL + "/tenant",
		is.URL + "/.well-known/openid-configuration":              is.URL,
		is.URL + "/.well-known/oauth-authorization-server":        is.URL,
	} {
		document, ok := w.Metadata(t.Context(), is.gateway(func(a *policy.JWTAuthorizer) { a.DiscoveryURL = discovery }), resource)
		if !ok || !slices.Equal(document.AuthorizationServers, []string{name}) {
			t.Errorf("the issuer is down, %s: %+v", discovery, document)
		}
	}
	is.become(nil, public("k", key))
	w.wait(issuer.Pause)
	document, ok := w.Metadata(t.Context(), is.gateway(everything), resource)
	if !ok || document.Resource != resource || !slices.Equal(document.AuthorizationServers, []string{is.name()}) ||
		!slices.Equal(document.ScopesSupported, []string{"api://refunds/call", "admin"}) || !slices.Equal(document.BearerMethodsSupported, []string{"header"}) {
		t.Errorf("%+v", document)
	}
	for _, authorizer := range []policy.AuthorizerType{policy.AuthorizerNone, policy.AuthorizerIAM} {
		if _, ok := w.Metadata(t.Context(), gatewayWith(policy.GatewayDefinition{AuthorizerType: authorizer}), resource); ok {
			t.Errorf("%s takes bearer tokens", authorizer)
		}
	}
}
