//go:build faults

package ingest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// insertBytes is more than any question to ClickHouse has, and less than an INSERT of enough records.
const insertBytes = 20 << 10

// proxy stands between a client and ClickHouse.
type proxy struct {
	url    string
	target string

	mu       sync.Mutex
	changed  *sync.Cond
	conns    map[net.Conn]bool
	refuses  bool   // takes no connection
	holds    bool   // keeps answers back once an INSERT has been sent
	swallows bool   // loses the end of INSERTs
	delays   bool   // keeps the end of INSERTs back
	within   int64  // of an INSERT, at which then is called
	then     func() // once
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u.Host, conns: map[net.Conn]bool{}}
	p.changed = sync.NewCond(&p.mu)
	u.Host = listener.Addr().String()
	p.url = u.String()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	t.Cleanup(func() { listener.Close(); p.cut() })
	return p
}

// set changes what the proxy does.
func (p *proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

func (p *proxy) hold()    { p.set(func() { p.holds = true }) }
func (p *proxy) swallow() { p.set(func() { p.swallows = true }) }
func (p *proxy) delay()   { p.set(func() { p.delays = true }) }
func (p *proxy) release() {
	p.set(func() { p.refuses, p.holds, p.swallows, p.delays = false, false, false, false })
}

func (p *proxy) after(bytes int64, then func()) {
	p.set(func() { p.within, p.then = bytes, then })
}

func (p *proxy) cut() {
	p.set(func() {
		p.refuses = true
		for conn := range p.conns {
			conn.Close()
		}
	})
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	refused := false
	p.set(func() {
		if refused = p.refuses; !refused {
			p.conns[client], p.conns[server] = true, true
		}
	})
	if refused {
		return
	}
	defer p.set(func() { delete(p.conns, client); delete(p.conns, server) })
	var sent int64 // by the client since the server's last answer; guarded by mu
	answered := make(chan struct{})
	go func() { p.answer(client, server, &sent); close(answered) }()
	p.forward(server, client, &sent)
	_ = server.(*net.TCPConn).CloseWrite() // the development server aborts when nobody reads what it answers
	<-answered
}

// forward copies what the client sends.
func (p *proxy) forward(server io.Writer, client io.Reader, sent *int64) {
	buf := make([]byte, 16<<10)
	for {
		n, err := client.Read(buf)
		drop, then := false, (func())(nil)
		p.set(func() {
			*sent += int64(n)
			drop = p.swallows && *sent > insertBytes
			for p.delays && !p.refuses && *sent > insertBytes {
				p.changed.Wait()
			}
			if p.then != nil && *sent >= p.within {
				then, p.then = p.then, nil
			}
		})
		if then != nil {
			then()
		}
		if !drop {
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// answer copies what the server sends, which waits while the proxy holds it back.
func (p *proxy) answer(client io.WriteCloser, server io.Reader, sent *int64) {
	buf := make([]byte, 16<<10)
	for {
		n, err := server.Read(buf)
		p.mu.Lock()
		for p.holds && !p.refuses && *sent > insertBytes {
			p.changed.Wait()
		}
		*sent = 0
		p.mu.Unlock()
		if err != nil {
			client.Close()
			return
		}
		_, _ = client.Write(buf[:n]) // to nobody, if the client has gone
	}
}
