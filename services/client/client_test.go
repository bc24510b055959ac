package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/client"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// A node that is killed under load fails no call, and is asked again once it is back.
func TestNodeIsKilledUnderLoad(t *testing.T) {
	h := newHistory(t)
	nodes := []*server{newServer(t, h.newest()).start(), newServer(t, h.newest()).start(), newServer(t, h.newest()).start()}
	c := newClient(t, client.Config{}, nodes[0].url(), nodes[1].url(), nodes[2].url())
	ctx := patient(t)
	var answered, wrong atomic.Int64
	done := make(chan struct{})
	var load sync.WaitGroup
	for worker := range 8 {
		load.Go(func() {
			for i := worker; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				amount := 500 + 1000*(i%2)
				got, err := c.Authorize(ctx, refundOf(amount))
				if err != nil || got.GetProceed() != (amount == 500) {
					wrong.Add(1)
					t.Errorf("a refund of %d: %v, %v", amount, got, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	more := func(what string, counter *atomic.Int64, n int64) {
		from := counter.Load()
		testenv.Eventually(t, what, func() error {
			if got := counter.Load() - from; got < n && wrong.Load() == 0 {
				return errors.New(strconv.FormatInt(got, 10)) //nolint:err113 // a test's
			}
			return nil
		})
	}
	more("answers of three", &answered, 100)
	for range 3 {
		nodes[1].kill()
		more("answers of two", &answered, 200)
		nodes[1].start()
		more("requests at the one that came back", &nodes[1].requests, 20)
	}
	close(done)
	load.Wait()
}

// A node that decided, recorded and broke the connection: another one answers, and the two records have one request id.
func TestAnswerIsLost(t *testing.T) {
	h := newHistory(t)
	lost, other := newServer(t, h.newest()), newServer(t, h.newest()).start()
	lost.after = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	lost.start()
	c := newClient(t, client.Config{}, lost.url(), other.url())
	for range 2 { // whichever is asked first
		c.LeaveOut(time.Hour)
		if got, err := c.Authorize(patient(t), refundOf(500)); err != nil || !got.GetProceed() {
			t.Fatal(got, err)
		}
	}
	first := lost.recorded()
	if len(first) != 1 || first[0] == "" || !strings.Contains(strings.Join(other.recorded(), " "), first[0]) {
		t.Errorf("recorded %q there and %q here", first, other.recorded())
	}
	if n := len(other.recorded()); n != 2 {
		t.Errorf("%d records of two calls", n)
	}
}

// The caller's own request id is kept, in the request and in the header.
func TestRequestIDOfTheCaller(t *testing.T) {
	h := newHistory(t)
	s := newServer(t, h.newest()).start()
	c := newClient(t, client.Config{}, s.url())
	req := refundOf(500)
	req.RequestId = "mine"
	ctx, info := connect.NewClientContext(patient(t))
	info.RequestHeader().Set("X-Request-Id", "header")
	for _, err := range []error{second(c.Authorize(patient(t), req)), second(c.Authorize(ctx, refundOf(500)))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"mine", "header"}, s.recorded()); diff != "" {
		t.Error(diff)
	}
}

func second[T any](_ T, err error) error { return err }

// Whoever has seen a change is not answered from before it, though the node that is asked next has not heard of it yet.
func TestNoAnswerIsOlderThanOneSeen(t *testing.T) {
	h := newHistory(t)
	before := h.newest()
	h.write(t, "no_refunds", "forbid", "true")
	ahead, behind := newServer(t, h.newest()).start(), newServer(t, before)
	behind.waits = make(chan struct{}, 10)
	behind.start()
	c := newClient(t, client.Config{AttemptTimeout: 10 * time.Second}, ahead.url(), behind.url())
	ctx := patient(t)
	for ahead.requests.Load() == 0 { // the first call may go to either
		if _, err := c.Authorize(ctx, refundOf(500)); err != nil {
			t.Fatal(err)
		}
	}
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			got, err := c.Authorize(ctx, refundOf(500))
			if err != nil || got.GetProceed() || revisionOf(t, got.GetRevision()) < h.newest().Position {
				t.Errorf("what was forbidden: %v, %v", got, err)
			}
		})
	}
	select {
	case <-behind.waits: // one of them is there
	case <-ctx.Done():
		t.Fatal("no call waits for the node that is behind")
	}
	behind.publish(h.newest())
	calls.Wait()
	if err := second(c.BatchAuthorize(ctx, &decisionv1.BatchAuthorizeRequest{Requests: []*decisionv1.AuthorizeRequest{refundOf(1), refundOf(2)}})); err != nil {
		t.Error(err)
	}
}

// Under changes that reach nodes at different times, no call is answered from before what was seen when it began.
func TestRevisionsOnlyRise(t *testing.T) {
	h := newHistory(t)
	for i := range 20 {
		h.write(t, "p"+strconv.Itoa(i), "permit", "context.input.amount == "+strconv.Itoa(5000+i))
	}
	const oldest = 6 // the first state with the example in it
	nodes := []*server{newServer(t, h[oldest]).start(), newServer(t, h[oldest]).start(), newServer(t, h[oldest]).start()}
	c := newClient(t, client.Config{}, nodes[0].url(), nodes[1].url(), nodes[2].url())
	ctx := patient(t)
	var seen, answered atomic.Uint64
	done := make(chan struct{})
	var load sync.WaitGroup
	for range 6 {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				floor := seen.Load()
				got, err := c.Authorize(ctx, refundOf(500))
				if err != nil {
					t.Error(err)
					return
				}
				revision := revisionOf(t, got.GetRevision())
				if revision < floor {
					t.Errorf("an answer of revision %d after one of %d", revision, floor)
					return
				}
				for old := seen.Load(); revision > old && !seen.CompareAndSwap(old, revision); {
					old = seen.Load()
				}
				answered.Add(1)
			}
		})
	}
	for i, state := range h[oldest+1:] {
		for j := range nodes {
			from := answered.Load()
			nodes[(i+j)%len(nodes)].publish(state)
			testenv.Eventually(t, "answers between changes", func() error {
				if answered.Load() < from+5 && !t.Failed() {
					return errors.New("too few") //nolint:err113 // a test's
				}
				return nil
			})
		}
	}
	close(done)
	load.Wait()
	if seen.Load() != h.newest().Position {
		t.Errorf("ended at %d of %d", seen.Load(), h.newest().Position)
	}
}

