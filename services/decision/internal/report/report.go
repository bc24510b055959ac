// Package report tells control which state a decision node decides with: once a second, and soon after it has changed.
//
// It guarantees that nothing waits for it. While NATS is away nothing is said and nothing is kept to be said later: a report is
// true when it is sent, or is not sent.
package report

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// Config is what a Reporter needs.
type Config struct {
	Conn *nats.Conn
	// Node names the node; Boot is this start of it.
	Node string
	Boot stream.Boot
	// Observe fills in what the node decides with now: log, position, hash, staleness, and why it does not follow the log.
	Observe func(*decisionv1.NodeReport)
	// Build is the version of the program.
	Build  string
	Logger *slog.Logger
	// Every is how often there is a report though nothing changes. Default 1 s.
	Every time.Duration
	// Least is how long after a report the next change of the state can cause one. Default 100 ms.
	Least time.Duration
}

// Reporter reports.
type Reporter struct {
	cfg     Config
	changed chan struct{} // has a token when the state has changed since the last report
}

// New is a Reporter that has not said anything yet.
func New(cfg Config) *Reporter {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Least == 0 {
		cfg.Least = 100 * time.Millisecond
	}
	return &Reporter{cfg: cfg, changed: make(chan struct{}, 1)}
}

// Changed says that the node decides with another state. It never blocks.
func (r *Reporter) Changed() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run reports until ctx ends, whose error it returns.
func (r *Reporter) Run(ctx context.Context) error {
	every := time.NewTicker(r.cfg.Every)
	defer every.Stop()
	least := time.NewTimer(0)
	defer least.Stop()
	var changed <-chan struct{} // r.changed, once Least has passed
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-least.C:
			changed = r.changed
			continue
		case <-changed:
			changed = nil
			least.Reset(r.cfg.Least)
		case <-every.C:
		}
		r.report(ctx, false)
	}
}

// Close says that the node has ended, after Run and once nothing more is decided, so that nobody waits for it. It waits for nothing
// when NATS is away.
func (r *Reporter) Close(ctx context.Context) error {
	r.report(ctx, true)
	if !r.cfg.Conn.IsConnected() {
		return nil
	}
	return r.cfg.Conn.FlushWithContext(ctx)
}

// report says once what is true now, if NATS is there.
func (r *Reporter) report(ctx context.Context, ended bool) {
	if !r.cfg.Conn.IsConnected() {
		return
	}
	m := &decisionv1.NodeReport{Node: r.cfg.Node, Boot: r.cfg.Boot[:], Build: r.cfg.Build, ReportedAtUs: time.Now().UnixMicro(), Ended: ended}
	r.cfg.Observe(m)
	data, err := proto.Marshal(m)
	if err == nil {
		err = r.cfg.Conn.Publish(stream.NodeSubject(r.cfg.Node), data)
	}
	if err != nil { // as when NATS has gone meanwhile; the next report comes in a second
		r.cfg.Logger.DebugContext(ctx, "reporting the node's state", slog.Any("error", err))
	}
}
