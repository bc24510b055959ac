package ingest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// bench is a NATS and a database in ClickHouse.
type bench struct {
	nats  *testenv.NATS
	click testenv.ClickHouse
	db    *sql.DB
}

func newBench(t testing.TB) *bench {
	t.Helper()
	click := testenv.NewClickHouse(t, func(ctx context.Context, url string) error {
		_, err := store.Migrate(ctx, url, nil)
		return err
	})
	options, err := clickhouse.ParseDSN(click.URL)
	if err != nil {
		t.Fatal(err)
	}
	db := clickhouse.OpenDB(options)
	t.Cleanup(func() { db.Close() })
	return &bench{nats: testenv.NewNATS(t), click: click, db: db}
}

func (b *bench) openStore(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (b *bench) ingester(t testing.TB, change func(*Config)) *Ingester {
	t.Helper()
	cfg := Config{Conn: b.nats.Connect(t), Logger: testenv.Logger(t), Registerer: prometheus.NewRegistry()}
	if change != nil {
		change(&cfg)
	}
	if cfg.Store == nil {
		cfg.Store = b.openStore(t, b.click.URL)
	}
	i, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// start runs an ingester until the test ends or stop is called.
func start(t testing.TB, i *Ingester) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = i.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// detail is a decision as it comes.
func detail(n uint64) *decisionv1.DecisionDetail {
	strict, bound, stale := true, uint64(10_000), uint64(420_000)
	digest := make([]byte, 32)
	return &decisionv1.DecisionDetail{
		Account: "111122223333", GatewayArn: "arn:aws:bedrock-agentcore:us-east-1:111122223333:gateway/refunds-a1b2c3d4e5",
		PolicyEngineId: "RefundEngine-x1y2z3w4v5", EngineSource: decisionv1.EngineSource_ENGINE_SOURCE_GATEWAY,
		Principal: &decisionv1.Principal{
			Type: "AgentCore::OAuthUser", Id: fmt.Sprintf("user-%d", n%1000),
			Tags: map[string]string{"role": "agent", "department": "support", "scope": "refunds:write"},
		},
		Action:              &decisionv1.Entity{Type: "AgentCore::Action", Id: "RefundTarget___process_refund"},
		Resource:            &decisionv1.Entity{Type: "AgentCore::Gateway", Id: "arn:aws:bedrock-agentcore:us-east-1:111122223333:gateway/refunds-a1b2c3d4e5"},
		ContextJson:         fmt.Sprintf(`{"input":{"orderId":"%d","amount":%d},"system":{"now":{"__extn":{"fn":"datetime","arg":"2026-11-22T10:00:00Z"}}}}`, n*7919, n%900),
		RequestDigest:       digest,
		NowUs:               1_800_000_000_000_000 + int64(n),
		Decision:            decisionv1.Decision_DECISION_ALLOW,
		Proceed:             true,
		Mode:                decisionv1.Mode_MODE_ENFORCE,
		DeterminingPolicies: []string{"refund_limit-x1y2z3w4v5"},
		Reason:              "Permitted by 1 policy", ReasonCode: "permitted",
		Revision: 42, LogHash: digest, EvaluatorVersion: "cedar-go/1.9.0",
		Settings:    &eventv1.Settings{StalenessBoundMs: &bound, OnStale: eventv1.OnStale_ON_STALE_SERVE, StrictForbids: &strict},
		StalenessUs: &stale, Replayable: true, LatencyNs: 900 + n%100, RequestId: fmt.Sprintf("req-%d", n),
		TraceId: digest[:16], SpanId: digest[:8],
	}
}

// node is a node's sender: it has records, publishes them in order, and sends again what the rules of stream.proto ask for.
type node struct {
	name string
	boot stream.Boot
	size int // records in a batch
	conn *nats.Conn
	js   jetstream.JetStream
	said chan *nats.Msg
	wake chan struct{}

	mu        sync.Mutex
	made      uint64 // records made; guarded by mu
	closed    bool   // the last of them is the closing record; guarded by mu
	confirmed uint64 // guarded by mu
	streamID  string // guarded by mu
	stored    uint64 // last record that the stream has acknowledged; guarded by mu
	acked     []ack  // batches that the stream acknowledged and audit has not confirmed; owned by run
	next      uint64 // record to send next; owned by run
	resent    int    // guarded by mu
}

type ack struct{ sequence, last uint64 }

// newNode makes a node with an opening record, which sends until the test ends.
func (b *bench) newNode(t testing.TB, name string, first byte, size int) *node {
	t.Helper()
	return newNodeOn(t, b.nats.Connect(t), name, first, size)
}

func newNodeOn(t testing.TB, conn *nats.Conn, name string, first byte, size int) *node {
	t.Helper()
	n := newSilentNode(t, conn, name, first, size)
	n.start(t)
	return n
}

// newSilentNode makes a node that does not send before it is started.
func newSilentNode(t testing.TB, conn *nats.Conn, name string, first byte, size int) *node {
	t.Helper()
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		name: name, boot: stream.Boot{first, 7}, size: size, conn: conn, js: js, next: 1, made: 1,
		said: make(chan *nats.Msg, 1000), wake: make(chan struct{}, 1),
	}
	if _, err := conn.ChanSubscribe(stream.IngestedSubject(name), n.said); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); n.run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// decide makes n decisions.
func (n *node) decide(count int) {
	n.mu.Lock()
	n.made += uint64(count)
	n.mu.Unlock()
	n.poke()
}

func (n *node) close() {
	n.mu.Lock()
	n.made++
	n.closed = true
	n.mu.Unlock()
	n.poke()
}

func (n *node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *node) run(ctx context.Context) {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for ctx.Err() == nil {
		for len(n.said) > 0 {
			n.hear(<-n.said)
		}
		idle, failed := n.send(ctx)
		switch {
		case failed:
			<-retry.C
		case idle:
			select {
			case <-ctx.Done():
			case <-n.wake:
			case m := <-n.said:
				n.hear(m)
			}
		}
	}
}

// send sends the next batch.
func (n *node) send(ctx context.Context) (idle, failed bool) {
	n.mu.Lock()
	made, closed := n.made, n.closed
	n.mu.Unlock()
	if n.next > made {
		return true, false
	}
	last := min(made, n.next+uint64(n.size)-1)
	data, err := n.batch(n.next, last, made, closed)
	if err != nil {
		return false, true
	}
	got, err := n.js.Publish(ctx, stream.DecisionSubject(0, n.name, n.boot), data)
	if err != nil {
		return false, true
	}
	if len(n.acked) > 0 && got.Sequence <= n.acked[len(n.acked)-1].sequence { // the stream lost messages
		n.again()
		return false, false
	}
	n.acked = append(n.acked, ack{got.Sequence, last})
	n.next = last + 1
	n.mu.Lock()
	n.stored = last
	n.mu.Unlock()
	return false, false
}

func (n *node) batch(first, last, made uint64, closed bool) ([]byte, error) {
	b := stream.Batch{Node: n.name, Boot: n.boot, FirstSeq: first, LastSeq: last, GivenOut: made}
	for seq := first; seq <= last; seq++ {
		r := &decisionv1.DecisionRecord{Version: 1, Node: n.name, Boot: n.boot[:], Seq: seq, RecordedAtUs: 1_800_000_000_000_000 + int64(seq)}
		switch {
		case seq == 1:
			r.What = &decisionv1.DecisionRecord_Opened{Opened: &decisionv1.BootOpened{Build: "test"}}
		case seq == made && closed:
			r.What = &decisionv1.DecisionRecord_Closed{Closed: &decisionv1.BootClosed{}}
		default:
			r.What = &decisionv1.DecisionRecord_Decision{Decision: detail(seq)}
		}
		data, err := proto.Marshal(r)
		if err != nil {
			return nil, err
		}
		b.Records = append(b.Records, data)
	}
	return stream.EncodeBatch(b)
}

func (n *node) again() {
	n.mu.Lock()
	n.next = n.confirmed + 1
	n.resent++
	n.mu.Unlock()
	n.acked = nil
}

// hear applies the rules for what audit says.
func (n *node) hear(msg *nats.Msg) {
	var m decisionv1.Ingested
	if proto.Unmarshal(msg.Data, &m) != nil {
		return
	}
	n.mu.Lock()
	for _, b := range m.GetBoots() {
		if stream.Boot(b.GetBoot()) == n.boot {
			n.confirmed = max(n.confirmed, b.GetSeq())
		}
	}
	another := n.streamID != "" && n.streamID != m.GetStreamId()
	n.streamID = m.GetStreamId()
	confirmed := n.confirmed
	n.mu.Unlock()
	missing := false
	for len(n.acked) > 0 && n.acked[0].last <= confirmed {
		n.acked = n.acked[1:]
	}
	for _, a := range n.acked {
		missing = missing || a.sequence <= m.GetLastSequence()
	}
	if another || missing {
		n.again()
	}
}

// done is nil when audit has confirmed all.
func (n *node) done() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.confirmed != n.made {
		return fmt.Errorf("%s: %d of %d records are confirmed", n.name, n.confirmed, n.made)
	}
	return nil
}