// When the only node that had a revision is gone, calls end with an error within their deadline, and without a record: the node that
// is behind says so, and is not left out for it. With AnyRevision they are answered.
func TestNoNodeHasTheRevision(t *testing.T) {
	h := newHistory(t)
	before := h.newest()
	h.write(t, "other", "permit", "context.input.amount == 5000")
	// afterwards asks the node that is behind, as the only one, after an answer of the one that was ahead.
	afterwards := func(ctx context.Context, cfg client.Config) (behind *server, answer *decisionv1.AuthorizeResponse, err error) {
		ahead, behind := newServer(t, h.newest()).start(), newServer(t, before).start()
		c := newClient(t, cfg, ahead.url(), behind.url())
		for ahead.requests.Load() == 0 {
			if _, err := c.Authorize(patient(t), refundOf(500)); err != nil {
				t.Fatal(err)
			}
		}
		ahead.kill()
		records := len(behind.recorded())
		answer, err = c.Authorize(ctx, refundOf(500))
		if err != nil && len(behind.recorded()) != records {
			t.Error("an error was recorded as a decision")
		}
		return behind, answer, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var log strings.Builder
	behind, answer, err := afterwards(ctx, client.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "did not reach") || ctx.Err() != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	if !strings.Contains(log.String(), "left out") || strings.Contains(log.String(), "node="+behind.url()) {
		t.Errorf("it is not the one that was killed that is left out:\n%s", log.String())
	}
	_, answer, err = afterwards(patient(t), client.Config{AnyRevision: true})
	if err != nil || revisionOf(t, answer.GetRevision()) != before.Position {
		t.Errorf("any revision: %v, %v", answer, err)
	}
}

// A node that takes connections and says nothing costs a call one attempt, not its deadline; and while it is left out, the calls after
// that nothing.
func TestHangingNode(t *testing.T) {
	h := newHistory(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int64
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			taken.Add(1)
			t.Cleanup(func() { _ = conn.Close() })
		}
	})
	t.Cleanup(func() { _ = silent.Close(); accepting.Wait() })
	good := newServer(t, h.newest()).start()
	c := newClient(t, client.Config{AttemptTimeout: time.Second}, "http://"+silent.Addr().String(), good.url())
	c.LeaveOut(time.Hour)
	for range 50 {
		if got, err := c.Authorize(patient(t), refundOf(500)); err != nil || !got.GetProceed() {
			t.Fatal(got, err)
		}
	}
	if n := taken.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

