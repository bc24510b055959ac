// Package issuer turns a signed token (JWT) of an OpenID Connect or OAuth 2.0 issuer into the proof that this issuer made it. The
// issuer's keys are found by discovery, or where the operator says, and fetched as they are needed.
//
// It guarantees that who sends tokens makes at most one fetch in ten seconds, shared by all who wait; that whose key is known waits for
// none; that a key which the issuer withdrew is used for some minutes at most, and keys that nobody confirmed for a day not at all; and
// that an answer of an issuer which is large, slow, broken or leads elsewhere costs a bounded time and memory, and nothing else.
package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// Pause lies between two fetches of an issuer's keys, whatever arrives.
	Pause = 10 * time.Second
	// Refresh is the age from which keys are fetched again while they go on being used: so long a key that the
	// issuer withdrew is still taken.
	Refresh = 5 * time.Minute
	// Life is the age at which keys are no longer used, though newer ones cannot be had. An issuer that is down for
	// so long has issued no token in that time either.
	Life = 24 * time.Hour
	// timeout bounds a fetch, discovery included.
	timeout = 5 * time.Second
	// maxAnswer bounds what an issuer may answer.
	maxAnswer = 1 << 20
	// maxName bounds what an issuer may call itself.
	maxName = 1 << 10
)

// Config is where an issuer's keys are, and how they are asked for. Client, CheckURL and one of DiscoveryURL and KeysURL are required.
type Config struct {
	// Name is what the issuer must call itself in its discovery document; "" takes any name, and Keys.Name says which.
	Name string
	// DiscoveryURL is where its discovery document is (OpenID Connect Discovery, or RFC 8414). It is not read when KeysURL is given.
	DiscoveryURL string
	// KeysURL is where its JWK set is.
	KeysURL string
	// Client asks. It must follow no redirect: that could lead to where nobody looked when the address was configured.
	Client *http.Client
	// CheckURL is nil for an address whose answer can be trusted: DiscoveryURL, or one that the document has under the name field.
	CheckURL func(field, address string) error
	// Logger hears of fetches that failed.
	Logger *slog.Logger
	// Fetched, when there is one, hears of each fetch.
	Fetched func(ok bool)
}

// Issuer holds the public keys of an issuer. It is safe for concurrent use.
type Issuer struct {
	cfg Config

	current atomic.Pointer[Keys]
	fetched atomic.Int64 // when current was last known to be the issuer's: UnixNano

	mu       sync.Mutex
	began    time.Time     // the newest fetch
	inFlight chan struct{} // closed when it ends; nil when it has

	discovered document // by the fetch in flight or the one before; the zero value asks again
}

// document is what a discovery document says.
type document struct {
	Issuer  string `json:"issuer"`
	JWKSURI string `json:"jwks_uri"` //nolint:tagliatelle // OpenID Connect Discovery calls it so
}

// New is an Issuer. It asks for nothing yet.
func New(cfg Config) *Issuer {
	if cfg.Fetched == nil {
		cfg.Fetched = func(bool) {}
	}
	return &Issuer{cfg: cfg}
}

// ErrSignature: none of the issuer's keys made the signature.
var ErrSignature = errors.New("the token is not signed with a key that the issuer publishes")

// NoKeysError says that there are no keys to verify with, and when to try again; Late, that the context ended first.
type NoKeysError struct {
	Pause time.Duration
	Late  bool
}

// Error has no name of an issuer.
func (e *NoKeysError) Error() string {
	if e.Late {
		return "the keys of the issuer did not arrive in time"
	}
	return fmt.Sprintf("the keys of the issuer cannot be had for the next %d seconds", e.Seconds())
}

// Seconds is Pause, at least one.
func (e *NoKeysError) Seconds() int { return int(max(e.Pause, time.Second).Seconds()) }

// Verify is the keys among which is the one that signed the token. It waits only for keys that are not known. Errors are ErrSignature
// and *NoKeysError.
func (s *Issuer) Verify(ctx context.Context, token *jose.JSONWebSignature, now time.Time) (*Keys, error) {
	known := s.Usable(now)
	if known.verify(token) {
		return known, nil
	}
	newer, err := s.newer(ctx, now)
	switch {
	case err != nil:
		return nil, err
	case newer != known && newer.verify(token):
		return newer, nil
	}
	return nil, ErrSignature
}

// Keys are the keys of now. It waits only when none are known; the error is a *NoKeysError.
func (s *Issuer) Keys(ctx context.Context, now time.Time) (*Keys, error) {
	if known := s.Usable(now); known != nil {
		return known, nil
	}
	return s.newer(ctx, now)
}

