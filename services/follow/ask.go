package follow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// maxPending bounds the heads that have not been reached. A newer one proves no more until the older ones are.
const maxPending = 8

// answer is what a question for the head came to.
type answer struct {
	sent time.Duration // by clock.boot, before the question left
	from *policy.State // as it was then; nil for none
	head stream.Head
	err  error
	bad  bool // there was an answer, which is not control's
}

// question asks control for the head. The next one follows the answer.
func (l *loop) question(ctx context.Context) {
	a := answer{sent: l.clock.boot(), from: l.State()}
	l.children.Go(func() {
		l.askHead(ctx, &a)
		select {
		case l.answers <- a:
		case <-ctx.Done():
		}
	})
}

func (l *loop) askHead(ctx context.Context, a *answer) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.AskTimeout, fmt.Errorf("no answer within %v", l.cfg.AskTimeout))
	defer cancel()
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // it never fails
	resp, err := l.cfg.Events.Head(ctx, &eventv1.HeadRequest{Nonce: nonce})
	if err != nil {
		a.err = unanswered(err)
		return
	}
	if a.head, a.err = stream.OpenHead(resp.GetHead(), nonce, l.cfg.Keys); a.err != nil {
		a.err, a.bad = fmt.Errorf("what answers as control is not trusted: %w", a.err), true
	}
}

// unanswered is what an error of control means. Control says itself when it finds that the log went back.
func unanswered(err error) error {
	refusal, ok := errors.AsType[*connect.Error](err)
	if !ok || !connect.IsWireError(err) {
		return fmt.Errorf("control does not answer: %w", err)
	}
	for _, detail := range refusal.Details() {
		value, verr := detail.Value()
		if problem, ok := value.(*controlv1.Problem); verr == nil && ok && problem.GetCode() == "log_went_back" {
			return fmt.Errorf("%w, as control finds: %w", ErrWentBack, err)
		}
	}
	return fmt.Errorf("control refuses to answer: %w", err)
}

// answered judges an answer and sees to the next question.
func (l *loop) answered(ctx context.Context, a answer) {
	l.ask.Reset(max(0, jitter(l.cfg.HeadEvery)-(l.clock.boot()-a.sent)))
	if a.err == nil {
		a.err = l.contradicts(a)
	}
	if l.failed() && a.err == nil {
		l.failures, l.notBefore = 0, time.Time{} // control is back
	}
	l.report(ctx, &l.status.asked, a.err)
	switch {
	case a.bad:
		l.metrics.heads.WithLabelValues("refused").Inc()
		return
	case a.err != nil:
		l.metrics.heads.WithLabelValues("failed").Inc()
		if a.head.LogID != "" {
			l.pending = nil // heads of a history that is no more
		}
		return
	}
	l.metrics.heads.WithLabelValues("ok").Inc()
	for n := len(l.pending); n > 0 && l.pending[n-1].head.Position > a.head.Position; n = len(l.pending) {
		l.pending = l.pending[:n-1] // what the log no longer has
	}
	if len(l.pending) < maxPending {
		l.pending = append(l.pending, a)
	}
	l.settle(ctx)
	if l.published() >= a.head.Position {
		l.report(ctx, &l.status.read, nil)
	}
	l.want(a.head.Position, l.cfg.GapWait)
}

// failed reports whether the newest question failed.
func (l *loop) failed() bool {
	l.status.mu.Lock()
	defer l.status.mu.Unlock()
	return l.status.asked != nil
}

// contradicts is why the state does not stand in a log with that head; nil when it does. What was followed since the question
// was sent may be above the head.
func (l *loop) contradicts(a answer) error {
	s, head := l.State(), a.head
	switch {
	case head.Position == 0 && s == nil:
		return fmt.Errorf("control has no log yet: %w", errNoState)
	case s == nil:
		return nil
	case head.Position == 0:
		return fmt.Errorf("%w: control has no log, and the state here is at position %d; it is kept", ErrWentBack, s.Position)
	case head.LogID != s.LogID:
		return fmt.Errorf("%w: %s, and the state here is of log %s: one of the addresses is wrong, or the state folder has to be emptied to follow the new log",
			ErrAnotherLog, head.LogID, s.LogID)
	case a.from != nil && head.Position < a.from.Position:
		return fmt.Errorf("%w: it ends at position %d, and the state here is at %d, which is kept until an operator has decided",
			ErrWentBack, head.Position, s.Position)
	}
	for _, known := range []*policy.State{s, a.from} {
		if known != nil && head.Position == known.Position && head.Hash != known.Hash {
			return fmt.Errorf("%w: it holds another event at position %d than was followed; the state is kept until an operator has decided",
				ErrWentBack, head.Position)
		}
	}
	return nil
}

// settle takes the heads that the published state has reached as proofs that it is fresh.
func (l *loop) settle(ctx context.Context) {
	s := l.State()
	for len(l.pending) > 0 && s != nil && l.pending[0].head.Position <= s.Position {
		a := l.pending[0]
		l.pending = l.pending[1:]
		if err := l.contradicts(a); err != nil {
			l.pending = nil
			l.report(ctx, &l.status.asked, err)
			return
		}
		l.proved.Store(int64(max(a.sent, time.Duration(l.proved.Load()))))
		if l.journal != nil && l.clock.boot()-l.saved >= l.cfg.ProofEvery {
			l.saveProof()
		}
	}
}

// saveProof writes down for the next life how fresh the state is.
func (l *loop) saveProof() {
	if sent := l.proved.Load(); sent != unproven {
		l.saved = l.clock.boot()
		l.journal.prove(l.clock.proofOf(sent))
	}
}
