package store_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// front is TLS before the tests' ClickHouse, which is a library that cannot speak it, and the names that clients showed.
type front struct {
	url string // of the database, with secure=true

	mu    sync.Mutex
	shown []string
}

func newFront(t *testing.T, ca *testenv.CA, plainURL string) *front {
	t.Helper()
	u, err := url.Parse(plainURL)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := ca.Issue(t, "127.0.0.1", "clickhouse.example")
	f := &front{}
	proxy := testenv.NewTLSProxy(t, u.Host, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{testenv.Pair(t, cert, key)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
		VerifyConnection: func(c tls.ConnectionState) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.shown = append(f.shown, c.PeerCertificates[0].Subject.CommonName)
			return nil
		},
	})
	u.Host, u.RawQuery = proxy.Addr(), "secure=true"
	f.url = u.String()
	return f
}

// connections is how many there were.
func (f *front) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.shown)
}

func (f *front) showed(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.shown {
		if s != name {
			return false
		}
	}
	return len(f.shown) > 0
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever talks to ClickHouse does so in TLS: migrations, the store's own connections, and that of each account's query, which
// counts what it receives. New connections believe what Reload has read.
func TestTLS(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, migrate)
	ca := testenv.NewCA(t)
	f := newFront(t, ca, ch.URL)
	cert, key := ca.Issue(t, "audit-1")
	roots := t.TempDir() + "/roots.pem"
	copyFile(t, roots, ca.File)
	tr, err := trust.Open(trust.Files{Cert: cert, Key: key, CA: roots})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Migrate(t.Context(), f.url, tr); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Config{URL: f.url, Trust: tr, Accounts: []string{accountA}, Secret: secretOf(t, ch)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	query := func() error {
		return s.Query(t.Context(), accountA, "SELECT 1", func([]store.Column) error { return nil }, func([]any) error { return nil })
	}
	before := f.connections()
	if err := query(); err != nil {
		t.Fatal(err)
	}
	if f.connections() == before {
		t.Error("the query did not go through TLS")
	}
	if !f.showed("audit-1") {
		t.Errorf("shown as %v", f.shown)
	}
	copyFile(t, roots, testenv.NewCA(t).File)
	if _, err := tr.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := query(); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("a server of another CA is believed: %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("an open connection ended: %v", err)
	}
}

func TestTLSNames(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, migrate)
	ca := testenv.NewCA(t)
	f := newFront(t, ca, ch.URL)
	cert, key := ca.Issue(t, "audit-1")
	tr, err := trust.Open(trust.Files{Cert: cert, Key: key, CA: ca.File})
	if err != nil {
		t.Fatal(err)
	}
	for parameters, says := range map[string]string{
		"secure=true": "",
		"secure=true&tls_server_name=clickhouse.example": "",
		"secure=true&tls_server_name=other.example":      "not other.example",
		"secure=true&skip_verify=true":                   "", // within this machine
	} {
		s, err := store.Open(store.Config{URL: strings.Replace(f.url, "secure=true", parameters, 1), Trust: tr})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Ping(t.Context())
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", parameters, err)
		}
		_ = s.Close()
	}
	none, err := trust.Open(trust.Files{CA: ca.File})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Config{URL: f.url, Trust: none})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ping(t.Context()); err == nil {
		t.Error("let in without a certificate")
	}
}

// Off this machine only TLS that verifies will do.
func TestPlainClickHouseIsRefused(t *testing.T) {
	t.Parallel()
	insecure, err := trust.Open(trust.Files{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	for text, ok := range map[string]bool{
		"clickhouse://127.0.0.1:9000/v":                               true,
		"clickhouse://localhost:9000/v":                               true,
		"clickhouse://[::1]:9000/v":                                   true,
		"clickhouse://ch.example:9440/v?secure=true":                  true,
		"clickhouse://ch.example:9000/v":                              false,
		"clickhouse://10.0.0.1:9000/v":                                false,
		"clickhouse://ch.example:9440/v?secure=false":                 false,
		"clickhouse://ch.example:9440/v?secure=true&skip_verify=true": false,
	} {
		s, err := store.Open(store.Config{URL: text})
		if (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil {
			_ = s.Close()
		} else if testenv.Contains(err.Error(), "clickhouse url", "refusing", "secure=true", "--insecure") != nil {
			t.Errorf("%s: %v", text, err)
		}
		s, err = store.Open(store.Config{URL: text, Trust: insecure})
		if err != nil {
			t.Errorf("%s: with --insecure: %v", text, err)
			continue
		}
		_ = s.Close()
	}
	if got := insecure.Allowed(); len(got) != 2 {
		t.Errorf("allowed: %v", got)
	}
	if _, err := store.Migrate(t.Context(), "clickhouse://ch.example:9000/v", nil); err == nil || !strings.Contains(err.Error(), "refusing") {
		t.Error(err)
	}
}
