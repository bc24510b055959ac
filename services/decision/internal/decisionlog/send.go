package decisionlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// Bounds of a batch before compression, which leave room for what compression adds to what does not compress.
const (
	batchRecords = 500
	batchBytes   = 400 << 10
)

// sender sends what is in the spool and lets go what audit confirms. It belongs to one goroutine at a time; whatever it changes that
// others look at, it changes under Writer.mu.
type sender struct {
	w          *Writer
	js         jetstream.JetStream
	boots      []*boot // in the order of their starts, the running one last
	partitions map[int]*partition
	flight     *flight // the batch that is on its way; nil when none is
	ingested   chan *nats.Msg
	listening  map[string]*nats.Subscription // by node
	lingers    time.Time                     // until when the running boot's next batch may wait for more; zero when nothing waits
}

// partition is what is known of a stream.
type partition struct {
	id      string // as audit last said; empty before it did
	lastAck uint64 // sequence of the last acknowledgement
	fails   int    // in a row
	retryAt time.Time
	err     error // why the last batch did not get there; nil when it did
}

// flight is a batch on its way. One at a time is on its way, so that they come in order.
type flight struct {
	boot        *boot
	first, last uint64
	full        bool
	after       place
	future      jetstream.PubAckFuture
	void        bool // sending begins again below it, whatever becomes of it
}

// place is where a record is.
type place struct {
	seq     uint64
	segment *segment
	offset  int
}

func newSender(w *Writer, earlier []*boot) (*sender, error) {
	js, err := jetstream.New(w.cfg.Conn, jetstream.WithPublishAsyncTimeout(w.cfg.AckTimeout))
	if err != nil {
		return nil, err
	}
	s := &sender{
		w: w, js: js, boots: append(slices.Clip(earlier), w.own),
		partitions: map[int]*partition{}, ingested: make(chan *nats.Msg, 256), listening: map[string]*nats.Subscription{},
	}
	for _, b := range s.boots {
		s.partitions[b.partition] = &partition{}
	}
	return s, nil
}

// listen hears what audit says to this node, to those others whose boots are left over, and to all.
func (s *sender) listen() error {
	nodes := []string{stream.AllNodes}
	for _, b := range s.boots {
		nodes = append(nodes, b.node)
	}
	for _, node := range nodes {
		if s.listening[node] != nil {
			continue
		}
		sub, err := s.w.cfg.Conn.ChanSubscribe(stream.IngestedSubject(node), s.ingested)
		if err != nil {
			return fmt.Errorf("listening to audit: %w", err)
		}
		s.listening[node] = sub
	}
	return nil
}

// run sends until ctx ends, stop is closed or done says so while nothing is on its way.
func (s *sender) run(ctx context.Context, stop <-chan struct{}, done func() bool) error {
	if err := s.listen(); err != nil {
		return err
	}
	for {
		var wake <-chan struct{}
		var ok <-chan *jetstream.PubAck
		var failed <-chan error
		var due <-chan time.Time
		if s.flight == nil && ctx.Err() == nil {
			if done() {
				return nil
			}
			if wait := s.launch(time.Now()); wait > 0 {
				due = time.After(wait)
			}
		}
		if s.flight != nil {
			ok, failed = s.flight.future.Ok(), s.flight.future.Err()
		} else if s.lingers.IsZero() {
			wake = s.w.wake
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-stop:
			return nil
		case <-wake:
		case <-due:
		case msg := <-s.ingested:
			s.hear(msg)
		case ack := <-ok:
			s.landed(ack)
		case err := <-failed:
			s.fail(s.flight.boot, err)
			s.flight = nil
		}
	}
}

// launch sends the next batch that is due, if there is one, of the earliest boot whose partition is not in a pause. Otherwise it
// says how long nothing will be due; 0 when that is until something happens.
func (s *sender) launch(now time.Time) (wait time.Duration) {
	for _, b := range s.boots {
		s.w.mu.Lock()
		waiting, lingers := b.next <= b.last, b == s.w.own && !b.closed
		s.w.mu.Unlock()
		if !waiting {
			if b == s.w.own {
				s.lingers = time.Time{} // what lingered was confirmed meanwhile: what comes next must wake the sender
			}
			continue
		}
		at := s.pausedUntil(b)
		if lingers {
			if s.lingers.IsZero() {
				s.lingers = now.Add(s.w.cfg.Linger)
			}
			if at.Before(s.lingers) {
				at = s.lingers
			}
		}
		if !now.Before(at) {
			f, err := s.publish(b)
			if err == nil {
				s.flight = f
				return 0
			}
			s.fail(b, err)
			at = s.pausedUntil(b)
		}
		if until := at.Sub(now); wait == 0 || until < wait {
			wait = until
		}
	}
	return wait
}

