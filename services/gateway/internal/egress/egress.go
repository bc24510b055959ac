// Package egress turns the addresses that the definitions of gateways name, of issuers and targets, into connections that may leave
// the process.
//
// It guarantees, by the address that is connected to and not by the name that stood for it, that no request reaches link-local
// addresses, the metadata services of clouds, or anything that is no single host; loopback only where the operator allows it; that no
// redirect and no proxy of the environment leads elsewhere; that nothing is sent without TLS to another machine, unless the operator
// insists; and that servers, which may be anybody's, are not shown the certificate of this process.
//
// Private networks are not refused: that is where the tools of a self-hosted gateway are. Who may name targets can have requests sent
// there; a firewall says where that must end.
package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/verdict-io/verdict/services/internal/trust"
)

const (
	dialTimeout      = 10 * time.Second // TLS included
	idleTimeout      = 90 * time.Second
	maxResponseHead  = 64 << 10
	maxIdle          = 1000 // connections, of all hosts
	maxIdleOfOneHost = 16
)

// Config is what a Transport is made of.
type Config struct {
	// Trust says which servers to believe, and whether plain HTTP may leave this machine. nil: those of the system, and no.
	Trust *trust.Trust
	// Loopback allows addresses of this machine. What listens there may take whoever comes from there for its operator.
	Loopback bool
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
}

// ErrRefused is what errors of connections wrap that were not made because of where they would lead.
var ErrRefused = errors.New("requests of gateways must not go there")

// Transport is for all requests that a gateway makes on behalf of definitions. How long an answer may take is for the context of a
// request to say.
func Transport(cfg Config) *http.Transport {
	encrypted := cfg.dialer(func(netip.Addr) error { return nil })
	return &http.Transport{
		DialContext: cfg.dialPlain,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{NetDialer: encrypted, Config: cfg.tls()}).DialContext(ctx, network, addr)
		},
		ForceAttemptHTTP2:      true, // dialers of one's own turn it off
		MaxResponseHeaderBytes: maxResponseHead,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdleOfOneHost,
		IdleConnTimeout:        idleTimeout,
	}
}

// Client follows no redirect and has an answer, its body included, within timeout; 0 leaves that to the context of a request.
func Client(transport http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: trust.NoRedirect,
	}
}

// tls is for one connection, made now: files of roots may change.
func (cfg Config) tls() *tls.Config {
	c := cfg.Trust.Client()
	c.GetClientCertificate = nil // it is for services of this product
	c.NextProtos = []string{"h2", "http/1.1"}
	return c
}

// dialPlain connects without TLS.
func (cfg Config) dialPlain(ctx context.Context, network, addr string) (net.Conn, error) {
	// One name for all: Trust remembers what it is asked about, and gateways can name any number of hosts.
	if cfg.Trust.Plain("addresses that gateways name", "begin their URLs with https://") == nil {
		return cfg.dialer(func(netip.Addr) error { return nil }).DialContext(ctx, network, addr)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil || !trust.Loopback(host) {
		return nil, fmt.Errorf("%w: without TLS, to another machine: begin the URL with https:// (--insecure connects all the same)", ErrRefused)
	}
	// The name localhost is looked up like others.
	return cfg.dialer(func(ip netip.Addr) error {
		if !ip.IsLoopback() {
			return fmt.Errorf("%w: without TLS, to %s, which is not this machine", ErrRefused, ip)
		}
		return nil
	}).DialContext(ctx, network, addr)
}

// dialer refuses addresses, once names are looked up and so for each address that is tried.
func (cfg Config) dialer(further func(netip.Addr) error) *net.Dialer {
	return &net.Dialer{
		Timeout: dialTimeout, KeepAlive: 30 * time.Second, Resolver: cfg.Resolver,
		ControlContext: func(_ context.Context, network, addr string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(addr)
			if err != nil || network != "tcp4" && network != "tcp6" {
				return fmt.Errorf("%w: %s is no address of TCP", ErrRefused, network)
			}
			if err := cfg.check(at.Addr()); err != nil {
				return err
			}
			return further(at.Addr().Unmap())
		},
	}
}

// check refuses an address by what it reaches.
func (cfg Config) check(ip netip.Addr) error {
	ip = reached(ip)
	for _, r := range refused {
		if r.prefix.Contains(ip) {
			return fmt.Errorf("%w: %s is %s", ErrRefused, ip, r.what)
		}
	}
	if ip.IsLoopback() && !cfg.Loopback {
		return fmt.Errorf("%w: %s is this machine, and its operator has not allowed that", ErrRefused, ip)
	}
	return nil
}
