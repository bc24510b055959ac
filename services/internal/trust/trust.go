// Package trust turns PEM files into TLS for both sides of a connection: what a service shows of itself, whose certificates
// it believes, and to whom it may speak without encryption.
//
// It guarantees that new connections follow the files as they were when Reload last found them good, that a file which is
// not good changes nothing, and that a plain connection leaves this machine only when an operator said so.
package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Files are the settings; "" stands for none.
type Files struct {
	// Cert and Key are the certificate, with what leads to its root, and its key. Cert without Key is an error.
	Cert, Key string
	// ClientCA holds the roots of the certificates that clients may present. Without it nobody is asked for one.
	ClientCA string
	// CA holds the roots of the servers that this program connects to; without it they are the system's.
	CA string
	// Insecure lets Plain allow everything.
	Insecure bool
}

// Trust is what the files say. Its methods may be called from any number of goroutines. Those of a nil Trust have no
// certificate, the system's roots, and allow no plain connection that leaves the machine.
type Trust struct {
	certificate *held[tls.Certificate]
	clientCAs   *held[x509.CertPool]
	roots       *held[x509.CertPool]
	insecure    bool

	mu    sync.Mutex      // guards plain, and Reload against itself
	plain map[string]bool // hosts that Plain allowed because of Insecure
}

// Open reads the files. A certificate that has expired is no error, since to refuse it would turn a lapse into an outage:
// Valid tells.
func Open(files Files) (*Trust, error) {
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("--tls-cert and --tls-key belong together: a certificate and the key that fits it")
	}
	if files.ClientCA != "" && files.Cert == "" {
		return nil, errors.New("--tls-client-ca needs --tls-cert and --tls-key: clients show certificates in TLS alone")
	}
	t := &Trust{insecure: files.Insecure, plain: map[string]bool{}}
	if files.Cert != "" {
		t.certificate = &held[tls.Certificate]{what: "certificate", names: []string{files.Cert, files.Key}, parse: parsePair, fresh: valid}
	}
	if files.ClientCA != "" {
		t.clientCAs = newPool("client CA", files.ClientCA)
	}
	if files.CA != "" {
		t.roots = newPool("CA", files.CA)
	}
	for _, h := range t.all() {
		if err := h.open(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func newPool(what, name string) *held[x509.CertPool] {
	return &held[x509.CertPool]{what: what, names: []string{name}, parse: parsePool}
}

// reader is a held of any type.
type reader interface {
	open() error
	reload() (changed bool, err error)
	name() string
}

func (t *Trust) all() []reader {
	var all []reader
	if t.certificate != nil {
		all = append(all, t.certificate)
	}
	for _, h := range []*held[x509.CertPool]{t.clientCAs, t.roots} {
		if h != nil {
			all = append(all, h)
		}
	}
	return all
}

// Files says whether there are any, so that Reload has something to do.
func (t *Trust) Files() bool { return len(t.all()) > 0 }

// Reload reads the files again and names what is different. Of what cannot be read, or is a certificate out of its time, the
// last good stays in force, each by itself, and the error says so.
func (t *Trust) Reload() (changed []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.all() {
		different, failed := h.reload()
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%w (the one from before stays in force)", failed))
		} else if different {
			changed = append(changed, h.name())
		}
	}
	return changed, err
}

// Server is for a listener, and follows Reload by itself; nil when there is no certificate. A connection keeps what it was
// made with.
func (t *Trust) Server() *tls.Config {
	if t == nil || t.certificate == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.forClient(), nil },
	}
}

var protocols = []string{"h2", "http/1.1"}

// forClient is for one connection. There are no session tickets: who resumed a session would keep the identity that a
// certificate gave it under roots that are gone since.
func (t *Trust) forClient() *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             protocols,
		Certificates:           []tls.Certificate{*t.certificate.now()},
		SessionTicketsDisabled: true,
	}
	if t.clientCAs != nil {
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, t.clientCAs.now()
	}
	return c
}

// Client is for one connection to a server, made now: ask again for the next, since the roots are those of this moment. The
// certificate is shown to servers that ask for one of its kind.
func (t *Trust) Client() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12} // databases and proxies of others may be old
	if t == nil {
		return c
	}
	if t.roots != nil {
		c.RootCAs = t.roots.now()
	}
	if t.certificate != nil {
		c.GetClientCertificate = t.present
	}
	return c
}

// present shows nothing to a server that would not believe it: that server may let in whoever shows nothing.
func (t *Trust) present(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	own := t.certificate.now()
	if asked.SupportsCertificate(own) != nil {
		return &tls.Certificate{}, nil //nolint:nilerr // to show nothing is the answer
	}
	return own, nil
}

// Plain is asked before a connection to host that is not encrypted, or whose other end is not verified. Within this machine
// (loopback, a socket file, no host at all) it is nil. cure is what the operator should change; it completes "Instead, …".
func (t *Trust) Plain(host, cure string) error {
	if host == "" || strings.HasPrefix(host, "/") || Loopback(host) {
		return nil
	}
	if t == nil || !t.insecure {
		return fmt.Errorf("refusing to connect to %q, which is not this machine, without TLS that verifies it: who is on the way "+
			"could read and change everything. Instead, %s (--tls-ca names the roots to believe); --insecure connects all the same", host, cure)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plain[host] = true
	return nil
}

// Allowed are the hosts that Plain allowed only because an operator insists.
func (t *Trust) Allowed() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.plain))
}

// NotAfter is when the certificate ends; zero when there is none.
func (t *Trust) NotAfter() time.Time {
	if t.certificate == nil {
		return time.Time{}
	}
	return t.certificate.now().Leaf.NotAfter
}

// Valid is nil while the certificate is within its time, or when there is none.
func (t *Trust) Valid() error {
	if t.certificate == nil {
		return nil
	}
	if err := valid(t.certificate.now()); err != nil {
		return fmt.Errorf("%s: %w", t.certificate.names[0], err)
	}
	return nil
}

// Loopback says whether a host can only mean this machine: localhost, or a loopback address. Other names are not looked up,
// since they may mean something else the next time.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
