package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	issuerkeys "github.com/verdict-io/verdict/services/internal/issuer"
)

// keySource is where keys come from.
type keySource struct {
	issuer  string
	jwksURL string // "": discovery says it
	roots   string // PEM; "": the system's
}

// keySet is the keys of an issuer, and the client with which they are fetched.
type keySet struct {
	*issuerkeys.Issuer
	client *http.Client
}

func newKeySet(source keySource, logger *slog.Logger, m *metrics) (*keySet, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if source.roots != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(source.roots)) {
			return nil, errors.New("caFile: no certificate in it; PEM is needed")
		}
	}
	client := &http.Client{
		// A redirect could lead to where nobody looked when the address was configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives: true, // one question in minutes
		},
	}
	return &keySet{client: client, Issuer: issuerkeys.New(issuerkeys.Config{
		Name: source.issuer, KeysURL: source.jwksURL,
		DiscoveryURL: strings.TrimSuffix(source.issuer, "/") + "/.well-known/openid-configuration",
		Client:       client, CheckURL: secureURL, Logger: logger, Fetched: m.fetched(source.issuer),
	})}, nil
}

// issuer is one whose tokens are taken.
type issuer struct {
	name      string
	audiences []string
	idPrefix  string
	rules     []rule
	keys      *keySet
}

// bearer is whom a token names.
func (k *callers) bearer(ctx context.Context, text string, now time.Time) (Caller, error) {
	if len(k.issuers) == 0 {
		return Caller{}, refuse("this service takes no bearer tokens: use %s", k.methods())
	}
	sum := sha256.Sum256([]byte(text))
	if caller, ok := k.tokens.Get(sum, now); ok {
		return caller, nil
	}
	token, err := issuerkeys.Parse(text)
	if err != nil {
		return Caller{}, refuse("%v", err)
	}
	is, err := k.issuerOf(token)
	if err != nil {
		return Caller{}, err
	}
	signedBy, err := is.verify(ctx, token, now)
	if err != nil {
		return Caller{}, err
	}
	caller, until, err := is.caller(token.UnsafePayloadWithoutVerification(), now)
	if err == nil {
		k.tokens.Put(sum, issuerkeys.Verified[Caller]{Value: caller, Until: until, Keys: signedBy, Issuer: is.keys.Issuer, Size: 1})
	}
	return caller, err
}

// issuerOf is the issuer whom the token names. That is not verified yet, and only says whose keys to try.
func (k *callers) issuerOf(token *jose.JSONWebSignature) (*issuer, error) {
	claims, err := issuerkeys.Claims(token.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, refuse("%v", err)
	}
	is, ok := k.issuers[claims.Issuer]
	if !ok {
		return nil, refuse("the issuer of the bearer token (claim iss) is none whose tokens this service takes; they are " +
			"compared letter by letter. Ask its operator which are taken")
	}
	return is, nil
}

// verify is nil, with the keys that say so, when the issuer signed the token.
func (is *issuer) verify(ctx context.Context, token *jose.JSONWebSignature, now time.Time) (*issuerkeys.Keys, error) {
	signedBy, err := is.keys.Verify(ctx, token, now)
	none, missing := errors.AsType[*issuerkeys.NoKeysError](err)
	switch {
	case missing && none.Late:
		return nil, fmt.Errorf("%w: the keys of issuer %s did not arrive within the time of the request: try again", ErrUnavailable, is.name)
	case missing:
		return nil, fmt.Errorf("%w: the keys of issuer %s cannot be had at the moment: try again in %d seconds", ErrUnavailable, is.name, none.Seconds())
	case err != nil:
		return nil, refuse("the bearer token is not signed with a key that issuer %s publishes. If the issuer changed its keys within "+
			"the last seconds, try again in %s", is.name, issuerkeys.Pause)
	}
	return signedBy, nil
}

