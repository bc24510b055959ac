package process

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// lines is a log that tests read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newTLS is a process with these settings that listens, and its log.
func newTLS(t *testing.T, common Common) (*Process, *lines) {
	t.Helper()
	if common.Addr == "" {
		common.Addr = "127.0.0.1:0"
	}
	p, err := New("test", common)
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	p.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
	if err := p.Listen(); err != nil {
		t.Fatal(err)
	}
	return p, log
}

// httpsClients speak both versions of HTTP in TLS.
func httpsClients(t *testing.T, config *tls.Config) map[string]*http.Client {
	t.Helper()
	all := map[string]*http.Client{}
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetHTTP2(true) },
	} {
		protocols := new(http.Protocols)
		set(protocols)
		all[name] = &http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: config.Clone()}}
		t.Cleanup(all[name].CloseIdleConnections)
	}
	return all
}

func TestServesInTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "localhost", "127.0.0.1")
	p, _ := newTLS(t, Common{TLS: trust.Files{Cert: cert, Key: key, ClientCA: ca.File}})
	p.Handle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.VerifiedChains) > 0 {
			who = r.TLS.VerifiedChains[0][0].Subject.CommonName
		}
		_, _ = io.WriteString(w, who)
	}))
	end := launch(t, p)
	nodeCert, nodeKey := ca.Issue(t, "node-1")
	node := testenv.Pair(t, nodeCert, nodeKey)
	for who, config := range map[string]*tls.Config{
		"nobody": {RootCAs: ca.Pool()},
		"node-1": {RootCAs: ca.Pool(), Certificates: []tls.Certificate{node}},
	} {
		for proto, client := range httpsClients(t, config) {
			if status, text := get(t, client, "https://"+p.Addr()+"/"); status != http.StatusOK || text != proto+" "+who {
				t.Errorf("%s %s: %d %s", proto, who, status, text)
			}
		}
	}
	for proto, client := range clients(t) { // in the clear
		resp, err := client.Get("http://" + p.Addr() + "/")
		if err != nil {
			continue
		}
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s in the clear: %s", proto, resp.Status)
		}
		_ = resp.Body.Close()
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// A handshake that fails is counted, and does not fill the log.
func TestHandshakesThatFailAreCounted(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "127.0.0.1")
	p, log := newTLS(t, Common{TLS: trust.Files{Cert: cert, Key: key}})
	launch(t, p)
	stranger := httpsClients(t, &tls.Config{RootCAs: testenv.NewCA(t).Pool()})["HTTP/1.1"]
	if resp, err := stranger.Get("https://" + p.Addr() + "/"); err == nil {
		_ = resp.Body.Close()
		t.Fatal("believed without its CA")
	}
	client := httpsClients(t, &tls.Config{RootCAs: ca.Pool()})["HTTP/1.1"]
	testenv.Eventually(t, "the count", func() error {
		_, text := get(t, client, "https://"+p.Addr()+"/metrics")
		return testenv.Contains(text, "verdict_tls_handshake_failures_total 1\n")
	})
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "handshake") && !strings.Contains(line, "level=DEBUG") {
			t.Error(line)
		}
	}
}