// newer has the keys fetched, if that is allowed now, and waits for them.
func (s *Issuer) newer(ctx context.Context, now time.Time) (*Keys, error) {
	fetching, pause := s.fetch(now)
	if fetching != nil {
		select {
		case <-fetching:
		case <-ctx.Done():
			return nil, &NoKeysError{Pause: Pause, Late: true}
		}
	}
	if newer := s.Usable(now); newer != nil {
		return newer, nil
	}
	return nil, &NoKeysError{Pause: pause}
}

// Usable are the keys that are known, nil when there are none. Those that are no longer fresh are fetched again
// meanwhile. They are the same pointer as long as the issuer answers the same.
func (s *Issuer) Usable(now time.Time) *Keys {
	known := s.current.Load()
	if known == nil {
		return nil
	}
	age := now.Sub(time.Unix(0, s.fetched.Load()))
	if age > Refresh {
		s.fetch(now)
	}
	if age > Life {
		return nil
	}
	return known
}

// fetch begins to fetch the keys, unless that is being done or was done a moment ago. The channel is closed when the
// fetch in flight ends; it is nil, and there is a time to wait, when there is none.
func (s *Issuer) fetch(now time.Time) (<-chan struct{}, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight != nil {
		return s.inFlight, 0
	}
	if since := now.Sub(s.began); !s.began.IsZero() && since < Pause {
		return nil, min(Pause-since, Pause)
	}
	s.began, s.inFlight = now, make(chan struct{})
	go s.run(now) // ends within timeout
	return s.inFlight, 0
}

func (s *Issuer) run(now time.Time) {
	// It is for all who wait, so nobody's request ends it.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := s.update(ctx)
	if err != nil {
		s.discovered = document{}
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the keys of an issuer cannot be fetched; those known stay in use",
			slog.String("issuer", s.String()), slog.Any("error", err))
	} else {
		s.fetched.Store(now.UnixNano())
	}
	s.cfg.Fetched(err == nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.inFlight)
	s.inFlight = nil
}

// String is what an operator knows the issuer by.
func (s *Issuer) String() string {
	if s.cfg.Name != "" {
		return s.cfg.Name
	}
	if u, err := url.Parse(s.cfg.DiscoveryURL); err == nil {
		return u.Redacted()
	}
	return "?"
}

// update fetches once. Only the fetch in flight calls it.
func (s *Issuer) update(ctx context.Context) (err error) {
	// What is parsed comes from whoever is named as an issuer, and nobody's request stands above this goroutine to survive in its place.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the answer cannot be parsed: %v", v)
		}
	}()
	if s.discovered == (document{}) {
		found, err := s.discover(ctx)
		if err != nil {
			return err
		}
		s.discovered = found
	}
	text, err := s.get(ctx, s.discovered.JWKSURI)
	if err != nil {
		return err
	}
	if known := s.current.Load(); known != nil && known.text == string(text) && known.name == s.discovered.Issuer {
		return nil
	}
	next, err := parseKeys(text)
	if err != nil {
		return fmt.Errorf("%s: %w", s.discovered.JWKSURI, err)
	}
	next.name = s.discovered.Issuer
	s.current.Store(next)
	return nil
}

// discover is where the issuer says its keys are, if nobody else said it.
func (s *Issuer) discover(ctx context.Context) (document, error) {
	if s.cfg.KeysURL != "" {
		return document{Issuer: s.cfg.Name, JWKSURI: s.cfg.KeysURL}, nil
	}
	address := s.cfg.DiscoveryURL
	if err := s.cfg.CheckURL("the discovery URL", address); err != nil {
		return document{}, err
	}
	text, err := s.get(ctx, address)
	if err != nil {
		return document{}, err
	}
	var found document
	if err := json.Unmarshal(text, &found); err != nil {
		return document{}, fmt.Errorf("%s: the answer is not the JSON of a discovery document", address)
	}
	switch {
	case s.cfg.Name != "" && found.Issuer != s.cfg.Name:
		return document{}, fmt.Errorf("%s: the issuer calls itself %q, and is configured as %q; they must be equal letter by letter",
			address, clip(found.Issuer), s.cfg.Name)
	case found.Issuer == "" || len(found.Issuer) > maxName:
		return document{}, fmt.Errorf("%s: the member issuer is missing, or has more than %d bytes", address, maxName)
	}
	if err := s.cfg.CheckURL("jwks_uri", found.JWKSURI); err != nil {
		return document{}, fmt.Errorf("%s: %w", address, err)
	}
	return found, nil
}

// get is a small document.
func (s *Issuer) get(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.cfg.Client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: the answer has status %d", address, response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", address, maxAnswer)
	}
	return text, nil
}

// clip keeps what is repeated short.
func clip(text string) string { return text[:min(len(text), 64)] }
