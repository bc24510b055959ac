package issuer

import (
	"errors"
	"time"

	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Leeway is by how much the clocks of issuers may differ from ours.
const Leeway = time.Minute

var (
	// ErrUnreadable: the claims are no JSON object, have a name twice, or a registered one of the wrong type.
	ErrUnreadable = errors.New("the claims of the token cannot be read")
	// ErrNoEnd: a token that never ends is not taken.
	ErrNoEnd = errors.New("the token has no end (claim exp), and must have one")
)

// Claims are the registered claims of a payload. They say no more than the payload does: verify its signature as well.
func Claims(payload []byte) (jwt.Claims, error) {
	var claims jwt.Claims
	if err := josejson.Unmarshal(payload, &claims); err != nil {
		return jwt.Claims{}, ErrUnreadable
	}
	return claims, nil
}

// Check is nil when claims are of the issuer called name, for one of audiences if there are any, and in force now. Errors are ErrNoEnd
// and those of package jwt.
func Check(claims jwt.Claims, name string, audiences []string, now time.Time) error {
	if claims.Expiry == nil {
		return ErrNoEnd
	}
	return claims.ValidateWithLeeway(jwt.Expected{Issuer: name, AnyAudience: audiences, Time: now}, Leeway)
}

// Until is when Check begins to refuse claims that have an end.
func Until(claims jwt.Claims) time.Time { return claims.Expiry.Time().Add(Leeway) }
