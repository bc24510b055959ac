package follow

import (
	"context"
	"fmt"
	"sync"
)

// maxWaiters bounds how many callers wait at once: each is a request that is held open.
const maxWaiters = 10_000

// queue is who waits for which position.
type queue struct {
	mu        sync.Mutex // guards the fields below
	published uint64
	waiting   map[*waiter]struct{}
}

type waiter struct {
	position uint64
	done     chan struct{} // closed when the position was published
}

// Wait blocks until a state at or above position has been published. It is ErrBehind when ctx ends first, and ErrBusy when
// too many wait already.
func (f *Follower) Wait(ctx context.Context, position uint64) error {
	w, err := f.queue.join(position)
	if err != nil || w == nil {
		return err
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		at := f.queue.leave(w)
		return fmt.Errorf("%w: at position %d, asked for %d: %w", ErrBehind, at, position, context.Cause(ctx))
	}
}

// join is nil when there is nothing to wait for.
func (q *queue) join(position uint64) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if position <= q.published {
		return nil, nil
	}
	if len(q.waiting) >= maxWaiters {
		return nil, fmt.Errorf("%w: %d", ErrBusy, len(q.waiting))
	}
	w := &waiter{position: position, done: make(chan struct{})}
	q.waiting[w] = struct{}{}
	return w, nil
}

func (q *queue) leave(w *waiter) (published uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, w)
	return q.published
}

func (q *queue) reached(position uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.published = position
	for w := range q.waiting {
		if w.position <= position {
			delete(q.waiting, w)
			close(w.done)
		}
	}
}
