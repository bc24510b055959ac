package trust_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/internal/trust"
)

func open(t testing.TB, files trust.Files) *trust.Trust {
	t.Helper()
	tr, err := trust.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// serve answers each connection with the common name of the certificate that the client showed, "-" for none.
func serve(t testing.TB, tr *trust.Trust) (addr string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", tr.Server())
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { answer(conn.(*tls.Conn)) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

// answer says who is there for every byte it gets.
func answer(conn *tls.Conn) {
	defer conn.Close()
	buffer := make([]byte, 1)
	for {
		if _, err := io.ReadFull(conn, buffer); err != nil {
			return
		}
		name := "-"
		if chains := conn.ConnectionState().VerifiedChains; len(chains) > 0 {
			name = chains[0][0].Subject.CommonName
		}
		fmt.Fprintln(conn, name)
	}
}

// dial connects to addr as host.
func dial(t testing.TB, addr, host string, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	config.ServerName = host
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 20 * time.Second}, Config: config}
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*tls.Conn), nil
}

// ask is who the server says is there.
func ask(conn *tls.Conn) (string, error) {
	if _, err := conn.Write([]byte("?")); err != nil {
		return "", err
	}
	var name []byte
	for b := make([]byte, 1); ; name = append(name, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(name), nil
		}
	}
}

func shown(conn *tls.Conn) string {
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// Who believes whom, seen by the client: whom it is taken for, or what went wrong.
func TestHandshakes(t *testing.T) {
	t.Parallel()
	ca, other := testenv.NewCA(t), testenv.NewCA(t)
	pair := func(certFile, keyFile string) trust.Files { return trust.Files{Cert: certFile, Key: keyFile} }
	service := pair(ca.Issue(t, "service.example", "127.0.0.1"))
	expired := pair(ca.IssueUntil(t, time.Now().Add(-time.Minute), "service.example"))
	client := pair(ca.Issue(t, "node-1"))
	foreign := pair(other.Issue(t, "node-1"))
	late := pair(ca.IssueUntil(t, time.Now().Add(-time.Minute), "node-1"))
	with := func(f trust.Files, change func(*trust.Files)) trust.Files { change(&f); return f }
	believes := func(f *trust.Files) { f.CA = ca.File }
	asks := func(f *trust.Files) { f.ClientCA = ca.File }
	for _, tt := range []struct {
		name           string
		server, client trust.Files
		host           string // service.example if empty
		taken, fails   string
	}{
		{name: "nobody is asked", server: service, client: with(client, believes), taken: "-"},
		{name: "asked, and shows nothing", server: with(service, asks), client: trust.Files{CA: ca.File}, taken: "-"},
		{name: "asked, and known", server: with(service, asks), client: with(client, believes), taken: "node-1"},
		{name: "by IP address", server: with(service, asks), client: with(client, believes), host: "127.0.0.1", taken: "node-1"},
		{name: "of another CA: it is not shown", server: with(service, asks), client: with(foreign, believes), taken: "-"},
		{name: "expired client", server: with(service, asks), client: with(late, believes), fails: "certificate"},
		{name: "the server's CA is not believed", server: service, client: trust.Files{CA: other.File}, fails: "unknown authority"},
		{name: "the system does not believe it", server: service, client: trust.Files{}, fails: "unknown authority"},
		{name: "expired server", server: expired, client: trust.Files{CA: ca.File}, fails: "expired"},
		{name: "another name", server: service, client: trust.Files{CA: ca.File}, host: "other.example", fails: "not other.example"},
		{name: "another IP address", server: service, client: trust.Files{CA: ca.File}, host: "127.0.0.2", fails: "not 127.0.0.2"},
		{name: "insecure does not lift it", server: service, client: trust.Files{CA: other.File, Insecure: true}, fails: "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, open(t, tt.server))
			host := tt.host
			if host == "" {
				host = "service.example"
			}
			var taken string
			conn, err := dial(t, addr, host, open(t, tt.client).Client())
			if err == nil {
				taken, err = ask(conn) // in TLS 1.3 a client learns here that the server does not want it
			}
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("%q, %v, want a failure that says %q", taken, err, tt.fails)
				}
				return
			}
			if err != nil || taken != tt.taken {
				t.Errorf("%q, %v, want %q", taken, err, tt.taken)
			}
		})
	}
}

