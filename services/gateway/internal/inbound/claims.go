package inbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	josejson "github.com/go-jose/go-jose/v4/json"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/issuer"
	"github.com/verdict-io/verdict/services/policy"
)

// What a decision is asked about is bounded. The size of all claims is bounded by that of the header that brings them.
const (
	maxClaims  = 256
	maxSubject = 1024 // bytes
)

// claims are those of a token, by name.
type claims map[string]any

// decode reads a payload. A name that is there twice is an error: two readers could take different ones of the two.
func decode(payload []byte) (claims, error) {
	if !utf8.Valid(payload) {
		return nil, issuer.ErrUnreadable // else what cannot be read would become equal
	}
	var once map[string]josejson.RawMessage
	if err := josejson.Unmarshal(payload, &once); err != nil || once == nil {
		return nil, issuer.ErrUnreadable
	}
	if len(once) > maxClaims {
		return nil, fmt.Errorf("the token has %d claims, and at most %d are taken", len(once), maxClaims)
	}
	out := make(claims, len(once))
	for name, raw := range once {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			return nil, issuer.ErrUnreadable
		}
		out[name] = value
	}
	return out, nil
}

// check is nil when the claims are all that is configured, but for audience and scopes.
func (c claims) check(want *policy.JWTAuthorizer) error {
	if len(want.AllowedClients) > 0 && !c.one(want.AllowedClients, "client_id", "azp") {
		return errors.New("neither client_id nor azp is among allowedClients")
	}
	for i, rule := range want.CustomClaims {
		if !c.fits(&rule) {
			return fmt.Errorf("customClaims[%d]: the claim %s does not fit", i, rule.Name)
		}
	}
	return nil
}

// one says whether one of the claims that are named is one of the texts.
func (c claims) one(texts []string, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		text, ok := c[name].(string)
		return ok && slices.Contains(texts, text)
	})
}

// fits says whether a claim has the type and a value that a rule wants.
func (c claims) fits(rule *policy.CustomClaim) bool {
	values := rule.MatchValues
	if rule.MatchValue != "" {
		values = []string{rule.MatchValue}
	}
	switch rule.ValueType {
	case policy.ClaimString:
		return rule.Operator == policy.ClaimEquals && c.one(values, rule.Name)
	case policy.ClaimStringArray:
		list, _ := c[rule.Name].([]any)
		return (rule.Operator == policy.ClaimContains || rule.Operator == policy.ClaimContainsAny) &&
			slices.ContainsFunc(values, func(v string) bool { return slices.Contains(list, any(v)) })
	}
	return false
}

// scopes are those of the token: scope as RFC 9068 has it, or scp as others do, each a text or an array of texts.
func (c claims) scopes() []string {
	var out []string
	for _, name := range []string{"scope", "scp"} {
		switch v := c[name].(type) {
		case string:
			out = append(out, strings.Fields(v)...)
		case []any:
			for _, one := range v {
				if text, ok := one.(string); ok {
					out = append(out, text)
				}
			}
		}
	}
	return out
}

// principal is whom the claims name: sub is the id, and every claim a tag.
func (c claims) principal() (*decisionv1.Principal, error) {
	odd := func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError } // the latter stands for half of a character, any half
	sub, ok := c["sub"].(string)
	if !ok || sub == "" || len(sub) > maxSubject || strings.ContainsFunc(sub, odd) {
		return nil, fmt.Errorf("the claim sub must be 1 to %d bytes of text without control characters", maxSubject)
	}
	tags := make(map[string]string, len(c))
	for name, value := range c {
		if value == nil {
			continue // it says that there is none
		}
		text, err := tag(value)
		if err != nil {
			return nil, err
		}
		tags[name] = text
	}
	return &decisionv1.Principal{Type: policy.TypeOAuthUser, Id: sub, Tags: tags}, nil
}

// tag is a claim as the text that policies see: a string as it is, anything else as JSON without spaces, the names of objects in order
// and nothing escaped that need not be. So one value is one text, whoever wrote it.
func tag(value any) (string, error) {
	if text, ok := value.(string); ok {
		return text, nil
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", issuer.ErrUnreadable
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
