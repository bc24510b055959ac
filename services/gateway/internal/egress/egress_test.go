package egress_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/gateway/internal/egress"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// names is a DNS server, which has the same address for every name.
type names struct {
	at    atomic.Pointer[netip.Addr]
	asked atomic.Int64
	conn  net.PacketConn
}

func newNames(t *testing.T, at string) *names {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{conn: conn}
	n.become(at)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.serve()
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return n
}

func (n *names) become(at string) { n.at.Store(new(netip.MustParseAddr(at))) }

func (n *names) serve() {
	question := make([]byte, 512)
	for {
		length, from, err := n.conn.ReadFrom(question)
		if err != nil {
			return
		}
		_, _ = n.conn.WriteTo(n.answer(question[:length]), from)
	}
}

// answer repeats the one question, and points to it (RFC 1035).
func (n *names) answer(q []byte) []byte {
	end := 12
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5
	at := *n.at.Load()
	kind, asked := byte(1), q[end-3] // A
	if at.Is6() {
		kind = 28 // AAAA
	}
	answer := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
	if asked != kind {
		return answer
	}
	n.asked.Add(1)
	answer[7] = 1
	answer = append(answer, 0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0)
	answer = binary.BigEndian.AppendUint16(answer, uint16(at.BitLen()/8))
	return append(answer, at.AsSlice()...)
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
}

func open(t *testing.T, files trust.Files) *trust.Trust {
	t.Helper()
	tr, err := trust.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// get is the status and the body, over a new connection.
func get(t *testing.T, transport *http.Transport, url string) (int, string, error) {
	t.Helper()
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := egress.Client(transport, 10*time.Second).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func port(server *httptest.Server) string { return server.URL[strings.LastIndexByte(server.URL, ':'):] }

// Where no definition may lead, however it is written, by name or by address, in TLS or not, whatever the operator allows.
func TestRefusedAddresses(t *testing.T) {
	insecure := open(t, trust.Files{Insecure: true})
	dns := newNames(t, "192.0.2.1")
	for _, address := range []string{
		"0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "169.254.0.1", "169.254.170.2", "fe80::1", "fe80::a9fe:a9fe", "febf::1",
		"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "100.100.100.200", "168.63.129.16", "192.0.0.192",
		"224.0.0.1", "239.255.255.255", "255.255.255.255", "240.0.0.1", "ff02::1", "2001::1", "64:ff9b:1::a9fe:a9fe",
		"::ffff:169.254.169.254", "::169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
		"::ffff:0.0.0.0", "::ffff:100.100.100.200", "64:ff9b::e000:1",
	} {
		dns.become(address)
		transport := egress.Transport(egress.Config{Trust: insecure, Loopback: true, Resolver: dns.resolver()})
		for _, url := range []string{
			"http://" + net.JoinHostPort(address, "80") + "/", "https://" + net.JoinHostPort(address, "443") + "/", "http://metadata.example/", "https://metadata.example/",
		} {
			if _, _, err := get(t, transport, url); !errors.Is(err, egress.ErrRefused) {
				t.Errorf("%s, with names for %s: %v", url, address, err)
			}
		}
	}
	if dns.asked.Load() == 0 {
		t.Error("no name was looked up")
	}
}

// Addresses of this machine are its operator's to allow, in all forms that they have.
func TestLoopback(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }))
	defer server.Close()
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		_, body, err := get(t, egress.Transport(egress.Config{Loopback: true}), "http://"+host+port(server))
		if err != nil || body != "well" {
			t.Errorf("%s, allowed: %q, %v", host, body, err)
		}
		if _, _, err := get(t, egress.Transport(egress.Config{}), "http://"+host+port(server)); !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%s, not allowed: %v", host, err)
		}
	}
	for _, host := range []string{"127.8.9.10", "[::1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"} {
		if _, _, err := get(t, egress.Transport(egress.Config{}), "https://"+host); !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%s, not allowed: %v", host, err)
		}
	}
}

