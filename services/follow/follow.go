// Package follow turns the stream of policy events into State, for every service that needs it.
//
// A Follower trusts nothing that it has not checked. It applies an event only if control signed it, its position is the next
// and its previous hash is the follower's own; it publishes whole commands only; an event of an unknown type stops it: it
// keeps what it has, says so, and never skips. Live events come by way of NATS, what is missing comes from control, and no
// subscription is relied upon to notice anything: once a second control is asked where the head of the log is. The answer
// also proves how fresh the state is. When the log went back, the newer state is kept.
//
// The state survives a restart in a local file, which is trusted as far as the disk is: checksums, hashes and the chain of
// events are checked, signatures are not looked at again.
package follow

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

var (
	// ErrStopped: the next event cannot be applied by this version. The state stays as it is until a restart.
	ErrStopped = errors.New("following has stopped")
	// ErrWentBack: the log lacks or contradicts what was followed: it was restored from an older copy. The newer state is kept.
	ErrWentBack = errors.New("the log went back")
	// ErrAnotherLog: control serves another log than the one that was followed.
	ErrAnotherLog = errors.New("control serves another log")
	// ErrBehind: the state has not reached a position.
	ErrBehind = errors.New("behind the log")
	// ErrBusy: too many callers wait for a position.
	ErrBusy = errors.New("too many callers wait for a revision")
)

// EventSource is control, as eventv1connect.EventServiceClient is. Its messages should be limited in size
// (connect.WithReadMaxBytes): a page has about 2 MiB at most.
type EventSource interface {
	Head(ctx context.Context, req *eventv1.HeadRequest) (*eventv1.HeadResponse, error)
	ReadEvents(ctx context.Context, req *eventv1.ReadEventsRequest) (*connect.ServerStreamForClient[eventv1.ReadEventsResponse], error)
	ReadState(ctx context.Context, req *eventv1.ReadStateRequest) (*connect.ServerStreamForClient[eventv1.ReadStateResponse], error)
}

// Config is what a Follower needs.
type Config struct {
	// Conn may be disconnected for ever: then everything comes from control, about a second later.
	Conn   *nats.Conn
	Events EventSource
	Keys   stream.Keyring
	// Dir is the folder of the state file; "" keeps none. A folder belongs to one follower at a time.
	Dir string
	// Publish is called with each new whole state, by New for what the file held and then by Run, one call at a time; Run waits
	// for it. accounts are those that had events since the last call, sorted; nil says that all may have changed. A page of
	// events is one call.
	Publish    func(state *policy.State, accounts []string)
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil keeps the metrics to itself

	// HeadEvery is how often control is asked for the head. Default 1 s.
	HeadEvery time.Duration
	// GapWait is how long events that are known to exist may take to come live before control is asked for them. Default 300 ms.
	GapWait time.Duration
	// AskTimeout bounds a question for the head, and the time in which a read of events may bring nothing. Default 5 s.
	AskTimeout time.Duration
	// ProofEvery is how often the file takes down that the state is fresh. Default 10 s.
	ProofEvery time.Duration
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.HeadEvery, time.Second}, {&c.GapWait, 300 * time.Millisecond}, {&c.AskTimeout, 5 * time.Second}, {&c.ProofEvery, 10 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// Follower follows one log. Its methods may be called from any number of goroutines; Run once.
type Follower struct {
	cfg     Config
	clock   clock
	metrics metrics
	journal *journal // nil without Dir

	state  atomic.Pointer[policy.State] // whole; nil while there is none
	proved atomic.Int64                 // when the newest question that proves the state fresh was sent, by clock.boot; unproven for none
	status status
	queue  queue
}

// New loads the state file and publishes what it holds, so that a node can answer though control and NATS are away. A file
// that is damaged is set aside. New fails when another process uses the folder, or when the folder cannot be made.
func New(cfg Config) (*Follower, error) { return newFollower(cfg, systemClock) }

func newFollower(cfg Config, clock clock) (*Follower, error) {
	cfg.setDefaults()
	f := &Follower{cfg: cfg, clock: clock, queue: queue{waiting: map[*waiter]struct{}{}}}
	f.proved.Store(unproven)
	f.status.asked = errNotAsked
	f.metrics = newMetrics(f, cfg.Registerer)
	if cfg.Dir == "" {
		return f, nil
	}
	j, saved, err := openJournal(cfg.Dir, cfg.Logger, f.metrics.fileErrors)
	if err != nil {
		return nil, err
	}
	f.journal = j
	if saved.state != nil {
		f.metrics.events.WithLabelValues("file").Add(float64(saved.events))
		f.proved.Store(saved.proof.on(clock))
		f.publish(saved.state, nil)
	}
	return f, nil
}

// Close gives the folder of a Follower back that never Run. Run does so itself.
func (f *Follower) Close() {
	if f.journal != nil {
		f.journal.close()
	}
}

// State is the newest whole state; nil while there is none.
func (f *Follower) State() *policy.State { return f.state.Load() }

// publish makes s visible. accounts is as in Config.Publish.
func (f *Follower) publish(s *policy.State, accounts map[string]struct{}) {
	f.state.Store(s)
	var changed []string
	if accounts != nil {
		changed = slices.Sorted(maps.Keys(accounts))
	}
	f.cfg.Publish(s, changed)
	f.queue.reached(s.Position)
}

var (
	errNotAsked = errors.New("control has not answered yet")
	errNoState  = errors.New("there is no state yet")
)

// status is what Status is made of.
type status struct {
	mu      sync.Mutex // guards the fields below
	stopped error      // for good
	asked   error      // what the newest question for the head came to
	read    error      // what the newest read from control came to
}

// Status is nil while the log is followed; else why not. It is a line of /readyz that makes nobody unready.
func (f *Follower) Status() error {
	f.status.mu.Lock()
	defer f.status.mu.Unlock()
	for _, err := range []error{f.status.stopped, f.status.asked, f.status.read} {
		if err != nil {
			return err
		}
	}
	if f.State() == nil {
		return errNoState
	}
	return nil
}

// halted reports whether following has stopped for good.
func (f *Follower) halted() bool {
	f.status.mu.Lock()
	defer f.status.mu.Unlock()
	return f.status.stopped != nil
}

// report keeps err as one of the fields of status, and logs when what Status says changes.
func (f *Follower) report(ctx context.Context, field *error, err error) {
	before := f.Status()
	f.status.mu.Lock()
	*field = err
	f.status.mu.Unlock()
	switch after := f.Status(); {
	case after == nil && before != nil:
		f.cfg.Logger.InfoContext(ctx, "following the log", slog.Uint64("position", position(f.State())))
	case after != nil && (before == nil || before.Error() != after.Error()):
		f.cfg.Logger.WarnContext(ctx, "not following the log", slog.Any("error", after), slog.Uint64("position", position(f.State())))
	}
}

// position is 0 for no state.
func position(s *policy.State) uint64 {
	if s == nil {
		return 0
	}
	return s.Position
}