// A node learns how long an attempt may take: never longer than the caller has, and where another could be asked, half of that.
func TestDeadlines(t *testing.T) {
	h := newHistory(t)
	told := make(chan time.Duration, 10)
	nodes := []*server{newServer(t, h.newest()), newServer(t, h.newest())}
	var urls []string
	for _, n := range nodes {
		n.instead = func(_ http.ResponseWriter, r *http.Request) {
			ms, err := strconv.Atoi(r.Header.Get("Connect-Timeout-Ms"))
			if err != nil {
				t.Error(err)
			}
			told <- time.Duration(ms) * time.Millisecond
			panic(http.ErrAbortHandler)
		}
		urls = append(urls, n.start().url())
	}
	for name, c := range map[string]struct {
		cfg           client.Config
		caller        time.Duration // 0 for none
		first, second time.Duration // the most that they may be told
	}{
		"defaults":      {first: client.DefaultAttemptTimeout, second: client.DefaultTimeout},
		"settings":      {cfg: client.Config{Timeout: 40 * time.Second, AttemptTimeout: 10 * time.Second}, first: 10 * time.Second, second: 40 * time.Second},
		"little left":   {cfg: client.Config{AttemptTimeout: time.Hour}, caller: 20 * time.Second, first: 10 * time.Second, second: 20 * time.Second},
		"caller's long": {caller: time.Minute, first: client.DefaultAttemptTimeout, second: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if c.caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.caller)
				defer cancel()
			}
			if _, err := newClient(t, c.cfg, urls...).Authorize(ctx, refundOf(500)); connect.CodeOf(err) != connect.CodeUnavailable {
				t.Error(err)
			}
			if len(told) != 2 {
				t.Fatalf("%d of 2 nodes were told", len(told))
			}
			first, second := <-told, <-told
			if first > c.first || second > c.second || second <= c.first {
				t.Errorf("told %v and %v, want at most %v and %v", first, second, c.first, c.second)
			}
		})
	}
}

