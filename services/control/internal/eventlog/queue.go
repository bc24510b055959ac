package eventlog

import (
	"context"
	"sync"
)

// maxTogether is how many commands share one transaction. Each commit waits for the disk, or for a standby; sharing it is
// what makes many writers fast. It also bounds what one transaction holds the lock for.
const maxTogether = 256

// batch is what one call of Append asks for.
type batch struct {
	requests []Request
	results  []Result // set before done is closed
	err      error    // set before done is closed
	done     chan struct{}
}

// queue lets callers that wait share the next transaction. One of them, whoever has the turn, carries it out for all.
type queue struct {
	turn    chan struct{} // holds one token while somebody appends
	mu      sync.Mutex    // guards waiting
	waiting []*batch
}

func newQueue() queue { return queue{turn: make(chan struct{}, 1)} }

func (q *queue) add(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, b)
}

// take removes the batches of the next transaction: the oldest, and as many as fit beside it.
func (q *queue) take() []*batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, commands := 0, 0
	for n < len(q.waiting) && (n == 0 || commands+len(q.waiting[n].requests) <= maxTogether) {
		commands += len(q.waiting[n].requests)
		n++
	}
	taken := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return taken
}

// withdraw takes b back; false when somebody is carrying it out already.
func (q *queue) withdraw(b *batch) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, w := range q.waiting {
		if w == b {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// run queues b and returns when it has been carried out, by this caller or another. When ctx ends first, b is withdrawn, or
// if that is too late, its outcome is unknown.
func (q *queue) run(ctx context.Context, b *batch, carryOut func([]*batch)) error {
	q.add(b)
	for {
		select {
		case <-b.done:
			return b.err
		case q.turn <- struct{}{}:
			q.carryOut(b, carryOut)
		case <-ctx.Done():
			if q.withdraw(b) {
				return context.Cause(ctx)
			}
			select {
			case <-b.done:
				return b.err
			default:
				return ErrUnknown
			}
		}
	}
}

// carryOut carries out the next transaction, unless another caller has done b meanwhile, and gives the turn away whatever
// happens: should do panic, the others learn that nobody knows.
func (q *queue) carryOut(b *batch, do func([]*batch)) {
	defer func() { <-q.turn }()
	select {
	case <-b.done:
		return
	default:
	}
	batches := q.take()
	defer func() {
		for _, other := range batches {
			select {
			case <-other.done:
			default:
				other.err = ErrUnknown
				close(other.done)
			}
		}
	}()
	do(batches)
}
