package issuer

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys    = 100  // of an issuer
	maxSameID  = 4    // that are tried for one token
	maxModulus = 8192 // bits: what an RSA key of an issuer may cost
)

// algorithms are those whose signatures are taken: never "none", and never one with a shared secret, for which a
// public key would do as the secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Parse reads a token of one of the algorithms that are taken. Nothing of it is verified yet.
func Parse(text string) (*jose.JSONWebSignature, error) {
	token, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil {
		// What go-jose says may hold parts of the token.
		return nil, fmt.Errorf("the token must be a JWT signed with one of %v; others, and those with alg none or HS…, are never taken", algorithms)
	}
	return token, nil
}

// Keys are what an issuer answered. They do not change.
type Keys struct {
	name string
	text string // the answer
	byID map[string][]jose.JSONWebKey
	all  []jose.JSONWebKey
}

// Name is what the issuer calls itself.
func (k *Keys) Name() string { return k.name }

// parseKeys takes from a JWK set what can verify signatures, and passes over the rest, as RFC 7517 has it.
func parseKeys(text []byte) (*Keys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the answer is not a JWK set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the answer has %d keys, and at most %d are taken", len(set.Keys), maxKeys)
	}
	k := &Keys{text: string(text), byID: map[string][]jose.JSONWebKey{}}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) != nil || !verifies(key) {
			continue
		}
		k.all = append(k.all, key)
		if len(k.byID[key.KeyID]) >= maxSameID {
			continue
		}
		k.byID[key.KeyID] = append(k.byID[key.KeyID], key)
	}
	return k, nil
}

// verifies says whether a key is for verifying signatures, and fit for it.
func verifies(key jose.JSONWebKey) bool {
	if !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
		return false
	}
	if public, ok := key.Key.(*rsa.PublicKey); ok {
		return public.N.BitLen() >= 2048 && public.N.BitLen() <= maxModulus
	}
	return true
}

// verify says whether one of the keys made the signature. A token without the id of a key is for issuers that have one.
func (k *Keys) verify(token *jose.JSONWebSignature) bool {
	if k == nil {
		return false
	}
	header := token.Signatures[0].Header
	candidates := k.byID[header.KeyID]
	if header.KeyID == "" && len(k.all) == 1 {
		candidates = k.all
	}
	for _, key := range candidates {
		if key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if _, err := token.Verify(key.Key); err == nil {
			return true
		}
	}
	return false
}