// acknowledged is nil when the stream has acknowledged the records up to seq.
func (n *node) acknowledged(seq uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stored < seq {
		return fmt.Errorf("%s: the stream has acknowledged %d records, want %d", n.name, n.stored, seq)
	}
	return nil
}

func (n *node) records() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.made
}

// whole is nil when every record that the nodes made is in the table once, and nothing else is.
func (b *bench) whole(ctx context.Context, nodes ...*node) error {
	var want uint64
	for _, n := range nodes {
		n.mu.Lock()
		made := n.made
		n.mu.Unlock()
		want += made
		var rows, last uint64
		err := b.db.QueryRowContext(ctx, "SELECT count(), max(seq) FROM decisions WHERE node = ? AND boot = ?", n.name, n.boot.String()).Scan(&rows, &last)
		if err != nil || rows != made || last != made {
			return fmt.Errorf("%s: %d rows up to number %d, want %d: %w", n.name, rows, last, made, err)
		}
	}
	var rows, distinct uint64
	err := b.db.QueryRowContext(ctx, "SELECT count(), uniqExact(node, boot, seq) FROM decisions").Scan(&rows, &distinct)
	if err != nil || rows != want || distinct != want {
		return fmt.Errorf("%d rows, %d distinct, want %d: %w", rows, distinct, want, err)
	}
	return nil
}

