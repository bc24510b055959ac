package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// fetchPause is the least time between two fetches, whatever arrives. The library's own key set fetches for every token
	// with an unknown key id, so that anybody could have us ask an issuer as often as he likes.
	fetchPause = 10 * time.Second
	// fetchTimeout bounds one request to an issuer.
	fetchTimeout = 5 * time.Second
	// refreshAfter is the age at which keys are fetched again though all that is asked for are known: one may have been withdrawn.
	refreshAfter = 5 * time.Minute
	// keysGood is how long keys are good without a fetch that succeeds.
	keysGood = 24 * time.Hour
	// maxKeys bounds what an issuer may answer.
	maxKeys = 1 << 20
)

var (
	errKeys       = errors.New("the keys of the token's issuer cannot be fetched at the moment: try again in some seconds")
	errUnknownKey = errors.New("the token is signed with a key that its issuer does not publish: get a new token; a key published moments ago is seen within 10 s")
)

// keySet is the keys of an issuer. Callers whose key is known never wait; the others share a fetch.
type keySet struct {
	issuer   string
	discover bool
	client   *http.Client
	now      func() time.Time
	log      *slog.Logger
	count    func(outcome string)

	mu      sync.Mutex
	url     string // guarded by mu, as are all below
	keys    []jose.JSONWebKey
	made    int           // how often keys became others
	good    time.Time     // of the last fetch that succeeded
	asked   time.Time     // of the last fetch
	flight  chan struct{} // closed when the fetch under way has ended; nil when there is none
	problem error         // of the last fetch
}

// generation changes with the keys, and when they are too old to be good.
func (k *keySet) generation() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tend()
	return k.made
}

// tend starts a fetch when the keys have grown old, and forgets them when they are too old. It needs mu.
func (k *keySet) tend() {
	age := k.now().Sub(k.good)
	if len(k.keys) > 0 && age >= keysGood {
		k.keys = nil
		k.made++
	}
	if age >= refreshAfter && len(k.keys) > 0 {
		k.fetch()
	}
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	allowed := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, name := range algorithms {
		allowed[i] = jose.SignatureAlgorithm(name)
	}
	signed, err := jose.ParseSigned(token, allowed)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, errToken
	}
	id := signed.Signatures[0].Header.KeyID
	keys, wait := k.find(id)
	if len(keys) == 0 && wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, errKeys
		}
		keys, _ = k.find(id)
	}
	for _, key := range keys {
		if payload, err := signed.Verify(&key); err == nil {
			return payload, nil
		}
	}
	if len(keys) > 0 {
		return nil, errToken
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.problem != nil {
		return nil, errKeys
	}
	return nil, errUnknownKey
}

// find is the keys with an id, all for "". When there is none, wait is of the fetch that may bring it, nil when it is too early
// for one.
func (k *keySet) find(id string) (keys []jose.JSONWebKey, wait <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tend()
	for _, key := range k.keys {
		if id == "" || key.KeyID == id {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		k.fetch()
	}
	return keys, k.flight
}

// fetch starts one, unless one is under way or was within fetchPause. It needs mu.
func (k *keySet) fetch() {
	now := k.now()
	if k.flight != nil || !k.asked.IsZero() && now.Sub(k.asked) < fetchPause {
		return
	}
	k.asked, k.flight = now, make(chan struct{})
	go func(url string, done chan struct{}) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*fetchTimeout)
		defer cancel()
		url, keys, err := k.get(ctx, url)
		k.mu.Lock()
		defer k.mu.Unlock()
		defer close(done)
		k.flight, k.problem = nil, err
		if err != nil {
			if k.discover {
				k.url = ""
			}
			k.count("failed")
			k.log.Warn("the keys of an issuer of tokens cannot be fetched", slog.String("issuer", k.issuer), slog.Any("error", err))
			return
		}
		k.count("fetched")
		k.url, k.keys, k.good = url, keys, now
		k.made++
	}(k.url, k.flight)
}

// get asks the issuer, first for where its keys are when url is "".
func (k *keySet) get(ctx context.Context, url string) (string, []jose.JSONWebKey, error) {
	if url == "" {
		var found struct {
			Issuer string `json:"issuer"`
			URL    string `json:"jwks_uri"`
		}
		if err := k.getJSON(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return "", nil, err
		}
		if found.Issuer != k.issuer {
			return "", nil, fmt.Errorf("the configuration is of issuer %q", found.Issuer)
		}
		if err := safeURL(found.URL); err != nil {
			return "", nil, fmt.Errorf("jwks_uri: %w", err)
		}
		url = found.URL
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.getJSON(ctx, url, &set); err != nil {
		return "", nil, err
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey // one of a kind that we do not know is no reason to do without the others
		if err := key.UnmarshalJSON(raw); err == nil && key.Valid() && key.IsPublic() && key.Use != "enc" {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return "", nil, fmt.Errorf("%s has no key that can be used", url)
	}
	return url, keys, nil
}

func (k *keySet) getJSON(ctx context.Context, url string, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxKeys+1))
	if err == nil && len(data) > maxKeys {
		err = fmt.Errorf("%s answers with more than %d bytes", url, maxKeys)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, to)
}
