// Package egress turns the addresses that the definitions of gateways name, of issuers and targets, into requests that may leave the
// process.
//
// It guarantees, by the address that is connected to and not by the name that stood for it, that no request reaches link-local
// addresses, the metadata services of clouds, or anything that is no single host; loopback only where the operator allows it; that no
// redirect and no proxy of the environment leads elsewhere; and that nothing is sent without TLS to another machine, unless the
// operator insists.
package egress

import (
	"net/http"
	"time"

	"github.com/verdict-io/verdict/services/internal/trust"
)

// Config is what a Transport is made of.
type Config struct {
	// Trust says which servers to believe, and whether plain HTTP may leave this machine. nil: the system's roots, and no.
	Trust *trust.Trust
	// Loopback allows addresses of this machine. What listens there may take whoever comes from there for its operator.
	Loopback bool
}

// Transport is the one for all requests that a gateway makes on behalf of definitions.
func Transport(cfg Config) *http.Transport { return cfg.Trust.Transport() }

// Client follows no redirect and has an answer, its body included, within timeout; 0 leaves that to the context of a request.
func Client(transport http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
