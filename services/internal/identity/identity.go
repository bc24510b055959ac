// Package identity turns an HTTP request into the Caller who made it, or refuses it. A Caller comes from the
// connection and its credentials alone: nothing that a request says about its account is believed.
//
// A request with an Authorization header is judged by that header: AWS Signature Version 4 with an access key of the
// callers file, or a bearer token of one of its OpenID Connect issuers. Without the header a client certificate that
// the TLS handshake verified decides, by the names in the file. A request with neither is the loopback account's, if
// there is one and the request came over the loopback interface. What was presented and is bad is refused; it is
// never passed over for the next method.
//
// The errors are written for the caller: they say what to do, and nothing that only the operator should know. No
// secret and no part of a token is in an error, in a log or in a metric.
package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultAccount is whose account a loopback caller acts for when nothing is configured.
	DefaultAccount = "000000000000"
	// DefaultRegion is the region that requests are signed for when nothing is configured.
	DefaultRegion = "us-east-1"
	// RoleAny stands in Caller.Roles for every role. Only loopback callers hold it.
	RoleAny = "*"
)

// How a caller was recognised: the Method of a Caller.
const (
	MethodLoopback = "loopback" // it came over the loopback interface; also the ID of such callers
	MethodSigV4    = "sigv4"    // it signed the request with an access key
	MethodOIDC     = "oidc"     // it has a token of an OpenID Connect issuer
	MethodMTLS     = "mtls"     // it has a client certificate
)

// The roles that the callers file can give.
const (
	RoleViewer   = "viewer"   // reads
	RoleAuthor   = "author"   // writes policies, but cannot weaken enforcement
	RoleEnforcer = "enforcer" // may weaken enforcement
	RoleGateway  = "gateway"  // asks for decisions
	RoleAgent    = "agent"    // calls tools through gateways
	RoleAuditor  = "auditor"  // reads decisions
	RoleNode     = "node"     // a decision node: follows the log, of all accounts
	RoleAdmin    = "admin"    // everything of the account, and what belongs to no account but the log
)

// Roles are all there are.
func Roles() []string { return slices.Clone(roles) }

var roles = []string{RoleViewer, RoleAuthor, RoleEnforcer, RoleGateway, RoleAgent, RoleAuditor, RoleNode, RoleAdmin}

// Every error of Authenticate and Once that is the caller's affair wraps one of these, and its whole text is written
// for the caller.
var (
	// ErrUnauthenticated: nobody knows who this is.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrForbidden: the caller proved who it is, and the callers file has no place for it.
	ErrForbidden = errors.New("forbidden")
	// ErrUnavailable: who this is cannot be found out now; later it may.
	ErrUnavailable = errors.New("unavailable")
	// ErrExhausted: the access key signed more changes than can be told apart from repeats.
	ErrExhausted = errors.New("exhausted")
)

// Caller is who makes a request. The zero value is nobody, and holds no role.
type Caller struct {
	Account string // 12 digits
	ID      string // who within the account, as the callers file names it
	// Roles are what the caller may act as; RoleAny is all of them. Not to be changed by those who read it.
	Roles  []string
	Method string // how the caller was recognised
	// SourceAddress is the IP address of the peer, without its port; "" when there was no connection.
	SourceAddress string

	signed *signed // what Once needs; nil for methods other than sigv4
}

// HasRole says whether the caller may act in the role.
func (c Caller) HasRole(role string) bool {
	return slices.Contains(c.Roles, role) || slices.Contains(c.Roles, RoleAny)
}

// ValidAccount is nil for an account: exactly 12 digits.
func ValidAccount(account string) error {
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	if len(account) != 12 || strings.ContainsFunc(account, notDigit) {
		return fmt.Errorf("%q is not an account: 12 digits are needed, as in %s", account, DefaultAccount)
	}
	return nil
}

// Config is what an Authenticator is made of. The zero value recognises nobody.
type Config struct {
	// LoopbackAccount is whose account callers on this machine act for, in every role: who can reach the loopback
	// interface can as well read the service's files. Without it they need credentials like everybody else.
	LoopbackAccount string
	// CallersFile says who is recognised by credentials. Without it nobody is.
	CallersFile string
	// Region is the one that requests must be signed for; DefaultRegion when empty.
	Region string
	// Signatures is how many signatures of one access key Once remembers, each for eleven minutes, and with it how many it takes in
	// that time; DefaultSignatures when 0.
	Signatures int
	// Logger hears of issuers whose keys cannot be had. Nothing is logged without it.
	Logger *slog.Logger
	// Registerer gets the counters; without it they are not to be seen.
	Registerer prometheus.Registerer
}

// Authenticator recognises callers. It is safe for concurrent use; the zero value refuses everybody.
type Authenticator struct {
	cfg      Config
	loopback Caller
	metrics  *metrics
	now      func() time.Time
	started  time.Time // signatures from before are not told from repeats

	callers atomic.Pointer[callers]

	reload sync.Mutex            // held by Reload, and guards what follows
	repeat map[string]*memory    // :: access key id → signatures taken
	keys   map[keySource]*keySet // :: where keys come from → the keys
}

