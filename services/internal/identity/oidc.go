package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	schemeBearer = "Bearer "
	// maxToken bounds a token: proxies in front allow headers of 8 to 16 KiB.
	maxToken = 16 << 10
	// maxVerified is how many tokens are remembered, so that a caller's next request need not be verified again.
	maxVerified = 10_000
)

// Issuer is an issuer of tokens, and who those are that it vouches for.
type Issuer struct {
	Issuer string `json:"issuer"` // as tokens have it in iss
	// Audiences of which a token must have one.
	Audiences []string `json:"audiences"`
	// JWKSURL is where its keys are; found by OIDC discovery when empty.
	JWKSURL string `json:"jwksUrl,omitempty"`
	// CAFile holds the PEM roots that it is trusted by, in place of the system's.
	CAFile string `json:"caFile,omitempty"`
	// Rules say who a token is for. The first that fits counts.
	Rules []Rule `json:"rules"`
}

// Rule is for tokens that have all of its claims: the claim is this text, or a list that has it; scope and scp may also be texts
// that have it between blanks.
type Rule struct {
	Claims map[string]string `json:"claims,omitempty"`
	// IDClaim names the claim that is the caller's id: sub when empty.
	IDClaim string `json:"idClaim,omitempty"`
	Grant
}

// algorithms are those with a public key. A token says itself which one it has, so that none and the symmetric ones must not be.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// issuer is an Issuer in force.
type issuer struct {
	Issuer

	keys   *keySet
	config *oidc.Config

	mu       sync.Mutex
	verified map[[sha256.Size]byte]verified // guarded by mu
	of       int                            // the generation of keys that verified is of; guarded by mu
}

type verified struct {
	caller Caller
	until  time.Time
}

func (a *Authenticator) newIssuer(from Issuer) (*issuer, error) {
	if err := safeURL(from.Issuer); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if from.JWKSURL != "" {
		if err := safeURL(from.JWKSURL); err != nil {
			return nil, fmt.Errorf("jwksUrl: %w", err)
		}
	}
	if len(from.Audiences) == 0 || slices.Contains(from.Audiences, "") {
		return nil, errors.New("audiences needs what aud is in tokens that are meant for Verdict: a token for another service must not open this one")
	}
	if len(from.Rules) == 0 {
		return nil, errors.New("rules is empty, so no token would be of use")
	}
	for i, rule := range from.Rules {
		if err := rule.Grant.check(); err != nil {
			return nil, fmt.Errorf("rules[%d]: %w", i, err)
		}
	}
	client, err := issuerClient(from.CAFile)
	if err != nil {
		return nil, err
	}
	is := &issuer{Issuer: from, verified: map[[sha256.Size]byte]verified{}}
	is.keys = &keySet{
		issuer: from.Issuer, url: from.JWKSURL, discover: from.JWKSURL == "", client: client, now: a.now, log: a.cfg.Logger,
		count: func(outcome string) { a.metrics.fetches.WithLabelValues(from.Issuer, outcome).Inc() },
	}
	is.config = &oidc.Config{
		SkipClientIDCheck: true, SupportedSigningAlgs: algorithms, Now: a.now, // audiences, of which there may be several, are looked at below
	}
	return is, nil
}

// safeURL refuses a URL whose answers anybody on the way could replace.
func safeURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Host)) {
		return fmt.Errorf("%q must be an https URL; http is for this machine", text)
	}
	return nil
}

