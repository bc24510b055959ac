package eventlog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// Whoever carries out for others and panics leaves them an answer, and the turn.
func TestQueuePanics(t *testing.T) {
	t.Parallel()
	q := newQueue()
	other := &batch{done: make(chan struct{})}
	q.add(other)
	own := &batch{done: make(chan struct{})}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = q.run(t.Context(), own, func([]*batch) { panic("broke") })
	}()
	<-other.done
	if !errors.Is(other.err, ErrUnknown) {
		t.Errorf("the other caller got %v", other.err)
	}
	next := &batch{done: make(chan struct{})}
	if err := q.run(t.Context(), next, func(all []*batch) { close(all[0].done) }); err != nil {
		t.Errorf("the next caller got %v", err)
	}
}

// large are n targets whose events have about half a megabyte each, behind what has to be there first.
func large(t *testing.T, l *Log, n int) []Request {
	t.Helper()
	gateway := policy.CreateGateway{ID: "gw-0123456789", Name: "gw", Definition: policy.GatewayDefinition{AuthorizerType: policy.AuthorizerNone}}
	mustAppend(t, l, Request{Account: account, Command: gateway})
	tool := policy.Tool{Name: "t", Description: strings.Repeat("x", stream.MaxEvent-1000), InputSchema: &policy.Schema{Type: policy.SchemaObject}}
	lambda := &policy.LambdaTarget{ARN: "arn:aws:lambda:us-east-1:000000000000:function:f", Tools: policy.ToolSchema{Inline: []policy.Tool{tool}}}
	var requests []Request
	for i := range n {
		id := fmt.Sprintf("target%04d", i)
		requests = append(requests, Request{Account: account, Command: policy.CreateTarget{
			GatewayID: gateway.ID, ID: id, Name: id, Definition: policy.TargetDefinition{Configuration: policy.TargetConfiguration{Lambda: lambda}},
		}})
	}
	return requests
}

// patient is a log that a busy machine does not hurry with so much.
func patient(t *testing.T) *Log {
	t.Helper()
	b := newBench(t)
	cfg := b.config(t)
	cfg.AppendTimeout = time.Minute
	return b.openWith(t, cfg)
}

// More than fits into one transaction goes into the next, in order.
func TestAppendLarge(t *testing.T) {
	t.Parallel()
	l := patient(t)
	last := uint64(0)
	for i, r := range mustAppend(t, l, large(t, l, 20)...) {
		if r.Revision <= last || len(r.Events) != 2 {
			t.Errorf("request %d: %d events at %d, after %d", i, len(r.Events), r.Revision, last)
		}
		last = r.Revision
	}
	if s, err := l.State(t.Context()); err != nil || s.Account(account).Gateway("gw-0123456789").TargetCount() != 20 {
		t.Errorf("not all targets are there: %v", err)
	}
}

// The second of two transactions is refused: the first's results stand, and the others say why.
func TestAppendLargeRefused(t *testing.T) {
	t.Parallel()
	l := patient(t)
	requests := large(t, l, 20)
	now, decided := l.cfg.Now, 0
	l.cfg.Now = func() time.Time {
		if decided++; decided == 3 { // in the middle of the first
			l.Refuse(errors.New("an operator must decide"))
		}
		return now()
	}
	results, err := l.Append(t.Context(), requests...)
	if err != nil || len(results) != 20 {
		t.Fatal(len(results), err)
	}
	carriedOut := 0
	for _, r := range results {
		if r.Err == nil {
			carriedOut++
		} else if !errors.Is(r.Err, ErrRefused) {
			t.Error(r.Err)
		}
	}
	s, err := l.State(t.Context())
	if err != nil || carriedOut == 0 || carriedOut == 20 || s.Account(account).Gateway("gw-0123456789").TargetCount() != carriedOut {
		t.Errorf("%d of 20 say that they were carried out: %v", carriedOut, err)
	}
}
