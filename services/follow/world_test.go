package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/event/v1/eventv1connect"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	alice = "111111111111"
	bob   = "222222222222"
)

// history is a log in memory, made of real events.
type history struct {
	t      testing.TB
	signer *stream.Signer
	keys   stream.Keyring
	events []*eventv1.PolicyEvent // events[p-1] is at position p
	states []*policy.State        // states[p] is after position p
}

func newHistory(t testing.TB) *history {
	t.Helper()
	h := &history{t: t, states: []*policy.State{policy.Empty()}}
	h.signer, h.keys = testenv.NewKeys(t)
	h.do(policy.LogAccount, policy.CreateLog{ID: "log-1", Region: "us-east-1"})
	return h
}

func (h *history) head() *policy.State { return h.states[len(h.states)-1] }

// do carries a command out.
func (h *history) do(account string, c policy.Command) {
	h.t.Helper()
	limits := policy.DefaultLimits()
	limits.Engines = 1 << 20
	events, err := policy.Decide(h.head(), account, c, policy.Config{Region: "us-east-1", Limits: limits})
	if err != nil {
		h.t.Fatal(err)
	}
	for i, ev := range events {
		r := h.head().Next(account, ev, h.head().RecordedAt+1)
		r.Commits = i == len(events)-1
		h.seal(r)
	}
}

func (h *history) seal(r policy.Recorded) {
	h.t.Helper()
	ev, err := stream.Seal(r, h.signer)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Hash = policy.Hash(ev.GetHash())
	s, err := h.head().Apply(r)
	if err != nil {
		h.t.Fatal(err)
	}
	h.events, h.states = append(h.events, ev), append(h.states, s)
}

// engines makes n engines, two events each, of alice's.
func (h *history) engines(n int) *history {
	h.t.Helper()
	for range n {
		name := fmt.Sprintf("E%d", len(h.events))
		h.do(alice, policy.CreateEngine{ID: policy.NewID(policy.KindEngine, name, "0123456789"), Name: name})
	}
	return h
}

// branch is the history up to a position, to go on in another way.
func (h *history) branch(position int) *history {
	b := *h
	b.events, b.states = h.events[:position:position], h.states[:position+1:position+1]
	return &b
}

// later appends an event as a later version writes it: of another type, or for another reader.
func (h *history) later(change func(*eventv1.EventBody)) *eventv1.PolicyEvent {
	h.t.Helper()
	next := h.branch(len(h.events)).engines(1)
	var body eventv1.EventBody
	if err := proto.Unmarshal(next.events[len(h.events)].GetBody(), &body); err != nil {
		h.t.Fatal(err)
	}
	change(&body)
	return h.signed(&body)
}

func (h *history) signed(body *eventv1.EventBody) *eventv1.PolicyEvent {
	h.t.Helper()
	data, err := proto.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	hash := stream.HashBody(data)
	return &eventv1.PolicyEvent{Body: data, Hash: hash[:], KeyId: h.signer.KeyID(), Signature: h.signer.SignEvent(hash)}
}

// otherType and otherReader are what later versions do.
func otherType(b *eventv1.EventBody)   { b.Type = "engine.renamed" }
func otherReader(b *eventv1.EventBody) { b.MinReader = stream.Reader + 1 }

func live(t testing.TB, ev *eventv1.PolicyEvent) *nats.Msg {
	t.Helper()
	data, err := proto.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	return &nats.Msg{Subject: "verdict.live.111111111111.engine.x", Data: data}
}

// hint is the head of h as a relay tells it.
func (h *history) hint() *nats.Msg {
	h.t.Helper()
	data, err := proto.Marshal(h.sealHead(h.head(), nil))
	if err != nil {
		h.t.Fatal(err)
	}
	return &nats.Msg{Subject: stream.HeadSubject, Data: data}
}

func (h *history) sealHead(s *policy.State, nonce []byte) *eventv1.SignedHead {
	signed, err := stream.SealHead(stream.Head{LogID: s.LogID, Position: s.Position, Hash: s.Hash}, nonce, h.signer)
	if err != nil {
		h.t.Error(err)
	}
	return signed
}

