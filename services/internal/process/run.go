package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// errStopped is why the contexts of components and of cut-off requests end.
var errStopped = errors.New("the process is shutting down")

// running is a Process between the start and the end of Run.
type running struct {
	*Process
	server *http.Server
	served chan struct{} // closed when server.Serve has returned
	failed chan error    // what brings the process down; has room for everyone

	stopComponents context.CancelCauseFunc
	stopRequests   context.CancelCauseFunc
	components     []*task
}

// task is a component that was started.
type task struct {
	name string
	done chan struct{} // closed when err is final
	err  error
}

// Run serves until ctx ends or something fails, then shuts down in the order the package promises and returns the first
// error; nil if ctx ended and all went well. Each step takes at most Common.ShutdownTimeout (and a second of grace for
// what ignores its context): a request that is not finished by then is cut off, a component or closer left behind, and
// the error says so. When Run returns, nothing that keeps to its context runs any more.
func (p *Process) Run(ctx context.Context) error {
	if err := p.Listen(); err != nil {
		return p.Abandon(err)
	}
	r := p.start(ctx)
	p.Logger.InfoContext(ctx, "serving", slog.String("addr", p.Addr()))
	var first error
	select {
	case <-ctx.Done():
		p.Logger.InfoContext(ctx, "shutting down", slog.String("reason", context.Cause(ctx).Error()))
	case first = <-r.failed:
		p.Logger.ErrorContext(ctx, "shutting down", slog.String("reason", first.Error()))
	}
	ctx = context.WithoutCancel(ctx)
	p.Health.Drain()
	close(p.draining)
	first = p.keep(ctx, first, r.finishRequests(ctx))
	r.stopComponents(errStopped)
	for _, t := range r.components {
		first = p.keep(ctx, first, p.await(ctx, t))
	}
	return p.keep(ctx, first, p.closeAll(ctx))
}

// Abandon is for a start that failed before Run: it closes what OnClose knows and returns err.
func (p *Process) Abandon(err error) error {
	ctx := context.Background()
	p.stopWatching()
	if p.listener != nil {
		_ = p.listener.Close()
	}
	return p.keep(ctx, err, p.closeAll(ctx))
}

// keep is the first error. A later one is logged, since nobody will see it otherwise.
func (p *Process) keep(ctx context.Context, first, next error) error {
	if first == nil {
		return next
	}
	if next != nil && !errors.Is(first, next) {
		p.Logger.ErrorContext(ctx, "shutdown step failed", slog.String("error", next.Error()))
	}
	return first
}

func (p *Process) start(ctx context.Context) *running {
	r := &running{Process: p, served: make(chan struct{}), failed: make(chan error, 1+len(p.components))}
	// Values of ctx, but not its end: who ends when is the shutdown's business.
	base := context.WithoutCancel(ctx)
	var componentsCtx, requestsCtx context.Context
	componentsCtx, r.stopComponents = context.WithCancelCause(base)
	requestsCtx, r.stopRequests = context.WithCancelCause(base)
	for _, c := range p.components {
		r.components = append(r.components, r.startComponent(componentsCtx, c))
	}
	r.server = p.server(requestsCtx)
	go func() {
		defer close(r.served)
		if err := r.serve(); !errors.Is(err, http.ErrServerClosed) {
			r.failed <- fmt.Errorf("serve: %w", err)
		}
	}()
	return r
}

// serve answers in TLS when there is a certificate.
func (r *running) serve() error {
	if r.server.TLSConfig != nil {
		return r.server.ServeTLS(r.listener, "", "")
	}
	return r.server.Serve(r.listener)
}

func (r *running) startComponent(ctx context.Context, c step) *task {
	t := &task{name: c.name, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		err := c.run(ctx)
		switch {
		case ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, errStopped)):
			// It was told to stop, and says so.
		case err != nil:
			t.err = fmt.Errorf("%s: %w", c.name, err)
			if ctx.Err() == nil {
				r.failed <- t.err
			}
		case ctx.Err() == nil:
			r.Logger.InfoContext(ctx, "component finished", slog.String("component", c.name))
		}
	}()
	return t
}

// finishRequests closes the listener and waits for the requests in flight; those that outlive the bound are cut off.
func (r *running) finishRequests(ctx context.Context) error {
	bound := r.common.ShutdownTimeout
	limited, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := r.server.Shutdown(limited)
	if err == nil {
		select {
		case <-r.inFlight.zero():
		case <-limited.Done():
			err = limited.Err()
		}
	}
	r.stopRequests(errStopped)
	if err != nil {
		err = fmt.Errorf("requests in flight did not finish within %s and were cut off", bound)
		_ = r.server.Close() // the error to tell is the one above
		select {
		case <-r.inFlight.zero():
		case <-time.After(bound):
			err = fmt.Errorf("%w; some handlers ignore that, and still run", err)
		}
	}
	<-r.served
	return err
}

// await is the end of a component that was told to stop.
func (p *Process) await(ctx context.Context, t *task) error {
	return p.bounded(ctx, step{t.name, func(context.Context) error {
		<-t.done
		return t.err
	}})
}

// closeAll closes everything, whatever fails on the way, and returns the first error.
func (p *Process) closeAll(ctx context.Context) error {
	var first error
	for _, c := range p.closers {
		err := p.bounded(ctx, c)
		if err != nil {
			err = fmt.Errorf("close %s: %w", c.name, err)
		}
		first = p.keep(ctx, first, err)
	}
	return first
}

// grace is how long a step that heeds its context has, once that has ended, to say so.
const grace = time.Second

// bounded runs a step under the bound, and leaves it behind if it does not return.
func (p *Process) bounded(ctx context.Context, s step) error {
	bound := p.common.ShutdownTimeout
	limited, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.run(limited) }()
	timer := time.NewTimer(bound + grace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("%s did not end within %s and was left behind", s.name, bound)
	}
}
