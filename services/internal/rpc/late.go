package rpc

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// late is context.WithTimeout for handlers most of which never wait: it makes the timer when somebody first asks for Done, so that
// a call that is answered in microseconds does not pay for one.
type late struct {
	context.Context //nolint:containedctx // it is a context

	deadline time.Time

	mu    sync.Mutex
	timed context.Context //nolint:containedctx // with the timer; nil while nobody has waited
	stop  context.CancelFunc
	ended error // why it had ended when it was cancelled; nil before
}

func newLate(ctx context.Context, timeout time.Duration) *late {
	deadline := time.Now().Add(timeout)
	if earlier, ok := ctx.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	return &late{Context: ctx, deadline: deadline}
}

// Deadline is part of context.Context.
func (l *late) Deadline() (time.Time, bool) { return l.deadline, true }

// Done is part of context.Context.
func (l *late) Done() <-chan struct{} { return l.with().Done() }

// Err is part of context.Context.
func (l *late) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err()
}

// err is Err. Called with mu.
func (l *late) err() error {
	switch {
	case l.ended != nil:
		return l.ended
	case l.timed != nil:
		return l.timed.Err()
	case l.Context.Err() != nil:
		return l.Context.Err()
	case !time.Now().Before(l.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// with is the context that has the timer.
func (l *late) with() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timed == nil {
		l.timed, l.stop = context.WithDeadline(l.Context, l.deadline)
		if l.ended != nil {
			l.stop()
		}
	}
	return l.timed
}

// cancel ends it, as context.CancelFunc does.
func (l *late) cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = cmp.Or(l.err(), context.Canceled)
	if l.stop != nil {
		l.stop()
	}
}
