package process

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// readHeaderTimeout ends connections that open and say nothing, or say it slowly.
	readHeaderTimeout = 10 * time.Second
	// readTimeout ends requests whose body does not arrive. It does not bound the answer: net/http lifts it at the end
	// of the body. A client stream, whose body is long on purpose, would need a server of its own.
	readTimeout = 30 * time.Second
	// idleTimeout is longer than the keep-alive of common clients (90 s in Go), so that they close first: a request
	// sent on a connection that the server is closing fails.
	idleTimeout = 2 * time.Minute
	// maxHeaderBytes is far above any header of ours.
	maxHeaderBytes = 64 << 10
)

// server answers HTTP/1.1 and HTTP/2 on one port: in TLS when there is a certificate, else in the clear. Requests see base,
// not the context of Run: they go on while the shutdown waits for them.
func (p *Process) server(base context.Context) *http.Server {
	config := p.Trust.Server()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(config != nil)
	protocols.SetUnencryptedHTTP2(config == nil)
	return &http.Server{
		Handler:           p.handler(),
		Protocols:         protocols,
		TLSConfig:         config,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       p.readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          p.serverLog(),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
}

// handler is the process's own pages with the service behind them.
func (p *Process) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", serveAlive)
	mux.HandleFunc("GET /readyz", p.serveReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.Registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(p.Logger.Handler(), slog.LevelWarn),
		Registry: p.Registry,
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.inFlight.add(1)
		defer p.inFlight.add(-1)
		switch r.URL.Path {
		case "/healthz", "/readyz", "/metrics":
			mux.ServeHTTP(w, r)
		default: // not through the mux, which would redirect paths with dots before the service sees them
			p.app.ServeHTTP(w, r)
		}
	})
}

// gauge counts requests in flight. http.Server forgets those whose connection it closed; this does not.
type gauge struct {
	mu      sync.Mutex // guards the fields below
	n       int
	waiting []chan struct{} // closed when n is 0
}

func (g *gauge) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += n
	if g.n == 0 {
		for _, w := range g.waiting {
			close(w)
		}
		g.waiting = nil
	}
}

// zero is closed when nothing is in flight.
func (g *gauge) zero() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := make(chan struct{})
	if g.n == 0 {
		close(w)
	} else {
		g.waiting = append(g.waiting, w)
	}
	return w
}