// pausedUntil is when a boot's next batch may be sent.
func (s *sender) pausedUntil(b *boot) time.Time {
	if at := s.partitions[b.partition].retryAt; at.After(b.retryAt) {
		return at
	}
	return b.retryAt
}

// publish sends the next batch of a boot.
func (s *sender) publish(b *boot) (*flight, error) {
	if err := stream.Connected(s.w.cfg.Conn); err != nil {
		return nil, err // publishing would only fill memory
	}
	batch, f, err := s.gather(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	b.err, b.retryAt = nil, time.Time{}
	msg := &nats.Msg{Subject: stream.DecisionSubject(b.partition, b.node, b.boot), Data: batch}
	f.future, err = s.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return nil, err
	}
	b.sent = max(b.sent, f.last)
	return f, nil
}

// errUnreadable: the disk does not give records any more that it gave when the boot was recovered.
var errUnreadable = errors.New("decisions in the spool cannot be read")

// gather makes the next batch of a boot.
func (s *sender) gather(b *boot) (encoded []byte, f *flight, err error) {
	defer faultAsError(&err)() // of the records, which are not copied before they are encoded
	s.w.mu.Lock()
	segments := viewOf(b.segments)
	last, bound := b.last, b.bound
	s.w.mu.Unlock()
	f = &flight{boot: b, first: b.next, after: b.at}
	if f.after.seq != b.next {
		f.after = find(segments, b.next)
	}
	var records [][]byte
	size := 0
	for f.after.seq <= last && !f.full {
		record, after := f.after.read(segments, b.prefix)
		if record == nil {
			return nil, nil, fmt.Errorf("record %d of boot %s cannot be read from the spool any more", f.after.seq, b.boot)
		}
		if len(records) > 0 && size+len(record) > batchBytes {
			f.full = true
			break
		}
		records, size, f.after = append(records, record), size+len(record), after
		f.full = len(records) == batchRecords
	}
	f.last = f.after.seq - 1
	encoded, err = stream.EncodeBatch(stream.Batch{
		Node: b.node, Boot: b.boot, FirstSeq: f.first, LastSeq: f.last, GivenOut: bound, Records: records,
	})
	return encoded, f, err
}

// view is a segment as it was when the boot was looked at.
type view struct {
	*segment
	first uint64
}

func viewOf(segments []*segment) []view {
	views := make([]view, len(segments))
	for i, s := range segments {
		views[i] = view{s, s.first}
	}
	return views
}

// find is where a record is, or the end of the segment before the one that it is in.
func find(segments []view, seq uint64) place {
	var at place
	for _, v := range segments {
		if v.first != 0 && v.first <= seq {
			at = place{seq: v.first, segment: v.segment}
		}
	}
	for at.segment != nil && at.seq < seq {
		record := readFrame(at.segment.data, at.offset)
		if record == nil {
			break
		}
		at.seq++
		at.offset += frameSize(len(record))
	}
	at.seq = seq
	return at
}

// read is the record at a place, and where the next one is; nil when it is not there.
func (p place) read(segments []view, prefix []byte) (record []byte, after place) {
	i := slices.IndexFunc(segments, func(v view) bool { return v.segment == p.segment })
	if i < 0 {
		p = find(segments, p.seq)
		i = slices.IndexFunc(segments, func(v view) bool { return v.segment == p.segment })
	}
	for ; i >= 0 && i < len(segments); i++ {
		if record = readFrame(p.segment.data, p.offset); numberOf(record, prefix) == p.seq {
			return record, place{p.seq + 1, p.segment, p.offset + frameSize(len(record))}
		}
		if i+1 < len(segments) {
			p.segment, p.offset = segments[i+1].segment, 0
		}
	}
	return nil, p
}

