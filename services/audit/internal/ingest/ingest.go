// Package ingest turns decision streams into rows of ClickHouse, and tells nodes what is there.
//
// It guarantees that each decision is in the table once, whatever is sent twice, lost on the way, or interrupted:
//
//   - A stream is cut into blocks by a rule that reads nothing but the stream. A block is one INSERT under a token made of the
//     stream's id and the block's first sequence, so that it lands once however often it is sent, and by whomever.
//   - A record is taken only right behind the one before it of its boot. What came before is dropped; what comes too early is
//     not taken, and its node sends again.
//   - Only after ClickHouse has confirmed a block is the progress saved, and only what is saved is confirmed to nodes and
//     removed from the stream. From the progress any ingester goes on; two at once are right, since they cut the same blocks.
//   - A stream that is gone or lost messages is made anew. What its INSERTs may still do is ended first, what they did is
//     looked up, and the marks carry over, so that nodes can send again whatever is not confirmed.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/audit/internal/store"
)

// Config is what an Ingester needs.
type Config struct {
	Conn  *nats.Conn
	Store *store.Store
	// Partitions is how many decision streams there are. Default 1.
	Partitions int
	// Replicas of each stream. Default 1.
	Replicas int
	// StreamBytes bounds each stream; what does not fit stays with the nodes. Default 1 GiB, at least MinStreamBytes.
	StreamBytes int64
	// InsertTimeout bounds one try to insert a block. Default 30 s.
	InsertTimeout time.Duration
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
}

// MinStreamBytes is the smallest stream: a block that is not full must never fill it, since the message that ends the block
// would find no room.
const MinStreamBytes = 2 * blockBytes

const (
	timeout  = 2 * time.Second        // of each question to NATS
	pause    = 250 * time.Millisecond // before a partition that failed begins again
	idle     = time.Second            // without a message, after which a tick ends the block
	repeat   = 10 * time.Second       // between confirmations when nothing changes
	backoff  = 50 * time.Millisecond  // before the first repetition of what ClickHouse refused; it doubles
	backoffs = 5 * time.Second        // the longest of these
)

// Ingester reads all partitions.
type Ingester struct {
	partitions []*partition
}

// New makes an ingester, which does nothing yet.
func New(cfg Config) (*Ingester, error) {
	if cfg.Partitions == 0 {
		cfg.Partitions = 1
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	if cfg.StreamBytes == 0 {
		cfg.StreamBytes = 1 << 30
	}
	if cfg.InsertTimeout == 0 {
		cfg.InsertTimeout = 30 * time.Second
	}
	if cfg.StreamBytes < MinStreamBytes {
		return nil, fmt.Errorf("a decision stream needs at least %d bytes, and is set to %d", int64(MinStreamBytes), cfg.StreamBytes)
	}
	js, err := jetstream.New(cfg.Conn, jetstream.WithDefaultTimeout(timeout))
	if err != nil {
		return nil, err
	}
	i := &Ingester{}
	metrics := newMetrics(cfg.Registerer)
	for n := range cfg.Partitions {
		i.partitions = append(i.partitions, newPartition(n, cfg, js, metrics))
	}
	return i, nil
}

// Run ingests until ctx ends, and returns why it ended. Nothing else ends it: while NATS or ClickHouse are away it waits.
func (i *Ingester) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, p := range i.partitions {
		all.Go(func() { p.run(ctx) })
	}
	all.Wait()
	return context.Cause(ctx)
}

// Status is why decisions do not get into the table right now; nil when they do.
func (i *Ingester) Status() error {
	var all []error
	for _, p := range i.partitions {
		if err := p.failing(); err != nil {
			all = append(all, fmt.Errorf("partition %d: %w", p.number, err))
		}
	}
	return errors.Join(all...)
}
