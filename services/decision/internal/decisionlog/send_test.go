package decisionlog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// resends is how often a cause had something sent again.
func resends(w *Writer, cause string) int {
	return int(testutil.ToFloat64(w.metrics.resends.WithLabelValues(cause)))
}

// statusIs waits until the status has all of these words; none means that it is nil.
func statusIs(t *testing.T, w *Writer, words ...string) {
	t.Helper()
	testenv.Eventually(t, "the status", func() error {
		err := w.Status()
		if err == nil {
			return testenv.Contains("", words...)
		}
		if len(words) == 0 {
			return err
		}
		return testenv.Contains(err.Error(), words...)
	})
}

// Before audit has made the stream, and while NATS is away, decisions wait in the spool and the status says why; then they arrive,
// each once.
func TestNoStreamYet(t *testing.T) {
	b := newBench(t)
	w := start(t, b.config(t))
	record(t, w, 10)
	statusIs(t, w, "DECISIONS_0", "no response from stream")
	b.makeStream(t, 0)
	a := newAudit(b, 0)
	a.follow(t, w.own.boot, 11)
	statusIs(t, w)
	b.nats.Stop()
	record(t, w, 10)
	statusIs(t, w, "DECISIONS_0")
	b.nats.Start(t)
	a.follow(t, w.own.boot, 21)
	statusIs(t, w)
	if a.gaps > 0 {
		t.Errorf("%d batches came behind a gap", a.gaps)
	}
}

// A stream of somebody else that takes the batches is none that audit reads.
func TestStrangersStream(t *testing.T) {
	b := newBench(t)
	if _, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ALL", Subjects: []string{"verdict.decision.>"}}); err != nil {
		t.Fatal(err)
	}
	w := start(t, b.config(t))
	last := record(t, w, 10).Seq
	statusIs(t, w, "stream ALL took a batch that is for DECISIONS_0")
	if err := b.js.DeleteStream(t.Context(), "ALL"); err != nil {
		t.Fatal(err)
	}
	b.makeStream(t, 0)
	newAudit(b, 0).follow(t, w.own.boot, last)
	statusIs(t, w)
}

