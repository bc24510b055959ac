package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// bench is a NATS, one partition's stream, and an audit that plays by the rule of acceptance.
type bench struct {
	nats *testenv.NATS
	conn *nats.Conn
	js   jetstream.JetStream
	dir  string
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{nats: testenv.NewNATS(t), dir: filepath.Join(t.TempDir(), "spool")}
	b.conn = b.nats.Connect(t)
	var err error
	if b.js, err = jetstream.New(b.conn, jetstream.WithDefaultTimeout(time.Second)); err != nil {
		t.Fatal(err)
	}
	return b
}

const streamBytes = 256 << 20

// makeStream tries again: a server that is still busy removing the files of a stream that was deleted refuses one of the same name.
func (b *bench) makeStream(t testing.TB, partition int) {
	t.Helper()
	testenv.Eventually(t, "a stream", func() error {
		_, err := b.js.CreateStream(t.Context(), stream.DecisionStreamConfig(partition, 1, streamBytes))
		return err
	})
}

// config has the shortest of everything.
func (b *bench) config(t testing.TB) Config {
	return Config{
		Dir: b.dir, Node: "node-1", Build: "v1", Partitions: 1, SegmentBytes: 1 << 20, SpoolBytes: 64 << 20, Conn: b.conn,
		Logger: testenv.Logger(t), Registerer: prometheus.NewRegistry(),
		Linger: time.Millisecond, Sync: 5 * time.Millisecond, AckTimeout: 500 * time.Millisecond, Retry: 5 * time.Millisecond,
	}
}

// open opens a writer that is closed with the test, if the test did not; it does not run.
func open(t testing.TB, cfg Config) *Writer {
	t.Helper()
	w, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(t, w) })
	return w
}