// A certificate that the server would not believe is refused also when the client shows it all the same.
func TestForeignCertificateIsRefused(t *testing.T) {
	t.Parallel()
	ca, other := testenv.NewCA(t), testenv.NewCA(t)
	cert, key := ca.Issue(t, "localhost")
	addr := serve(t, open(t, trust.Files{Cert: cert, Key: key, ClientCA: ca.File}))
	foreignCert, foreignKey := other.Issue(t, "node-1")
	foreign := testenv.Pair(t, foreignCert, foreignKey)
	conn, err := dial(t, addr, "localhost", &tls.Config{
		RootCAs: ca.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil },
	})
	if err == nil {
		_, err = ask(conn)
	}
	if err == nil {
		t.Error("taken for node-1 of another CA")
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "localhost")
	addr := serve(t, open(t, trust.Files{Cert: cert, Key: key}))
	if _, err := dial(t, addr, "localhost", &tls.Config{RootCAs: ca.Pool(), MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	old, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{testenv.Pair(t, cert, key)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	go func() {
		if conn, err := old.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	if _, err := dial(t, old.Addr().String(), "localhost", open(t, trust.Files{CA: ca.File}).Client()); err == nil {
		t.Error("TLS 1.1 is spoken to a server")
	}
}

// replace puts the content of a file in the place of another.
func replace(t testing.TB, name, with string) {
	t.Helper()
	data, err := os.ReadFile(with)
	if err == nil {
		err = os.WriteFile(name, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// While clients come and go, certificate and roots change: connections that are open live on, none fails, and those that begin after
// Reload see what is new.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "one", "localhost")
	server := open(t, trust.Files{Cert: cert, Key: key, ClientCA: ca.File})
	addr := serve(t, server)
	config := func() *tls.Config { return &tls.Config{RootCAs: ca.Pool()} }
	before, err := dial(t, addr, "localhost", config())
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := dial(t, addr, "localhost", config())
				if err == nil {
					_, err = ask(conn)
					_ = conn.Close()
				}
				if err != nil {
					t.Errorf("a connection failed during a reload: %v", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		name := fmt.Sprintf("number-%d", i)
		newCert, newKey := ca.Issue(t, name, "localhost")
		replace(t, cert, newCert)
		replace(t, key, newKey)
		changed, err := server.Reload()
		if err != nil || !slices.Equal(changed, []string{"certificate"}) {
			t.Fatalf("%v, %v", changed, err)
		}
		conn, err := dial(t, addr, "localhost", config())
		if err != nil || shown(conn) != name {
			t.Fatalf("after the reload: %v, want the certificate of %s", err, name)
		}
	}
	close(stop)
	load.Wait()
	if _, err := ask(before); err != nil || shown(before) != "one" {
		t.Errorf("the connection from before: %v", err)
	}
}

// A client that was known is nobody once its CA is gone, also when it would go on where its last connection was.
func TestClientCAIsReplaced(t *testing.T) {
	t.Parallel()
	ca, other := testenv.NewCA(t), testenv.NewCA(t)
	cert, key := ca.Issue(t, "localhost")
	server := open(t, trust.Files{Cert: cert, Key: key, ClientCA: ca.File})
	addr := serve(t, server)
	clientCert, clientKey := ca.Issue(t, "node-1")
	client := testenv.Pair(t, clientCert, clientKey)
	config := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{client}, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	who := func() (string, error) {
		conn, err := dial(t, addr, "localhost", config)
		if err != nil {
			return "", err
		}
		if conn.ConnectionState().DidResume {
			t.Error("a session goes on where another ended")
		}
		return ask(conn)
	}
	for range 2 {
		if name, err := who(); err != nil || name != "node-1" {
			t.Fatal(name, err)
		}
	}
	cut := ca.Pool()
	replace(t, ca.File, other.File)
	if changed, err := server.Reload(); err != nil || !slices.Equal(changed, []string{"client CA"}) {
		t.Fatal(changed, err)
	}
	config.RootCAs = cut
	if name, err := who(); err == nil && name != "-" {
		t.Errorf("still known as %s", name)
	}
}

// Roots and the certificate to show are those of the moment in which a connection begins.
func TestClientFollowsReload(t *testing.T) {
	t.Parallel()
	ca, other := testenv.NewCA(t), testenv.NewCA(t)
	cert, key := ca.Issue(t, "localhost")
	serverRoots := append(read(t, ca.File), read(t, other.File)...)
	clientCA := ca.File + ".both"
	write(t, clientCA, serverRoots)
	addr := serve(t, open(t, trust.Files{Cert: cert, Key: key, ClientCA: clientCA}))
	mine, myKey := ca.Issue(t, "old")
	roots := other.File + ".mine"
	write(t, roots, read(t, other.File))
	client := open(t, trust.Files{Cert: mine, Key: myKey, CA: roots})
	if _, err := dial(t, addr, "localhost", client.Client()); !unknownAuthority(err) {
		t.Fatal(err)
	}
	write(t, roots, append([]byte("# ours\n"), serverRoots...))
	newCert, newKey := other.Issue(t, "new")
	replace(t, mine, newCert)
	replace(t, myKey, newKey)
	if changed, err := client.Reload(); err != nil || !slices.Equal(changed, []string{"certificate", "CA"}) {
		t.Fatal(changed, err)
	}
	conn, err := dial(t, addr, "localhost", client.Client())
	if err != nil {
		t.Fatal(err)
	}
	if name, err := ask(conn); err != nil || name != "new" {
		t.Errorf("shown as %q, %v", name, err)
	}
	if changed, err := client.Reload(); err != nil || changed != nil {
		t.Errorf("the same again: %v, %v", changed, err)
	}
}

func unknownAuthority(err error) bool {
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// bad are files that are not what they should be, by what is wrong with them.
func bad(t *testing.T, ca *testenv.CA) map[string]struct {
	files trust.Files
	says  []string
} {
	t.Helper()
	cert, key := ca.Issue(t, "localhost")
	_, otherKey := ca.Issue(t, "localhost")
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		write(t, dir+"/"+name, data)
		return dir + "/" + name
	}
	empty := file("empty", nil)
	half := read(t, ca.File)
	return map[string]struct {
		files trust.Files
		says  []string
	}{
		"half":              {trust.Files{Cert: cert}, []string{"--tls-cert and --tls-key belong together"}},
		"other half":        {trust.Files{Key: key}, []string{"--tls-cert and --tls-key belong together"}},
		"CA of clients":     {trust.Files{ClientCA: ca.File}, []string{"--tls-client-ca needs --tls-cert"}},
		"no certificate":    {trust.Files{Cert: dir + "/none.pem", Key: key}, []string{"certificate", "none.pem", "no such file"}},
		"no key":            {trust.Files{Cert: cert, Key: dir + "/none.key"}, []string{"certificate", "none.key", "no such file"}},
		"key of another":    {trust.Files{Cert: cert, Key: otherKey}, []string{cert, otherKey, "does not match"}},
		"mixed up":          {trust.Files{Cert: key, Key: cert}, []string{key, "private key"}},
		"empty":             {trust.Files{Cert: empty, Key: key}, []string{empty, "PEM"}},
		"passphrase":        {trust.Files{Cert: cert, Key: file("locked", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))}, []string{"locked", "passphrase"}},
		"no CA":             {trust.Files{CA: dir + "/ca.pem"}, []string{"CA", "ca.pem", "no such file"}},
		"empty CA":          {trust.Files{CA: empty}, []string{"CA", empty, "no certificate"}},
		"key as CA":         {trust.Files{Cert: cert, Key: key, ClientCA: key}, []string{"client CA", key, "block 1 is a PRIVATE KEY"}},
		"CA with a key":     {trust.Files{CA: file("both", append(read(t, ca.File), read(t, key)...))}, []string{"block 2 is a PRIVATE KEY"}},
		"CA that is no CA":  {trust.Files{CA: file("junk", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))}, []string{"junk", "block 1"}},
		"CA that is cut":    {trust.Files{CA: file("cut", half[:len(half)-40])}, []string{"cut", "no certificate"}},
		"second CA cut off": {trust.Files{CA: file("cut2", slices.Concat(half, half[:len(half)-40]))}, []string{"cut2", "behind block 1"}},
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for name, tt := range bad(t, testenv.NewCA(t)) {
		_, err := trust.Open(tt.files)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if missing := testenv.Contains(err.Error(), tt.says...); missing != nil {
			t.Errorf("%s: %v", name, missing)
		}
	}
}

// What turns bad later changes nothing, and holds up nothing else.
func TestReloadKeepsWhatIsGood(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	for name, tt := range bad(t, ca) {
		if (tt.files.Cert == "" || tt.files.Key == "" || tt.files.ClientCA != "") && tt.files.CA == "" {
			continue // a matter of settings, or of a file that it does not have here
		}
		cert, key := ca.Issue(t, "good", "localhost")
		roots := t.TempDir() + "/roots.pem"
		write(t, roots, read(t, ca.File))
		server := open(t, trust.Files{Cert: cert, Key: key, CA: roots})
		addr := serve(t, server)
		for from, to := range map[string]string{tt.files.Cert: cert, tt.files.Key: key, tt.files.CA: roots} {
			if from != "" {
				if data, err := os.ReadFile(from); err == nil {
					write(t, to, data)
				} else if err := os.Remove(to); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := server.Reload(); err == nil || !strings.Contains(err.Error(), "stays in force") {
			t.Errorf("%s: %v", name, err)
		}
		conn, err := dial(t, addr, "localhost", server.Client())
		if err != nil || shown(conn) != "good" {
			t.Errorf("%s: what was good is gone: %v", name, err)
		}
	}
}

func TestOneBadFileDoesNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	ca, other := testenv.NewCA(t), testenv.NewCA(t)
	cert, key := ca.Issue(t, "old")
	roots := t.TempDir() + "/roots.pem"
	write(t, roots, read(t, ca.File))
	server := open(t, trust.Files{Cert: cert, Key: key, CA: roots})
	write(t, cert, []byte("oh"))
	write(t, roots, read(t, other.File))
	changed, err := server.Reload()
	if !slices.Equal(changed, []string{"CA"}) || err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("%v, %v", changed, err)
	}
}

// An expired certificate is served with a warning when there is no other, and never replaces one that is good.
func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	end := time.Now().Add(-time.Minute).Truncate(time.Second)
	cert, key := ca.IssueUntil(t, end, "late")
	server := open(t, trust.Files{Cert: cert, Key: key})
	if err := server.Valid(); err == nil || !strings.Contains(err.Error(), "expired") || !strings.Contains(err.Error(), cert) {
		t.Error(err)
	}
	if !server.NotAfter().Equal(end) {
		t.Error(server.NotAfter())
	}
	for _, tt := range []struct {
		end time.Time
		ok  bool
	}{
		{time.Now().Add(time.Hour), true},
		{time.Now().Add(-time.Hour), false},
		{time.Now().Add(96 * time.Hour), false}, // it begins the day after tomorrow
	} {
		newCert, newKey := ca.IssueUntil(t, tt.end, "next")
		replace(t, cert, newCert)
		replace(t, key, newKey)
		if _, err := server.Reload(); (err == nil) != tt.ok {
			t.Errorf("valid until %s: %v", tt.end, err)
		}
		if err := server.Valid(); err != nil {
			t.Errorf("valid until %s: the good one is gone: %v", tt.end, err)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for host, ok := range map[string]bool{
		"127.0.0.1": true, "127.8.9.10": true, "::1": true, "::ffff:127.0.0.1": true, "localhost": true, "LOCALHOST": true, "": true, "/run/postgresql": true,
		"10.0.0.1": false, "db": false, "db.example": false, "localhost.example": false, "0.0.0.0": false, "127.0.0.1.example": false, "fe80::1": false,
	} {
		for name, tr := range map[string]*trust.Trust{"nil": nil, "no files": open(t, trust.Files{})} {
			err := tr.Plain(host, "do this")
			if (err == nil) != ok {
				t.Errorf("%s, %q: %v", name, host, err)
			}
			if err != nil && testenv.Contains(err.Error(), host, "Instead, do this", "--insecure") != nil {
				t.Errorf("%s, %q: %v", name, host, err)
			}
		}
	}
	insecure := open(t, trust.Files{Insecure: true})
	for _, host := range []string{"db", "127.0.0.1", "nats.example", "db"} {
		if err := insecure.Plain(host, "do this"); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
	if got := insecure.Allowed(); !slices.Equal(got, []string{"db", "nats.example"}) {
		t.Errorf("allowed: %v", got)
	}
}

func TestWithoutFiles(t *testing.T) {
	t.Parallel()
	for name, tr := range map[string]*trust.Trust{"nil": nil, "no files": open(t, trust.Files{})} {
		if tr.Server() != nil {
			t.Errorf("%s: a server without a certificate", name)
		}
		if c := tr.Client(); c.RootCAs != nil || c.GetClientCertificate != nil || c.InsecureSkipVerify {
			t.Errorf("%s: %+v", name, c)
		}
	}
	none := open(t, trust.Files{})
	if changed, err := none.Reload(); none.Files() || changed != nil || err != nil || none.Valid() != nil || !none.NotAfter().IsZero() {
		t.Errorf("%v, %v", changed, err)
	}
}
