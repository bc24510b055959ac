package stream

import (
	"crypto/x509"
	"errors"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
)

// secure is how a connection is kept safe. TLS is for all servers when one of them is to have it, and for those that
// the servers name later. Off this machine it is not left to the server whether a connection is encrypted: who is on the way could
// answer in its place.
func (c Connection) secure() ([]nats.Option, error) {
	hosts, encrypted, err := servers(c.URL)
	if err != nil {
		return nil, err
	}
	if !encrypted {
		for _, host := range hosts {
			if err := c.Trust.Plain(host, "begin the URL with tls://"); err != nil {
				return nil, err
			}
		}
	}
	roots := func() (*x509.CertPool, error) { //nolint:unparam // the type is the driver's
		return c.Trust.Client().RootCAs, nil // those of now, at each connection
	}
	config := c.Trust.Client()
	config.RootCAs = nil
	return []nats.Option{func(o *nats.Options) error {
		o.TLSConfig, o.RootCAsCB, o.Secure = config, roots, encrypted
		o.IgnoreDiscoveredServers = !encrypted // those of a cluster, which may be on other machines
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
