// Package drive is a closed loop: each connection sends a request, waits for its answer, has it checked, and sends the next.
//
// It guarantees that every request is counted once, as an answer or as an error; that the first wrong answer ends a run; and that
// nothing leaves this machine, whatever the server or the environment says.
package drive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Call is a request and what must be true of its answer.
type Call struct {
	Body []byte
	// Check gets the body of each answer and must not keep it; its error ends the run. Calls of it run at once.
	Check func(answer []byte) error
}

// Config is what a Driver is told.
type Config struct {
	URL         string // of the procedure
	ContentType string
	Connections int
	Calls       []Call // each connection draws from them, in its own order, the same in every process
	// MaxErrors is how many requests may stay without an answer before the run ends with an error.
	MaxErrors int
	// RetryFor is for how long a request is sent again when the connection failed or the server was unavailable; 0 is never.
	// A request sent again may be decided twice.
	RetryFor time.Duration
}

// Limit ends a run: after so many requests, or so long. One of the two is 0.
type Limit struct {
	Requests int
	Duration time.Duration
}

// Driver holds the connections, which stay open from run to run.
type Driver struct {
	cfg         Config
	connections []*connection
}

// New is a Driver that has not connected yet. Close ends its connections.
func New(cfg Config) (*Driver, error) {
	target, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	d := &Driver{cfg: cfg}
	for i := range cfg.Connections {
		d.connections = append(d.connections, &connection{
			cfg: &d.cfg, url: target, transport: Transport(),
			dice: rand.New(rand.NewPCG(uint64(i), 1)), //nolint:gosec // the same draw every time is what is wanted
		})
	}
	return d, nil
}

// Close ends the connections.
func (d *Driver) Close() {
	for _, c := range d.connections {
		c.transport.CloseIdleConnections()
	}
}

// Ask sends the first call once, over the first connection, and returns it with the body of the answer, unchecked.
func (d *Driver) Ask(ctx context.Context) (Call, []byte, error) {
	call := d.cfg.Calls[0]
	answer, err := d.connections[0].send(ctx, call.Body)
	return call, answer, err
}

// Tally is what a run came to.
type Tally struct {
	Answers   int
	Errors    int // requests without an answer
	Retries   int
	LastError error // of Errors or Retries
	Elapsed   time.Duration
	Latencies Latencies // of the answers, from the first try on
}

// Run drives until the limit. With an error the tally is what there was until then. One Run at a time.
func (d *Driver) Run(ctx context.Context, limit Limit) (*Tally, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &run{stop: stop, maxErrors: int64(d.cfg.MaxErrors), byTime: limit.Duration > 0, end: time.Now().Add(limit.Duration)}
	r.left.Store(int64(limit.Requests))
	tallies := make([]Tally, len(d.connections))
	began := time.Now()
	var all sync.WaitGroup
	for i, c := range d.connections {
		all.Go(func() { c.work(ctx, r, &tallies[i]) })
	}
	all.Wait()
	out := sum(tallies)
	out.Elapsed = time.Since(began)
	return out, context.Cause(ctx)
}

func sum(tallies []Tally) *Tally {
	out := &Tally{}
	for _, t := range tallies {
		out.Answers += t.Answers
		out.Errors += t.Errors
		out.Retries += t.Retries
		out.Latencies = append(out.Latencies, t.Latencies...)
		if t.LastError != nil {
			out.LastError = t.LastError
		}
	}
	return out
}

// run is what the connections share.
type run struct {
	stop      context.CancelCauseFunc
	byTime    bool
	end       time.Time
	left      atomic.Int64 // requests
	errors    atomic.Int64
	maxErrors int64
}

// over says that the time is up; it never is when requests are counted.
func (r *run) over() bool { return r.byTime && !time.Now().Before(r.end) }

// next says that there is another request to send.
func (r *run) next() bool {
	if r.byTime {
		return !r.over()
	}
	return r.left.Add(-1) >= 0
}

// ErrTooMany: more requests had no answer than MaxErrors.
var ErrTooMany = errors.New("too many errors")

// fail counts a request without an answer, and ends the run when it is one too many.
func (r *run) fail(err error) {
	if n := r.errors.Add(1); n > r.maxErrors {
		r.stop(fmt.Errorf("%w: %d: %w", ErrTooMany, n, err))
	}
}

// Transport makes connections that obey no proxy and ask for no compression, one at a time.
func Transport() *http.Transport {
	return &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, DisableCompression: true, IdleConnTimeout: time.Minute}
}
