// Package relay turns the log into a stream: the event of position p is message p of the stream VERDICT_POLICY.
//
// It guarantees order without gaps, at least once, whatever happens to NATS: each message is published with the sequence
// that it must follow, which the server checks, so that two relays at once are harmless. The stream is a cache of the log's
// tail: a stream that is gone, was purged, or holds what control did not sign, is made anew. What it never does is choose
// between two histories: when the stream holds genuine events that the log lacks or contradicts, the log went back (a
// restore). Then the relay stops, has the log refuse writes, and says why, until an operator has decided.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// ErrStopped: the stream and the log tell different histories. Only an operator can say which is true.
var ErrStopped = errors.New("the relay has stopped")

// ErrNotLooked: the stream has not been seen yet, so nobody knows whether the log went back.
var ErrNotLooked = errors.New("the stream has not been looked at yet, as NATS has not shown it: whether the log went back is not known")

// Config is what a Relay needs.
type Config struct {
	Log    *eventlog.Log
	Conn   *nats.Conn
	Keys   stream.Keyring
	Signer *stream.Signer
	// Keep is how many positions before the head a stream that is made anew begins. Default 100,000.
	Keep uint64
	// MaxBytes bounds the stream. Default 1 GiB.
	MaxBytes int64
	// Replicas of the stream. Default 1.
	Replicas   int
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Poll is how often the stream is looked at while nothing happens. Default 1 s.
	Poll time.Duration
}

// window is how many messages are on their way at once.
const window = 256

// timeout bounds each question to NATS.
const timeout = 2 * time.Second

// Relay copies the log to the stream.
type Relay struct {
	cfg     Config
	js      jetstream.JetStream
	metrics metrics
	// position is the last that the stream is known to have confirmed.
	position atomic.Uint64
	lease    *eventlog.Lease // owned by Run
	missing  int             // looks in a row at which the stream's last message was not to be had; owned by Run
	lagging  int             // looks in a row at which the stream was behind without this replica having the lease; owned by Run

	mu     sync.Mutex
	status error // guarded by mu; nil while all is well
}

