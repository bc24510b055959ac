package process

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/trust"
)

// RegisterTLS makes settings of the files that everybody needs who connects to somebody.
func (f *Flags) RegisterTLS(files *trust.Files) {
	f.String(&files.Cert, "tls-cert", "", "", "PEM `FILE` of the certificate to show, with what leads to its root; read again at SIGHUP, as all of these files")
	f.String(&files.Key, "tls-key", "", "", "PEM `FILE` of its key")
	f.Together("tls-cert", "tls-key")
	f.String(&files.CA, "tls-ca", "VERDICT_TLS_CA", "", "PEM `FILE` of the roots to believe when connecting to others; without it the system's")
	f.Bool(&files.Insecure, "insecure", "", false, "do without TLS and callers off this machine; a service says so in its log every minute")
}

// warnEvery is how often the log says that a process runs with --insecure.
const warnEvery = time.Minute

// warn says what --insecure allows, until ctx ends.
func (p *Process) warn(ctx context.Context) error {
	ticker := time.NewTicker(warnEvery)
	defer ticker.Stop()
	for {
		p.Logger.WarnContext(ctx, "running with --insecure", slog.String("allows", strings.Join(p.insecurities(), "; ")))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// insecurities are what this process would not do without --insecure.
func (p *Process) insecurities() []string {
	var found []string
	if tcp, ok := p.listenAddr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		if p.common.TLS.Cert == "" {
			found = append(found, "listening on "+p.Addr()+" without TLS")
		}
		if p.common.Callers == "" {
			found = append(found, "listening on "+p.Addr()+" without --callers, so that nobody who comes from elsewhere is let in")
		}
	}
	for _, host := range p.Trust.Allowed() {
		found = append(found, "connecting to "+host+" without TLS that verifies it")
	}
	if found == nil {
		return []string{"nothing that is used: leave it out"}
	}
	return found
}

func (p *Process) listenAddr() net.Addr {
	if p.listener == nil {
		return nil
	}
	return p.listener.Addr()
}

// serverLog is the log of the HTTP server. Handshakes that fail are counted: every probe of the port and every scanner makes one.
func (p *Process) serverLog() *log.Logger {
	failed := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "verdict_tls_handshake_failures_total",
		Help: "Connections that ended in the handshake of TLS, of which the log tells at level debug.",
	})
	p.Registry.MustRegister(failed)
	return log.New(&serverLog{p.Logger, failed}, "", 0)
}

type serverLog struct {
	logger *slog.Logger
	failed prometheus.Counter
}

// Write is part of io.Writer; log.Logger calls it once for each message.
func (l *serverLog) Write(message []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.HasPrefix(message, []byte("http: TLS handshake error")) {
		level = slog.LevelDebug
		l.failed.Inc()
	}
	l.logger.Log(context.Background(), level, strings.TrimSpace(string(message)))
	return len(message), nil
}
