// Package identity turns an HTTP request into the Caller who made it, or refuses it. A Caller comes from the
// connection and its credentials alone: nothing that a request says about its account is believed.
//
// There is one method so far: whoever reaches the service over the loopback interface acts for the account that the
// service was started with. A request from anywhere else is nobody's and is refused.
package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const (
	// DefaultAccount is whose account a loopback caller acts for when nothing is configured.
	DefaultAccount = "000000000000"
	// MethodLoopback is the Method, and the ID, of callers known only by having come over loopback.
	MethodLoopback = "loopback"
	// RoleAny stands in Caller.Roles for every role.
	RoleAny = "*"
)

// ErrUnauthenticated is what the errors of Authenticate wrap. Their text is written for the caller.
var ErrUnauthenticated = errors.New("unauthenticated")

// Caller is who makes a request. The zero value is nobody, and holds no role.
type Caller struct {
	Account string // 12 digits
	ID      string // who within the account; as the method of authentication names them
	// Roles are what the caller may act as; RoleAny is all of them. Not to be changed by those who read it.
	Roles  []string
	Method string // how the caller was recognised
	// SourceAddress is the IP address of the peer, without its port; "" when there was no connection.
	SourceAddress string
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

// Authenticator recognises callers. It is safe for concurrent use; the zero value refuses everybody.
type Authenticator struct {
	loopback Caller
}

// NewLoopback is an Authenticator for which every caller on this machine acts for account; "" is DefaultAccount.
// Loopback callers hold every role: who can reach the loopback interface can as well read the service's files.
func NewLoopback(account string) (*Authenticator, error) {
	if account == "" {
		account = DefaultAccount
	}
	if err := ValidAccount(account); err != nil {
		return nil, err
	}
	return &Authenticator{loopback: Caller{
		Account: account, ID: MethodLoopback, Roles: []string{RoleAny}, Method: MethodLoopback,
	}}, nil
}

// Authenticate is the caller behind a request. Only what the server itself knows about the connection counts:
// X-Forwarded-For and its kin are written by anyone.
//
// The Host must name this machine too. A web page can make its own name resolve to 127.0.0.1 and have a browser on
// this machine send requests that arrive over loopback; their Host still carries the page's name.
func (a *Authenticator) Authenticate(r *http.Request) (Caller, error) {
	if a.loopback.Account == "" {
		return Caller{}, fmt.Errorf("%w: this service recognises no callers", ErrUnauthenticated)
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return Caller{}, fmt.Errorf("%w: callers are recognised only on the loopback interface of this machine, "+
			"and this request came from %q", ErrUnauthenticated, r.RemoteAddr)
	}
	if !loopbackHost(r.Host) {
		return Caller{}, fmt.Errorf("%w: callers on loopback must address this service as localhost or by a "+
			"loopback IP address, and this request is for host %q", ErrUnauthenticated, r.Host)
	}
	caller := a.loopback
	caller.SourceAddress = peer.Addr().Unmap().WithZone("").String()
	return caller, nil
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