// New is an Authenticator. It reads the callers file, and asks no issuer for anything yet.
func New(cfg Config) (*Authenticator, error) {
	if cfg.Region == "" {
		cfg.Region = DefaultRegion
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Signatures == 0 {
		cfg.Signatures = DefaultSignatures
	}
	a := &Authenticator{
		cfg: cfg, metrics: newMetrics(), now: time.Now, started: time.Now(),
		repeat: map[string]*memory{}, keys: map[keySource]*keySet{},
	}
	if cfg.LoopbackAccount != "" {
		if err := ValidAccount(cfg.LoopbackAccount); err != nil {
			return nil, err
		}
		a.loopback = Caller{
			Account: cfg.LoopbackAccount, ID: MethodLoopback, Roles: []string{RoleAny}, Method: MethodLoopback,
		}
	}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	if err := a.metrics.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("counters of authentications: %w", err)
	}
	return a, nil
}

// NewLoopback is an Authenticator for which every caller on this machine acts for account, and which knows nobody
// else; "" is DefaultAccount.
func NewLoopback(account string) (*Authenticator, error) {
	if account == "" {
		account = DefaultAccount
	}
	return New(Config{LoopbackAccount: account})
}

// Reload reads the callers file, and the certificates that it names, again. On an error the callers that were known
// before stay in force. Signatures that were taken stay taken, and keys of issuers that did not change stay known.
func (a *Authenticator) Reload() error {
	a.reload.Lock()
	defer a.reload.Unlock()
	next := &callers{region: a.cfg.Region}
	if a.cfg.CallersFile != "" {
		file, err := readCallersFile(a.cfg.CallersFile)
		if err != nil {
			return err
		}
		if next, err = a.buildLocked(file); err != nil {
			return fmt.Errorf("callers %s: %w", a.cfg.CallersFile, err)
		}
	}
	a.callers.Store(next)
	return nil
}

// Authenticate is the caller behind a request. Only what the server itself knows about the connection counts:
// X-Forwarded-For and its kin are written by anyone.
//
// A signed request has its body read, which the caller of Authenticate must have bounded; r.Body then gives the same
// bytes again. When that reading fails, the error wraps what the body said (an *http.MaxBytesError, say) and none of
// this package's sentinels. It waits for nothing else, but for the keys of an issuer that are not known yet, and that
// for a few seconds at most.
func (a *Authenticator) Authenticate(r *http.Request) (Caller, error) {
	known := a.callers.Load()
	if known == nil {
		return Caller{}, fmt.Errorf("%w: this service recognises no callers", ErrUnauthenticated)
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // of a request that came over no network: the zero value, which is not on loopback
	caller, method, err := a.recognise(known, r, peer.Addr())
	a.metrics.authenticated(method, err)
	if err != nil {
		return Caller{}, err
	}
	caller.SourceAddress = address(peer.Addr())
	return caller, nil
}

// recognise is the caller and the method that found or refused it.
func (a *Authenticator) recognise(known *callers, r *http.Request, peer netip.Addr) (Caller, method, error) {
	header := r.Header["Authorization"]
	switch {
	case len(header) > 1:
		return Caller{}, byNone, refuse("the request has %d Authorization headers, and must have one", len(header))
	case presigned(r.URL.RawQuery):
		return Caller{}, bySigV4, refuse("signatures in the query (presigned URLs) are not taken here: sign in the Authorization header")
	case len(header) == 1:
		return a.authorization(known, r, header[0])
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		caller, err := known.certificate(r.TLS)
		return caller, byMTLS, err
	}
	caller, err := a.local(known, r, peer)
	return caller, byLoopback, err
}

// authorization is who the Authorization header says and proves.
func (a *Authenticator) authorization(known *callers, r *http.Request, header string) (Caller, method, error) {
	scheme, rest, _ := strings.Cut(header, " ")
	switch {
	case len(header) > maxAuthorization:
		return Caller{}, byNone, refuse("the Authorization header is longer than %d bytes", maxAuthorization)
	case scheme == sigV4Algorithm:
		caller, err := known.signature(r, rest, a.now)
		return caller, bySigV4, err
	case strings.EqualFold(scheme, "Bearer"):
		caller, err := known.bearer(r.Context(), strings.TrimSpace(rest), a.now())
		return caller, byOIDC, err
	}
	return Caller{}, byNone, refuse("the scheme of the Authorization header is not known here: use %s", known.methods())
}

// maxAuthorization bounds what is parsed for callers of whom nothing is known.
const maxAuthorization = 16 << 10

// refuse is an error for somebody who could not be recognised.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnauthenticated, fmt.Sprintf(format, args...))
}

type contextKey struct{}

// NewContext carries the caller. Who calls a service in process, without HTTP, says with it on whose behalf.
func NewContext(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, contextKey{}, caller)
}

// FromContext is the caller that ctx carries. Without one it is false, and the work must be refused.
func FromContext(ctx context.Context) (Caller, bool) {
	caller, ok := ctx.Value(contextKey{}).(Caller)
	return caller, ok
}
