package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	// liveBuffer is how many messages wait for the loop. What does not fit is dropped, and comes from control.
	liveBuffer = 512
	// maxEarly and maxEarlyBytes bound the events that are kept until those before them have come.
	maxEarly      = 1024
	maxEarlyBytes = 32 << 20
)

// loop is what Run alone touches.
type loop struct {
	*Follower

	tip      *policy.State       // what has been applied, perhaps the middle of a command; nil while there is no state
	whole    *policy.State       // the last whole state up to tip; nil while there is none
	events   [][]byte            // serialized, from the published state to whole
	torn     [][]byte            // serialized, from whole to tip
	accounts map[string]struct{} // of all of them
	early    early

	wanted  uint64      // the highest position that control has vouched for
	due     *time.Timer // when to read what is missing
	dueAt   time.Time   // when due fires; zero when it does not
	pending []answer    // heads that have not been reached, oldest first
	ask     *time.Timer // when to ask for the head

	reading   *read         // nil while nothing is read
	failures  int           // reads in a row that failed
	notBefore time.Time     // of the next read
	saved     time.Duration // when the file last got a proof, by clock.boot

	messages chan *nats.Msg
	answers  chan answer
	pages    chan []*eventv1.PolicyEvent
	results  chan result
	subs     [2]*nats.Subscription // of the live events and the hints; nil when there is none
	children sync.WaitGroup
}

// Run follows until ctx ends, and returns nil then. Nothing that another party sends or fails to do ends it.
func (f *Follower) Run(ctx context.Context) error {
	l := newLoop(f)
	var written chan struct{}
	flush, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if f.journal != nil {
		written = make(chan struct{})
		go func() { defer close(written); f.journal.run(flush) }()
	}
	l.serve(ctx)
	if f.journal != nil {
		l.saveProof()
		stop()
		select {
		case <-written:
		case <-time.After(closeTimeout):
			f.cfg.Logger.WarnContext(ctx, "the disk does not take the end of the state file")
		}
	}
	return nil
}

func newLoop(f *Follower) *loop {
	l := &loop{
		Follower: f, tip: f.State(), whole: f.State(), accounts: map[string]struct{}{},
		due: time.NewTimer(0), ask: time.NewTimer(0), saved: f.clock.boot(),
		messages: make(chan *nats.Msg, liveBuffer), answers: make(chan answer),
		pages: make(chan []*eventv1.PolicyEvent), results: make(chan result),
	}
	l.due.Stop()
	return l
}

func (l *loop) close() {
	for _, sub := range l.subs {
		if sub != nil {
			_ = sub.Unsubscribe() // a connection that is closed has none
		}
	}
	l.due.Stop()
	l.ask.Stop()
}

// serve is the loop. It ends with ctx; once an event cannot be applied, it only waits for that.
func (l *loop) serve(ctx context.Context) {
	children, cancel := context.WithCancel(ctx)
	for children.Err() == nil {
		select {
		case <-children.Done():
		case msg := <-l.messages:
			l.receive(children, msg)
		case <-l.ask.C:
			l.subscribe(children)
			l.question(children)
		case a := <-l.answers:
			l.answered(children, a)
		case <-l.due.C:
			l.begin(children)
		case page := <-l.pages:
			l.fold(children, page)
		case r := <-l.results:
			l.readEnded(children, r)
		}
		if l.halted() {
			break
		}
	}
	cancel()
	l.close()
	l.children.Wait()
	<-ctx.Done()
}

// subscribe makes the subscriptions that are missing. Without them events come from control, later.
func (l *loop) subscribe(ctx context.Context) {
	for i, subject := range []string{stream.LiveAll, stream.HeadSubject} {
		if l.subs[i] != nil && l.subs[i].IsValid() {
			continue
		}
		sub, err := l.cfg.Conn.ChanSubscribe(subject, l.messages)
		if err != nil {
			l.cfg.Logger.DebugContext(ctx, "no live events", slog.String("subject", subject), slog.Any("error", err))
			continue
		}
		l.subs[i] = sub
	}
}

// receive takes what came by way of NATS, from whomever.
func (l *loop) receive(ctx context.Context, msg *nats.Msg) {
	if len(msg.Data) > stream.MaxEvent {
		l.refuse("junk")
		return
	}
	if msg.Subject == stream.HeadSubject {
		l.hinted(msg.Data)
		return
	}
	var ev eventv1.PolicyEvent
	if err := proto.Unmarshal(msg.Data, &ev); err != nil {
		l.refuse("junk")
		return
	}
	r, err := stream.Open(&ev, l.cfg.Keys)
	switch {
	case errors.Is(err, stream.ErrUnknownType):
		l.unknown(ctx, &ev, err)
	case errors.Is(err, stream.ErrSignature):
		l.refuse("signature")
	case err != nil:
		l.refuse("junk")
	default:
		l.live(ctx, r, msg.Data)
	}
}

func (l *loop) refuse(cause string) { l.metrics.refused.WithLabelValues(cause).Inc() }