// A stream that is full refuses, and the node keeps what it has until there is room.
func TestStreamFull(t *testing.T) {
	b := newBench(t)
	if _, err := b.js.CreateStream(t.Context(), stream.DecisionStreamConfig(0, 1, 4096)); err != nil {
		t.Fatal(err)
	}
	w := start(t, b.config(t))
	const n = 300
	for range n {
		d := detail(randomText(t, 256)) // which no compression makes small
		if _, err := w.Record(d, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	statusIs(t, w, "maximum bytes exceeded")
	if _, err := b.js.UpdateStream(t.Context(), stream.DecisionStreamConfig(0, 1, streamBytes)); err != nil {
		t.Fatal(err)
	}
	newAudit(b, 0).follow(t, w.own.boot, n+1)
	statusIs(t, w)
}

func randomText(t testing.TB, n int) string {
	t.Helper()
	raw := make([]byte, n/2)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(raw)
}

// Batches stay within what a message may have, whatever the records are, and have no gap.
func TestBatchBounds(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	w := open(t, b.config(t))
	last := uint64(0)
	for _, size := range []int{1, batchBytes / 3, batchBytes / 3, batchBytes / 3, batchBytes / 3, maxFrame - 2000, 100, maxFrame - 2000} {
		raw := make([]byte, size)
		if _, err := rand.Read(raw); err != nil {
			t.Fatal(err)
		}
		id, err := w.Record(&decisionv1.DecisionDetail{RequestDigest: raw}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		last = id.Seq
	}
	last = max(last, record(t, w, 2*batchRecords+1).Seq)
	run(t, w)
	a := newAudit(b, 0)
	a.follow(t, w.own.boot, last)
	s, err := b.js.Stream(t.Context(), stream.DecisionStream(0))
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		msg, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := stream.DecodeBatch(msg.Data)
		if err != nil || len(msg.Data) > stream.MaxBatch || len(batch.Records) > batchRecords {
			t.Errorf("batch %d: %d bytes, %d records, %v", seq, len(msg.Data), len(batch.Records), err)
		}
		most = max(most, len(batch.Records))
	}
	if most != batchRecords || a.gaps > 0 {
		t.Errorf("at most %d records in a batch, %d gaps", most, a.gaps)
	}
}

// A record that is confirmed while it lingers, since it had been sent before, leaves nobody lingering: the next one must be noticed.
func TestConfirmedWhileItLingers(t *testing.T) {
	b := newBench(t)
	w := open(t, b.config(t))
	s := w.sender
	if s.launch(time.Now()); s.lingers.IsZero() {
		t.Fatal("the opening record does not linger")
	}
	w.own.sent = 1
	s.confirm(w.own, 1)
	if s.launch(time.Now()); !s.lingers.IsZero() {
		t.Error("nothing is left to send, and the sender does not listen for what comes")
	}
}

// A stream that was made anew has nothing of what was acknowledged before: all that is not confirmed is sent again, and no more.
func TestStreamRecreated(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	w := start(t, b.config(t))
	a := newAudit(b, 0)
	last := record(t, w, 100).Seq
	a.follow(t, w.own.boot, last)
	a.confirmed(t, w)
	before, dropped := resends(w, causeStreamChanged), a.dropped
	last = record(t, w, 3000).Seq // some segments
	acknowledged(t, w)
	if err := a.confirm(); err != nil { // what was confirmed before, and no more
		t.Fatal(err)
	}
	if err := b.js.DeleteStream(t.Context(), stream.DecisionStream(0)); err != nil {
		t.Fatal(err)
	}
	a.follow(t, w.own.boot, last)
	if resends(w, causeStreamChanged) != before+1 || a.dropped > dropped || a.gaps > 0 {
		t.Errorf("sent again %d times, %d records came twice, %d batches behind a gap", resends(w, causeStreamChanged), a.dropped, a.gaps)
	}
}

// All that a node ever sent was lost with a stream, so audit does not know of it and says nothing to it. Audit's word to all nodes,
// of another stream or of the first that the node hears of, has it sent again, though nothing new is recorded.
func TestStreamLostBeforeAuditKnewOfTheNode(t *testing.T) {
	for _, heard := range []bool{true, false} {
		b := newBench(t)
		b.makeStream(t, 0)
		w := start(t, b.config(t))
		a := newAudit(b, 0)
		toAll := func(id string) {
			if err := a.say(stream.AllNodes, &decisionv1.Ingested{Node: stream.AllNodes, StreamId: id}); err != nil {
				t.Fatal(err)
			}
		}
		if heard {
			toAll("the first")
		}
		last := record(t, w, 20).Seq
		acknowledged(t, w)
		if err := b.js.DeleteStream(t.Context(), stream.DecisionStream(0)); err != nil {
			t.Fatal(err)
		}
		b.makeStream(t, 0)
		toAll("the second")
		a.follow(t, w.own.boot, last)
	}
}

// A batch that was acknowledged and then lost by the server is sent again: because audit is beyond it and has not taken it, or because
// the next acknowledgement goes back.
func TestAcknowledgedIsLost(t *testing.T) {
	for _, cause := range []string{causeNotTaken, causeStreamLost} {
		t.Run(cause, func(t *testing.T) {
			b := newBench(t)
			b.makeStream(t, 0)
			w := start(t, b.config(t))
			a := newAudit(b, 0)
			last := record(t, w, 50).Seq
			a.follow(t, w.own.boot, last)
			a.confirmed(t, w)
			b.nats.Stop()
			backup := b.nats.Backup(t)
			b.nats.Start(t)
			last = record(t, w, 50).Seq
			acknowledged(t, w)
			b.nats.Stop()
			b.nats.Restore(t, backup)
			b.nats.Start(t)
			if cause == causeNotTaken { // others' messages have taken the place of what was lost
				for range 10 {
					if _, err := b.js.Publish(t.Context(), stream.TickSubject(0), nil); err != nil {
						t.Fatal(err)
					}
				}
				a.follow(t, w.own.boot, last)
			}
			last = record(t, w, 1).Seq
			testenv.Eventually(t, "what was lost", func() error { return a.all(t.Context(), w.own.boot, last) })
			if resends(w, cause) == 0 {
				t.Error("not for the reason of this test")
			}
		})
	}
}

// A boot that has closed is not in what audit repeats. If the one message that confirmed it was lost, it is sent again, so that it is
// confirmed again.
func TestConfirmationIsLost(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	cfg := b.config(t)
	first := open(t, cfg)
	last := record(t, first, 10).Seq + 1
	closeNow(t, first)
	cfg.Registerer = nil
	w := start(t, cfg)
	a := newAudit(b, 0)
	testenv.Eventually(t, "the first boot", func() error { return a.all(t.Context(), first.own.boot, last) })
	acknowledged(t, w)
	if err := a.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the first boot again", func() error {
		err := a.say("node-1", &decisionv1.Ingested{Node: "node-1", StreamId: a.id, LastSequence: a.done, Boots: []*decisionv1.BootProgress{
			{Boot: w.own.boot[:], Seq: a.marks[w.own.boot]},
		}})
		if a.dropped < int(last) {
			err = errors.Join(err, fmt.Errorf("%d records came again", a.dropped))
		}
		return errors.Join(err, a.take(t.Context()))
	})
	a.confirmed(t, w)
	if resends(w, causeNotTaken) == 0 {
		t.Error("not for the reason of this test")
	}
}

