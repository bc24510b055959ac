package inbound

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/protobuf/proto"

	"github.com/verdict-io/verdict/services/internal/issuer"
	"github.com/verdict-io/verdict/services/policy"
)

// The texts of AgentCore. What is wrong with a token is not told to whoever holds it: it may be somebody who tries.
const (
	missingToken = "Missing Bearer token"
	invalidToken = "Invalid Bearer token"
)

// maxAuthorization bounds what is parsed for callers of whom nothing is known, and with it what the claims of a token can be.
const maxAuthorization = 16 << 10

// bearer is whom the token of the request names, if the definition takes it.
func (a *Authenticator) bearer(r *http.Request, d *policy.GatewayDefinition, metadataURL string) (Caller, *Refusal) {
	ask := challenge{metadataURL: metadataURL, scopes: advertised(d.JWT)}
	text, missing, why := bearerToken(r.Header)
	switch {
	case missing:
		return Caller{}, &Refusal{
			Status: http.StatusUnauthorized, Message: missingToken, Challenge: ask.text(""), outcome: isMissing, reason: "no bearer token",
		}
	case why != nil:
		return Caller{}, ask.invalid(why)
	}
	now := a.now()
	key := tokenKey{definition: d, sum: sha256.Sum256([]byte(text))}
	if caller, ok := a.tokens.Get(key, now); ok {
		return caller, nil
	}
	token, err := issuer.Parse(text)
	if err != nil {
		return Caller{}, ask.invalid(err)
	}
	is := a.issuer(d.JWT.DiscoveryURL)
	keys, err := is.Verify(r.Context(), token, now)
	if none, ok := errors.AsType[*issuer.NoKeysError](err); ok {
		return Caller{}, unavailable(none)
	}
	if err != nil {
		return Caller{}, ask.invalid(err)
	}
	caller, refusal := ask.caller(token.UnsafePayloadWithoutVerification(), d.JWT, keys.Name(), now) // the keys verified it
	if refusal == nil {
		a.tokens.Put(key, issuer.Verified[Caller]{Value: caller, Until: caller.Expires, Keys: keys, Issuer: is, Size: size(caller)})
	}
	return caller, refusal
}

// size is about what it costs to remember a caller.
func size(c Caller) int { return 512 + 2*proto.Size(c.Principal) + 64*len(c.Principal.GetTags()) }

// bearerToken is the one token of the request; missing, when there is no Authorization or one of another kind.
func bearerToken(header http.Header) (text string, missing bool, err error) {
	values := header["Authorization"]
	if len(values) == 0 {
		return "", true, nil
	}
	scheme, text, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	text = strings.TrimSpace(text)
	switch {
	case len(values) > 1:
		return "", false, fmt.Errorf("%d Authorization headers", len(values))
	case len(values[0]) > maxAuthorization:
		return "", false, fmt.Errorf("the Authorization header is longer than %d bytes", maxAuthorization)
	case !strings.EqualFold(scheme, "Bearer"):
		return "", true, nil
	case text == "" || strings.ContainsAny(text, " \t,"):
		return "", false, errors.New("not one token in the Authorization header")
	}
	return text, false, nil
}

// issuer is the one whose discovery document is at the address. Gateways with the same address share it.
func (a *Authenticator) issuer(discovery string) *issuer.Issuer {
	a.mu.RLock()
	is := a.issuers[discovery]
	a.mu.RUnlock()
	if is != nil {
		return is
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if is = a.issuers[discovery]; is == nil {
		is = issuer.New(issuer.Config{
			DiscoveryURL: discovery, Client: a.cfg.Client, CheckURL: checkURL, Logger: a.cfg.Logger, Fetched: a.metrics.fetched,
		})
		a.issuers[discovery] = is
	}
	return is
}

// checkURL wants an address that Config.Client can judge, and one that can stand in a log.
func checkURL(field, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return fmt.Errorf("%s is not an address that begins with https:// and has a host and no user", field)
	}
	return nil
}

// caller is whom the claims name, which the issuer called name signed, when they are all that the authorizer wants.
func (c challenge) caller(payload []byte, want *policy.JWTAuthorizer, name string, now time.Time) (Caller, *Refusal) {
	standard, err := issuer.Claims(payload)
	if err != nil {
		return Caller{}, c.invalid(err)
	}
	if err := issuer.Check(standard, name, want.AllowedAudience, now); err != nil {
		return Caller{}, c.invalid(explain(err))
	}
	claims, err := decode(payload)
	if err != nil {
		return Caller{}, c.invalid(err)
	}
	if err := claims.check(want); err != nil {
		return Caller{}, c.invalid(err)
	}
	if len(want.AllowedScopes) > 0 && !slices.ContainsFunc(claims.scopes(), func(s string) bool { return slices.Contains(want.AllowedScopes, s) }) {
		return Caller{}, c.insufficient()
	}
	principal, err := claims.principal()
	if err != nil {
		return Caller{}, c.invalid(err)
	}
	return Caller{Principal: principal, Expires: issuer.Until(standard)}, nil
}

// explain keeps values of claims out of the log.
func explain(err error) error {
	for _, known := range []error{jwt.ErrInvalidIssuer, jwt.ErrInvalidAudience, jwt.ErrExpired, jwt.ErrNotValidYet, jwt.ErrIssuedInTheFuture, issuer.ErrNoEnd} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("the registered claims do not hold")
}

// unavailable is for a token that cannot be judged now.
func unavailable(err *issuer.NoKeysError) *Refusal {
	return &Refusal{
		Status:     http.StatusServiceUnavailable,
		Message:    fmt.Sprintf("The keys of this gateway's issuer cannot be had at the moment: try again in %d seconds", err.Seconds()),
		RetryAfter: time.Duration(err.Seconds()) * time.Second, outcome: isUnavailable, reason: err.Error(),
	}
}
