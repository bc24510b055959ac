// Package process turns the parts of a service (its HTTP handler, its background loops, what it holds open) into a
// daemon: settings from flags and environment, logs, health, metrics, one listener, and an orderly end.
//
// It guarantees that a service listens off loopback only with TLS and callers that it can know, unless an operator insists,
// that it answers /healthz, /readyz and /metrics, that SIGHUP has it read its certificates and callers again, and that
// it ends in one order: not ready, no new connections, requests in flight finished, background loops stopped, then
// everything registered with OnClose in the order of registration, each of these steps within a bound.
// Nothing here is global: several processes of this kind can live in one program, as tests have them.
package process

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// Common are the settings that every service has.
type Common struct {
	// Addr is the host:port to listen on. Off loopback it needs TLS.Cert and Callers, or TLS.Insecure.
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
	// TLS are the certificates, of the listener and of connections to others, and whether to go without.
	TLS trust.Files
	// Callers is the file of who may call.
	Callers string
	// Signatures is how many signatures of one access key are remembered, so that none counts twice; identity.DefaultSignatures when 0.
	// A service says it, not its operator: it follows from how often its callers change something.
	Signatures int
	// AccessRules is the file of what callers may do; "" is the rules of the product.
	AccessRules string
	// LoopbackAccount is whose account callers on this machine act for who show no credentials. "" is
	// identity.DefaultAccount while there is no Callers and no TLS.Insecure, and nobody's else.
	LoopbackAccount string
	// Region is the one in every ARN, and in the signatures of callers; DefaultRegion when empty.
	Region string
}

// DefaultShutdownTimeout leaves room for four steps within the 30 s that Kubernetes grants by default.
const DefaultShutdownTimeout = 7 * time.Second

// DefaultRegion is the region where none is configured.
const DefaultRegion = "us-east-1"

// Register makes settings of the fields of c.
func (c *Common) Register(fs *Flags, defaultAddr string) {
	fs.String(&c.Addr, "addr", "", defaultAddr, "`HOST:PORT` to listen on, off loopback with --tls-cert and --callers; port 0 takes a free one")
	fs.String(&c.AddrFile, "addr-file", "", "", "`FILE` that gets the HOST:PORT listened on")
	fs.Choice(&c.LogLevel, "log-level", "", "info", "least level to log", "debug", "info", "warn", "error")
	fs.Choice(&c.LogFormat, "log-format", "", "text", "form of the log on stderr", "text", "json")
	fs.Duration(&c.ShutdownTimeout, "shutdown-timeout", "", DefaultShutdownTimeout, "bound of each step of the shutdown")
	fs.RegisterTLS(&c.TLS)
	fs.String(&c.TLS.ClientCA, "tls-client-ca", "VERDICT_TLS_CLIENT_CA", "",
		"PEM `FILE` of the roots of certificates that callers may present; without it they are not asked for one")
	fs.String(&c.Callers, "callers", "VERDICT_CALLERS", "", "JSON `FILE` of who may call: access keys, OIDC issuers, client certificates")
	fs.String(&c.AccessRules, "access-rules", "VERDICT_ACCESS_RULES", "", "Cedar `FILE` of what callers may do, in place of the product's rules; `verdict access-rules` prints those")
	fs.String(&c.LoopbackAccount, "loopback-account", "", "",
		"12-digit `ACCOUNT` that callers on this machine act for without credentials, in every role: never behind a proxy on this machine; without it "+
			identity.DefaultAccount+", or nobody's once there is --callers or --insecure")
	fs.Check("loopback-account", identity.ValidAccount)
	fs.String(&c.Region, "region", "VERDICT_REGION", DefaultRegion, "`REGION` in every ARN, and in the signatures of callers")
	fs.Require("region")
}

// loopbackAccount is the setting with its default. There is none for a service that goes without TLS because something else has it:
// whatever that brings here comes from this machine.
func (c *Common) loopbackAccount() string {
	if c.LoopbackAccount == "" && c.Callers == "" && !c.TLS.Insecure {
		return identity.DefaultAccount
	}
	return c.LoopbackAccount
}

// lacking is what stands between these settings and a listener off loopback, each with how to add it; nil when nothing does.
func (c *Common) lacking() []string {
	if c.TLS.Insecure {
		return nil
	}
	var lacking []string
	if c.TLS.Cert == "" {
		lacking = append(lacking, "--tls-cert FILE and --tls-key FILE (the certificate of this service and its key, PEM)")
	}
	if c.Callers == "" {
		lacking = append(lacking, "--callers FILE (who may call: access keys, OIDC issuers, client certificates)")
	}
	return lacking
}

// Process is one service's life. Fill it (Handle, Go, OnClose, conditions of Health, collectors of Registry), then
// call Run once. Its methods other than Draining and Addr are for one goroutine and for before Run.
type Process struct {
	Logger   *slog.Logger         // to stderr, with service=…
	Registry *prometheus.Registry // of this process alone; served at /metrics
	Health   *Health              // served at /readyz
	Callers  *identity.Authenticator
	Access   *access.Rules
	Trust    *trust.Trust // for connections to others

	common     Common
	app        http.Handler
	listener   net.Listener
	components []step
	closers    []step
	draining   chan struct{} // closed when the shutdown begins
	inFlight   gauge
	reloads    reloads

	readTimeout time.Duration // tests shorten it
}

// step is a named piece of work: a component, or one thing to close.
type step struct {
	name string
	run  func(context.Context) error
}

// New is a process for a service, say "control". It reads the files of common, opens nothing else and starts nothing.
func New(service string, common Common) (*Process, error) {
	logger, err := NewLogger(os.Stderr, service, common.LogLevel, common.LogFormat)
	if err != nil {
		return nil, err
	}
	if common.ShutdownTimeout <= 0 {
		common.ShutdownTimeout = DefaultShutdownTimeout
	}
	health := newHealth()
	p := &Process{
		Logger:   logger,
		Registry: newRegistry(service, health),
		Health:   health,
		common:   common,
		app:      http.NotFoundHandler(),
		draining: make(chan struct{}),

		readTimeout: readTimeout,
	}
	if err := p.know(); err != nil {
		return nil, err
	}
	p.watchFiles()
	if common.TLS.Insecure {
		p.Go("insecure", p.warn)
	}
	return p, nil
}

// know reads whom this process believes, on both sides of a connection, and what it lets them do.
func (p *Process) know() (err error) {
	if p.Trust, err = trust.Open(p.common.TLS); err != nil {
		return err
	}
	if p.Access, err = access.New(p.common.AccessRules); err != nil {
		return err
	}
	p.Callers, err = identity.New(identity.Config{
		LoopbackAccount: p.common.loopbackAccount(), CallersFile: p.common.Callers, Signatures: p.common.Signatures,
		Region: cmp.Or(p.common.Region, DefaultRegion), Logger: p.Logger, Registerer: p.Registry,
	})
	return err
}

// ClientTLS is for one connection to another service, made now.
func (p *Process) ClientTLS() *tls.Config { return p.Trust.Client() }

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
	listener, err := Listen(p.common.Addr, p.common.lacking()...)
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
