package process

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
)

// reloads is what happens at SIGHUP.
type reloads struct {
	hangups chan os.Signal // has room for one that comes before Run

	mu   sync.Mutex // guards last, and Reload against itself
	last error
}

// watchFiles has SIGHUP read the files again, and tells how they are. It begins before Run, since SIGHUP without it ends a process
// that is still starting.
func (p *Process) watchFiles() {
	p.reloads.hangups = make(chan os.Signal, 1)
	signal.Notify(p.reloads.hangups, syscall.SIGHUP)
	p.Go("reload", p.reloadOnHangup)
	if p.Trust.Files() || p.common.Callers != "" || p.common.AccessRules != "" {
		p.Health.Register("reload", false, func(context.Context) error { return p.reloads.failure() })
	}
	if p.common.TLS.Cert == "" {
		return
	}
	p.Health.Register("certificate", false, func(context.Context) error { return p.Trust.Valid() })
	p.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "verdict_certificate_not_after_seconds",
		Help: "When the certificate of this service ends, in seconds since 1970.",
	}, func() float64 { return float64(p.Trust.NotAfter().Unix()) }))
}

func (p *Process) stopWatching() { signal.Stop(p.reloads.hangups) }

func (p *Process) reloadOnHangup(ctx context.Context) error {
	defer p.stopWatching()
	if err := p.Trust.Valid(); err != nil {
		p.Logger.WarnContext(ctx, "certificate", slog.String("error", err.Error()))
	}
	for {
		select {
		case <-p.reloads.hangups:
			_ = p.Reload(ctx) // it logs, and /readyz tells
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Reload reads certificates, roots, callers and access rules again, as SIGHUP does, for connections and requests that come later. What is not
// good leaves what was there before in force, each file by itself; the error, which is logged, says so.
func (p *Process) Reload(ctx context.Context) error {
	p.reloads.mu.Lock()
	defer p.reloads.mu.Unlock()
	changed, err := p.Trust.Reload()
	for _, f := range []struct {
		name, file string
		reload     func() error
	}{{"callers", p.common.Callers, p.Callers.Reload}, {"access rules", p.common.AccessRules, p.Access.Reload}} {
		if f.file == "" {
			continue
		}
		failed := f.reload()
		if failed == nil {
			changed = append(changed, f.name)
		}
		err = errors.Join(err, failed)
	}
	p.reloads.last = err
	read := slog.String("read", strings.Join(changed, ", ")) // callers, and the files of TLS that were different
	if err != nil {
		p.Logger.ErrorContext(ctx, "some files are not good, and not in force", read, slog.String("error", oneLine(err)))
		return err
	}
	p.Logger.InfoContext(ctx, "files are in force", read)
	return nil
}

// failure is what the last Reload could not read.
func (r *reloads) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func oneLine(err error) string { return strings.Join(strings.FieldsFunc(err.Error(), isNewline), "; ") }
