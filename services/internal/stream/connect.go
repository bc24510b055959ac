package stream

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/verdict-io/verdict/services/internal/trust"
)

// Connection says where NATS is, and who connects.
type Connection struct {
	URL  string // several behind commas
	Name string // that operators see there
	// Trust is for TLS, which begins with a URL tls://…; without one, the system's roots are believed.
	Trust *trust.Trust
}

// Connect is a service's connection to NATS. NATS may be away, now and later: the connection comes into being when it is there,
// and comes back for as long as it is open. Nothing is kept meanwhile to be sent later than its time: whoever publishes learns that
// it failed, and looks again. With a server that is not this machine it speaks TLS, or an operator insists.
func Connect(c Connection) (*nats.Conn, error) {
	options, err := c.Options()
	if err != nil {
		return nil, err
	}
	conn, err := nats.Connect(c.URL, append(options, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond), nats.ReconnectJitter(100*time.Millisecond, time.Second), nats.ReconnectBufSize(-1))...)
	if err != nil {
		return nil, fmt.Errorf("nats url: %w", err)
	}
	return conn, nil
}

// Options are who connects, and how that is kept safe. TLS is for all servers when one of them is to have it, and for those that
// the servers name later. Off this machine it is not left to the server whether a connection is encrypted: who is on the way could
// answer in its place.
func (c Connection) Options() ([]nats.Option, error) {
	hosts, encrypted, err := servers(c.URL)
	if err != nil {
		return nil, fmt.Errorf("nats url: %w", err)
	}
	if !encrypted {
		for _, host := range hosts {
			if err := c.Trust.Plain(host, "begin the URL with tls://"); err != nil {
				return nil, fmt.Errorf("nats url: %w", err)
			}
		}
	}
	roots := func() (*x509.CertPool, error) { return c.Trust.Client().RootCAs, nil } // those of now, at each connection
	config := c.Trust.Client()
	config.RootCAs = nil
	return []nats.Option{nats.Name(c.Name), func(o *nats.Options) error {
		o.TLSConfig, o.RootCAsCB, o.Secure = config, roots, encrypted
		return nil
	}}, nil
}

// servers are the hosts of a URL of NATS, and whether one of them is to be spoken to in TLS.
func servers(urls string) (hosts []string, encrypted bool, err error) {
	for text := range strings.SplitSeq(urls, ",") {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil {
			return nil, false, errors.New("it must look like nats://127.0.0.1:7422 or tls://nats.example.com:4222")
		}
		hosts = append(hosts, u.Hostname())
		encrypted = encrypted || u.Scheme == "tls" || u.Scheme == "wss"
	}
	return hosts, encrypted, nil
}