// settle waits until all is confirmed, and checks the table.
func (b *bench) settle(t testing.TB, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		testenv.Within(t, time.Minute, "confirmation", n.done)
	}
	if err := b.whole(t.Context(), nodes...); err != nil {
		t.Error(err)
	}
}

func (b *bench) progress(t testing.TB) store.Progress {
	t.Helper()
	p, err := b.openStore(t, b.click.URL).Progress(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bench) stream(t testing.TB) (jetstream.JetStream, *jetstream.StreamInfo) {
	t.Helper()
	js, err := jetstream.New(b.nats.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.DecisionStream(0))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return js, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return js, s.CachedInfo()
}

// What nodes send is in the table once, is confirmed, and leaves the stream. A boot that ended in order leaves no mark, and an
// idle stream gets no more ticks.
func TestIngest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	i := b.ingester(t, nil)
	if i.Status() == nil {
		t.Error("an ingester that has not looked at its stream says that all is well")
	}
	start(t, i)
	x, y := b.newNode(t, "x", 1, 100), b.newNode(t, "y", 2, 7)
	x.decide(1234)
	y.decide(99)
	b.settle(t, x, y)
	x.close()
	b.settle(t, x, y)
	if err := i.Status(); err != nil {
		t.Error(err)
	}
	p := b.progress(t)
	if len(p.Marks) != 1 || p.Marks[0].Node != "y" || p.Marks[0].Seq != 100 || p.Epoch != 1 {
		t.Errorf("the progress is %+v", p)
	}
	testenv.Eventually(t, "a stream that holds nothing but the tick", func() error {
		if _, info := b.stream(t); info.State.Msgs > 1 || info.State.LastSeq != p.Sequence+1 {
			return fmt.Errorf("it holds %d up to %d; the progress is %d", info.State.Msgs, info.State.LastSeq, p.Sequence)
		}
		return nil
	})
}

