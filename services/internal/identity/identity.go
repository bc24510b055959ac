// Package identity turns an HTTP request into the Caller who made it, or refuses it. A Caller comes from the connection and its
// credentials alone: nothing that a request says about its account is believed.
//
// Callers are known by an access key with which they sign (AWS Signature Version 4), by a token of an OIDC issuer, or by a client
// certificate; a file says who they are, for which account they act, and in which roles. Whoever reaches the service over the
// loopback interface may be known by that, where the service was started so. The other half is here too: a client's side of keys
// and tokens, for those of our own programs that call others.
package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultAccount is whose account a loopback caller acts for when nothing is configured.
	DefaultAccount = "000000000000"
	// MethodLoopback is the Method, and the ID, of callers known only by having come over loopback.
	MethodLoopback = "loopback"
	// The Method of the others.
	MethodSigV4, MethodOIDC, MethodMTLS = "sigv4", "oidc", "mtls"
	// RoleAny stands in Caller.Roles for every role.
	RoleAny = "*"
)

// What the errors of Authenticate wrap. Their text is written for the caller: it tells a legitimate one what to do, and nobody
// what a credential should have been.
var (
	ErrUnauthenticated = errors.New("unauthenticated")
	ErrForbidden       = errors.New("forbidden")
)

// Roles. What each may do is a matter of rules, in package access.
const (
	RoleViewer   = "viewer"
	RoleAuthor   = "author"
	RoleEnforcer = "enforcer"
	RoleGateway  = "gateway"
	RoleAuditor  = "auditor"
	RoleNode     = "node"
	RoleAdmin    = "admin"
)

// Roles are all there are.
func Roles() []string {
	return []string{RoleViewer, RoleAuthor, RoleEnforcer, RoleGateway, RoleAuditor, RoleNode, RoleAdmin}
}

// Caller is who makes a request. The zero value is nobody, and holds no role.
type Caller struct {
	Account string // 12 digits
	ID      string // who within the account; as the method of authentication names them
	// Roles are what the caller may act as; RoleAny is all of them. Not to be changed by those who read it.
	Roles  []string
	Method string // how the caller was recognised
	// SourceAddress is the IP address of the peer, without its port; "" when there was no connection.
	SourceAddress string

	signature signature // of the request, when Method is MethodSigV4
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

// Config is what an Authenticator is made of. All zero, it refuses everybody.
type Config struct {
	LoopbackAccount string // of callers on this machine without credentials; "" refuses them
	CallersFile     string // "" is none
	Region          string // that requests must be signed for
	Logger          *slog.Logger
	Registerer      prometheus.Registerer
}

// Authenticator recognises callers. It is safe for concurrent use.
type Authenticator struct {
	cfg      Config
	loopback Caller
	now      func() time.Time
	callers  atomic.Pointer[callers]
	once     once
	metrics  *metrics
}

// New reads the file of callers. It asks nobody: the keys of an issuer are fetched when the first token of it comes.
//
// Loopback callers hold every role: who can reach the loopback interface can as well read the service's files.
func New(cfg Config) (*Authenticator, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{cfg: cfg, now: time.Now, metrics: newMetrics(cfg.Registerer)}
	if cfg.LoopbackAccount != "" {
		if err := ValidAccount(cfg.LoopbackAccount); err != nil {
			return nil, err
		}
		a.loopback = Caller{Account: cfg.LoopbackAccount, ID: MethodLoopback, Roles: []string{RoleAny}, Method: MethodLoopback}
	}
	return a, a.Reload()
}

// NewLoopback is an Authenticator for which every caller on this machine acts for account; "" is DefaultAccount.
func NewLoopback(account string) (*Authenticator, error) {
	return New(Config{LoopbackAccount: cmp.Or(account, DefaultAccount)})
}

// Reload reads the file of callers again. With an error all stays as it was.
func (a *Authenticator) Reload() error {
	if a.cfg.CallersFile == "" {
		a.callers.Store(&callers{})
		return nil
	}
	read, err := readCallers(a.cfg.CallersFile)
	if err != nil {
		return fmt.Errorf("callers: %w", err)
	}
	next, err := a.newCallers(read)
	if err != nil {
		return fmt.Errorf("callers: %s: %w", a.cfg.CallersFile, err)
	}
	a.callers.Store(next)
	return nil
}

// Authenticate is the caller behind a request. What the request says of itself in an Authorization header is judged by that
// alone, and never falls back to anything else; without one, a verified certificate of the connection is; without that, the
// caller must be on this machine. It may read r.Body, and then replaces it by what it read. The error wraps
// ErrUnauthenticated, or ErrForbidden for callers that are known and in no rule.
func (a *Authenticator) Authenticate(r *http.Request) (Caller, error) {
	caller, err := a.authenticate(r)
	a.metrics.observe(caller.Method, err)
	if err != nil {
		return Caller{}, err
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		caller.SourceAddress = peer.Addr().Unmap().WithZone("").String()
	}
	return caller, nil
}

// authenticate tells the method also of whom it refuses.
func (a *Authenticator) authenticate(r *http.Request) (Caller, error) {
	known := a.callers.Load()
	switch header := r.Header["Authorization"]; {
	case len(header) > 1:
		return Caller{}, refuse("there are %d Authorization headers: send one", len(header))
	case len(header) == 1 && hasPrefixFold(header[0], schemeSigV4):
		caller, err := a.sigV4(r, header[0], known)
		caller.Method = MethodSigV4
		return caller, err
	case len(header) == 1 && hasPrefixFold(header[0], schemeBearer):
		caller, err := a.bearer(r.Context(), header[0][len(schemeBearer):], known)
		caller.Method = MethodOIDC
		return caller, err
	case len(header) == 1:
		return Caller{}, refuse("the Authorization header is of no kind that this service knows: %s", ways)
	case r.URL.Query().Has("X-Amz-Signature"):
		return Caller{Method: MethodSigV4}, refuse("presigned URLs are not taken: sign the request in its Authorization header")
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		caller, err := known.certificate(r.TLS.VerifiedChains[0][0])
		caller.Method = MethodMTLS
		return caller, err
	}
	caller, err := a.fromLoopback(r)
	caller.Method = MethodLoopback
	return caller, err
}

// ways is how a caller can make itself known.
const ways = "sign the request with an access key (AWS Signature Version 4), send a bearer token, or connect with a client certificate"

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrUnauthenticated}, args...)...)
}

func hasPrefixFold(text, prefix string) bool {
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}

// fromLoopback knows callers by having come over loopback. Only what the server itself knows about the connection counts:
// X-Forwarded-For and its kin are written by anyone.
//
// The Host must name this machine too. A web page can make its own name resolve to 127.0.0.1 and have a browser on
// this machine send requests that arrive over loopback; their Host still carries the page's name.
func (a *Authenticator) fromLoopback(r *http.Request) (Caller, error) {
	if a.loopback.Account == "" {
		return Caller{}, refuse("the request has no credentials: %s", ways)
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return Caller{}, refuse("callers without credentials are recognised only on the loopback interface of this machine, "+
			"and this request came from %q", r.RemoteAddr)
	}
	if !loopbackHost(r.Host) {
		return Caller{}, refuse("callers on loopback must address this service as localhost or by a "+
			"loopback IP address, and this request is for host %q", r.Host)
	}
	return a.loopback, nil
}

// loopbackHost says whether a Host header can only mean this machine.
func loopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
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
