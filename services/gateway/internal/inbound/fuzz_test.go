package inbound_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/verdict-io/verdict/services/gateway/internal/inbound"
)

// FuzzClaims: whatever an issuer signs becomes a principal whose tags are its claims, or nobody; no tag holds the token.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{"sub":"u-1","role":"agent","groups":["a",1,null],"o":{"b":1,"a":{}},"n":1e3,"z":null}`, `{"sub":"u","sub":"v"}`, `{"sub":"\u2028","a":"\ud800"}`,
		`{"sub":""}`, `{"sub":1}`, `[]`, `null`, `{"sub":"u","a":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, `{"sub":"u","":""}`,
	} {
		f.Add([]byte(seed))
	}
	key := ecKey()
	f.Fuzz(func(t *testing.T, payload []byte) {
		token := sign(t, jose.ES256, "k", key, payload)
		p, err := inbound.PrincipalOf(payload)
		if err != nil {
			if p != nil {
				t.Fatalf("%v, and %v", p, err)
			}
			wantSilent(t, token, err.Error())
			return
		}
		var claims map[string]any
		if err := json.Unmarshal(payload, &claims); err != nil {
			t.Fatalf("%v of what is no JSON: %v", p, err)
		}
		if p.GetId() == "" || p.GetId() != claims["sub"] || p.GetTags()["sub"] != p.GetId() || len(claims) > inbound.MaxClaims {
			t.Fatalf("%v of %s", p, payload)
		}
		for name, value := range claims {
			text, ok := p.GetTags()[name]
			if ok == (value == nil) {
				t.Fatalf("the tag %q is there: %v, of %s", name, ok, payload)
			}
			if want, isText := value.(string); isText && text != want || ok && !isText && !json.Valid([]byte(text)) {
				t.Fatalf("the tag %q is %q, of %s", name, text, payload)
			}
			if !utf8.ValidString(text) || len(text) > 2*len(payload) || strings.Contains(text, token) || strings.Contains(name, token) {
				t.Fatalf("the tag %q is %q, of %s", name, text, payload)
			}
		}
		if len(p.GetTags()) > len(claims) {
			t.Fatalf("%v of %s", p, payload)
		}
	})
}

// FuzzBearer: a header is one token, none, or refused without repeating it.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer a.b.c", "bearer  x", "Bearer", "Basic YTpi", "Bearer a b", "Bearer a,Bearer b", "\tBearer x\t", ""} {
		f.Add(seed, "")
	}
	f.Add("Bearer a", "Bearer b")
	f.Fuzz(func(t *testing.T, one, two string) {
		header := http.Header{"Authorization": {one}}
		if two != "" {
			header["Authorization"] = append(header["Authorization"], two)
		}
		text, missing, err := inbound.BearerToken(header)
		switch {
		case err != nil:
			if text != "" || missing {
				t.Fatalf("%q, %v, %v", text, missing, err)
			}
			wantSilent(t, strings.ReplaceAll(one, " ", "."), err.Error())
		case missing:
			if text != "" && strings.HasPrefix(strings.ToLower(one), "bearer ") {
				t.Fatalf("%q is missing", one)
			}
		case text == "" || strings.ContainsAny(text, " \t,") || !strings.HasSuffix(strings.TrimSpace(one), text) || two != "" || len(text) > inbound.MaxAuthorization:
			t.Fatalf("%q of %q and %q", text, one, two)
		}
	})
}