// Without nodes there is an error, within the deadline, and the outcome is DENY.
func TestAllAway(t *testing.T) {
	h := newHistory(t)
	nodes := []*server{newServer(t, h.newest()).start(), newServer(t, h.newest()).start()}
	c := newClient(t, client.Config{}, nodes[0].url(), nodes[1].url())
	for _, n := range nodes {
		n.kill()
	}
	for range 3 { // left out or not
		answer, err := c.Authorize(patient(t), refundOf(500))
		if connect.CodeOf(err) != connect.CodeUnavailable || answer != nil {
			t.Fatalf("answered %v, %v", answer, err)
		}
		if !strings.Contains(err.Error(), nodes[0].url()) || !strings.Contains(err.Error(), nodes[1].url()) {
			t.Errorf("it does not say which nodes: %v", err)
		}
		denied(t, err, "unavailable")
	}
	nodes[1].start()
	if got, err := c.Authorize(patient(t), refundOf(500)); err != nil || !got.GetProceed() {
		t.Errorf("one is back: %v, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Authorize(ended, refundOf(500))
	if connect.CodeOf(err) != connect.CodeCanceled {
		t.Error(err)
	}
	denied(t, err, "canceled")
}

// Nodes that say nothing: an error at the caller's deadline.
func TestAllHang(t *testing.T) {
	h := newHistory(t)
	var urls []string
	for range 2 {
		s := newServer(t, h.newest())
		s.instead = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		urls = append(urls, s.start().url())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := newClient(t, client.Config{}, urls...).Authorize(ctx, refundOf(500))
	if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Error(err)
	}
	denied(t, err, "deadline_exceeded")
}

// denied checks what becomes of an error.
func denied(t *testing.T, err error, says string) {
	t.Helper()
	got := client.Denied(err)
	if got.GetDecision() != decisionv1.Decision_DECISION_DENY || got.GetProceed() || !strings.Contains(got.GetReason(), says) || strings.Contains(got.GetReason(), "127.0.0.1") {
		t.Errorf("%v became %v", err, got)
	}
}

// What a node says of the request is the answer: it is not repeated, keeps its details, and is not held against the node.
func TestRefusalsAreNotRepeated(t *testing.T) {
	h := newHistory(t)
	nodes := []*server{newServer(t, h.newest()).start(), newServer(t, h.newest()).start()}
	c := newClient(t, client.Config{}, nodes[0].url(), nodes[1].url())
	c.LeaveOut(time.Hour)
	requests := func() int64 { return nodes[0].requests.Load() + nodes[1].requests.Load() }
	for name, change := range map[string]func(*decisionv1.AuthorizeRequest){
		"no principal":    func(r *decisionv1.AuthorizeRequest) { r.Principal = nil },
		"unknown gateway": func(r *decisionv1.AuthorizeRequest) { r.Resource.Id += "x" },
		"bad revision":    func(r *decisionv1.AuthorizeRequest) { r.AtLeastRevision = "newest" },
	} {
		req := refundOf(500)
		change(req)
		from := requests()
		_, err := c.Authorize(patient(t), req)
		refusal, ok := errors.AsType[*connect.Error](err)
		if !ok || !connect.IsWireError(err) || len(refusal.Details()) != 1 || requests() != from+1 {
			t.Errorf("%s: %v after %d requests", name, err, requests()-from)
			continue
		}
		if value, err := refusal.Details()[0].Value(); err != nil || value.(*controlv1.Problem).GetField() == "" {
			t.Errorf("%s: %v, %v", name, value, err)
		}
		denied(t, err, refusal.Message())
	}
	unsendable := refundOf(500)
	unsendable.Principal.Id = "\xff"
	if _, err := c.Authorize(patient(t), unsendable); err == nil {
		t.Error("what is no text was sent")
	}
	for range 4 { // neither node was left out
		if _, err := c.Authorize(patient(t), refundOf(500)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		if len(n.recorded()) != 2 {
			t.Errorf("%d of 4 requests", len(n.recorded()))
		}
	}
}

// An answer that no decision node gives, or one that breaks its promise, is not taken for one: another node is asked.
func TestStrangeAnswers(t *testing.T) {
	h := newHistory(t)
	answer := func(m proto.Message) func(http.ResponseWriter, *http.Request) {
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/proto")
			_, _ = w.Write(body)
		}
	}
	elsewhere := newServer(t, h.newest()).start()
	for name, instead := range map[string]func(http.ResponseWriter, *http.Request){
		"nothing":     answer(&decisionv1.AuthorizeResponse{}),
		"no revision": answer(&decisionv1.AuthorizeResponse{Decision: decisionv1.Decision_DECISION_ALLOW, Proceed: true}),
		"too old":     answer(&decisionv1.AuthorizeResponse{Decision: decisionv1.Decision_DECISION_ALLOW, Proceed: true, Revision: "1"}),
		"no decision": answer(&decisionv1.AuthorizeResponse{Proceed: true, Revision: "1000"}),
		"half": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/proto")
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte{8, 1})
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"502": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		},
	} {
		t.Run(name, func(t *testing.T) {
			strange, good := newServer(t, h.newest()), newServer(t, h.newest()).start()
			strange.instead = instead
			strange.start()
			c := newClient(t, client.Config{}, good.url(), strange.url())
			for range 4 {
				req := refundOf(2000)
				req.AtLeastRevision = strconv.FormatUint(h.newest().Position, 10)
				if got, err := c.Authorize(patient(t), req); err != nil || got.GetProceed() {
					t.Errorf("answered %v, %v", got, err)
				}
			}
			alone := newClient(t, client.Config{}, strange.url())
			req := refundOf(2000)
			req.AtLeastRevision = strconv.FormatUint(h.newest().Position, 10)
			got, err := alone.Authorize(patient(t), req)
			if _, ok := errors.AsType[*connect.Error](err); !ok || got != nil {
				t.Errorf("alone it answered %v, %v", got, err)
			}
		})
	}
	t.Run("redirect", func(t *testing.T) {
		away := newServer(t, h.newest())
		away.instead = func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.url()+r.URL.Path, http.StatusTemporaryRedirect)
		}
		c := newClient(t, client.Config{}, away.start().url())
		if got, err := c.Authorize(patient(t), refundOf(500)); err == nil || elsewhere.requests.Load() != 0 {
			t.Errorf("answered %v, %v", got, err)
		}
	})
	t.Run("half a batch", func(t *testing.T) {
		short := newServer(t, h.newest())
		short.instead = answer(&decisionv1.BatchAuthorizeResponse{Responses: []*decisionv1.AuthorizeResponse{
			{Decision: decisionv1.Decision_DECISION_ALLOW, Proceed: true, Revision: "1000"},
		}})
		batch := &decisionv1.BatchAuthorizeRequest{Requests: []*decisionv1.AuthorizeRequest{refundOf(1), refundOf(2)}}
		if got, err := newClient(t, client.Config{}, short.start().url()).BatchAuthorize(patient(t), batch); err == nil {
			t.Errorf("answered %v", got)
		}
	})
}

