// Package process turns the parts of a service (its HTTP handler, its background loops, what it holds open) into a
// daemon: settings from flags and environment, logs, health, metrics, one listener, and an orderly end.
//
// It guarantees that a service listens on loopback only, that it answers /healthz, /readyz and /metrics, and that
// it ends in one order: not ready, no new connections, requests in flight finished, background loops stopped, then
// everything registered with OnClose in the order of registration, each of these steps within a bound.
// Nothing here is global: several processes of this kind can live in one program, as tests have them.
package process

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/identity"
)

// Common are the settings that every service has.
type Common struct {
	// Addr is the host:port to listen on. It must be a loopback address.
	Addr string
	// AddrFile, if set, gets the host:port that was bound, in one step and without a newline. A file left over
	// from before is removed before the service listens.
	AddrFile string
	// LogLevel is debug, info (also when empty), warn or error.
	LogLevel string
	// LogFormat is text (also when empty) or json.
	LogFormat string
	// ShutdownTimeout bounds each step of the shutdown; DefaultShutdownTimeout when zero.
	ShutdownTimeout time.Duration
	// LoopbackAccount is whose account callers on this machine act for.
	LoopbackAccount string
}

// DefaultShutdownTimeout leaves room for four steps within the 30 s that Kubernetes grants by default.
const DefaultShutdownTimeout = 7 * time.Second

// Register makes settings of the fields of c.
func (c *Common) Register(fs *Flags, defaultAddr string) {
	fs.String(&c.Addr, "addr", "", defaultAddr, "loopback `HOST:PORT` to listen on; port 0 takes a free one")
	fs.String(&c.AddrFile, "addr-file", "", "", "`FILE` that gets the HOST:PORT listened on")
	fs.Choice(&c.LogLevel, "log-level", "", "info", "least level to log", "debug", "info", "warn", "error")
	fs.Choice(&c.LogFormat, "log-format", "", "text", "form of the log on stderr", "text", "json")
	fs.Duration(&c.ShutdownTimeout, "shutdown-timeout", "", DefaultShutdownTimeout, "bound of each step of the shutdown")
	fs.String(&c.LoopbackAccount, "loopback-account", "", identity.DefaultAccount,
		"12-digit `ACCOUNT` that callers on this machine act for")
	fs.Check("loopback-account", identity.ValidAccount)
}

// Process is one service's life. Fill it (Handle, Go, OnClose, conditions of Health, collectors of Registry), then
// call Run once. Its methods other than Draining and Addr are for one goroutine and for before Run.
type Process struct {
	Logger   *slog.Logger         // to stderr, with service=…
	Registry *prometheus.Registry // of this process alone; served at /metrics
	Health   *Health              // served at /readyz

	common     Common
	app        http.Handler
	listener   net.Listener
	components []step
	closers    []step
	draining   chan struct{} // closed when the shutdown begins
	inFlight   gauge

	readTimeout time.Duration // tests shorten it
}

// step is a named piece of work: a component, or one thing to close.
type step struct {
	name string
	run  func(context.Context) error
}

// New is a process for a service, say "control". It opens nothing and starts nothing.
func New(service string, common Common) (*Process, error) {
	logger, err := NewLogger(os.Stderr, service, common.LogLevel, common.LogFormat)
	if err != nil {
		return nil, err
	}
	if common.ShutdownTimeout <= 0 {
		common.ShutdownTimeout = DefaultShutdownTimeout
	}
	health := newHealth()
	return &Process{
		Logger:   logger,
		Registry: newRegistry(service, health),
		Health:   health,
		common:   common,
		app:      http.NotFoundHandler(),
		draining: make(chan struct{}),

		readTimeout: readTimeout,
	}, nil
}

// Handle sets what answers every request that is not for /healthz, /readyz or /metrics.
func (p *Process) Handle(app http.Handler) { p.app = app }

// Go adds a component: a loop that Run starts, and that returns when its context ends. It outlives the requests in
// flight, which may need it. If it returns an error before the shutdown, the process ends with that error; if it
// returns nil, it is finished and the process goes on.
func (p *Process) Go(name string, run func(context.Context) error) {
	p.components = append(p.components, step{name, run})
}

// OnClose adds something to close when requests and components have ended. What was added first is closed first:
// begin with what still produces (a decision log), then what carries (a NATS connection), then the stores.
func (p *Process) OnClose(name string, closeIt func(context.Context) error) {
	p.closers = append(p.closers, step{name, closeIt})
}

// Draining is closed when the shutdown begins. Answers without an end of their own, such as streams, end then.
func (p *Process) Draining() <-chan struct{} { return p.draining }

// Listen binds the address of the settings and writes the address file. Run does it too, if it was not done.
func (p *Process) Listen() error {
	if p.listener != nil {
		return nil
	}
	if p.common.AddrFile != "" {
		if err := os.Remove(p.common.AddrFile); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("address file: %w", err)
		}
	}
	listener, err := Listen(p.common.Addr)
	if err != nil {
		return err
	}
	if p.common.AddrFile != "" {
		if err := writeFile(p.common.AddrFile, listener.Addr().String()); err != nil {
			_ = listener.Close()
			return fmt.Errorf("address file: %w", err)
		}
	}
	p.listener = listener
	return nil
}

// Addr is the host:port that is listened on, "" before Listen.
func (p *Process) Addr() string {
	if p.listener == nil {
		return ""
	}
	return p.listener.Addr().String()
}

// writeFile puts text into the file in one step: who reads it sees all of it or nothing.
func writeFile(name, text string) error {
	temp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already when all went well
	_, err = temp.WriteString(text)
	if err == nil {
		err = temp.Chmod(0o644)
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), name)
}