// hinted takes a head that the relay tells without being asked. Somebody may have kept it for years, so that it proves
// nothing; but what it names exists, or did.
func (l *loop) hinted(data []byte) {
	var signed eventv1.SignedHead
	if err := proto.Unmarshal(data, &signed); err != nil {
		l.refuse("junk")
		return
	}
	head, err := stream.OpenHead(&signed, nil, l.cfg.Keys)
	switch {
	case err != nil:
		l.refuse("signature")
	case l.tip != nil && head.LogID != l.tip.LogID:
		l.refuse("log")
	default:
		l.want(head.Position, l.cfg.GapWait)
	}
}

// live takes an event that control signed, at some time.
func (l *loop) live(ctx context.Context, r policy.Recorded, data []byte) {
	switch {
	case l.tip == nil:
		l.keep(r, data)
	case r.LogID != l.tip.LogID:
		l.refuse("log")
	case r.Position <= l.tip.Position:
		l.refuse("duplicate")
	case r.Position > l.tip.Position+1:
		l.keep(r, data)
		l.want(r.Position, 0)
	case r.PrevHash != l.tip.Hash:
		l.refuse("history") // of a log that was restored; the next head tells
	default:
		l.apply(ctx, r, data)
		l.takeEarly(ctx)
	}
}

// apply is for an event that stands right behind tip.
func (l *loop) apply(ctx context.Context, r policy.Recorded, data []byte) {
	next, err := l.tip.Apply(r)
	if err != nil {
		l.stop(ctx, err)
		return
	}
	l.advance(next, r, data)
	l.metrics.events.WithLabelValues("live").Inc()
	l.publishWhole(ctx)
}

// advance makes next, which is tip after r, the tip. data is r as it travels.
func (l *loop) advance(next *policy.State, r policy.Recorded, data []byte) {
	l.tip = next
	if r.Account != policy.LogAccount {
		l.accounts[r.Account] = struct{}{}
	}
	if l.journal != nil {
		l.torn = append(l.torn, data)
	}
	if next.Whole {
		l.whole, l.events, l.torn = next, append(l.events, l.torn...), nil
	}
}

// publishWhole publishes the last whole state, if it is news.
func (l *loop) publishWhole(ctx context.Context) {
	if l.whole == l.State() {
		return
	}
	accounts, events := l.accounts, l.events
	l.accounts, l.events = map[string]struct{}{}, nil
	l.publish(l.whole, accounts)
	if l.journal != nil {
		l.journal.add(l.whole, events)
	}
	l.settle(ctx)
}

// adopt makes a state that control signed the tip.
func (l *loop) adopt(ctx context.Context, s *policy.State) {
	l.tip, l.whole = s, s
	l.publish(s, nil)
	if l.journal != nil {
		l.journal.add(s, nil)
	}
	l.settle(ctx)
	l.takeEarly(ctx)
}

// unknown takes an event that control signed and this version does not understand. It stops only behind the tip: anywhere else
// control tells what stands between.
func (l *loop) unknown(ctx context.Context, ev *eventv1.PolicyEvent, cause error) {
	if l.tip == nil {
		return
	}
	at, err := l.placed(ev, l.tip)
	switch {
	case err == nil && at <= l.tip.Position:
		l.refuse("duplicate")
	case err == nil:
		l.stop(ctx, cause)
	case errors.Is(err, errUntrusted):
		l.refuse("signature")
	case errors.Is(err, ErrAnotherLog):
		l.refuse("log")
	case errors.Is(err, ErrWentBack):
		l.refuse("history")
	default:
		l.want(at, 0)
	}
}

// stop ends following for good.
func (l *loop) stop(ctx context.Context, err error) {
	l.report(ctx, &l.status.stopped, fmt.Errorf("%w after position %d: %w", ErrStopped, position(l.State()), err))
}

// early are live events that came before one that is missing: one run of positions without a gap.
type early struct {
	events []policy.Recorded
	data   [][]byte
	bytes  int
}

func (l *loop) keep(r policy.Recorded, data []byte) {
	e := &l.early
	switch n := len(e.events); {
	case n > 0 && r.Position <= e.events[n-1].Position:
		l.refuse("duplicate")
		return
	case n >= maxEarly || e.bytes+len(data) > maxEarlyBytes:
		l.refuse("early")
		return
	case n > 0 && r.Position > e.events[n-1].Position+1:
		*e = early{} // control will be asked for what is missing, with what stands before it
	}
	e.events, e.data, e.bytes = append(e.events, r), append(e.data, data), e.bytes+len(data)
}

// takeEarly applies what was kept and now stands behind tip.
func (l *loop) takeEarly(ctx context.Context) {
	e := l.early
	if len(e.events) == 0 || e.events[0].Position > l.tip.Position+1 {
		return
	}
	l.early = early{}
	for i, r := range e.events {
		if r.Position <= l.tip.Position {
			continue
		}
		if r.LogID != l.tip.LogID || r.PrevHash != l.tip.Hash {
			l.refuse("history")
			return
		}
		if l.apply(ctx, r, e.data[i]); l.halted() {
			return
		}
	}
}

// jitter is d, give or take a tenth, so that many followers do not ask at the same moment.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spreads load, guards nothing
}
