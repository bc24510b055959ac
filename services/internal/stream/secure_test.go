package stream_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// natsTLS is a NATS under these names that speaks TLS with clients of the CA alone.
func natsTLS(t *testing.T, ca *testenv.CA, names ...string) *testenv.NATS {
	t.Helper()
	cert, key := ca.Issue(t, names...)
	return testenv.NewNATSWith(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{testenv.Pair(t, cert, key)},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
		}
		o.TLS, o.TLSVerify = true, true
	})
}

func open(t *testing.T, files trust.Files) *trust.Trust {
	t.Helper()
	tr, err := trust.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func secureURL(n *testenv.NATS) string {
	_, address, _ := strings.Cut(n.URL(), "://")
	return "tls://" + address
}

// connectedTLS is nil when the connection stands.
func connectedTLS(conn *nats.Conn) error {
	if !conn.IsConnected() {
		return errors.Join(errors.New("not connected"), conn.LastError())
	}
	return nil
}

// A NATS that wants certificates gets the service's, also when it comes back, and then with the roots of then.
func TestConnectInTLS(t *testing.T) {
	t.Parallel()
	ca, other := testenv.NewCA(t), testenv.NewCA(t)
	n := natsTLS(t, ca, "127.0.0.1")
	cert, key := ca.Issue(t, "control-1")
	roots := t.TempDir() + "/roots.pem"
	copyFile(t, roots, ca.File)
	tr := open(t, trust.Files{Cert: cert, Key: key, CA: roots})
	conn, err := stream.Connect(stream.Connection{URL: secureURL(n), Name: "verdict-control", Trust: tr})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	testenv.Eventually(t, "the connection", func() error { return connectedTLS(conn) })
	state, err := conn.TLSConnectionState()
	if err != nil || len(state.VerifiedChains) == 0 {
		t.Errorf("not verified: %v", err)
	}
	clients, err := n.Server.Connz(&server.ConnzOptions{})
	if err != nil || len(clients.Conns) != 1 || clients.Conns[0].Name != "verdict-control" || clients.Conns[0].TLSVersion == "" {
		t.Errorf("%+v, %v", clients, err)
	}
	copyFile(t, roots, other.File)
	if _, err := tr.Reload(); err != nil {
		t.Fatal(err)
	}
	n.Stop()
	n.Start(t)
	testenv.Eventually(t, "a refusal", func() error {
		if !errors.As(conn.LastError(), new(x509.UnknownAuthorityError)) {
			return errors.Join(errors.New("not refused yet"), conn.LastError())
		}
		return nil
	})
	copyFile(t, roots, ca.File)
	if _, err := tr.Reload(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the connection", func() error { return connectedTLS(conn) })
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

// Whoever is not who the URL says, or does not believe the service, is not connected to; nor is one who has no TLS.
func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	ca, other := testenv.NewCA(t), testenv.NewCA(t)
	good, plain := natsTLS(t, ca, "127.0.0.1"), testenv.NewNATS(t)
	elsewhere := natsTLS(t, ca, "nats.example")
	pair := func(certFile, keyFile string) trust.Files {
		return trust.Files{Cert: certFile, Key: keyFile, CA: ca.File}
	}
	known := pair(ca.Issue(t, "control-1"))
	believesOther := known
	believesOther.CA = other.File
	for name, tt := range map[string]struct {
		server *testenv.NATS
		files  trust.Files
		says   string
	}{
		"another CA":        {good, believesOther, "unknown authority"},
		"another name":      {elsewhere, known, "127.0.0.1"},
		"no certificate":    {good, trust.Files{CA: ca.File}, "tls"},
		"foreign":           {good, pair(other.Issue(t, "control-1")), "tls"},
		"a server in clear": {plain, known, "secure connection"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := stream.Dial(stream.Connection{URL: secureURL(tt.server), Name: "x", Trust: open(t, tt.files)})
			if err == nil {
				conn.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

// Off this machine a URL must ask for TLS; with one server that does, all are spoken to so.
func TestPlainNATSIsRefused(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct{ ok, encrypted bool }{
		"nats://127.0.0.1:4222": {ok: true},
		"127.0.0.1:4222":        {ok: true},
		"localhost":             {ok: true},
		"nats://127.0.0.1:4222, nats://[::1]:4222":     {ok: true},
		"tls://nats.example:4222":                      {ok: true, encrypted: true},
		"tls://a.example:4222,nats://b.example:4222":   {ok: true, encrypted: true},
		"nats://user:secret@127.0.0.1:4222":            {ok: true},
		"nats://nats.example:4222":                     {},
		"nats.example:4222":                            {},
		"nats://127.0.0.1:4222,nats://10.0.0.1:4222":   {},
		"nats://127.0.0.1:4222, nats.example":          {},
		"ws://nats.example:80":                         {},
		"nats://127.0.0.1@nats.example:4222":           {},
		"nats://nats.example:4222?x=tls://127.0.0.1":   {},
		"NATS://nats.example:4222":                     {},
		"tls://%":                                      {},
		"nats://secret:word@nats.example:4222/\x7f...": {},
	} {
		options, err := stream.Connection{URL: url}.Secure()
		if (err == nil) != want.ok {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if err != nil {
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", url, err)
			}
			continue
		}
		var got nats.Options
		for _, set := range options {
			if err := set(&got); err != nil {
				t.Error(err)
			}
		}
		if got.Secure != want.encrypted {
			t.Errorf("%s: encrypted %t", url, got.Secure)
		}
	}
}
