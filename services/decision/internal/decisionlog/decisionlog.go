// Package decisionlog turns decisions into a stream: decision → spool → batches on a stream of NATS, from where audit brings them
// into ClickHouse.
//
// It guarantees that every decision for which Record returned nil has a number (node, boot, seq), without a gap within the boot,
// and is in the spool: segments of mapped memory, which outlive the process. What a machine that dies loses has a bound on its
// disk, which the opening record of the next boot names. A segment goes away when audit has said that what is in it is in
// ClickHouse, and not when the stream acknowledged it: streams lose acknowledged messages. What is lost on the way is sent again;
// audit drops by number what comes twice. When the spool or the disk is full, Record fails, so that no decision goes unrecorded.
package decisionlog

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/dirlock"
	"github.com/verdict-io/verdict/services/internal/stream"
)

var (
	// ErrFull: the spool has reached its limit, or the disk takes no more. What would have been decided is not recorded, and so must
	// not be answered.
	ErrFull = errors.New("the decision log is full")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the decision log is closed")
	// ErrTooLarge: the record does not fit a batch, though its context was left out.
	ErrTooLarge = errors.New("the decision's record is too large")
)

// Config is what a Writer needs.
type Config struct {
	// Dir is the spool, a folder on a local disk. It is made when there is none, and belongs to one process at a time.
	Dir string
	// Node names the node, see stream.ValidNode; Build is the version of its program.
	Node, Build string
	// Partitions is how many decision streams there are, as audit is told. At least 1.
	Partitions int
	// SegmentBytes is the size of a segment, a multiple of 4096. Default 16 MiB, at least 1 MiB.
	SegmentBytes int64
	// SpoolBytes bounds the spool, all boots together. Default 1 GiB, at least three segments.
	SpoolBytes int64
	Conn       *nats.Conn
	Logger     *slog.Logger
	Registerer prometheus.Registerer // may be nil
	// Linger is how long a batch that is not full waits for more. Default 20 ms.
	Linger time.Duration
	// Sync is how often what was written is brought to the disk, and a disk that took no more is tried again. Default 1 s.
	Sync time.Duration
	// AckTimeout is how long an acknowledgement may take. Default 5 s.
	AckTimeout time.Duration
	// Retry is the shortest pause before a batch is sent again; it grows up to 40 times that. Default 50 ms.
	Retry time.Duration
}

const (
	recordVersion = 1
	// reserveBlock is how many numbers are reserved at once, and so what a machine's death adds to the bound of its loss.
	reserveBlock = 1 << 16
	// firstSegment is the size of a boot's first segment. It is small, and beyond the limit, so that a node starts, and can send what
	// it has, on a spool or a disk that is all but full.
	firstSegment = 64 << 10
)

// withDefaults fills in what was left out and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	c.SegmentBytes = cmp.Or(c.SegmentBytes, 16<<20)
	c.SpoolBytes = cmp.Or(c.SpoolBytes, max(1<<30, 3*c.SegmentBytes))
	c.Linger = cmp.Or(c.Linger, 20*time.Millisecond)
	c.Sync = cmp.Or(c.Sync, time.Second)
	c.AckTimeout = cmp.Or(c.AckTimeout, 5*time.Second)
	c.Retry = cmp.Or(c.Retry, 50*time.Millisecond)
	switch {
	case stream.ValidNode(c.Node) != nil:
		return c, stream.ValidNode(c.Node)
	case c.Dir == "" || c.Conn == nil || c.Logger == nil:
		return c, errors.New("the decision log needs a folder, a connection to NATS and a logger")
	case c.Partitions < 1:
		return c, fmt.Errorf("%d partitions of the decision log: there is at least 1", c.Partitions)
	case c.SegmentBytes < 1<<20 || c.SegmentBytes > 1<<30 || c.SegmentBytes%4096 != 0:
		return c, fmt.Errorf("segments of %d bytes: a segment has 1 MiB to 1 GiB, a multiple of 4096", c.SegmentBytes)
	case c.SpoolBytes < 3*c.SegmentBytes:
		return c, fmt.Errorf("a spool of %d bytes: it holds at least three segments of %d", c.SpoolBytes, c.SegmentBytes)
	}
	return c, nil
}

// Writer is one boot of a node: it numbers decisions, keeps them and sends them. It is safe for concurrent use.
type Writer struct {
	cfg     Config
	lock    *os.File
	own     *boot
	metrics metrics
	sender  *sender
	sending chan struct{} // has a token while nobody uses sender
	wake    chan struct{} // has a token once something was recorded
	nudge   chan struct{} // has a token when the keeper has something to do
	stop    chan struct{} // closed by Close
	kept    chan struct{} // closed when the keeper has ended

	mu       sync.Mutex // guards what own says, and the fields below
	finished sync.Cond  // of mu: making has ended
	closed   bool
	reserved uint64   // numbers up to this one may be given out
	spare    *segment // the next segment; nil while there is none
	making   bool     // a segment is being made
	used     int64    // bytes of the files of the spool, the first segments of boots and what is being made included
	makeErr  error    // why the last segment could not be made; nil when it could
	syncErr  error    // why the disk does not take what is written; nil while it does
	sendErr  error    // why batches do not leave; nil while they do
	counts   counts
}

