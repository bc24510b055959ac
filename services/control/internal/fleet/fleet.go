// Package fleet knows which decision node decides with which revision: nodes report it over NATS, and a Fleet holds their latest
// reports against the log.
//
// It guarantees that a node counts for a revision only when it has reported a state of this log, with this log's hash, at or beyond
// it, or when it has fallen silent for so long that it must deny what an account asks of it. A report is believed about the node
// whose subject it came on, since NATS lets no other user speak there, and its age is measured here: no clock of a node counts.
package fleet

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	// silence is how long after its last report a node is silent: three reports are missing then.
	silence = 3 * time.Second
	// forget is how long after its last report a node is no node any more.
	forget = 24 * time.Hour
	// maxNodes bounds how many nodes are known. Further ones are refused, and counted.
	maxNodes = 10_000
	// maxReport bounds a report in bytes.
	maxReport = 4 << 10
)

// Config is what a Fleet needs.
type Config struct {
	Log        Log
	Conn       *nats.Conn // may be disconnected: then nobody is heard
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Fleet is the nodes as their reports show them. Its methods may be called from any number of goroutines; Run once.
type Fleet struct {
	cfg     Config
	metrics metrics

	mu      sync.Mutex // guards the fields below
	nodes   map[string]*node
	history history
	// since is from when on nodes are heard without a break; zero while they are not.
	since   time.Time
	waiters int
}

// node is what is known of one node. Fleet.mu guards it.
type node struct {
	report   *decisionv1.NodeReport
	heard    time.Time // when the report came
	measured uint64    // up to this position its delays have been observed
}

// New is a Fleet that knows no node yet.
func New(cfg Config) *Fleet {
	f := &Fleet{cfg: cfg, nodes: map[string]*node{}}
	f.history = f.history.with(cfg.Log.Known(), time.Now())
	f.metrics = newMetrics(f, cfg.Registerer)
	return f
}

// Run listens to nodes, and keeps up with the log, until ctx ends, whose error it returns.
func (f *Fleet) Run(ctx context.Context) error {
	sub, err := f.cfg.Conn.Subscribe(stream.NodeAll, func(msg *nats.Msg) { f.hear(msg, time.Now()) })
	if err != nil {
		return fmt.Errorf("listening to nodes: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	var children sync.WaitGroup
	children.Go(func() { f.keepUp(ctx) })
	defer children.Wait()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		f.tend(time.Now(), f.cfg.Conn.IsConnected() && stream.Permitted(f.cfg.Conn) == nil)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// tend forgets nodes that are no more, and notes whether nodes can be heard.
func (f *Fleet) tend(now time.Time, connected bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !connected:
		f.since = time.Time{}
	case f.since.IsZero():
		f.since = now
	}
	for name, n := range f.nodes {
		if now.Sub(n.heard) > forget {
			delete(f.nodes, name)
		}
	}
}

// hear takes a report, if it is one of the node whose subject it came on.
func (f *Fleet) hear(msg *nats.Msg, now time.Time) {
	m := &decisionv1.NodeReport{}
	switch {
	case len(msg.Data) > maxReport || proto.Unmarshal(msg.Data, m) != nil:
		f.metrics.refused.WithLabelValues("junk").Inc()
		return
	case stream.ValidNode(m.GetNode()) != nil || msg.Subject != stream.NodeSubject(m.GetNode()):
		f.metrics.refused.WithLabelValues("name").Inc()
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.nodes[m.GetNode()]
	same := before != nil && bytes.Equal(before.report.GetBoot(), m.GetBoot())
	if m.GetEnded() {
		if same { // else a process has ended that another one has taken over from
			delete(f.nodes, m.GetNode())
		}
		return
	}
	if before == nil && len(f.nodes) >= maxNodes {
		f.metrics.refused.WithLabelValues("full").Inc()
		return
	}
	n := &node{report: m, heard: now, measured: m.GetPosition()}
	if same {
		n.measured = before.measured
	}
	f.nodes[m.GetNode()] = n
	f.measure(n)
}

// measure observes how long after their commits a node has the revisions that it reports for the first time. What it had when it
// was first heard is not measured, and what the log is not known to hold is measured later.
func (f *Fleet) measure(n *node) {
	if is := f.relation(n); is == NoState || is == AnotherLog || is == AnotherHistory {
		return
	}
	for _, r := range f.history.between(n.measured, n.report.GetPosition()) {
		f.metrics.applied.Observe(max(0, n.heard.Sub(time.UnixMicro(r.state.RecordedAt)).Seconds()))
		n.measured = r.state.Position
	}
}

// keepUp takes down every revision of the log, in order.
func (f *Fleet) keepUp(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.follow(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Logger.WarnContext(ctx, "what nodes report cannot be held against the log", slog.Any("error", err))
			pause(ctx, time.Second)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// follow waits for the next revisions and takes them down. Those in between are read, as each says what nodes may do that have it.
func (f *Fleet) follow(ctx context.Context) error {
	f.mu.Lock()
	s := f.history.last().state
	f.mu.Unlock()
	newest, err := f.cfg.Log.Wait(ctx, s.Position)
	if err != nil {
		return err
	}
	for row, err := range f.cfg.Log.Read(ctx, s.Position) {
		if err != nil {
			return err
		}
		event, err := stream.Decode(row.Event)
		if err == nil {
			s, err = s.Apply(event)
		}
		if err != nil {
			return fmt.Errorf("position %d: %w", row.Position, err)
		}
		if s.Whole {
			f.learn(s, time.Now())
		}
		if s.Position >= newest.Position {
			return nil
		}
	}
	return nil
}

// learn takes a revision down.
func (f *Fleet) learn(s *policy.State, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.history = f.history.with(s, now)
	for _, n := range f.nodes {
		f.measure(n)
	}
}
