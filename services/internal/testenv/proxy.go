package testenv

import (
	"crypto/tls"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between clients and a server, which it can take away from them and give back.
type Proxy struct {
	target   string
	answers  func(to io.Writer) io.Writer
	listener net.Listener

	mu    sync.Mutex
	away  bool
	conns map[net.Conn]bool
}

// NewProxy leads to the host:port of a server, until the test ends. The server's answers are written through answers on their way to
// a client; nil leaves them as they are.
func NewProxy(t testing.TB, target string, answers func(to io.Writer) io.Writer) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startProxy(t, listener, target, answers)
}

// NewTLSProxy speaks TLS with clients, on 127.0.0.1, and leads to a server that cannot.
func NewTLSProxy(t testing.TB, target string, config *tls.Config) *Proxy {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	return startProxy(t, listener, target, nil)
}

func startProxy(t testing.TB, listener net.Listener, target string, answers func(to io.Writer) io.Writer) *Proxy {
	t.Helper()
	p := &Proxy{target: target, answers: answers, listener: listener, conns: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.Cut()
		serving.Wait()
	})
	return p
}

// Through is a server's URL with the proxy in the server's place.
func Through(t testing.TB, serverURL string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(t, u.Host, nil)
	u.Host = p.Addr()
	return p, u.String()
}

// Addr is the host:port where it listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut breaks all connections, and new ones until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// Heal lets connections through again.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = false
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if !p.keep(client) {
		return
	}
	defer p.forget(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.keep(server) {
		return
	}
	defer p.forget(server)
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	var answers io.Writer = client
	if p.answers != nil {
		answers = p.answers(client)
	}
	_, _ = io.Copy(answers, server)
	_ = client.Close()
	copying.Wait()
}

// keep remembers a connection, so that Cut finds it; false when there are to be none.
func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}