// control serves a history as EventService, through Connect, over no network.
type control struct {
	served
	mu    sync.Mutex     // guards the other fields
	asked map[string]int // by method
}

// served is what a control serves.
type served struct {
	log     *history
	away    bool                   // nothing answers
	silent  bool                   // what is asked is never answered
	hangs   string                 // the method that is never answered
	noState bool                   // ReadState is not served
	delay   time.Duration          // of every answer
	refusal error                  // the answer to everything
	nonce   []byte                 // in place of the one asked with
	vouched *policy.State          // in place of the head
	extra   []*eventv1.PolicyEvent // comes after the log's events
	page    int                    // events in one
}

func newControl(h *history) *control {
	return &control{served: served{log: h, page: 256}, asked: map[string]int{}}
}

// set changes what is served.
func (c *control) set(change func(c *served)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.served)
}

func (c *control) count(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[method]
}

// enter counts a question and is how things stand for it.
func (c *control) enter(ctx context.Context, method string) (served, error) {
	c.mu.Lock()
	c.asked[method]++
	now := c.served
	now.log = c.log.branch(len(c.log.events))
	c.mu.Unlock()
	if now.silent = now.silent || now.hangs == method; now.silent {
		<-ctx.Done()
	}
	if now.delay > 0 {
		select {
		case <-time.After(now.delay): // on the time of testing/synctest
		case <-ctx.Done():
		}
	}
	if now.refusal != nil {
		return now, now.refusal
	}
	if now.away || now.silent {
		return now, connect.NewError(connect.CodeUnavailable, errors.New("away"))
	}
	return now, nil
}

func (c *control) Head(ctx context.Context, req *eventv1.HeadRequest) (*eventv1.HeadResponse, error) {
	now, err := c.enter(ctx, "Head")
	if err != nil {
		return nil, err
	}
	nonce := req.GetNonce()
	if now.nonce != nil {
		nonce = now.nonce
	}
	head := now.log.head()
	if now.vouched != nil {
		head = now.vouched
	}
	return &eventv1.HeadResponse{Head: now.log.sealHead(head, nonce)}, nil
}