// SIGHUP has a new certificate shown to new connections; a file that is not good leaves the old one, and /readyz says so.
func TestSIGHUP(t *testing.T) { //nolint:paralleltest // the signal is for every process of this program
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "one", "127.0.0.1")
	p, log := newTLS(t, Common{TLS: trust.Files{Cert: cert, Key: key}})
	launch(t, p)
	shown := func() string {
		conn, err := tls.Dial("tcp", p.Addr(), &tls.Config{RootCAs: ca.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	ready := func() string {
		_, text := get(t, httpsClients(t, &tls.Config{RootCAs: ca.Pool()})["HTTP/1.1"], "https://"+p.Addr()+"/readyz")
		return text
	}
	hangup := func(want string) {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "the log", func() error { return testenv.Contains(log.String(), want) })
	}
	if name := shown(); name != "one" {
		t.Fatal(name)
	}
	newCert, newKey := ca.Issue(t, "two", "127.0.0.1")
	move(t, newCert, cert) // a certificate without its key, as in the middle of a replacement
	hangup("some files are not good")
	if name := shown(); name != "one" {
		t.Errorf("shows %s", name)
	}
	if err := testenv.Contains(ready(), `{"condition":"reload","ok":false,"required":false,"detail":"certificate `, `"condition":"certificate","ok":true`); err != nil {
		t.Error(err)
	}
	move(t, newKey, key)
	hangup(`msg="files are in force" read=certificate`)
	if name := shown(); name != "two" {
		t.Errorf("shows %s", name)
	}
	if err := testenv.Contains(ready(), `{"condition":"reload","ok":true,`); err != nil {
		t.Error(err)
	}
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// SIGHUP while a service is still starting does not end it, and is heeded once it runs.
func TestSIGHUPBeforeRun(t *testing.T) { //nolint:paralleltest // the signal is for every process of this program
	p, log := newTLS(t, Common{})
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	launch(t, p)
	testenv.Eventually(t, "the log", func() error { return testenv.Contains(log.String(), "files are in force") })
}

func TestBadFilesAreNoStart(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "localhost")
	_, otherKey := ca.Issue(t, "localhost")
	for name, tt := range map[string]struct {
		common Common
		says   string
	}{
		"key of another":   {Common{TLS: trust.Files{Cert: cert, Key: otherKey}}, "does not match"},
		"half":             {Common{TLS: trust.Files{Cert: cert}}, "belong together"},
		"no client CA":     {Common{TLS: trust.Files{Cert: cert, Key: key, ClientCA: "/nowhere.pem"}}, "/nowhere.pem"},
		"client CA alone":  {Common{TLS: trust.Files{ClientCA: ca.File}}, "--tls-client-ca needs --tls-cert"},
		"no callers":       {Common{Callers: "/nowhere.json"}, "/nowhere.json"},
		"account is wrong": {Common{LoopbackAccount: "1"}, "12 digits"},
	} {
		if _, err := New("test", tt.common); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The account of callers on this machine without credentials: there is one while nothing is configured, and then only if it is said.
func TestLoopbackAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		callers, account, want string
		insecure               bool
	}{
		{want: "000000000000"},
		{account: "111111111111", want: "111111111111"},
		{callers: "callers.json"},
		{callers: "callers.json", account: "000000000000", want: "000000000000"},
		{insecure: true}, // what brings requests here that came in TLS is on this machine, and its callers are not
		{insecure: true, account: "000000000000", want: "000000000000"},
	} {
		common := Common{Callers: tt.callers, LoopbackAccount: tt.account, TLS: trust.Files{Insecure: tt.insecure}}
		if got := common.loopbackAccount(); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
	fs := NewFlags("control", "x")
	var common Common
	common.Register(fs, "127.0.0.1:0")
	if err := fs.Parse([]string{"--callers=x"}, nil); err != nil || common.loopbackAccount() != "" {
		t.Errorf("with callers alone: %q, %v", common.loopbackAccount(), err)
	}
	p, err := New("test", Common{})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/", nil)
	r.RemoteAddr = "127.0.0.1:5000"
	if caller, err := p.Callers.Authenticate(r); err != nil || caller.Account != "000000000000" {
		t.Errorf("%+v, %v", caller, err)
	}
}

// An expired certificate is a warning: whoever asks for it finds out, and an outage helps nobody.
func TestExpiredCertificateIsServed(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	end := time.Now().Add(-time.Minute)
	cert, key := ca.IssueUntil(t, end, "127.0.0.1")
	p, log := newTLS(t, Common{TLS: trust.Files{Cert: cert, Key: key}})
	launch(t, p)
	testenv.Eventually(t, "the log", func() error { return testenv.Contains(log.String(), "level=WARN msg=certificate", "expired") })
	trusting := httpsClients(t, &tls.Config{RootCAs: ca.Pool(), Time: func() time.Time { return end.Add(-time.Hour) }})["HTTP/1.1"]
	_, text := get(t, trusting, "https://"+p.Addr()+"/readyz")
	if err := testenv.Contains(text, `{"condition":"certificate","ok":false,"required":false,"detail":"`); err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf("# HELP verdict_certificate_not_after_seconds When the certificate of this service ends, in seconds since 1970.\n"+
		"# TYPE verdict_certificate_not_after_seconds gauge\nverdict_certificate_not_after_seconds %d\n", end.Unix())
	if err := testutil.GatherAndCompare(p.Registry, strings.NewReader(want), "verdict_certificate_not_after_seconds"); err != nil {
		t.Error(err)
	}
}

// With --insecure the log says at once and then every minute what that allows.
func TestInsecureIsSaidEveryMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log lines
		p := &Process{
			Logger: slog.New(slog.NewTextHandler(&log, nil)), common: Common{TLS: trust.Files{Insecure: true}},
			listener: fakeListener{addr: &net.TCPAddr{IP: net.IPv4zero, Port: 7401}},
		}
		var err error
		if p.Trust, err = trust.Open(p.common.TLS); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.warn(ctx) }()
		count := func() int { return strings.Count(log.String(), "running with --insecure") }
		synctest.Wait()
		if count() != 1 {
			t.Errorf("said %d times at the start", count())
		}
		if err := p.Trust.Plain("nats.example", "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute + time.Second) // of the bubble
		if count() != 11 {
			t.Errorf("said %d times in ten minutes", count())
		}
		last := log.String()[strings.LastIndex(log.String(), "level=WARN"):]
		if err := testenv.Contains(last, "0.0.0.0:7401 without TLS", "without --callers", "connecting to nats.example without TLS"); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

type fakeListener struct {
	net.Listener

	addr net.Addr
}

func (f fakeListener) Addr() net.Addr { return f.addr }

// New adds the warning, and none without the setting.
func TestInsecureIsAComponent(t *testing.T) {
	t.Parallel()
	p, log := newTLS(t, Common{Addr: "0.0.0.0:0", TLS: trust.Files{Insecure: true}})
	launch(t, p)
	testenv.Eventually(t, "the log", func() error {
		return testenv.Contains(log.String(), "running with --insecure", "listening on [::]:", "without TLS")
	})
	q, other := newTLS(t, Common{})
	if err := launch(t, q)(); err != nil || strings.Contains(other.String(), "insecure") {
		t.Errorf("%v, %s", err, other)
	}
}

// What servers are called, and why they do not answer, is for this machine.
func TestReadyzTellsDetailsOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	p, _ := newTLS(t, Common{})
	defer func() { _ = p.Abandon(nil) }()
	p.Health.Register("database", true, func(context.Context) error { return errors.New("db.example: user verdict_control") })
	for _, tt := range []struct {
		remote, host string
		told         bool
	}{
		{"127.0.0.1:5000", "127.0.0.1:7401", true},
		{"127.0.0.1:5000", "localhost:7401", true},
		{"[::1]:5000", "[::1]:7401", true},
		{"[::1]:5000", "[::1]", true},
		{"10.0.0.7:5000", "10.0.0.1:7401", false},
		{"10.0.0.7:5000", "127.0.0.1:7401", false},
		{"127.0.0.1:5000", "verdict.example", false}, // through something in front
		{"", "localhost", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/readyz", nil)
		r.RemoteAddr, r.Host = tt.remote, tt.host
		w := httptest.NewRecorder()
		p.handler().ServeHTTP(w, r)
		text := w.Body.String()
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(text, `{"condition":"database","ok":false,"required":true,`) {
			t.Errorf("%+v: %d %s", tt, w.Code, text)
		}
		if strings.Contains(text, "db.example") != tt.told {
			t.Errorf("%+v: %s", tt, text)
		}
	}
}

// Bytes that are no handshake get an answer, or an end, and no harm is done.
func TestJunkOnThePortOfTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "127.0.0.1")
	p, _ := newTLS(t, Common{TLS: trust.Files{Cert: cert, Key: key}})
	launch(t, p)
	for junk, answer := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n": "HTTP/1.0 400 Bad Request",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":  "",
		"\x16\x03\x01\xff\xff":              "",
		"\x00\x00\x00\x00\x00\x00\x00":      "",
	} {
		conn, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, junk); err != nil {
			t.Error(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if answer != "" && strings.TrimSpace(line) != answer {
			t.Errorf("%q: %q", junk, line)
		}
		_ = conn.Close()
	}
	client := httpsClients(t, &tls.Config{RootCAs: ca.Pool()})["HTTP/2.0"]
	if status, text := get(t, client, "https://"+p.Addr()+"/healthz"); status != http.StatusOK {
		t.Error(status, text)
	}
}
