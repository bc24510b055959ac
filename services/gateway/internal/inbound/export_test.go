package inbound

import (
	"net/http"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// SetClock makes now the clock of a. It is for before the first request.
func (a *Authenticator) SetClock(now func() time.Time) { a.now = now }

// Remembered is how many issuers, tokens and definitions a knows.
func (a *Authenticator) Remembered() (issuers, tokens, warned int) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.issuers), a.tokens.Len(), len(a.warned)
}

// PrincipalOf is what becomes of a payload whose signature is right.
func PrincipalOf(payload []byte) (*decisionv1.Principal, error) {
	c, err := decode(payload)
	if err != nil {
		return nil, err
	}
	return c.principal()
}

// BearerToken is what is taken from headers.
func BearerToken(h http.Header) (string, bool, error) { return bearerToken(h) }

const (
	MaxAuthorization = maxAuthorization
	MaxClaims        = maxClaims
)