// caller is whom the claims mean, which the issuer signed, and until when.
func (is *issuer) caller(payload []byte, now time.Time) (Caller, time.Time, error) {
	standard, err := issuerkeys.Claims(payload)
	if err != nil {
		return Caller{}, time.Time{}, refuse("%v", err)
	}
	if err := issuerkeys.Check(standard, is.name, is.audiences, now); err != nil {
		return Caller{}, time.Time{}, explain(err, standard, now)
	}
	claims := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	if err := decoder.Decode(&claims); err != nil {
		return Caller{}, time.Time{}, refuse("the claims of the bearer token cannot be read")
	}
	i := slices.IndexFunc(is.rules, func(r rule) bool { return fits(r.claims, claims) })
	if i < 0 {
		return Caller{}, time.Time{}, fmt.Errorf("%w: the bearer token is valid, but its claims fit no rule of this service for "+
			"issuer %s: its operator must add one to the callers file", ErrForbidden, is.name)
	}
	caller := is.rules[i].caller
	id, _ := claims[is.rules[i].idClaim].(string)
	if caller.ID = is.idPrefix + id; id == "" || validID(caller.ID) != nil {
		return Caller{}, time.Time{}, fmt.Errorf("%w: the claim %s of the bearer token, by which this service knows its callers, "+
			"must be 1 to 256 bytes of printable text", ErrForbidden, is.rules[i].idClaim)
	}
	return caller, issuerkeys.Until(standard), nil
}

// explain says what is wrong with a token that the issuer did sign.
func explain(err error, claims jwt.Claims, now time.Time) error {
	switch {
	case errors.Is(err, issuerkeys.ErrNoEnd):
		return refuse("%v", err)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return refuse("the bearer token is not for this service: none of its audiences (claim aud) is one that is taken here. " +
			"Ask the operator for the right one, and the issuer for a token with it")
	case errors.Is(err, jwt.ErrExpired):
		return refuse("the bearer token ended at %s and here it is %s: get a new one", stamp(claims.Expiry.Time()), stamp(now))
	case errors.Is(err, jwt.ErrNotValidYet):
		return refuse("the bearer token begins at %s and here it is %s: check the clocks", stamp(claims.NotBefore.Time()), stamp(now))
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return refuse("the bearer token was issued at %s and here it is %s: check the clocks", stamp(claims.IssuedAt.Time()), stamp(now))
	}
	return refuse("the bearer token is not valid here")
}

// rule gives tokens a place.
type rule struct {
	claims  map[string]claim
	idClaim string
	caller  Caller // but for its ID
}

// claim is what a rule wants a claim to be: one of some values, or an object with certain claims of its own.
type claim struct {
	values []any // strings, booleans, json.Numbers
	object map[string]claim
}

// UnmarshalJSON takes a value, an array of values, or an object.
func (c *claim) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte("{")) {
		return json.Unmarshal(data, &c.object)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return err
	}
	c.values = listed(value)
	if len(c.values) == 0 || slices.ContainsFunc(c.values, func(v any) bool { return !scalar(v) }) {
		return &json.UnmarshalTypeError{Field: "claims", Type: reflect.TypeFor[claim]()}
	}
	return nil
}

func scalar(v any) bool {
	switch v.(type) {
	case string, bool, json.Number:
		return true
	}
	return false
}

// listed is the array, or the value as an array of one.
func listed(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

// fits says whether each claim that is wanted is there, and has, or is an array that has, one of the values.
func fits(want map[string]claim, have map[string]any) bool {
	for name, w := range want {
		if !w.fits(have[name]) {
			return false
		}
	}
	return true
}

func (c claim) fits(have any) bool {
	if c.object != nil {
		object, ok := have.(map[string]any)
		return ok && fits(c.object, object)
	}
	return slices.ContainsFunc(listed(have), func(v any) bool { return scalar(v) && slices.Contains(c.values, v) })
}

// maxTokens is how many tokens are remembered, in each of two generations. A token costs some hundred bytes.
const maxTokens = 4 << 10

type tokenCache = issuerkeys.Tokens[[sha256.Size]byte, Caller]

func newTokenCache() *tokenCache { return issuerkeys.NewTokens[[sha256.Size]byte, Caller](maxTokens) }
