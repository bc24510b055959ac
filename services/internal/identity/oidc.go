package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// leeway is by how much the clocks of issuers may differ from ours.
const leeway = time.Minute

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
	if caller, ok := k.tokens.get(sum, now); ok {
		return caller, nil
	}
	token, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil {
		return Caller{}, refuse("the bearer token must be a JWT signed with one of %v; others, and those with alg none or HS…, "+
			"are never taken", algorithms)
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
		k.tokens.put(sum, verified{caller: caller, until: until, keys: signedBy, set: is.keys})
	}
	return caller, err
}

// issuerOf is the issuer whom the token names. That is not verified yet, and only says whose keys to try.
func (k *callers) issuerOf(token *jose.JSONWebSignature) (*issuer, error) {
	var claims jwt.Claims
	if err := josejson.Unmarshal(token.UnsafePayloadWithoutVerification(), &claims); err != nil {
		return nil, refuse("the claims of the bearer token cannot be read")
	}
	is, ok := k.issuers[claims.Issuer]
	if !ok {
		return nil, refuse("the issuer of the bearer token (claim iss) is none whose tokens this service takes; they are " +
			"compared letter by letter. Ask its operator which are taken")
	}
	return is, nil
}

// verify is nil, with the keys that say so, when the issuer signed the token.
func (is *issuer) verify(ctx context.Context, token *jose.JSONWebSignature, now time.Time) (*keys, error) {
	known := is.keys.usable(now)
	if known.verify(token) {
		return known, nil
	}
	fetching, pause := is.keys.fetch(now)
	if fetching != nil {
		select {
		case <-fetching:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the keys of issuer %s did not arrive within the time of the request: try again",
				ErrUnavailable, is.name)
		}
	}
	newer := is.keys.usable(now)
	switch {
	case newer == nil:
		return nil, fmt.Errorf("%w: the keys of issuer %s cannot be had at the moment: try again in %d seconds",
			ErrUnavailable, is.name, int(max(pause, time.Second).Seconds()))
	case newer != known && newer.verify(token):
		return newer, nil
	}
	return nil, refuse("the bearer token is not signed with a key that issuer %s publishes. If the issuer changed its keys within "+
		"the last seconds, try again in %s", is.name, keyPause)
}

// caller is whom the claims mean, which the issuer signed, and until when.
func (is *issuer) caller(payload []byte, now time.Time) (Caller, time.Time, error) {
	var standard jwt.Claims
	if err := josejson.Unmarshal(payload, &standard); err != nil {
		return Caller{}, time.Time{}, refuse("the claims of the bearer token cannot be read")
	}
	if standard.Expiry == nil {
		return Caller{}, time.Time{}, refuse("the bearer token has no end (claim exp), and must have one")
	}
	err := standard.ValidateWithLeeway(jwt.Expected{Issuer: is.name, AnyAudience: is.audiences, Time: now}, leeway)
	if err != nil {
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
	return caller, standard.Expiry.Time().Add(leeway), nil
}

// explain says what is wrong with a token that the issuer did sign.
func explain(err error, claims jwt.Claims, now time.Time) error {
	switch {
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

// verified is what is known of a token, as long as its issuer's keys stay the same.
type verified struct {
	caller Caller
	until  time.Time
	keys   *keys // that verified it
	set    *keySet
}

// tokenCache remembers tokens that were taken, by their SHA-256: looking one up is a fiftieth of the work. Only tokens
// that were taken get in, and what was not asked for lately goes first.
type tokenCache struct {
	mu       sync.RWMutex
	new, old map[[sha256.Size]byte]verified
}

func newTokenCache() *tokenCache { return &tokenCache{new: map[[sha256.Size]byte]verified{}} }

// get is the caller, unless the token has ended or the issuer's keys are others now.
func (c *tokenCache) get(sum [sha256.Size]byte, now time.Time) (Caller, bool) {
	c.mu.RLock()
	v, ok := c.new[sum]
	aged := false
	if !ok {
		v, aged = c.old[sum]
	}
	c.mu.RUnlock()
	if !ok && !aged || now.After(v.until) || v.set.usable(now) != v.keys {
		return Caller{}, false
	}
	if aged {
		c.put(sum, v)
	}
	return v.caller, true
}

func (c *tokenCache) put(sum [sha256.Size]byte, v verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.new) >= maxTokens {
		c.old, c.new = c.new, map[[sha256.Size]byte]verified{}
	}
	c.new[sum] = v
}
