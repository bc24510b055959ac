package identity

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keyPause lies between two fetches of an issuer's keys, whatever arrives.
	keyPause = 10 * time.Second
	// keyRefresh is the age from which keys are fetched again while they go on being used: so long a key that the
	// issuer withdrew is still taken.
	keyRefresh = 5 * time.Minute
	// keyLife is the age at which keys are no longer used, though newer ones cannot be had. An issuer that is down for
	// so long has issued no token in that time either.
	keyLife = 24 * time.Hour
	// keyTimeout bounds a fetch, discovery included.
	keyTimeout = 5 * time.Second
	// maxKeyAnswer and maxKeys bound what an issuer may answer.
	maxKeyAnswer = 1 << 20
	maxKeys      = 100
	maxModulus   = 8192 // bits: what an RSA key of an issuer may cost
)

// algorithms are those whose signatures are taken: never "none", and never one with a shared secret, for which a
// public key would do as the secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// keySource is where keys come from.
type keySource struct {
	issuer  string
	jwksURL string // "": discovery says it
	roots   string // PEM; "": the system's
}

// keySet holds the public keys of an issuer. Who uses it pays for at most one fetch in keyPause: all share it, and those
// whose key is known wait for none.
type keySet struct {
	source  keySource
	client  *http.Client
	logger  *slog.Logger
	metrics *metrics

	current atomic.Pointer[keys]
	fetched atomic.Int64 // when current was last known to be the issuer's: UnixNano

	mu       sync.Mutex
	began    time.Time     // the newest fetch
	inFlight chan struct{} // closed when it ends; nil when it has

	discovered string // by the fetch in flight or the one before; "" asks again
}

// keys are what an issuer answered. They do not change.
type keys struct {
	text string // the answer
	byID map[string][]jose.JSONWebKey
	all  []jose.JSONWebKey
}

func newKeySet(source keySource, logger *slog.Logger, m *metrics) (*keySet, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if source.roots != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(source.roots)) {
			return nil, errors.New("caFile: no certificate in it; PEM is needed")
		}
	}
	return &keySet{source: source, logger: logger, metrics: m, client: &http.Client{
		// A redirect could lead to where nobody looked when the address was configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives: true, // one question in minutes
		},
	}}, nil
}

// usable are the keys that are known, nil when there are none. Those that are no longer fresh are fetched again
// meanwhile.
func (s *keySet) usable(now time.Time) *keys {
	known := s.current.Load()
	if known == nil {
		return nil
	}
	age := now.Sub(time.Unix(0, s.fetched.Load()))
	if age > keyRefresh {
		s.fetch(now)
	}
	if age > keyLife {
		return nil
	}
	return known
}

// fetch begins to fetch the keys, unless that is being done or was done a moment ago. The channel is closed when the
// fetch in flight ends; it is nil, and there is a time to wait, when there is none.
func (s *keySet) fetch(now time.Time) (<-chan struct{}, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight != nil {
		return s.inFlight, 0
	}
	if since := now.Sub(s.began); !s.began.IsZero() && since < keyPause {
		return nil, min(keyPause-since, keyPause)
	}
	s.began, s.inFlight = now, make(chan struct{})
	go s.run(now) // ends within keyTimeout
	return s.inFlight, 0
}

func (s *keySet) run(now time.Time) {
	// It is for all who wait, so nobody's request ends it.
	ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
	defer cancel()
	err := s.update(ctx)
	outcome := "fetched"
	if err != nil {
		outcome = "failed"
		s.discovered = ""
		s.logger.LogAttrs(ctx, slog.LevelWarn, "the keys of an issuer cannot be fetched; those known stay in use",
			slog.String("issuer", s.source.issuer), slog.Any("error", err))
	} else {
		s.fetched.Store(now.UnixNano())
	}
	s.metrics.fetches.WithLabelValues(s.source.issuer, outcome).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.inFlight)
	s.inFlight = nil
}

// update fetches once. Only the fetch in flight calls it.
func (s *keySet) update(ctx context.Context) error {
	if s.discovered == "" {
		found, err := s.discover(ctx)
		if err != nil {
			return err
		}
		s.discovered = found
	}
	text, err := s.get(ctx, s.discovered)
	if err != nil {
		return err
	}
	if known := s.current.Load(); known != nil && known.text == string(text) {
		return nil
	}
	next, err := parseKeys(text)
	if err != nil {
		return fmt.Errorf("%s: %w", s.discovered, err)
	}
	s.current.Store(next)
	return nil
}

// discover is where the issuer says its keys are, if nobody else said it.
func (s *keySet) discover(ctx context.Context) (string, error) {
	if s.source.jwksURL != "" {
		return s.source.jwksURL, nil
	}
	address := strings.TrimSuffix(s.source.issuer, "/") + "/.well-known/openid-configuration"
	text, err := s.get(ctx, address)
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"` //nolint:tagliatelle // OpenID Connect Discovery calls it so
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return "", fmt.Errorf("%s: the answer is not the JSON of a discovery document", address)
	}
	if document.Issuer != s.source.issuer {
		return "", fmt.Errorf("%s: the issuer calls itself %q; the callers file must name it exactly so", address, clip(document.Issuer))
	}
	if err := secureURL("jwks_uri", document.JWKSURI); err != nil {
		return "", fmt.Errorf("%s: %w", address, err)
	}
	return document.JWKSURI, nil
}

// get is a small document.
func (s *keySet) get(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: the answer has status %d", address, response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKeyAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	if len(text) > maxKeyAnswer {
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", address, maxKeyAnswer)
	}
	return text, nil
}

// parseKeys takes from a JWK set what can verify signatures, and passes over the rest, as RFC 7517 has it.
func parseKeys(text []byte) (*keys, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the answer is not a JWK set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the answer has %d keys, and at most %d are taken", len(set.Keys), maxKeys)
	}
	k := &keys{text: string(text), byID: map[string][]jose.JSONWebKey{}}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) != nil || !verifies(key) {
			continue
		}
		k.all = append(k.all, key)
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
func (k *keys) verify(token *jose.JSONWebSignature) bool {
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