// A node whose batch never got into the stream hears that what it sent after it was not taken, and sends again.
func TestGapIsSentAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	start(t, b.ingester(t, nil))
	n := newSilentNode(t, b.nats.Connect(t), "n", 1, 10)
	n.decide(99)
	n.next = 41
	n.start(t)
	b.settle(t, n)
	if n.mu.Lock(); n.resent == 0 {
		t.Error("the node never sent again")
	}
	n.mu.Unlock()
}

// What cannot be read is kept in the table of rejects, once, and holds up nothing.
func TestRejects(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	i := b.ingester(t, nil)
	start(t, i)
	n := b.newNode(t, "n", 1, 10)
	b.settle(t, n)
	js, _ := b.stream(t)
	junk := map[string][]byte{stream.DecisionSubject(0, "n", n.boot): []byte("junk"), "verdict.decision.0.y": nil, "verdict.decision.0.x": nil}
	for subject, data := range junk {
		if _, err := js.Publish(t.Context(), subject, data); err != nil {
			t.Fatal(err)
		}
	}
	n.decide(10)
	b.settle(t, n)
	testenv.Eventually(t, "rejects", func() error {
		var rejects, reasons uint64
		err := b.db.QueryRowContext(t.Context(), "SELECT count(), countIf(reason LIKE '%not a batch%') FROM rejects").Scan(&rejects, &reasons)
		if err != nil || rejects != 3 || reasons != 3 {
			return fmt.Errorf("%d rejects, %d with the reason, want 3: %w", rejects, reasons, err)
		}
		return nil
	})
}

// After a restart an ingester goes on where the one before it stopped, and repeats what nodes may have missed.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stop := start(t, b.ingester(t, nil))
	n := b.newNode(t, "n", 1, 10)
	n.decide(55)
	b.settle(t, n)
	stop()
	before := b.progress(t)
	heard := make(chan *nats.Msg, 10)
	conn := b.nats.Connect(t)
	if _, err := conn.ChanSubscribe(stream.IngestedSubject("n"), heard); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	i := b.ingester(t, nil)
	start(t, i)
	testenv.Eventually(t, "the start", i.Status)
	for _, c := range []*nats.Conn{i.partitions[0].cfg.Conn, conn} {
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if len(heard) == 0 {
		t.Fatal("it says nothing")
	}
	var m decisionv1.Ingested
	if err := proto.Unmarshal((<-heard).Data, &m); err != nil {
		t.Fatal(err)
	}
	if m.GetLastSequence() != before.Sequence || m.GetStreamId() != before.StreamID || len(m.GetBoots()) != 1 || m.GetBoots()[0].GetSeq() != 56 {
		t.Errorf("it says %v; the progress was %+v", &m, before)
	}
	n.decide(10)
	b.settle(t, n)
	if after := b.progress(t); after.Epoch != before.Epoch {
		t.Errorf("the progress was %+v, and is %+v", before, after)
	}
}

// A stream that one block that is not full could fill would never empty.
func TestStreamTooSmall(t *testing.T) {
	if _, err := New(Config{StreamBytes: MinStreamBytes - 1}); err == nil {
		t.Error("a stream that is too small was taken")
	}
}

// A stream that somebody else made gets the settings that it must have.
func TestStreamAdjusted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	js, _ := b.stream(t)
	config := stream.DecisionStreamConfig(0, 1, 1<<29)
	config.MaxAge, config.Discard, config.DenyDelete = time.Hour, jetstream.DiscardOld, false
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	start(t, b.ingester(t, nil))
	testenv.Eventually(t, "the settings", func() error {
		if _, info := b.stream(t); info.Config.MaxAge != 0 || info.Config.Discard != jetstream.DiscardNew || info.Config.MaxBytes != 1<<30 || !info.Config.DenyDelete {
			return fmt.Errorf("they are %+v", info.Config)
		}
		return nil
	})
}
