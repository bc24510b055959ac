package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	// maxState bounds a state that control sends, in bytes.
	maxState = 1 << 30
	// stateTimeout bounds the time in which a state brings nothing. Control first has to put it together.
	stateTimeout = time.Minute
	// The pause after a read that brought nothing.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// read is a read that is under way.
type read struct {
	cancel context.CancelCauseFunc
	wanted uint64 // why it was begun
	err    error  // what is wrong with what it brought
}

// result is how a read ended.
type result struct {
	state *policy.State // when the state was asked for
	err   error
}

// want says that control has vouched for a position. If it is not here after a while, it is read.
func (l *loop) want(position uint64, wait time.Duration) {
	l.wanted = max(l.wanted, position)
	if l.wanted <= l.published() || l.reading != nil {
		return
	}
	l.schedule(wait)
}

// published is the position of the published state.
func (l *loop) published() uint64 { return position(l.State()) }

// schedule has what is missing read after a while, or sooner if that has been decided already; after reads that brought
// nothing, not before their backoff has passed.
func (l *loop) schedule(wait time.Duration) {
	at := time.Now().Add(wait)
	if at.Before(l.notBefore) {
		at = l.notBefore
	}
	if !l.dueAt.IsZero() && !at.Before(l.dueAt) {
		return
	}
	l.dueAt = at
	l.due.Reset(time.Until(at))
}

// begin begins to read what is missing, or the whole state where there is none. A command that is here in part is dropped:
// control has it whole.
func (l *loop) begin(ctx context.Context) {
	l.dueAt = time.Time{}
	s := l.State()
	if l.reading != nil || l.wanted <= position(s) {
		return
	}
	l.tip, l.torn = s, nil
	reading, cancel := context.WithCancelCause(ctx)
	l.reading = &read{cancel: cancel, wanted: l.wanted}
	l.children.Go(func() {
		defer cancel(nil)
		var r result
		if s == nil {
			r.state, r.err = l.readState(reading, cancel)
		} else {
			r.err = l.readEvents(reading, cancel, s)
		}
		if cause := context.Cause(reading); cause != nil {
			r.err = cause
		}
		select {
		case l.results <- r:
		case <-ctx.Done():
		}
	})
}

// readEnded judges what a read came to.
func (l *loop) readEnded(ctx context.Context, r result) {
	wanted := l.reading.wanted
	if l.reading.err != nil {
		r.err = l.reading.err
	}
	l.reading = nil
	if r.err == nil && r.state != nil {
		l.adopt(ctx, r.state)
	}
	switch at := l.published(); {
	case r.err != nil:
		l.metrics.reads.WithLabelValues("failed").Inc()
		l.notBefore = time.Now().Add(jitter(min(minBackoff<<l.failures, maxBackoff)))
		l.failures = min(l.failures+1, 10)
		r.err = fmt.Errorf("reading what follows position %d from control: %w", at, r.err)
	case at < wanted:
		l.metrics.reads.WithLabelValues("fruitless").Inc()
		l.notBefore = time.Now().Add(jitter(maxBackoff / 5))
		r.err = fmt.Errorf("%w: control vouched for position %d, and has no event after %d", ErrBehind, wanted, at)
		if l.wanted == wanted {
			l.wanted = at // the next head says it again, if it is true
		}
	default:
		l.metrics.reads.WithLabelValues("ok").Inc()
		l.failures, l.notBefore = 0, time.Time{}
	}
	if errors.Is(r.err, ErrWentBack) || errors.Is(r.err, ErrAnotherLog) {
		l.pending = nil // heads of a history that this one does not lead to
	}
	l.report(ctx, &l.status.read, r.err)
	l.want(l.wanted, l.cfg.GapWait)
}

// watchdog is a timer that ends a read when it is not reset for a while.
func watchdog(d time.Duration, cancel context.CancelCauseFunc) *time.Timer {
	return time.AfterFunc(d, func() { cancel(fmt.Errorf("nothing came within %v", d)) })
}

func (l *loop) readEvents(ctx context.Context, cancel context.CancelCauseFunc, after *policy.State) error {
	silence := watchdog(l.cfg.AskTimeout, cancel)
	defer silence.Stop()
	pages, err := l.cfg.Events.ReadEvents(ctx, &eventv1.ReadEventsRequest{AfterPosition: after.Position, LogId: after.LogID})
	if err != nil {
		return err
	}
	defer pages.Close()
	for pages.Receive() {
		silence.Stop() // the loop may take its time
		select {
		case l.pages <- pages.Msg().GetEvents():
		case <-ctx.Done():
			return ctx.Err()
		}
		silence.Reset(l.cfg.AskTimeout)
	}
	return pages.Err()
}

