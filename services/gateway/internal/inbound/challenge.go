package inbound

import (
	"net/http"
	"strings"

	"github.com/verdict-io/verdict/services/policy"
)

// challenge says to a client what token to bring, and where to ask for it (RFC 6750, RFC 9728).
type challenge struct {
	metadataURL string
	scopes      []string // as clients know them
}

// maxScopeText bounds the scopes in a header: AgentCore's bounds allow some hundred thousand bytes of them, and clients and proxies
// a few thousand of all headers.
const maxScopeText = 2 << 10

// text is the WWW-Authenticate header; code is an error of RFC 6750, "" for none.
func (c challenge) text(code string) string {
	parts := make([]string, 0, 3)
	if code != "" {
		parts = append(parts, "error="+quoted(code))
	}
	if c.metadataURL != "" {
		parts = append(parts, "resource_metadata="+quoted(c.metadataURL))
	}
	if scope := c.scope(); scope != "" {
		parts = append(parts, "scope="+quoted(scope))
	}
	if len(parts) == 0 {
		return "Bearer"
	}
	return "Bearer " + strings.Join(parts, ", ")
}

// scope is as many of the scopes as there is room for.
func (c challenge) scope() string {
	length := 0
	for i, s := range c.scopes {
		if length += len(s) + 1; length > maxScopeText {
			return strings.Join(c.scopes[:i], " ")
		}
	}
	return strings.Join(c.scopes, " ")
}

// quoted is a quoted-string of RFC 9110.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r != 0x7f:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// invalid is the answer to every token that is not taken.
func (c challenge) invalid(why error) *Refusal {
	return &Refusal{
		Status: http.StatusUnauthorized, Message: invalidToken, Challenge: c.text("invalid_token"), outcome: isInvalid, reason: why.Error(),
	}
}

// insufficient is the answer to a good token that is for something else.
func (c challenge) insufficient() *Refusal {
	return &Refusal{
		Status: http.StatusForbidden, Message: "Insufficient scope: the Bearer token has none of the scopes that this gateway takes",
		Challenge: c.text("insufficient_scope"), outcome: isForbidden, reason: "none of allowedScopes is among the scopes",
	}
}

// advertised are the scopes under the names by which clients ask for them.
func advertised(a *policy.JWTAuthorizer) []string {
	names := make([]string, 0, len(a.AllowedScopes))
	for _, scope := range a.AllowedScopes {
		if name, ok := a.AdvertisedScopeMapping[scope]; ok {
			scope = name
		}
		names = append(names, scope)
	}
	return names
}