// closeNow closes without waiting for NATS.
func closeNow(t testing.TB, w *Writer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// run runs a writer until the test ends or the returned function is called.
func run(t testing.TB, w *Writer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// start is open and run.
func start(t testing.TB, cfg Config) *Writer {
	t.Helper()
	w := open(t, cfg)
	run(t, w)
	return w
}

// record records n decisions and returns the last id.
func record(t testing.TB, w *Writer, n int) (id stream.DecisionID) {
	t.Helper()
	for i := range n {
		var err error
		if id, err = w.Record(detail(fmt.Sprint("request-", i)), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// detail is a decision of about 700 bytes.
func detail(request string) *decisionv1.DecisionDetail {
	return &decisionv1.DecisionDetail{
		Account: "000000000000", GatewayArn: "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/refund-gw-a1b2c3d4e5",
		PolicyEngineId: "RefundEngine-q3w4e5r6t7", EngineSource: decisionv1.EngineSource_ENGINE_SOURCE_GATEWAY,
		Principal:     &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "refund-agent", "team": "support"}},
		Action:        &decisionv1.Entity{Type: "AgentCore::Action", Id: "RefundTarget___process_refund"},
		Resource:      &decisionv1.Entity{Type: "AgentCore::Gateway", Id: "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/refund-gw-a1b2c3d4e5"},
		ContextJson:   `{"input":{"orderId":"12345","amount":450},"system":{"now":{"__extn":{"fn":"datetime","arg":"2026-01-02T03:04:05.678Z"}}}}`,
		RequestDigest: []byte(strings.Repeat("d", 32)), NowUs: 1767323045678000, Decision: decisionv1.Decision_DECISION_ALLOW, Proceed: true,
		Mode: decisionv1.Mode_MODE_ENFORCE, DeterminingPolicies: []string{"refund_limit-x1y2z3w4v5"}, Reason: "permitted by refund_limit-x1y2z3w4v5",
		ReasonCode: "permitted", Revision: 42, LogHash: []byte(strings.Repeat("h", 32)), EvaluatorVersion: "cedar-go/1.9.0+1", Replayable: true,
		LatencyNs: 1234, RequestId: request, TraceId: []byte(strings.Repeat("t", 16)), SpanId: []byte(strings.Repeat("s", 8)),
	}
}

// audit takes batches as the ingester does: in the order of the stream, none behind a gap, no record twice.
type audit struct {
	b         *bench
	partition int
	id        string
	done      uint64
	marks     map[stream.Boot]uint64
	nodes     map[stream.Boot]string
	table     map[stream.DecisionID]*decisionv1.DecisionRecord
	doubled   int // records that were taken twice, which never happens
	dropped   int // records that came again
	gaps      int // batches that were not taken
	givenOut  map[stream.Boot]uint64
}

func newAudit(b *bench, partition int) *audit {
	return &audit{
		b: b, partition: partition, marks: map[stream.Boot]uint64{}, nodes: map[stream.Boot]string{},
		table: map[stream.DecisionID]*decisionv1.DecisionRecord{}, givenOut: map[stream.Boot]uint64{},
	}
}

// take takes what the stream has. A stream that ends below what was done is made anew, as by audit.
func (a *audit) take(ctx context.Context) error {
	name := stream.DecisionStream(a.partition)
	s, err := a.b.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = a.b.js.CreateStream(ctx, stream.DecisionStreamConfig(a.partition, 1, streamBytes))
	}
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	if id := stream.DecisionStreamID(info); id != a.id {
		a.id, a.done = id, 0
	}
	if info.State.LastSeq < a.done {
		if err := a.b.js.DeleteStream(ctx, name); err != nil {
			return err
		}
		return a.take(ctx)
	}
	for ; a.done < info.State.LastSeq; a.done++ {
		msg, err := s.GetMsg(ctx, a.done+1)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := a.accept(msg); err != nil {
			return err
		}
	}
	return nil
}

func (a *audit) accept(msg *jetstream.RawStreamMsg) error {
	if msg.Subject == stream.TickSubject(a.partition) {
		return nil
	}
	batch, err := stream.DecodeBatch(msg.Data)
	if err != nil {
		return err
	}
	if want := stream.DecisionSubject(a.partition, batch.Node, batch.Boot); msg.Subject != want {
		return fmt.Errorf("a batch for %s came on %s", want, msg.Subject)
	}
	a.nodes[batch.Boot] = batch.Node
	a.givenOut[batch.Boot] = batch.GivenOut
	mark := a.marks[batch.Boot]
	if batch.FirstSeq > mark+1 {
		a.gaps++
		return nil
	}
	for i, raw := range batch.Records {
		seq := batch.FirstSeq + uint64(i)
		if seq <= mark {
			a.dropped++
			continue
		}
		var r decisionv1.DecisionRecord
		if err := proto.Unmarshal(raw, &r); err != nil {
			return err
		}
		if r.GetVersion() != recordVersion || r.GetSeq() != seq || string(r.GetBoot()) != string(batch.Boot[:]) || r.GetNode() != batch.Node {
			return fmt.Errorf("record %d of %s says that it is %d of %x", seq, batch.Boot, r.GetSeq(), r.GetBoot())
		}
		id := stream.DecisionID{Boot: batch.Boot, Seq: seq}
		if a.table[id] != nil {
			a.doubled++
		}
		a.table[id] = &r
	}
	a.marks[batch.Boot] = max(mark, batch.LastSeq)
	return nil
}

// confirm tells every node what of its decisions is taken.
func (a *audit) confirm() error {
	said := map[string]*decisionv1.Ingested{}
	for boot, seq := range a.marks {
		node := a.nodes[boot]
		if said[node] == nil {
			said[node] = &decisionv1.Ingested{Node: node, StreamId: a.id, LastSequence: a.done, Partition: uint32(a.partition)}
		}
		said[node].Boots = append(said[node].Boots, &decisionv1.BootProgress{Boot: boot[:], Seq: seq})
	}
	for node, in := range said {
		if err := a.say(node, in); err != nil {
			return err
		}
	}
	return nil
}

func (a *audit) say(node string, in *decisionv1.Ingested) error {
	data, err := proto.Marshal(in)
	if err != nil {
		return err
	}
	return errors.Join(a.b.conn.Publish(stream.IngestedSubject(node), data), a.b.conn.Flush())
}

// all is nil once the table has every record of a boot up to last, each once.
func (a *audit) all(ctx context.Context, boot stream.Boot, last uint64) error {
	if err := a.take(ctx); err != nil {
		return err
	}
	if a.doubled > 0 {
		return fmt.Errorf("%d records were taken twice", a.doubled)
	}
	for seq := uint64(1); seq <= last; seq++ {
		if a.table[stream.DecisionID{Boot: boot, Seq: seq}] == nil {
			return fmt.Errorf("%d of %d is not there; the mark is %d", seq, last, a.marks[boot])
		}
	}
	return nil
}

// follow takes and confirms until all of a boot up to last is there.
func (a *audit) follow(t testing.TB, boot stream.Boot, last uint64) {
	t.Helper()
	testenv.Eventually(t, "the records of "+boot.String(), func() error {
		err := a.all(t.Context(), boot, last)
		return errors.Join(err, a.confirm())
	})
}

// confirmed confirms again until everything in the spool is confirmed: what audit says may get lost.
func (a *audit) confirmed(t testing.TB, w *Writer) {
	t.Helper()
	testenv.Eventually(t, "everything confirmed", func() error {
		err := errors.Join(a.take(t.Context()), a.confirm())
		if _, n := w.backlog(); n > 0 {
			err = errors.Join(err, fmt.Errorf("%d records are not confirmed", n))
		}
		return err
	})
}

// acknowledged waits until the streams have everything.
func acknowledged(t testing.TB, w *Writer) {
	t.Helper()
	testenv.Eventually(t, "everything acknowledged", func() error {
		if n, _ := w.backlog(); n > 0 {
			return fmt.Errorf("%d records are not acknowledged", n)
		}
		return nil
	})
}

// killed is what a process that is killed now would leave: a copy of the spool.
func killed(t testing.TB, dir string) string {
	t.Helper()
	left := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return left
}

// left is the boots of a spool as a new process finds them on the same machine.
func left(t testing.TB, dir string) recovered {
	t.Helper()
	r, err := recoverSpool(dir, machineBoot())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, b := range r.boots {
			if err := b.unmap(); err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// records reads the records of a boot that is left.
func records(t testing.TB, b *boot) (all []*decisionv1.DecisionRecord) {
	t.Helper()
	for _, s := range b.segments {
		for at := 0; at < s.end; {
			raw := readFrame(s.data, at)
			if raw == nil {
				t.Fatalf("no frame at %d of %s", at, s.path)
			}
			var r decisionv1.DecisionRecord
			if err := proto.Unmarshal(raw, &r); err != nil {
				t.Fatal(err)
			}
			all = append(all, &r)
			at += frameSize(len(raw))
		}
	}
	for i, r := range all {
		if r.GetSeq() != b.segments[0].first+uint64(i) {
			t.Fatalf("record %d has number %d", i, r.GetSeq())
		}
	}
	return all
}