func (l *loop) readState(ctx context.Context, cancel context.CancelCauseFunc) (*policy.State, error) {
	silence := watchdog(stateTimeout, cancel)
	defer silence.Stop()
	parts, err := l.cfg.Events.ReadState(ctx, &eventv1.ReadStateRequest{})
	if err != nil {
		return nil, err
	}
	defer parts.Close()
	var manifest *eventv1.SignedStateManifest
	var data []byte
	for parts.Receive() {
		if m := parts.Msg().GetManifest(); m != nil {
			manifest = m
		}
		if data = append(data, parts.Msg().GetChunk()...); len(data) > maxState {
			return nil, fmt.Errorf("the state has more than %d bytes", maxState)
		}
		silence.Reset(stateTimeout)
	}
	if err := parts.Err(); err != nil {
		return nil, err
	}
	s, err := stream.OpenState(data, manifest, l.cfg.Keys)
	if err == nil && s.Position == 0 {
		err = errors.New("control sent the state of a log that has not begun")
	}
	return s, err
}

// errUnfit: an event that control signed stands right behind tip and cannot be applied.
var errUnfit = errors.New("the next event cannot be applied")

var errUntrusted = errors.New("what answers as control is not trusted")

// step is an event and the state after it.
type step struct {
	event    *eventv1.PolicyEvent
	recorded policy.Recorded
	after    *policy.State
}

// fold applies a page. The hashes chain each event to the one before, so that the signature of the last one vouches for all:
// nothing counts before it has been checked.
func (l *loop) fold(ctx context.Context, page []*eventv1.PolicyEvent) {
	steps, err := l.steps(page)
	if n := len(steps); n > 0 {
		if _, bad := stream.Open(steps[n-1].event, l.cfg.Keys); bad != nil {
			l.refuse("signature")
			steps, err = nil, fmt.Errorf("%w: %w", errUntrusted, bad)
		}
	}
	for _, s := range steps {
		data, merr := proto.Marshal(s.event)
		if merr != nil { // it has just been decoded
			err = merr
			break
		}
		l.advance(s.after, s.recorded, data)
		l.metrics.events.WithLabelValues("control").Inc()
	}
	l.publishWhole(ctx)
	switch {
	case err == nil:
		l.takeEarly(ctx)
	case errors.Is(err, errUnfit):
		l.stop(ctx, err)
	case l.reading != nil:
		l.reading.err = err
		l.reading.cancel(err)
	}
}

// steps goes from tip along a page as far as that goes. Events that tip holds are passed over.
func (l *loop) steps(page []*eventv1.PolicyEvent) ([]step, error) {
	var steps []step
	tip := l.tip
	for _, ev := range page {
		r, err := stream.Decode(ev)
		switch {
		case errors.Is(err, stream.ErrUnknownType):
			return steps, l.unfit(ev, tip, err)
		case err != nil:
			return steps, fmt.Errorf("control sent what is no event: %w", err)
		case r.Position <= tip.Position:
			l.refuse("duplicate")
			continue
		}
		if err := follows(tip, r.LogID, r.Position, r.PrevHash[:]); err != nil {
			return steps, err
		}
		after, err := tip.Apply(r)
		if err != nil {
			return steps, l.unfit(ev, tip, err)
		}
		steps, tip = append(steps, step{ev, r, after}), after
	}
	return steps, nil
}

// follows is nil for an event that stands right behind s.
func follows(s *policy.State, logID string, at uint64, prevHash []byte) error {
	switch {
	case logID != s.LogID:
		return fmt.Errorf("%w: an event of log %s came", ErrAnotherLog, logID)
	case at != s.Position+1:
		return fmt.Errorf("control sent position %d where %d should come", at, s.Position+1)
	case string(prevHash) != string(s.Hash[:]):
		return fmt.Errorf("%w: it holds another history before position %d than was followed; the state is kept until an operator has decided",
			ErrWentBack, at)
	}
	return nil
}

// unfit is errUnfit for an event that really is the next.
func (l *loop) unfit(ev *eventv1.PolicyEvent, tip *policy.State, cause error) error {
	at, err := l.placed(ev, tip)
	if err != nil || at <= tip.Position {
		return errors.Join(err, cause)
	}
	return fmt.Errorf("%w: %w", errUnfit, cause)
}

// placed is the position of an event that control signed, whatever it is about, and nil if it is not above the one behind tip,
// or does not stand there.
func (l *loop) placed(ev *eventv1.PolicyEvent, tip *policy.State) (uint64, error) {
	logID, at, err := stream.Identify(ev, l.cfg.Keys)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errUntrusted, err)
	}
	var body eventv1.EventBody
	if err := proto.Unmarshal(ev.GetBody(), &body); err != nil {
		return 0, err
	}
	if at <= tip.Position {
		return at, nil
	}
	return at, follows(tip, logID, at, body.GetPrevHash())
}
