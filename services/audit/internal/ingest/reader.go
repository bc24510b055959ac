package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// fetch is how many messages are asked for at once, each of at most stream.MaxBatch if nodes made it.
const fetch = 64

// reader reads a stream in order and cuts it. It pulls with a consumer of its own that lives in the server's memory: it belongs
// to one stream, ends with it and with a restart of its server, and numbers what it delivers. So a message that got lost on its
// way, and a stream that was replaced or cut off under the reader, show; a message got by its sequence could be any stream's.
type reader struct {
	p         *partition
	id        string // of the stream
	consumer  jetstream.Consumer
	next      uint64 // sequence of the next message
	delivered uint64 // messages that the consumer has delivered
	cutter    cutter
	looked    time.Time
}

// openReader reads from a message on.
func (p *partition) openReader(ctx context.Context, from uint64) (*reader, error) {
	create, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	consumer, err := p.js.CreateConsumer(create, stream.DecisionStream(p.number), jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("reading the decision stream: %w", err)
	}
	r := &reader{p: p, id: p.progress.StreamID, consumer: consumer, next: from}
	if err := r.look(ctx); err != nil { // it could be the consumer of another stream, made since the last look
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *reader) close() {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_ = r.p.js.DeleteConsumer(ctx, stream.DecisionStream(r.p.number), r.consumer.CachedInfo().Name) // else it ends by itself
}

// run sends blocks until ctx ends or something is wrong.
func (r *reader) run(ctx context.Context, out chan<- *block) error {
	for {
		n, err := r.fetch(ctx, out)
		if err != nil {
			return err
		}
		if n == 0 && r.cutter.waits() {
			if err := r.p.cfg.Conn.Publish(stream.TickSubject(r.p.number), nil); err != nil {
				return fmt.Errorf("publishing a tick: %w", err)
			}
		}
		if time.Since(r.looked) >= idle {
			if err := r.look(ctx); err != nil {
				return err
			}
		}
	}
}

// look sees whether the stream is still the one that is read.
func (r *reader) look(ctx context.Context) error {
	s, err := r.p.look(ctx, r.id)
	if err != nil {
		return err
	}
	r.looked = time.Now()
	last := s.CachedInfo().State.LastSeq
	r.p.metrics.lag.WithLabelValues(strconv.Itoa(r.p.number)).Set(float64(last) - float64(r.p.done.Load()))
	if last+1 < r.next {
		return again("it ends at message %d, and message %d was read", last, r.next-1)
	}
	return nil
}

// fetch reads what there is, and waits if there is nothing; n is how many messages came.
func (r *reader) fetch(ctx context.Context, out chan<- *block) (n int, err error) {
	fetched, err := r.consumer.Fetch(fetch, jetstream.FetchMaxWait(idle))
	if err != nil {
		return 0, fmt.Errorf("reading the decision stream: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return n, context.Cause(ctx)
		case msg, ok := <-fetched.Messages():
			if !ok {
				return n, r.ended(ctx, fetched.Error())
			}
			n++
			if err := r.deliver(ctx, msg, out); err != nil {
				return n, err
			}
		}
	}
}

// ended says why a fetch ended; nil when it is only over. A consumer that is gone may mean that the stream is.
func (r *reader) ended(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if lost := r.look(ctx); errors.Is(lost, errAgain) {
		return lost
	}
	return fmt.Errorf("reading the decision stream: %w", err)
}

// deliver cuts the next message.
func (r *reader) deliver(ctx context.Context, msg jetstream.Msg, out chan<- *block) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("reading the decision stream: %w", err)
	}
	r.delivered++
	if meta.Sequence.Consumer != r.delivered {
		return again("message %d was lost on its way", r.next)
	}
	if meta.Sequence.Stream != r.next {
		if err := r.skip(ctx, meta.Sequence.Stream); err != nil {
			return err
		}
	}
	r.next = meta.Sequence.Stream + 1
	for _, b := range r.cutter.add(decode(r.p.number, msg.Subject(), msg.Data(), meta.Sequence.Stream, meta.Timestamp, stored(msg))) {
		select {
		case out <- b:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// skip goes on at a message behind others that the stream does not have. If the stream begins behind them, another ingester was
// faster and purged them, and the progress is not what it was. Otherwise they are lost.
func (r *reader) skip(ctx context.Context, to uint64) error {
	s, err := r.p.look(ctx, r.id)
	if err != nil {
		return err
	}
	if first := s.CachedInfo().State.FirstSeq; first > r.next || to < r.next {
		return again("it begins at message %d, message %d came, and message %d was to be read", first, to, r.next)
	}
	r.p.lost(ctx, r.next, to-r.next)
	return nil
}

// stored is about how many bytes the stream needs for a message.
func stored(msg jetstream.Msg) int {
	const frame = 32
	size := frame + len(msg.Subject()) + len(msg.Data())
	for name, values := range msg.Headers() {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	return size
}