// landed takes an acknowledgement. One that is not above the one before says that the stream has lost messages.
func (s *sender) landed(ack *jetstream.PubAck) {
	f := s.flight
	s.flight = nil
	p := s.partitions[f.boot.partition]
	if want := stream.DecisionStream(f.boot.partition); ack.Stream != want {
		s.fail(f.boot, fmt.Errorf("stream %s took a batch that is for %s: remove its subjects", ack.Stream, want))
		return
	}
	s.w.metrics.batches.WithLabelValues("acknowledged").Inc()
	lost := ack.Sequence <= p.lastAck
	p.lastAck = ack.Sequence
	s.well(p)
	if f.boot == s.w.own && !f.full {
		s.lingers = time.Time{}
	}
	switch {
	case lost:
		s.rewindAll(f.boot.partition, causeStreamLost)
	case !f.void:
		f.boot.at = f.after
		s.setNext(f.boot, max(f.boot.next, f.last+1))
		if f.last > f.boot.confirmed {
			f.boot.remember(acked{f.last, ack.Sequence})
		}
	}
}

// remember keeps an acknowledged batch until it is confirmed. Of very many every second is enough: what was lost is then seen a
// batch later.
func (b *boot) remember(a acked) {
	const most = 4096
	b.acked = append(b.acked, a)
	if len(b.acked) < most {
		return
	}
	for i := 1; i < len(b.acked); i += 2 {
		b.acked[i/2] = b.acked[i]
	}
	b.acked = b.acked[:len(b.acked)/2]
}

// fail has the batch sent again after a pause. Why it failed does not matter: whether it is in the stream is not known, and audit
// drops what comes twice.
func (s *sender) fail(b *boot, err error) {
	if errors.Is(err, errUnreadable) {
		s.unreadable(b, err)
		return
	}
	p := s.partitions[b.partition]
	pause := s.w.cfg.Retry * time.Duration(min(1<<min(p.fails, 10), 40))
	p.fails++
	p.retryAt = time.Now().Add(pause/2 + rand.N(pause)) //nolint:gosec // chance is only for many nodes not to come at once
	s.w.metrics.batches.WithLabelValues("failed").Inc()
	if p.err == nil || p.err.Error() != err.Error() {
		s.w.cfg.Logger.Warn("a batch of decisions did not get into its stream, and is sent again",
			slog.String("stream", stream.DecisionStream(b.partition)), slog.Any("error", err))
	}
	p.err = err
	s.tell(fmt.Errorf("decisions do not get into stream %s: %w", stream.DecisionStream(b.partition), err))
}

// unreadable has a boot wait, and no other.
func (s *sender) unreadable(b *boot, err error) {
	if b.err == nil {
		s.w.cfg.Logger.Error("decisions in the spool cannot be read; the others are sent", slog.String("boot", b.boot.String()), slog.Any("error", err))
	}
	b.err, b.retryAt = err, time.Now().Add(40*s.w.cfg.Retry)
	s.tell(err)
}

// well notes that a partition takes batches.
func (s *sender) well(p *partition) {
	if p.err == nil {
		return
	}
	p.fails, p.err = 0, nil
	p.retryAt = time.Time{}
	for _, other := range s.partitions {
		if other.err != nil {
			return
		}
	}
	s.w.cfg.Logger.Info("batches of decisions get into their streams again")
	var unreadable error
	for _, b := range s.boots {
		unreadable = cmp.Or(unreadable, b.err)
	}
	s.tell(unreadable)
}

func (s *sender) tell(err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.sendErr = err
}

func (s *sender) setNext(b *boot, next uint64) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	b.next = next
}

// drained reports that all there is has been acknowledged.
func (s *sender) drained() bool {
	unsent, _ := s.w.backlog()
	return unsent == 0
}

// unmap ends listening and gives the memory back.
func (s *sender) unmap() error {
	s.js.CleanupPublisher()
	var errs []error
	for _, sub := range s.listening {
		if err := sub.Unsubscribe(); !errors.Is(err, nats.ErrConnectionClosed) {
			errs = append(errs, err)
		}
	}
	for _, b := range s.boots {
		errs = append(errs, b.unmap())
	}
	return errors.Join(errs...)
}