// gate drops what is written to it while it is shut.
type gate struct {
	io.Writer
	shut *atomic.Bool
}

func (g gate) Write(data []byte) (int, error) {
	if g.shut.Load() {
		return len(data), nil
	}
	return g.Writer.Write(data)
}

// An acknowledgement that is lost, after the stream has the batch: it is sent again, audit has each record once, and nothing is
// missing behind it.
func TestAckIsLost(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	var deaf atomic.Bool // NATS hears the node, and not the other way round
	p := testenv.NewProxy(t, strings.TrimPrefix(b.nats.URL(), "nats://"), func(to io.Writer) io.Writer { return gate{to, &deaf} })
	conn, err := nats.Connect("nats://"+p.Addr(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	cfg := b.config(t)
	cfg.Conn, cfg.AckTimeout = conn, 50*time.Millisecond
	w := start(t, cfg)
	a := newAudit(b, 0)
	record(t, w, 5)
	acknowledged(t, w)
	deaf.Store(true)
	last := record(t, w, 20).Seq
	testenv.Eventually(t, "the batch, again", func() error {
		if err := a.all(t.Context(), w.own.boot, last); err != nil || a.dropped > 0 {
			return err
		}
		return errors.New("it came once")
	})
	deaf.Store(false)
	p.Cut()
	p.Heal()
	last = record(t, w, 20).Seq
	a.follow(t, w.own.boot, last)
	a.confirmed(t, w)
	if a.gaps > 0 {
		t.Errorf("%d batches came behind a gap", a.gaps)
	}
}

// A boot stays with its partition whatever the settings say later; a stream that is not there holds nobody up but its own.
func TestPartitionIsPinned(t *testing.T) {
	b := newBench(t)
	cfg := b.config(t)
	cfg.Partitions = 8
	first := open(t, cfg)
	old := first.own.partition
	if old == 0 || old != partitionOf("node-1", 8) {
		t.Fatalf("node-1 is in partition %d: take another name for this test", old)
	}
	last := record(t, first, 10).Seq
	cfg.Dir, cfg.Partitions, cfg.Registerer = killed(t, cfg.Dir), 1, nil
	w := start(t, cfg)
	b.makeStream(t, 0)
	record(t, w, 10)
	a := newAudit(b, 0)
	a.follow(t, w.own.boot, 11)
	statusIs(t, w, stream.DecisionStream(old))
	b.makeStream(t, old)
	rest := newAudit(b, old)
	rest.follow(t, first.own.boot, last)
	rest.confirmed(t, w)
	statusIs(t, w)
}

// A folder that was another node's is sent under that node's name, and confirmed under it.
func TestRenamedNode(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	cfg := b.config(t)
	first := open(t, cfg)
	last := record(t, first, 10).Seq
	cfg.Dir, cfg.Node, cfg.Registerer = killed(t, cfg.Dir), "node-2", nil
	w := start(t, cfg)
	a := newAudit(b, 0)
	a.follow(t, first.own.boot, last)
	a.follow(t, w.own.boot, 1)
	a.confirmed(t, w)
	if a.nodes[first.own.boot] != "node-1" || a.nodes[w.own.boot] != "node-2" {
		t.Errorf("nodes: %v", a.nodes)
	}
}

// Nothing that claims to come from audit and cannot be true is believed, and all of it is counted.
func TestHostileIngested(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	w := start(t, b.config(t))
	last := record(t, w, 3000).Seq // more than a segment
	acknowledged(t, w)
	own := w.own.boot
	said := func(change func(*decisionv1.Ingested)) []byte {
		in := &decisionv1.Ingested{Node: "node-1", StreamId: "s", Boots: []*decisionv1.BootProgress{{Boot: own[:], Seq: last}}}
		change(in)
		data, err := proto.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, c := range []struct {
		name, cause string
		data        []byte
	}{
		{"junk", ignoredUndecodable, []byte{0xff, 0xff}},
		{"nothing", ignoredUndecodable, nil},
		{"no stream", ignoredUndecodable, said(func(in *decisionv1.Ingested) { in.StreamId = "" })},
		{"another node", ignoredStranger, said(func(in *decisionv1.Ingested) { in.Node = "node-2" })},
		{"another partition", ignoredStranger, said(func(in *decisionv1.Ingested) { in.Partition = 7 })},
		{"another boot", ignoredStranger, said(func(in *decisionv1.Ingested) { in.Boots[0].Boot = make([]byte, 16) })},
		{"half a boot", ignoredStranger, said(func(in *decisionv1.Ingested) { in.Boots[0].Boot = own[:8] })},
		{"more than was given out", ignoredBeyond, said(func(in *decisionv1.Ingested) { in.Boots[0].Seq = last + 1 })},
		{"… in one of its lines", ignoredBeyond, said(func(in *decisionv1.Ingested) {
			in.Boots = append(in.Boots, &decisionv1.BootProgress{Boot: own[:], Seq: 1 << 63})
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			counter := w.metrics.ignored.WithLabelValues(c.cause)
			before := testutil.ToFloat64(counter)
			if err := errors.Join(b.conn.Publish(stream.IngestedSubject("node-1"), c.data), b.conn.Flush()); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "it is counted", func() error {
				if got := testutil.ToFloat64(counter); got != before+1 {
					return fmt.Errorf("%v after %v", got, before)
				}
				return nil
			})
			if _, n := w.backlog(); n != last {
				t.Errorf("%d of %d records are not confirmed", n, last)
			}
		})
	}
	if got := records(t, left(t, killed(t, w.cfg.Dir)).boots[0]); uint64(len(got)) != last {
		t.Errorf("%d of %d records are left", len(got), last)
	}
	if w.own.made < 3 {
		t.Errorf("%d segments: one was to be deleted by a wrong word", w.own.made)
	}
}

// A spool that is an older copy of itself: audit knows more of a boot than it has. Nothing of that boot is deleted, and the running
// boot goes on.
func TestSpoolWentBack(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	cfg := b.config(t)
	first := open(t, cfg)
	record(t, first, 10)
	cfg.Dir, cfg.Registerer = killed(t, cfg.Dir), nil
	record(t, first, 10)
	run(t, first)
	a := newAudit(b, 0)
	a.follow(t, first.own.boot, 21)
	closeNow(t, first)
	w := start(t, cfg)
	last := record(t, w, 3000).Seq
	testenv.Eventually(t, "the running boot is confirmed", func() error {
		if _, n := w.backlog(); n > 11 {
			return errors.Join(fmt.Errorf("%d records are not confirmed", n), a.all(t.Context(), w.own.boot, last), a.confirm())
		}
		return nil
	})
	if testutil.ToFloat64(w.metrics.ignored.WithLabelValues(ignoredBeyond)) == 0 {
		t.Error("it is not counted")
	}
	if r := left(t, killed(t, cfg.Dir)); len(r.boots) != 2 || len(records(t, r.boots[0])) != 11 {
		t.Errorf("%d boots are left", len(r.boots))
	}
}

// What was never sent cannot be confirmed.
func TestConfirmedBeforeSent(t *testing.T) {
	b := newBench(t)
	w := open(t, b.config(t))
	last := record(t, w, 10).Seq
	data, err := proto.Marshal(&decisionv1.Ingested{Node: "node-1", StreamId: "s", Boots: []*decisionv1.BootProgress{{Boot: w.own.boot[:], Seq: last}}})
	if err != nil {
		t.Fatal(err)
	}
	w.sender.hear(&nats.Msg{Data: data}) // as Run would, which does not run
	if _, n := w.backlog(); n != last || testutil.ToFloat64(w.metrics.ignored.WithLabelValues(ignoredBeyond)) != 1 {
		t.Errorf("%d of %d are not confirmed", n, last)
	}
}

// Close sends what is left and says so when it cannot; what it could not send the next boot sends.
func TestCloseSends(t *testing.T) {
	b := newBench(t)
	cfg := b.config(t)
	cfg.Linger = time.Hour // Close does not wait for more
	w := start(t, cfg)
	last := record(t, w, 5).Seq + 1
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Close(ctx); err == nil || !strings.Contains(err.Error(), "7 records are not sent and stay in the spool") {
		t.Errorf("without a stream: %v", err)
	}
	b.makeStream(t, 0)
	cfg.Registerer = nil
	next := start(t, cfg)
	if err := next.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := newAudit(b, 0)
	for boot, last := range map[*boot]uint64{w.own: last, next.own: 2} {
		if err := a.all(t.Context(), boot.boot, last); err != nil {
			t.Error(err)
		}
	}
	if left(t, killed(t, cfg.Dir)).boots[0].boot != w.own.boot {
		t.Error("what is not confirmed is gone")
	}
}