// What a name stood for when somebody looked at it is not what it stands for when it is connected to.
func TestRebinding(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }))
	defer server.Close()
	dns := newNames(t, "127.0.0.1")
	transport := egress.Transport(egress.Config{Trust: open(t, trust.Files{Insecure: true}), Loopback: true, Resolver: dns.resolver()})
	url := "http://tool.example" + port(server)
	if _, body, err := get(t, transport, url); err != nil || body != "well" {
		t.Fatalf("%q, %v", body, err)
	}
	dns.become("169.254.169.254")
	if _, _, err := get(t, transport, url); !errors.Is(err, egress.ErrRefused) {
		t.Errorf("the name leads elsewhere now: %v", err)
	}
	dns.become("127.0.0.1")
	closed := egress.Transport(egress.Config{Trust: open(t, trust.Files{Insecure: true}), Resolver: dns.resolver()})
	if _, _, err := get(t, closed, url); !errors.Is(err, egress.ErrRefused) {
		t.Errorf("a name for this machine: %v", err)
	}
}

// Without TLS nothing leaves this machine, unless the operator insists; a name is not believed to mean this machine.
func TestPlain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	dns := newNames(t, "127.0.0.1")
	insecure := open(t, trust.Files{Insecure: true})
	for name, tr := range map[string]*trust.Trust{"nil": nil, "no files": open(t, trust.Files{}), "insecure": insecure} {
		transport := egress.Transport(egress.Config{Trust: tr, Loopback: true, Resolver: dns.resolver()})
		if _, _, err := get(t, transport, "http://tool.example"+port(server)); (err == nil) != (tr == insecure) || err != nil && !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 3 {
		_, _, _ = get(t, egress.Transport(egress.Config{Trust: insecure, Loopback: true, Resolver: dns.resolver()}), "http://another.example"+port(server))
	}
	if allowed := insecure.Allowed(); len(allowed) != 1 {
		t.Errorf("what is remembered grows with the hosts: %q", allowed)
	}
}

// Servers are verified by the operator's roots, with no old TLS, and see no certificate of this process.
func TestTLS(t *testing.T) {
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "tool.example")
	own, ownKey := ca.Issue(t, "gateway.example")
	serve := func(version uint16) *httptest.Server {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.Proto)
			if len(r.TLS.PeerCertificates) > 0 {
				_, _ = io.WriteString(w, ", and a certificate")
			}
		}))
		server.TLS = &tls.Config{
			Certificates: []tls.Certificate{testenv.Pair(t, cert, key)}, MinVersion: tls.VersionTLS10, MaxVersion: version,
			ClientAuth: tls.RequestClientCert, ClientCAs: ca.Pool(),
		}
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	now, old := serve(0), serve(tls.VersionTLS11)
	dns := newNames(t, "127.0.0.1")
	known := egress.Transport(egress.Config{
		Trust: open(t, trust.Files{CA: ca.File, Cert: own, Key: ownKey}), Loopback: true, Resolver: dns.resolver(),
	})
	if _, body, err := get(t, known, "https://tool.example"+port(now)); err != nil || body != "HTTP/2.0" {
		t.Errorf("%q, %v", body, err)
	}
	for name, bad := range map[string]struct {
		transport *http.Transport
		url       string
	}{
		"another name":  {known, "https://else.example" + port(now)},
		"TLS 1.1":       {known, "https://tool.example" + port(old)},
		"unknown roots": {egress.Transport(egress.Config{Loopback: true, Resolver: dns.resolver()}), "https://tool.example" + port(now)},
	} {
		if _, body, err := get(t, bad.transport, bad.url); err == nil {
			t.Errorf("%s: %q", name, body)
		}
	}
}

// An answer leads nowhere else, and its head is bounded. The environment has no say.
func TestAnswers(t *testing.T) {
	var other atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/other", func(http.ResponseWriter, *http.Request) { other.Add(1) })
	mux.HandleFunc("/head", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 100<<10)) })
	server := httptest.NewServer(mux)
	defer server.Close()
	transport := egress.Transport(egress.Config{Loopback: true})
	if status, _, err := get(t, transport, server.URL+"/moved"); status != http.StatusTemporaryRedirect || err != nil || other.Load() != 0 {
		t.Errorf("a redirect: status %d, %v, followed %d times", status, err, other.Load())
	}
	if status, _, err := get(t, transport, server.URL+"/head"); err == nil {
		t.Errorf("100 KiB of headers: status %d", status)
	}
	if transport.Proxy != nil {
		t.Error("a proxy may stand between")
	}
}
