package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/audit/internal/store"
)

// errNotLooked is the status before the first look at the stream.
var errNotLooked = errors.New("the decision stream has not been looked at yet")

// partition is the way of one stream into the table. What has no other owner belongs to the goroutine of run.
type partition struct {
	number  int
	cfg     Config
	js      jetstream.JetStream
	metrics *metrics
	logger  *slog.Logger

	progress store.Progress // as saved
	acceptor *acceptor
	short    int           // looks in a row at which the stream lacked what was ingested
	done     atomic.Uint64 // progress.Sequence, for the lag

	mu     sync.Mutex
	status error // guarded by mu; nil while all is well
}

func newPartition(number int, cfg Config, js jetstream.JetStream, m *metrics) *partition {
	return &partition{
		number: number, cfg: cfg, js: js, metrics: m, logger: cfg.Logger.With(slog.Int("partition", number)), status: errNotLooked,
	}
}

func (p *partition) failing() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// report keeps the status, and logs when it changes.
func (p *partition) report(ctx context.Context, err error) {
	p.mu.Lock()
	before := p.status
	p.status = err
	p.mu.Unlock()
	switch {
	case err == nil && before != nil:
		p.logger.InfoContext(ctx, "decisions are ingested")
	case err != nil && (before == nil || before.Error() != err.Error()):
		p.logger.ErrorContext(ctx, "decisions are not ingested", slog.Any("error", err))
	}
}

// run goes on from the saved progress, again and again, until ctx ends. Whatever fails, nothing is kept in memory that is not
// saved.
func (p *partition) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := p.round(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errAgain):
			p.logger.InfoContext(ctx, "decision stream is looked at again", slog.Any("reason", err))
			wait(ctx, backoff)
		default:
			p.metrics.errors.WithLabelValues("stream").Inc()
			p.report(ctx, err)
			wait(ctx, pause)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// round goes on from the progress until something fails.
func (p *partition) round(ctx context.Context) error {
	from, err := p.resume(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	blocks, failed := make(chan *block), make(chan error, 1)
	r, err := p.openReader(ctx, from)
	if err != nil {
		cancel()
		return err
	}
	var reading sync.WaitGroup
	reading.Go(func() { failed <- r.run(ctx, blocks) })
	defer r.close()
	defer reading.Wait()
	defer cancel()
	p.confirmAll(ctx)
	p.report(ctx, nil)
	again := time.NewTicker(repeat)
	defer again.Stop()
	for {
		select {
		case b := <-blocks:
			if err := p.take(ctx, b); err != nil {
				return err
			}
		case <-again.C:
			p.confirmAll(ctx)
		case err := <-failed:
			return err
		}
	}
}

// take brings a block into the table, saves the progress, and lets nodes and stream forget it, in this order.
func (p *partition) take(ctx context.Context, b *block) error {
	a, err := p.acceptor.accept(ctx, b)
	if err != nil {
		return err
	}
	if len(a.rows)+len(a.rejects) > 0 {
		if err := p.insert(ctx, b, &a); err != nil {
			return err
		}
	}
	p.metrics.count(b, &a)
	next := p.progress
	next.Sequence, next.Marks = b.last, a.marks
	if len(b.batches) == 0 && next.Sequence-p.progress.Sequence < 1000 {
		return nil // nothing but ticks: what comes next moves the progress past them
	}
	if err := p.save(ctx, next); err != nil {
		return err
	}
	p.confirm(ctx, a.seen)
	p.purge(ctx)
	return nil
}

// insert returns when the block is in the table, or when its stream is another one by now, or has not the block's messages any
// more. Then the block must not be sent any more: whoever made the other one looked up what is in the table, and what was stored
// in place of the messages may have landed with the block's token.
func (p *partition) insert(ctx context.Context, b *block, a *accepted) error {
	rows := store.Block{Partition: p.number, StreamID: p.progress.StreamID, FirstSequence: b.first, Rows: a.rows, Rejects: a.rejects}
	began := time.Now()
	err := p.persist(ctx, "inserting a block", p.cfg.InsertTimeout, func(ctx context.Context) error {
		s, err := p.look(ctx, p.progress.StreamID)
		if err != nil {
			return err
		}
		switch same, err := holds(ctx, s, b.last, b.ends); {
		case err != nil:
			return err
		case !same:
			return again("message %d is gone, or another one stands in its place", b.last)
		}
		return p.cfg.Store.Insert(ctx, rows)
	})
	p.metrics.insert.Observe(time.Since(began).Seconds())
	return err
}

func (p *partition) save(ctx context.Context, next store.Progress) error {
	err := p.persist(ctx, "saving the progress", p.cfg.InsertTimeout, func(ctx context.Context) error {
		return p.cfg.Store.SaveProgress(ctx, next)
	})
	if err == nil {
		p.progress = next
		p.done.Store(next.Sequence)
	}
	return err
}

// persist does something in ClickHouse until it has succeeded, ctx has ended, or errAgain says that it is not to be done. An
// error says nothing of whether it was done.
func (p *partition) persist(ctx context.Context, what string, most time.Duration, do func(context.Context) error) error {
	failed := 0
	for delay := backoff; ; delay = min(2*delay, backoffs) {
		try, cancel := context.WithTimeout(ctx, most)
		err := do(try)
		cancel()
		switch {
		case err == nil:
			if failed > 1 {
				p.report(ctx, nil)
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errAgain):
			return err
		}
		p.metrics.errors.WithLabelValues("persist").Inc()
		if failed++; failed > 1 { // once may mean that another ingester does the same at this moment
			p.report(ctx, fmt.Errorf("%s: %w", what, err))
		}
		wait(ctx, delay)
	}
}

// purge lets the stream forget what is done. If it fails, the next one does it. Should the stream have been made anew a moment
// ago, it loses messages by this, which their nodes send again as they are not confirmed.
func (p *partition) purge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s, err := p.look(ctx, p.progress.StreamID)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSequence(p.progress.Sequence+1))
	}
	if err != nil {
		p.metrics.errors.WithLabelValues("purge").Inc()
		p.logger.WarnContext(ctx, "purging the decision stream", slog.Any("error", err))
	}
}