// A caller's messages are its own: they are not changed, whatever is added on the way.
func TestRequestsAreNotChanged(t *testing.T) {
	h := newHistory(t)
	s := newServer(t, h.newest()).start()
	c := newClient(t, client.Config{}, s.url())
	req := refundOf(500)
	req.Explain = true
	batch := &decisionv1.BatchAuthorizeRequest{Requests: []*decisionv1.AuthorizeRequest{refundOf(500), refundOf(2000)}}
	list := &decisionv1.ListPermittedActionsRequest{Principal: req.GetPrincipal(), Resource: req.GetResource()}
	wants := []proto.Message{proto.Clone(req), proto.Clone(batch), proto.Clone(list)}
	for range 2 {
		if got, err := c.Authorize(patient(t), req); err != nil || len(got.GetExplanation()) != 1 {
			t.Fatal(got, err)
		}
		got, err := c.BatchAuthorize(patient(t), batch)
		if err != nil || !got.GetResponses()[0].GetProceed() || got.GetResponses()[1].GetProceed() {
			t.Fatal(got, err)
		}
		listed, err := c.ListPermittedActions(patient(t), list)
		if err != nil || len(listed.GetActions()) != 1 || listed.GetActions()[0].GetAction().GetId() != req.GetAction().GetId() {
			t.Fatal(listed, err)
		}
	}
	for i, got := range []proto.Message{req, batch, list} {
		if diff := cmp.Diff(wants[i], got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
}

// Settings that would not do what they seem to are refused.
func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  client.Config
		says string // "" where it is taken
	}{
		"none":              {says: "no nodes"},
		"no URL":            {cfg: client.Config{Nodes: []string{"decision-1:7402"}}, says: "must be a URL"},
		"another scheme":    {cfg: client.Config{Nodes: []string{"ftp://127.0.0.1"}}, says: "must be a URL"},
		"twice":             {cfg: client.Config{Nodes: []string{"http://127.0.0.1:1", "http://127.0.0.1:1/"}}, says: "twice"},
		"plain, elsewhere":  {cfg: client.Config{Nodes: []string{"http://192.0.2.1:7402"}}, says: "use https"},
		"… on purpose":      {cfg: client.Config{Nodes: []string{"http://192.0.2.1:7402"}, Insecure: true}},
		"a password":        {cfg: client.Config{Nodes: []string{"https://a:secret@192.0.2.1:7402"}}, says: "Transport"},
		"a negative time":   {cfg: client.Config{Nodes: []string{"https://192.0.2.1:7402"}, Timeout: -1}, says: "negative"},
		"TLS and localhost": {cfg: client.Config{Nodes: []string{"https://192.0.2.1:7402", "http://localhost:7402"}}},
	} {
		_, err := client.New(c.cfg)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