func (c *control) ReadEvents(ctx context.Context, req *eventv1.ReadEventsRequest, out *connect.ServerStream[eventv1.ReadEventsResponse]) error {
	now, err := c.enter(ctx, "ReadEvents")
	switch {
	case err != nil:
		return err
	case req.GetLogId() != now.log.head().LogID:
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("another log"))
	case req.GetAfterPosition() > now.log.head().Position:
		return connect.NewError(connect.CodeOutOfRange, errors.New("beyond the head"))
	}
	events := slices.Concat(now.log.events[req.GetAfterPosition():], now.extra)
	for len(events) > 0 {
		n := min(len(events), now.page)
		if err := out.Send(&eventv1.ReadEventsResponse{Events: events[:n]}); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

func (c *control) ReadState(ctx context.Context, _ *eventv1.ReadStateRequest, out *connect.ServerStream[eventv1.ReadStateResponse]) error {
	now, err := c.enter(ctx, "ReadState")
	if err == nil && now.noState {
		err = connect.NewError(connect.CodeUnimplemented, errors.New("not served"))
	}
	if err != nil {
		return err
	}
	data, manifest, err := stream.SealState(now.log.head(), now.log.signer)
	if err != nil {
		return err
	}
	if err := out.Send(&eventv1.ReadStateResponse{Part: &eventv1.ReadStateResponse_Manifest{Manifest: manifest}}); err != nil {
		return err
	}
	return out.Send(&eventv1.ReadStateResponse{Part: &eventv1.ReadStateResponse_Chunk{Chunk: data}})
}

// client asks c.
func (c *control) client() EventSource {
	_, handler := eventv1connect.NewEventServiceHandler(c)
	return eventv1connect.NewEventServiceClient(&http.Client{Transport: inProcess{handler}}, "http://control")
}

// inProcess carries requests to a handler over pipes, which testing/synctest can follow.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	reader, writer := io.Pipe()
	w := &responseWriter{header: http.Header{}, body: writer, started: make(chan *http.Response, 1)}
	go func() {
		p.handler.ServeHTTP(w, req)
		w.WriteHeader(http.StatusOK)
		_ = writer.Close()
	}()
	stop := context.AfterFunc(req.Context(), func() { _ = reader.CloseWithError(req.Context().Err()) })
	select {
	case resp := <-w.started:
		resp.Body, resp.Request = body{reader, stop}, req
		return resp, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

type body struct {
	*io.PipeReader
	stop func() bool
}

func (b body) Close() error { b.stop(); return b.PipeReader.Close() }

type responseWriter struct {
	header  http.Header
	body    *io.PipeWriter
	once    sync.Once
	started chan *http.Response
}

func (w *responseWriter) Header() http.Header { return w.header }
func (w *responseWriter) Flush()              {}
func (w *responseWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.started <- &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: w.header.Clone()}
	})
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// noNATS is a connection that is never made.
func noNATS(t testing.TB) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect("nats://127.0.0.1:1", nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.SetCustomDialer(nowhere{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

type nowhere struct{}

func (nowhere) Dial(string, string) (net.Conn, error) { return nil, errors.New("nowhere") }

// published notes what a follower publishes.
type published struct {
	mu       sync.Mutex // guards the fields below
	states   []*policy.State
	accounts [][]string
	slow     time.Duration // to publish
}

func (p *published) set(slow time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = slow
}

func (p *published) publish(s *policy.State, accounts []string) {
	p.mu.Lock()
	slow := p.slow
	p.mu.Unlock()
	if slow > 0 { // on the time of testing/synctest
		<-time.After(slow)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states, p.accounts = append(p.states, s), append(p.accounts, accounts)
}

func (p *published) last() *policy.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.states) == 0 {
		return nil
	}
	return p.states[len(p.states)-1]
}

// hands is a clock that tests set.
type hands struct {
	mu   sync.Mutex // guards the fields below
	boot time.Duration
	wall time.Time
}

func newHands() *hands { return &hands{boot: time.Hour, wall: time.UnixMicro(1_700_000_000_000_000)} }

func (h *hands) pass(boot, wall time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boot, h.wall = h.boot+boot, h.wall.Add(wall)
}

func (h *hands) clock() clock {
	return clock{
		boot: func() time.Duration { h.mu.Lock(); defer h.mu.Unlock(); return h.boot },
		wall: func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.wall },
	}
}

// bench is a follower whose loop the test turns by hand.
type bench struct {
	*loop
	*published
	control *control
	hands   *hands
	reg     *prometheus.Registry
}

// newBench starts at a position of h, with a state from control; at 0 with none.
func newBench(t testing.TB, h *history, position int) *bench {
	t.Helper()
	b := &bench{published: &published{}, control: newControl(h), hands: newHands(), reg: prometheus.NewRegistry()}
	f, err := newFollower(Config{
		Conn: noNATS(t), Events: b.control.client(), Keys: h.keys, Publish: b.publish, Logger: testenv.Logger(t), Registerer: b.reg,
	}, b.hands.clock())
	if err != nil {
		t.Fatal(err)
	}
	b.loop = newLoop(f)
	t.Cleanup(b.loop.close)
	if position > 0 {
		b.adopt(t.Context(), h.states[position])
	}
	return b
}

// metric is the value of a counter or gauge, by its name and label.
func metric(t testing.TB, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "verdict_follow_"+name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func wantPosition(t testing.TB, b *bench, want int) {
	t.Helper()
	s := b.State()
	if position(s) != uint64(want) || b.last() != s {
		t.Errorf("the state is at %d and %d was published, want %d", position(s), position(b.last()), want)
	}
	if want > 0 && s.Hash != b.control.log.states[want].Hash {
		t.Errorf("position %d has another hash than the log's", want)
	}
}