// Open takes a spool, recovers what earlier boots left in it, and begins a new boot, whose opening record is on the disk when Open
// returns. The caller must Close. Open does not need NATS; Run does.
func Open(cfg Config) (_ *Writer, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the decision log: %w", err)
	}
	lock, err := dirlock.Lock(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("the decision log: %w", err)
	}
	w := &Writer{
		cfg: cfg, lock: lock, reserved: reserveBlock,
		sending: make(chan struct{}, 1), wake: make(chan struct{}, 1), nudge: make(chan struct{}, 1),
		stop: make(chan struct{}), kept: make(chan struct{}),
	}
	w.finished.L = &w.mu
	earlier, err := w.begin()
	if err == nil {
		w.sender, err = newSender(w, earlier)
	}
	if err != nil {
		for _, b := range earlier {
			err = errors.Join(err, b.unmap())
		}
		lock.Close()
		return nil, fmt.Errorf("opening the decision log in %s: %w", cfg.Dir, err)
	}
	w.metrics = newMetrics(w, cfg.Registerer)
	w.sending <- struct{}{}
	go w.keep()
	return w, nil
}

// begin recovers the earlier boots and begins this one.
func (w *Writer) begin() (earlier []*boot, err error) {
	machine := machineBoot()
	r, err := recoverSpool(w.cfg.Dir, machine)
	if err != nil {
		return r.boots, err
	}
	for _, damage := range r.damaged {
		w.counts.damaged++
		w.cfg.Logger.Error("an earlier boot's records cannot be read: its folder is put aside, and its loss has a bound", slog.Any("error", damage))
	}
	h := header{node: w.cfg.Node, partition: partitionOf(w.cfg.Node, w.cfg.Partitions), order: r.order + 1, machine: machine[:min(len(machine), machineBytes)]}
	if _, err := rand.Read(h.boot[:]); err != nil {
		return r.boots, err
	}
	w.own, err = createBoot(w.cfg.Dir, h, func(b *boot) { b.add(openingRecord(w.cfg.Build, r)) })
	if err != nil {
		return r.boots, err
	}
	w.counts.records++
	w.used = headerSize + w.own.bytes()
	for _, b := range r.boots {
		w.used += headerSize + b.bytes()
		w.cfg.Logger.Info("an earlier boot's records are sent again until audit has confirmed them", slog.String("boot", b.boot.String()),
			slog.Uint64("first", b.next), slog.Uint64("last", b.last), slog.Uint64("given_out", b.bound), slog.Bool("closed", b.closed))
	}
	return r.boots, nil
}

// partitionOf is where a node's boots go.
func partitionOf(node string, partitions int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // which never fails
	return int(h.Sum32() % uint32(partitions))
}

// Boot is this start of the node.
func (w *Writer) Boot() stream.Boot { return w.own.boot }

// Run sends what is recorded, and lets go what audit confirms, until ctx ends, whose error it returns, or until Close, and then nil.
// Nothing that NATS or audit do ends it.
func (w *Writer) Run(ctx context.Context) error {
	select {
	case <-w.sending:
	case <-w.stop:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { w.sending <- struct{}{} }()
	return w.sender.run(ctx, w.stop, func() bool { return false })
}

// Close records that the boot ends, sends what is left until the streams have acknowledged it all or ctx ends, and gives the spool
// free. What could not be sent stays there for the next boot, and Close says so. It ends Run, and may be called again.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	err := w.end()
	w.mu.Unlock()
	close(w.stop)
	<-w.kept
	<-w.sending // Run returns promptly
	err = errors.Join(err, w.syncAll())
	if serr := w.sender.run(ctx, nil, w.sender.drained); serr != nil {
		unsent, _ := w.backlog()
		err = errors.Join(err, fmt.Errorf("%d records are not sent and stay in the spool for the next start: %w", unsent, serr))
	}
	return errors.Join(err, w.release())
}

// release gives up what the process has of the spool.
func (w *Writer) release() error {
	err := w.sender.unmap()
	w.mu.Lock()
	if w.spare != nil {
		err = errors.Join(err, w.spare.close(), os.Remove(w.spare.path))
		w.spare = nil
	}
	w.mu.Unlock()
	return errors.Join(err, w.lock.Close())
}

// Status is why decisions are not, or will soon not be, recorded and sent; nil while all is well. It is a line in /readyz.
func (w *Writer) Status() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return ErrClosed
	case w.makeErr != nil || w.syncErr != nil:
		return cmp.Or(w.makeErr, w.syncErr)
	case w.used+w.cfg.SegmentBytes > w.cfg.SpoolBytes && w.spare == nil && !w.making && !w.own.current().room(maxFrame, closeRoom):
		return w.fullErr()
	case w.used > w.cfg.SpoolBytes/10*9:
		return errors.Join(fmt.Errorf("the spool is nearly full: %d of %d bytes, which wait for audit to confirm", w.used, w.cfg.SpoolBytes), w.sendErr)
	}
	return w.sendErr
}

func (w *Writer) fullErr() error {
	return fmt.Errorf("%w: %d of %d bytes of the spool are used, and wait for audit to confirm", ErrFull, w.used, w.cfg.SpoolBytes)
}
