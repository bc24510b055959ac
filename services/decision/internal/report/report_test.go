package report_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/decision/internal/report"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

const node = "node-1"

// bench is a reporter on a NATS, and somebody who hears it.
type bench struct {
	nats     *testenv.NATS
	reporter *report.Reporter
	position atomic.Uint64
	observed atomic.Int64
	heard    *nats.Subscription
}

func newBench(t *testing.T, every, least time.Duration) *bench {
	t.Helper()
	b := &bench{nats: testenv.NewNATS(t)}
	var err error
	listener := b.nats.Connect(t)
	if b.heard, err = listener.SubscribeSync(stream.NodeAll); err != nil {
		t.Fatal(err)
	}
	if err := listener.Flush(); err != nil {
		t.Fatal(err)
	}
	conn, err := stream.Connect(stream.Connection{URL: b.nats.URL(), Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	b.reporter = report.New(report.Config{
		Conn: conn, Node: node, Boot: stream.Boot{1, 2}, Build: "v1", Logger: slog.New(slog.DiscardHandler), Every: every, Least: least,
		Observe: func(m *decisionv1.NodeReport) { b.observed.Add(1); m.Position = b.position.Load() },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.reporter.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return b
}

// next is the next report.
func (b *bench) next(t *testing.T) *decisionv1.NodeReport {
	t.Helper()
	msg, err := b.heard.NextMsg(20 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	m := &decisionv1.NodeReport{}
	if err := proto.Unmarshal(msg.Data, m); err != nil || msg.Subject != stream.NodeSubject(node) {
		t.Fatalf("on %s: %v", msg.Subject, err)
	}
	return m
}

// A report comes again and again though nothing changes, and says whose it is and what is true at that moment.
func TestReportsAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, 10*time.Millisecond, time.Hour)
	for i := range uint64(3) {
		b.position.Store(i)
		testenv.Eventually(t, "a report of the new position", func() error {
			m := b.next(t)
			if m.GetNode() != node || [16]byte(m.GetBoot()) != (stream.Boot{1, 2}) || m.GetBuild() != "v1" || m.GetReportedAtUs() == 0 {
				t.Fatalf("the report is %v", m)
			}
			if m.GetPosition() != i {
				return context.DeadlineExceeded
			}
			return nil
		})
	}
}

// A change of the state is reported without waiting for the second to pass, and many changes at once are few reports.
func TestReportsChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t, time.Hour, time.Millisecond)
	for i := range uint64(3) {
		b.position.Store(i + 1)
		b.reporter.Changed()
		if got := b.next(t).GetPosition(); got != i+1 {
			t.Fatalf("the report is of position %d, not %d", got, i+1)
		}
	}
	few := newBench(t, time.Hour, time.Hour)
	for range 1000 {
		few.reporter.Changed()
	}
	few.next(t)
	if n := few.observed.Load(); n != 1 {
		t.Errorf("%d reports of changes at once", n)
	}
}

// While NATS is away nothing blocks, nothing is said, and nothing is kept to be said later.
func TestReportsWithoutNATS(t *testing.T) {
	t.Parallel()
	b := newBench(t, time.Hour, time.Nanosecond)
	b.reporter.Changed()
	b.next(t)
	b.nats.Stop()
	for i := range uint64(100) {
		b.position.Store(i)
		b.reporter.Changed()
	}
	b.nats.Start(t)
	b.position.Store(1000)
	testenv.Eventually(t, "a report", func() error { // both connections come back in their own time
		b.reporter.Changed()
		msg, err := b.heard.NextMsg(50 * time.Millisecond)
		if err != nil {
			return err
		}
		m := &decisionv1.NodeReport{}
		if err := proto.Unmarshal(msg.Data, m); err != nil || m.GetPosition() != 1000 {
			t.Fatalf("a report from while NATS was away: %v, %v", m, err)
		}
		return nil
	})
}