// New makes a relay, which does nothing yet.
func New(cfg Config) (*Relay, error) {
	if cfg.Keep == 0 {
		cfg.Keep = 100_000
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 30
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	js, err := jetstream.New(cfg.Conn, jetstream.WithPublishAsyncMaxPending(window), jetstream.WithPublishAsyncTimeout(timeout), jetstream.WithDefaultTimeout(timeout))
	if err != nil {
		return nil, err
	}
	r := &Relay{cfg: cfg, js: js, status: ErrNotLooked}
	r.metrics = newMetrics(r, cfg.Registerer)
	return r, nil
}

// Status is why the stream is not a copy of the log's tail right now, nil when it is, or when another replica sees to it.
func (r *Relay) Status() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Run relays until ctx ends, whose error it returns. Every replica looks at the stream; the one with the lease writes.
func (r *Relay) Run(ctx context.Context) error {
	defer r.release(ctx)
	for ctx.Err() == nil {
		err := r.round(ctx)
		if ctx.Err() != nil {
			break
		}
		r.report(ctx, err)
		if err != nil && !errors.Is(err, errUnadjusted) {
			r.release(ctx) // another replica may fare better
			pause(ctx, r.cfg.Poll)
		}
	}
	return context.Cause(ctx)
}

// release gives the lease away, if this replica has it.
func (r *Relay) release(ctx context.Context) {
	r.metrics.leads.Set(0)
	if r.lease != nil {
		r.lease.Release(ctx)
		r.lease = nil
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// report keeps the status, and logs when it changes.
func (r *Relay) report(ctx context.Context, err error) {
	r.mu.Lock()
	before := r.status
	r.status = err
	r.mu.Unlock()
	switch {
	case err == nil && before != nil:
		r.cfg.Logger.InfoContext(ctx, "relay is well")
	case err != nil && (before == nil || before.Error() != err.Error()):
		r.cfg.Logger.ErrorContext(ctx, "relay", slog.Any("error", err))
	}
}

// Look looks at the stream once. It is for the start, before the first write: a look has the log refuse writes if it must.
func (r *Relay) Look(ctx context.Context) error {
	_, err := r.look(ctx)
	if errors.Is(err, errMissing) {
		err = nil
	}
	r.report(ctx, err)
	return err
}

// round looks at the stream, and then, for about the time of a poll, publishes what is committed.
func (r *Relay) round(ctx context.Context) error {
	last, err := r.look(ctx)
	if err != nil && !errors.Is(err, errMissing) {
		return err
	}
	r.position.Store(last)
	if err := r.cfg.Log.Begin(ctx); err != nil { // nothing has been written since the first look that allows it
		return err
	}
	if leads, lerr := r.leads(ctx); lerr != nil || !leads {
		r.metrics.leads.Set(0)
		pause(ctx, r.cfg.Poll)
		return errors.Join(lerr, r.lags(last))
	}
	r.lagging = 0
	r.metrics.leads.Set(1)
	if last, err = r.prepare(ctx, last, err); err != nil {
		return err
	}
	unadjusted := r.adjust(ctx) // which is no reason not to go on
	return errors.Join(r.relay(ctx, last), unadjusted)
}

// lags is an error once the stream has been behind the log for some looks though another replica has the lease.
func (r *Relay) lags(last uint64) error {
	known := r.cfg.Log.Known().Position
	if last >= known {
		r.lagging = 0
		return nil
	}
	if r.lagging++; r.lagging < 5 {
		return nil
	}
	return fmt.Errorf("the stream ends at position %d and the log at %d, and the replica that has the lease does not publish", last, known)
}

// prepare makes a stream that is missing. found is what look found before this replica had the
// lease: whoever had it then may have made the stream meanwhile, so it looks again before it deletes anything.
func (r *Relay) prepare(ctx context.Context, last uint64, found error) (uint64, error) {
	if found == nil {
		return last, nil
	}
	last, err := r.look(ctx)
	if errors.Is(err, errMissing) {
		return r.create(ctx)
	}
	return last, err
}

// relay publishes what the log holds after last, at once and then as it comes. The first time does not wait for the known
// state to move: an event that this version cannot fold is transported all the same.
func (r *Relay) relay(ctx context.Context, last uint64) error {
	poll, cancel := context.WithTimeout(ctx, r.cfg.Poll)
	defer cancel()
	for {
		var err error
		if last, err = r.publish(ctx, last); err != nil {
			return fmt.Errorf("publishing position %d: %w", last+1, err)
		}
		r.position.Store(last)
		if err := r.hint(); err != nil {
			return err
		}
		if _, err := r.cfg.Log.Wait(poll, last); err != nil || poll.Err() != nil {
			return nil
		}
	}
}

// leads reports whether this replica has the lease, and tries to take it.
func (r *Relay) leads(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if r.lease != nil {
		if r.lease.Held(ctx) == nil {
			return true, nil
		}
		r.release(ctx)
	}
	lease, err := r.cfg.Log.TryLease(ctx)
	r.lease = lease
	return lease != nil, err
}

// publish sends everything after position last, and returns the last position that the stream has confirmed. Whatever goes
// wrong, the next look says where the stream stands.
func (r *Relay) publish(ctx context.Context, last uint64) (uint64, error) {
	pending := make([]pending, 0, window)
	for row, err := range r.cfg.Log.Read(ctx, last) {
		if err != nil {
			return last, err
		}
		if len(pending) == window {
			if last, err = settle(ctx, last, pending[:window/2]); err != nil {
				return last, err
			}
			pending = append(pending[:0], pending[window/2:]...)
		}
		sent, err := r.send(row)
		if err != nil {
			return last, err
		}
		pending = append(pending, sent)
	}
	return settle(ctx, last, pending)
}

// pending is a message that the server has not confirmed yet.
type pending struct {
	position uint64
	ack      jetstream.PubAckFuture
}

// send understands nothing of the event: a later version may have written it.
func (r *Relay) send(row eventlog.Row) (pending, error) {
	data, err := proto.Marshal(row.Event)
	if err != nil {
		return pending{}, err
	}
	msg := &nats.Msg{Subject: stream.Subject(row.Account, row.Stream), Data: data}
	ack, err := r.js.PublishMsgAsync(msg, jetstream.WithExpectLastSequence(row.Position-1))
	return pending{position: row.Position, ack: ack}, err
}

// settle waits for confirmations in their order.
func settle(ctx context.Context, last uint64, sent []pending) (uint64, error) {
	for _, p := range sent {
		select {
		case ack := <-p.ack.Ok():
			if ack.Sequence != p.position {
				return last, fmt.Errorf("position %d was stored as message %d", p.position, ack.Sequence)
			}
			last = p.position
		case err := <-p.ack.Err():
			return last, err
		case <-ctx.Done():
			return last, context.Cause(ctx)
		}
	}
	return last, nil
}

// hint tells followers where the head is, so that they need not wait for their next question.
func (r *Relay) hint() error {
	s := r.cfg.Log.Known()
	head, err := stream.SealHead(stream.Head{LogID: s.LogID, Position: s.Position, Hash: s.Hash}, nil, r.cfg.Signer)
	if err != nil {
		return err
	}
	data, err := proto.Marshal(head)
	if err != nil {
		return err
	}
	return r.cfg.Conn.Publish(stream.HeadSubject, data)
}

type metrics struct {
	leads    prometheus.Gauge
	rebuilds prometheus.Counter
}

func newMetrics(r *Relay, reg prometheus.Registerer) metrics {
	opts := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: "verdict", Subsystem: "relay", Name: name, Help: help}
	}
	m := metrics{
		leads: prometheus.NewGauge(opts("leads", "1 while this replica writes to the stream.")),
		rebuilds: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "verdict", Subsystem: "relay", Name: "rebuilds_total", Help: "Times that the stream was made anew.",
		}),
	}
	position := func() float64 { return float64(r.position.Load()) }
	behind := func() float64 { return max(0, float64(r.cfg.Log.Known().Position)-position()) }
	stopped := func() float64 {
		if errors.Is(r.Status(), ErrStopped) {
			return 1
		}
		return 0
	}
	reg.MustRegister(m.leads, m.rebuilds,
		prometheus.NewGaugeFunc(opts("stopped", "1 while the stream and the log tell different histories and an operator must decide."), stopped),
		prometheus.NewGaugeFunc(opts("position", "Last position that this replica has seen on the stream."), position),
		prometheus.NewGaugeFunc(opts("behind_events", "Events that are known to be committed and have not been seen on the stream."), behind))
	return m
}