func issuerClient(caFile string) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	if caFile != "" {
		pem, err := readBounded(caFile, maxFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("caFile: %s has no certificate in PEM", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

var errToken = refuse("the bearer token is not one that this service can read: it needs a signed JWT of a configured issuer")

// bearer knows a caller by a token.
func (a *Authenticator) bearer(ctx context.Context, token string, known *callers) (Caller, error) {
	if len(token) > maxToken {
		return Caller{}, refuse("the bearer token has %d bytes: at most %d are taken", len(token), maxToken)
	}
	name, err := issuerOf(token)
	if err != nil {
		return Caller{}, errToken
	}
	is := known.issuers[name]
	if is == nil {
		return Caller{}, refuse("the issuer of the bearer token is not known here: an operator adds it to issuers in the file of --callers")
	}
	sum := sha256.Sum256([]byte(token))
	if caller, ok := is.recall(sum, a.now()); ok {
		return caller, nil
	}
	generation := is.keys.generation()
	claims, expiry, err := is.verify(ctx, token)
	if err != nil {
		return Caller{}, err
	}
	caller, err := is.grant(claims)
	if err == nil {
		is.remember(sum, verified{caller, expiry}, generation)
	}
	return caller, err
}

// issuerOf reads a token's issuer, which nothing vouches for yet.
func issuerOf(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errToken
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	return claims.Issuer, json.Unmarshal(payload, &claims)
}

// attempt keeps the error of a key set, of which the library passes on only the text.
type attempt struct {
	keys *keySet
	err  error
}

// VerifySignature implements oidc.KeySet.
func (a *attempt) VerifySignature(ctx context.Context, token string) (payload []byte, err error) {
	payload, a.err = a.keys.VerifySignature(ctx, token)
	return payload, a.err
}

// verify turns the library's errors, which quote what is in the token, into texts of ours.
func (is *issuer) verify(ctx context.Context, token string) (map[string]any, time.Time, error) {
	attempt := &attempt{keys: is.keys}
	verified, err := oidc.NewVerifier(is.Issuer.Issuer, attempt, is.config).Verify(ctx, token)
	expired, isExpired := errors.AsType[*oidc.TokenExpiredError](err)
	switch {
	case isExpired:
		return nil, time.Time{}, refuse("the bearer token has expired, at %s: get a new one", expired.Expiry.UTC().Format(time.RFC3339))
	case errors.Is(attempt.err, errKeys):
		return nil, time.Time{}, refuse("%w", errKeys)
	case errors.Is(attempt.err, errUnknownKey):
		return nil, time.Time{}, refuse("%w", errUnknownKey)
	case err != nil:
		return nil, time.Time{}, refuse("the bearer token does not hold: it is not signed by its issuer with one of %s, or not valid yet",
			strings.Join(algorithms, ", "))
	}
	if !slices.ContainsFunc(verified.Audience, func(aud string) bool { return slices.Contains(is.Audiences, aud) }) {
		return nil, time.Time{}, refuse("the bearer token is for another audience: ask its issuer for one whose aud is %s", strings.Join(is.Audiences, " or "))
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return nil, time.Time{}, errToken
	}
	return claims, verified.Expiry, nil
}

// grant is who the claims are of.
func (is *issuer) grant(claims map[string]any) (Caller, error) {
	for _, rule := range is.Rules {
		if !rule.fits(claims) {
			continue
		}
		name := rule.IDClaim
		if name == "" {
			name = "sub"
		}
		id, _ := claims[name].(string)
		if id == "" {
			return Caller{}, fmt.Errorf("%w: the bearer token has no claim %q, which would say who its bearer is", ErrForbidden, name)
		}
		return Caller{Account: rule.Account, ID: id, Roles: rule.Roles}, nil
	}
	return Caller{}, fmt.Errorf("%w: the bearer token is genuine, and no rule of its issuer is for one with its claims: "+
		"an operator adds one to rules in the file of --callers", ErrForbidden)
}

func (r Rule) fits(claims map[string]any) bool {
	for name, want := range r.Claims {
		if !claimHas(name, claims[name], want) {
			return false
		}
	}
	return true
}

func claimHas(name string, claim any, want string) bool {
	switch claim := claim.(type) {
	case string:
		return claim == want || (name == "scope" || name == "scp") && slices.Contains(strings.Fields(claim), want)
	case bool:
		return strconv.FormatBool(claim) == want
	case []any:
		return slices.Contains(claim, any(want))
	}
	return false
}

// recall is who a token is known to be of.
func (is *issuer) recall(sum [sha256.Size]byte, now time.Time) (Caller, bool) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if current := is.keys.generation(); is.of != current {
		clear(is.verified)
		is.of = current
	}
	known, ok := is.verified[sum]
	return known.caller, ok && now.Before(known.until)
}

// remember keeps what keys of a generation have verified, unless there are others by now.
func (is *issuer) remember(sum [sha256.Size]byte, v verified, generation int) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.of != generation {
		return
	}
	if len(is.verified) >= maxVerified {
		clear(is.verified)
	}
	is.verified[sum] = v
}
