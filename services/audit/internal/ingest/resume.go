package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// errAgain: what was known of the stream does not hold any more. Nothing failed: begin again from the saved progress.
var errAgain = errors.New("the stream is not what it was")

// errLacks: a stream lost messages that were ingested.
var errLacks = errors.New("the decision stream lacks messages that were ingested, and is made anew")

func again(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errAgain, fmt.Sprintf(format, args...))
}

// stream is the partition's stream as it is now.
func (p *partition) stream(ctx context.Context) (jetstream.Stream, error) {
	if err := stream.Connected(p.cfg.Conn); err != nil {
		return nil, fmt.Errorf("%w; nodes keep their decisions until it is there", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := p.js.Stream(ctx, stream.DecisionStream(p.number))
	if err != nil {
		return nil, fmt.Errorf("looking at the decision stream: %w", err)
	}
	return s, nil
}

// look is the stream of that id; errAgain when that is gone.
func (p *partition) look(ctx context.Context, id string) (jetstream.Stream, error) {
	s, err := p.stream(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, again("it is gone")
	case err != nil:
		return nil, err
	}
	if stream.DecisionStreamID(s.CachedInfo()) != id {
		return nil, again("another one stands in its place")
	}
	return s, nil
}

// resume loads the progress and finds the sequence to go on with. It makes the stream if there is none.
//
// It looks at the stream before and after it reads the progress. Another ingester saves before it purges: so the first message
// of a look before is behind the progress, or messages are missing. And it saves what it has read: so the last message of a
// look after is not below the progress, or messages are missing.
func (p *partition) resume(ctx context.Context) (from uint64, err error) {
	before, err := p.stream(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		before, err = p.create(ctx)
	}
	if err != nil {
		return 0, err
	}
	if p.progress, err = p.load(ctx); err != nil {
		return 0, err
	}
	if stream.DecisionStreamID(before.CachedInfo()) != p.progress.StreamID {
		return 0, p.renew(ctx, before.CachedInfo())
	}
	after, err := p.look(ctx, p.progress.StreamID)
	if err != nil {
		return 0, err
	}
	if err := p.judge(ctx, after); err != nil {
		return 0, err
	}
	from = max(p.progress.Sequence+1, before.CachedInfo().State.FirstSeq)
	if missing := from - p.progress.Sequence - 1; missing > 0 {
		p.lost(ctx, p.progress.Sequence+1, missing)
	}
	p.adjust(ctx, after)
	p.done.Store(p.progress.Sequence)
	p.acceptor = newAcceptor(p.progress.Marks, p.lastSeq)
	return from, nil
}

func (p *partition) load(ctx context.Context) (progress store.Progress, err error) {
	err = p.persist(ctx, "reading the progress", p.cfg.InsertTimeout, func(ctx context.Context) error {
		progress, err = p.cfg.Store.Progress(ctx, p.number)
		return err
	})
	progress.Partition = p.number
	return progress, err
}

// lastSeq is a lastSeq of the stream that the progress is of.
func (p *partition) lastSeq(ctx context.Context, boot stream.Boot, before uint64) (uint64, error) {
	return p.lastSeqOf(ctx, boot, p.progress.StreamID, before)
}

func (p *partition) lastSeqOf(ctx context.Context, boot stream.Boot, id string, before uint64) (seq uint64, err error) {
	err = p.persist(ctx, "asking for the last record of a boot", p.cfg.InsertTimeout, func(ctx context.Context) error {
		seq, err = p.cfg.Store.LastSeq(ctx, boot, id, before)
		return err
	})
	return seq, err
}

// lost tells that the stream lacks messages that nobody has ingested. Their nodes still have them, and send them again once they
// hear how far the progress is.
func (p *partition) lost(ctx context.Context, first, n uint64) {
	p.metrics.lost.Add(float64(n))
	p.logger.WarnContext(ctx, "the decision stream lacks messages", slog.Uint64("first", first), slog.Uint64("messages", n))
}

// create makes the stream. Another ingester may make it at the same time, which is as good. The server may bring back messages
// of a stream that was deleted a moment ago, and they do no harm: those whose records are in the table are at or below their
// boot's mark, and are dropped; the others are taken if they follow it, as if they had been sent again.
func (p *partition) create(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	s, err := p.js.CreateStream(ctx, stream.DecisionStreamConfig(p.number, p.cfg.Replicas, p.cfg.StreamBytes))
	if err != nil {
		return nil, fmt.Errorf("making the decision stream: %w", err)
	}
	p.logger.InfoContext(ctx, "made the decision stream", slog.String("stream_id", stream.DecisionStreamID(s.CachedInfo())))
	return s, nil
}

// renew begins the next epoch, with the stream of info. INSERTs of the stream before are ended. They may have landed without
// their progress being saved, so the marks are raised to what the table has: an INSERT lands whole, so nothing is missing below.
// Rows of the new stream do not count, which another ingester may be reading already.
func (p *partition) renew(ctx context.Context, info *jetstream.StreamInfo) error {
	next := store.Progress{
		Partition: p.number, Epoch: p.progress.Epoch + 1, StreamID: stream.DecisionStreamID(info), Sequence: max(info.State.FirstSeq, 1) - 1,
	}
	if old := p.progress.StreamID; old != "" {
		err := p.persist(ctx, "ending the inserts of a stream that is gone", p.cfg.InsertTimeout, func(ctx context.Context) error {
			return p.cfg.Store.EndInserts(ctx, old)
		})
		if err != nil {
			return err
		}
	}
	for _, m := range p.progress.Marks {
		landed, err := p.lastSeqOf(ctx, m.Boot, next.StreamID, 0)
		if err != nil {
			return err
		}
		m.Seq = max(m.Seq, landed)
		next.Marks = append(next.Marks, m)
	}
	if err := p.save(ctx, next); err != nil {
		return err
	}
	p.metrics.epochs.Inc()
	return again("epoch %d begins, with stream %s", next.Epoch, next.StreamID)
}

// judge deletes a stream that lacks messages that were ingested. What comes next would be taken for what was there before. A server
// that is about to lose the leadership may lack them too, hence several looks.
func (p *partition) judge(ctx context.Context, s jetstream.Stream) error {
	err := p.lacks(ctx, s)
	if !errors.Is(err, errLacks) {
		p.short = 0
		return err
	}
	if p.short++; p.short < 3 {
		return err
	}
	p.short = 0
	p.logger.WarnContext(ctx, "deleting the decision stream", slog.Any("reason", err))
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	if err := p.js.DeleteStream(ctx, stream.DecisionStream(p.number)); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("deleting the decision stream, which lost messages: %w", err)
	}
	return again("it was deleted, having lost messages")
}

// lacks is errLacks when the stream has not got the last message that was ingested. That is the progress, or is behind it when a
// block has landed and its ingester died before it saved that: then a block with other messages would get its token.
func (p *partition) lacks(ctx context.Context, s jetstream.Stream) error {
	if last := s.CachedInfo().State.LastSeq; last < p.progress.Sequence {
		return fmt.Errorf("%w: it ends at message %d, below %d", errLacks, last, p.progress.Sequence)
	}
	var landed uint64
	var at time.Time
	err := p.persist(ctx, "asking what has landed of the stream", p.cfg.InsertTimeout, func(ctx context.Context) (err error) {
		landed, at, err = p.cfg.Store.Landed(ctx, p.progress.StreamID, p.progress.Sequence)
		return err
	})
	if err != nil || landed == 0 {
		return err
	}
	if same, err := holds(ctx, s, landed, at); err != nil || same {
		return err
	}
	now, err := p.load(ctx)
	switch {
	case err != nil:
		return err
	case now.Epoch != p.progress.Epoch || now.Sequence >= landed:
		return again("another ingester got to message %d", now.Sequence)
	}
	return fmt.Errorf("%w: message %d is gone, or another one stands in its place", errLacks, landed)
}

// holds says whether a stream has the message of that sequence and time. The table keeps microseconds.
func holds(ctx context.Context, s jetstream.Stream, sequence uint64, at time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	msg, err := s.GetMsg(ctx, sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking at message %d of the decision stream: %w", sequence, err)
	}
	return msg.Time.UnixMicro() == at.UnixMicro(), nil
}

// adjust gives a stream the settings that it should have: others may have been told to this ingester, or somebody else made it.
// If the servers refuse, the stream is read all the same.
func (p *partition) adjust(ctx context.Context, s jetstream.Stream) {
	want, have := stream.DecisionStreamConfig(p.number, p.cfg.Replicas, p.cfg.StreamBytes), s.CachedInfo().Config
	if have.Replicas == want.Replicas && have.MaxBytes == want.MaxBytes && have.Discard == want.Discard && have.MaxAge == 0 &&
		have.MaxMsgs <= 0 && have.MaxMsgsPerSubject <= 0 && have.MaxMsgSize <= 0 && have.DenyDelete {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	if _, err := p.js.UpdateStream(ctx, want); err != nil {
		p.metrics.errors.WithLabelValues("adjust").Inc()
		p.logger.WarnContext(ctx, "the decision stream cannot be given its settings", slog.Any("error", err))
	}
}
