package rpc_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/structpb"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	echo   = "/test.v1.Test/Echo"
	count  = "/test.v1.Test/Count"
	strict = "/test.v1.Test/Method"
)

// fixture is a server with three procedures behind an Edge. Fields that are nil have a default.
type fixture struct {
	echo   func(context.Context, *structpb.Struct) (*structpb.Struct, error)
	stream func(context.Context, *structpb.Struct, *connect.ServerStream[structpb.Struct]) error
	rest   http.HandlerFunc
	cfg    rpc.Config

	url      string
	server   *httptest.Server
	log      *syncBuffer
	registry *prometheus.Registry
}

func (f *fixture) start(t *testing.T) *fixture {
	t.Helper()
	callers, err := identity.NewLoopback("123456789012")
	if err != nil {
		t.Fatal(err)
	}
	f.log, f.registry = new(syncBuffer), prometheus.NewRegistry()
	f.cfg.Callers, f.cfg.Registry = callers, f.registry
	if f.cfg.Access == nil {
		f.cfg.Access = everybody{}
	}
	f.cfg.Logger = slog.New(slog.NewJSONHandler(f.log, nil))
	edge := rpc.New(f.cfg)
	if f.echo == nil {
		f.echo = func(_ context.Context, in *structpb.Struct) (*structpb.Struct, error) { return in, nil }
	}
	if f.stream == nil {
		f.stream = func(_ context.Context, in *structpb.Struct, out *connect.ServerStream[structpb.Struct]) error {
			return errors.Join(out.Send(in), out.Send(in))
		}
	}
	mux := http.NewServeMux()
	mux.Handle(echo, connect.NewUnaryHandlerSimple(echo, f.echo, edge.HandlerOptions()...))
	mux.Handle(count, connect.NewServerStreamHandlerSimple(count, f.stream, edge.HandlerOptions()...))
	mux.Handle(strict, connect.NewUnaryHandlerSimple(strict,
		func(_ context.Context, in *apipb.Method) (*apipb.Method, error) { return in, nil }, edge.HandlerOptions()...))
	if f.rest != nil {
		mux.Handle("/rest/", f.rest)
	}
	server := httptest.NewUnstartedServer(edge.Handler(mux))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(server.Close)
	f.url, f.server = server.URL, server
	return f
}

// everybody may do everything.
type everybody struct{}

func (everybody) Check(identity.Caller, string) error { return nil }

func (everybody) Changes(string) bool { return true }

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// lines are the entries of the log.
func (s *syncBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []map[string]any
	for line := range bytes.Lines(s.b.Bytes()) {
		var entry map[string]any
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatal(err)
		}
		all = append(all, entry)
	}
	return all
}

// requests checks the counter for a procedure and code. A request counts when its handler is done, which can be after the client has
// its answer, and after a server that is stopped: net/http does not wait for requests of HTTP/2 without TLS.
func (f *fixture) requests(t *testing.T, procedure, code string, want int) {
	t.Helper()
	f.server.Close()
	line := fmt.Sprintf("verdict_rpc_requests_total{code=%q,procedure=%q} %d\n", code, procedure, want)
	testenv.Eventually(t, "requests that are counted", func() error {
		text, err := metricsText(f.registry)
		if err == nil && (!strings.Contains(text, line) || !strings.Contains(text, "verdict_rpc_in_flight 0\n")) {
			err = fmt.Errorf("no %s and nothing in flight in\n%s", line, text) //nolint:err113 // a test's
		}
		return err
	})
}

type answered struct {
	status int
	header http.Header
	body   string
}

func (f *fixture) post(t *testing.T, path, body string, edit ...func(*http.Request)) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, e := range edit {
		e(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{resp.StatusCode, resp.Header, string(text)}
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestEchoJSON(t *testing.T) {
	t.Parallel()
	f := (&fixture{}).start(t)
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"} {
		got := f.post(t, echo, `{ "a" : [1, "x , y"] , "b":{} }`, header("Content-Type", contentType))
		if want := `{"a":[1,"x , y"],"b":{}}`; got.status != http.StatusOK || got.body != want {
			t.Errorf("%s: %d %s, want %s", contentType, got.status, got.body, want)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	f := (&fixture{echo: func(ctx context.Context, _ *structpb.Struct) (*structpb.Struct, error) {
		return structpb.NewStruct(map[string]any{"id": rpc.RequestID(ctx)})
	}}).start(t)
	for _, tt := range []struct {
		given string
		kept  bool
	}{
		{"abc-DEF_1.2", true},
		{strings.Repeat("x", 128), true},
		{strings.Repeat("x", 129), false},
		{"", false},
		{"with space", false},
		{"quote\"", false},
		{"ünicode", false},
	} {
		got := f.post(t, echo, `{}`, header("x-request-id", tt.given))
		id := got.header.Get("x-request-id")
		if tt.kept && id != tt.given {
			t.Errorf("%q: answered with id %q", tt.given, id)
		}
		if !tt.kept {
			if parsed, err := uuid.Parse(id); err != nil || parsed.Version() != 7 {
				t.Errorf("%q: id %q is no UUIDv7", tt.given, id)
			}
		}
		if want := `{"id":"` + id + `"}`; got.body != want {
			t.Errorf("the handler saw %s, want %s", got.body, want)
		}
	}
	if rpc.RequestID(t.Context()) != "" {
		t.Error("a request id outside of a request")
	}
}

func TestTwoRequestIDsAreNone(t *testing.T) {
	t.Parallel()
	f := (&fixture{}).start(t)
	got := f.post(t, echo, `{}`, func(r *http.Request) { r.Header["X-Request-Id"] = []string{"a", "b"} })
	if _, err := uuid.Parse(got.header.Get("x-request-id")); err != nil {
		t.Error(got.header.Get("x-request-id"))
	}
}

func TestCallerReachesHandlers(t *testing.T) {
	t.Parallel()
	see := func(ctx context.Context) *structpb.Struct {
		caller, _ := identity.FromContext(ctx)
		return &structpb.Struct{Fields: map[string]*structpb.Value{"account": structpb.NewStringValue(caller.Account)}}
	}
	f := (&fixture{
		echo: func(ctx context.Context, _ *structpb.Struct) (*structpb.Struct, error) { return see(ctx), nil },
		stream: func(ctx context.Context, _ *structpb.Struct, out *connect.ServerStream[structpb.Struct]) error {
			return out.Send(see(ctx))
		},
	}).start(t)
	if got := f.post(t, echo, `{}`); got.body != `{"account":"123456789012"}` {
		t.Error(got.body)
	}
	client := connect.NewClient[structpb.Struct, structpb.Struct](http.DefaultClient, f.url+count)
	stream, err := client.CallServerStream(t.Context(), connect.NewRequest(&structpb.Struct{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	if !stream.Receive() || stream.Msg().GetFields()["account"].GetStringValue() != "123456789012" {
		t.Error(stream.Msg(), stream.Err())
	}
}

func TestUnknownCallersAreRefusedInEveryProtocol(t *testing.T) {
	t.Parallel()
	reached := false
	f := (&fixture{
		echo: func(_ context.Context, in *structpb.Struct) (*structpb.Struct, error) {
			reached = true
			return in, nil
		},
		rest: func(http.ResponseWriter, *http.Request) { reached = true },
	}).start(t)
	for _, path := range []string{echo, "/rest/x", "/nothing"} {
		got := f.post(t, path, `{}`, func(r *http.Request) { r.Host = "evil.example" })
		if got.status != http.StatusUnauthorized || !strings.Contains(got.body, `"code":"unauthenticated"`) {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	for name, option := range protocols {
		client := connect.NewClient[structpb.Struct, structpb.Struct](otherHost{h2c}, f.url+echo, option)
		_, err := client.CallUnary(t.Context(), connect.NewRequest(&structpb.Struct{}))
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if reached {
		t.Error("a handler ran")
	}
}

var (
	protocols = map[string]connect.ClientOption{
		"connect": connect.WithClientOptions(), "grpc": connect.WithGRPC(), "grpc-web": connect.WithGRPCWeb(),
	}
	h2c = func() *http.Client {
		p := new(http.Protocols)
		p.SetUnencryptedHTTP2(true)
		return &http.Client{Transport: &http.Transport{Protocols: p}}
	}()
)

// otherHost calls the server by another name.
type otherHost struct{ client *http.Client }

func (o otherHost) Do(r *http.Request) (*http.Response, error) {
	r.Host = "evil.example"
	return o.client.Do(r)
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	f := (&fixture{rest: func(http.ResponseWriter, *http.Request) { t.Error("a handler ran") }}).start(t)
	got := f.post(t, "/rest/x", `{}`, header("Sec-Fetch-Site", "cross-site"))
	if got.status != http.StatusForbidden || !strings.Contains(got.body, "permission_denied") {
		t.Errorf("%d %s", got.status, got.body)
	}
	f.requests(t, "none", "permission_denied", 1)
}

func TestHandlerWithoutTheEdgeAroundItFailsClosed(t *testing.T) {
	t.Parallel()
	callers, err := identity.NewLoopback("")
	if err != nil {
		t.Fatal(err)
	}
	edge := rpc.New(rpc.Config{Callers: callers, Access: everybody{}})
	handler := connect.NewUnaryHandlerSimple(echo, func(_ context.Context, in *structpb.Struct) (*structpb.Struct, error) {
		t.Error("the handler ran")
		return in, nil
	}, edge.HandlerOptions()...)
	r := httptest.NewRequest(http.MethodPost, echo, strings.NewReader(`{}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError {
		t.Error(w.Code, w.Body)
	}
}

func TestNothingToCallAnswersWithText(t *testing.T) {
	t.Parallel()
	f := (&fixture{rest: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"theirs":true}`)
	}}).start(t)
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	for _, tt := range []struct {
		name, path string
		edit       func(*http.Request)
		status     int
		says       []string
	}{
		{"unknown procedure", "/test.v1.Test/Nothing", header("x", "y"), 404, []string{`"code":"unimplemented"`, "/test.v1.Test/Nothing"}},
		{"unknown path", "/", header("x", "y"), 404, []string{`"code":"unimplemented"`}},
		{"wrong method", echo, method(http.MethodGet), 405, []string{`"code":"unimplemented"`, "POST, not GET"}},
		{"other wrong method", echo, method("BREW"), 405, []string{"POST, not BREW"}},
		{
			"content type of a form", echo, header("Content-Type", "application/x-www-form-urlencoded"), 415,
			[]string{"application/json", "x-www-form-urlencoded"},
		},
		{"no content type", echo, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, []string{"application/json"}},
		{"charset other than UTF-8", echo, header("Content-Type", "application/json; charset=latin1"), 415, []string{"latin1"}},
		{"unknown compression", echo, header("Content-Encoding", "br"), 501, []string{"unimplemented", "gzip"}},
		{"nonsense deadline", echo, header("Connect-Timeout-Ms", "soon"), 400, []string{"invalid_argument"}},
		{"answer of a REST handler", "/rest/x", header("x", "y"), 404, []string{`{"theirs":true}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := f.post(t, tt.path, `{}`, tt.edit)
			if got.status != tt.status || got.header.Get("x-request-id") == "" {
				t.Errorf("status %d, want %d; header %v", got.status, tt.status, got.header)
			}
			if !json.Valid([]byte(got.body)) {
				t.Errorf("no JSON: %s", got.body)
			}
			for _, s := range tt.says {
				if !strings.Contains(got.body, s) {
					t.Errorf("%s does not say %q", got.body, s)
				}
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	const limit = 1000
	f := (&fixture{cfg: rpc.Config{MaxBytes: limit, MaxDepth: 20}}).start(t)
	text := func(n int) string { return `{"a":"` + strings.Repeat("x", n-len(`{"a":""}`)) + `"}` }
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	zip := header("Content-Encoding", "gzip")
	for _, tt := range []struct {
		name, body string
		edit       func(*http.Request)
		status     int
		says       []string
	}{
		{"at the limit", text(limit), header("x", "y"), 200, nil},
		{"above the limit", text(limit + 1), header("x", "y"), 429, []string{"resource_exhausted", "1000", "1001"}},
		{"far above", text(1 << 20), header("x", "y"), 429, []string{"resource_exhausted", "1000"}},
		{"compressed, at the limit", gzipped(t, text(limit)), zip, 200, nil},
		{"compressed, expands above the limit", gzipped(t, text(limit+1)), zip, 429, []string{"resource_exhausted", "1000"}},
		{"compressed, expands far above", gzipped(t, text(8<<20)), zip, 429, []string{"resource_exhausted", "1000"}},
		{"not what it says", `{}`, zip, 400, []string{"invalid_argument"}},
		{"nested", deep(15), header("x", "y"), 200, nil},
		{"nested too deep", deep(25), header("x", "y"), 400, []string{"nested deeper than the 20 levels"}},
		{"empty", "", header("x", "y"), 400, []string{"the body is empty"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := f.post(t, echo, tt.body, tt.edit)
			if got.status != tt.status {
				t.Errorf("status %d, want %d: %s", got.status, tt.status, got.body)
			}
			for _, s := range tt.says {
				if !strings.Contains(got.body, s) {
					t.Errorf("%s does not say %q", got.body, s)
				}
			}
		})
	}
	f.requests(t, echo, "resource_exhausted", 4)
	f.requests(t, echo, "invalid_argument", 3)
	f.requests(t, echo, "ok", 3)
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLimitsOfGRPC(t *testing.T) {
	t.Parallel()
	f := (&fixture{cfg: rpc.Config{MaxBytes: 1000}}).start(t)
	large := &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStringValue(strings.Repeat("x", 2000))}}
	for name, option := range protocols {
		for _, compress := range []bool{false, true} {
			options := []connect.ClientOption{option}
			if compress {
				options = append(options, connect.WithSendGzip())
			}
			client := connect.NewClient[structpb.Struct, structpb.Struct](h2c, f.url+echo, options...)
			_, err := client.CallUnary(t.Context(), connect.NewRequest(large))
			if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "1000") {
				t.Errorf("%s, compressed=%t: %v", name, compress, err)
			}
			stream, err := connect.NewClient[structpb.Struct, structpb.Struct](h2c, f.url+count, options...).
				CallServerStream(t.Context(), connect.NewRequest(large))
			if err == nil {
				stream.Receive()
				err = stream.Err()
				_ = stream.Close()
			}
			if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "1000") {
				t.Errorf("stream of %s, compressed=%t: %v", name, compress, err)
			}
		}
	}
	f.requests(t, count, "resource_exhausted", 6)
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	var left time.Duration
	f := (&fixture{
		cfg: rpc.Config{Timeout: time.Hour, MaxTimeout: 10 * time.Hour},
		echo: func(ctx context.Context, in *structpb.Struct) (*structpb.Struct, error) {
			deadline, ok := ctx.Deadline()
			if !ok {
				t.Error("no deadline")
			}
			left = time.Until(deadline).Round(time.Hour)
			return in, nil
		},
		stream: func(ctx context.Context, in *structpb.Struct, out *connect.ServerStream[structpb.Struct]) error {
			if _, ok := ctx.Deadline(); ok {
				t.Error("a stream has a deadline")
			}
			return out.Send(in)
		},
	}).start(t)
	for given, want := range map[string]time.Duration{
		"":         time.Hour,
		"7200000":  2 * time.Hour,
		"90000000": 10 * time.Hour,
	} {
		f.post(t, echo, `{}`, func(r *http.Request) {
			if given != "" {
				r.Header.Set("Connect-Timeout-Ms", given)
			}
		})
		if left != want {
			t.Errorf("timeout %q became %s, want %s", given, left, want)
		}
	}
	f.post(t, count, "\x00\x00\x00\x00\x02{}", header("Content-Type", "application/connect+json"))
}

func TestPanicIsInternalCountedAndLogged(t *testing.T) {
	t.Parallel()
	f := (&fixture{
		echo: func(context.Context, *structpb.Struct) (*structpb.Struct, error) { panic("secret one") },
		stream: func(context.Context, *structpb.Struct, *connect.ServerStream[structpb.Struct]) error {
			panic("secret two")
		},
		rest: func(_ http.ResponseWriter, r *http.Request) {
			rpc.SetProcedure(r.Context(), "rest/Get")
			panic("secret three")
		},
	}).start(t)
	id := header("x-request-id", "my-id")
	frame := "\x00\x00\x00\x00\x02{}"
	for _, got := range []answered{
		f.post(t, echo, `{}`, id),
		f.post(t, count, frame, id, header("Content-Type", "application/connect+json")),
		f.post(t, "/rest/x", "", id),
	} {
		if !strings.Contains(got.body, "internal error, request id my-id") || strings.Contains(got.body, "secret") {
			t.Errorf("answer %d %s", got.status, got.body)
		}
	}
	for _, procedure := range []string{echo, count, "rest/Get"} {
		f.requests(t, procedure, "internal", 1)
	}
	if n, err := testutil.GatherAndCount(f.registry, "verdict_rpc_panics_total"); err != nil || n != 3 {
		t.Error(n, err)
	}
	for i, line := range f.log.lines(t) {
		text := fmt.Sprint(line["error"])
		if line["level"] != "ERROR" || line["request_id"] != "my-id" || !strings.Contains(text, "secret") ||
			!strings.Contains(text, "edge_test.go") {
			t.Errorf("line %d: %v", i, line)
		}
	}
}

// A panic behind the first bytes of an answer breaks the connection: half an answer must not look whole.
func TestPanicInTheMiddleOfAnAnswerBreaksIt(t *testing.T) {
	t.Parallel()
	f := (&fixture{rest: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic("late")
	}}).start(t)
	resp, err := http.Get(f.url + "/rest/x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the answer %q looks whole", text)
	}
	f.requests(t, "none", "internal", 1)
}

func TestStreamsEndWhenTheServiceDrains(t *testing.T) {
	t.Parallel()
	draining := make(chan struct{})
	f := (&fixture{
		cfg: rpc.Config{Draining: draining},
		stream: func(ctx context.Context, in *structpb.Struct, out *connect.ServerStream[structpb.Struct]) error {
			if err := out.Send(in); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
	}).start(t)
	client := connect.NewClient[structpb.Struct, structpb.Struct](http.DefaultClient, f.url+count)
	stream, err := client.CallServerStream(t.Context(), connect.NewRequest(&structpb.Struct{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	close(draining)
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
		t.Errorf("the stream ended with %v", stream.Err())
	}
}

func TestFailuresAreLoggedOnceAndSuccessesNot(t *testing.T) {
	t.Parallel()
	f := (&fixture{echo: func(_ context.Context, in *structpb.Struct) (*structpb.Struct, error) {
		if len(in.GetFields()) > 0 {
			return nil, fmt.Errorf("look up: %w", policy.Invalid("bad_a", "a", "a is bad"))
		}
		return in, nil
	}}).start(t)
	f.post(t, echo, `{}`)
	f.post(t, echo, `{"a":1}`, header("x-request-id", "one"))
	f.post(t, echo, `{"a":`)
	f.post(t, "/no/where", `{}`)
	f.requests(t, echo, "ok", 1)
	f.requests(t, echo, "invalid_argument", 2)
	f.requests(t, "none", "unimplemented", 1)
	lines := f.log.lines(t)
	if len(lines) != 3 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for key, want := range map[string]any{
		"level": "INFO", "msg": "request failed", "procedure": echo, "code": "invalid_argument", "request_id": "one",
		"account": "123456789012", "caller": "loopback", "reason": "bad_a", "error": "look up: a is bad",
	} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
}

func TestUndecodableRequestsAreCountedInEveryProtocol(t *testing.T) {
	t.Parallel()
	f := (&fixture{}).start(t)
	frame := func(body string) string { return "\x00\x00\x00\x00" + string(rune(len(body))) + body }
	for contentType, body := range map[string]string{
		"application/json":          `{"a"`,
		"application/proto":         "\xff\xff",
		"application/grpc-web+json": frame(`{"a"`),
	} {
		f.post(t, echo, body, header("Content-Type", contentType))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+echo, strings.NewReader(frame(`{"a"`)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc+json")
	resp, err := h2c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	f.requests(t, echo, "invalid_argument", 4)
}

// An answer that cannot be encoded fails behind the interceptors.
func TestUnencodableAnswerIsCountedAsFailed(t *testing.T) {
	t.Parallel()
	f := (&fixture{echo: func(context.Context, *structpb.Struct) (*structpb.Struct, error) {
		return &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStringValue("\xff")}}, nil
	}}).start(t)
	if got := f.post(t, echo, `{}`); got.status != http.StatusInternalServerError {
		t.Errorf("%d %s", got.status, got.body)
	}
	f.requests(t, echo, "internal", 1)
}

func TestInFlightReturnsToZero(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	f := (&fixture{echo: func(_ context.Context, in *structpb.Struct) (*structpb.Struct, error) {
		entered <- struct{}{}
		<-leave
		return in, nil
	}}).start(t)
	var wg sync.WaitGroup
	wg.Go(func() { f.post(t, echo, `{}`) })
	<-entered
	if text, err := metricsText(f.registry); err != nil || !strings.Contains(text, "verdict_rpc_in_flight 1") {
		t.Error(text, err)
	}
	close(leave)
	wg.Wait()
	f.requests(t, echo, "ok", 1)
}

func TestProblemInEveryProtocol(t *testing.T) {
	t.Parallel()
	f := (&fixture{echo: func(context.Context, *structpb.Struct) (*structpb.Struct, error) {
		return nil, &policy.Error{
			Kind: policy.ErrConflict, Reason: "in_use", Field: "engine", Line: 3, Column: 7, Message: "no", Suggest: "other",
		}
	}}).start(t)
	for name, option := range protocols {
		client := connect.NewClient[structpb.Struct, structpb.Struct](h2c, f.url+echo, option)
		_, err := client.CallUnary(t.Context(), connect.NewRequest(&structpb.Struct{}))
		if connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("%s: %v", name, err)
		}
		got := problemOf(t, err)
		if got.GetCode() != "in_use" || got.GetField() != "engine" || got.GetLine() != 3 || got.GetColumn() != 7 ||
			got.GetSuggestion() != "other" {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func problemOf(t *testing.T, err error) *controlv1.Problem {
	t.Helper()
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok || len(ce.Details()) != 1 {
		t.Fatalf("%v has no detail", err)
	}
	value, err := ce.Details()[0].Value()
	if err != nil {
		t.Fatal(err)
	}
	problem, ok := value.(*controlv1.Problem)
	if !ok {
		t.Fatalf("the detail is a %T", value)
	}
	return problem
}

func TestNewNeedsCallersAndAccess(t *testing.T) {
	t.Parallel()
	callers, err := identity.NewLoopback("")
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]rpc.Config{"callers": {Access: everybody{}}, "access": {Callers: callers}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("an Edge without %s", name)
				}
			}()
			rpc.New(cfg)
		}()
	}
}

// only lets callers of an account call one action.
type only string

func (o only) Check(c identity.Caller, action string) error {
	if c.Account != "123456789012" || action != string(o) {
		return errors.New(c.ID + " may not " + action)
	}
	return nil
}

func (only) Changes(string) bool { return true }

// Whoever may not is told so before what it sent is decoded, in every protocol; that is counted, and logged for the operator to see.
func TestAccess(t *testing.T) {
	t.Parallel()
	ran := false
	f := (&fixture{
		cfg:  rpc.Config{Access: only("Method")},
		echo: func(_ context.Context, in *structpb.Struct) (*structpb.Struct, error) { ran = true; return in, nil },
	}).start(t)
	if got := f.post(t, strict, `{"name":"x"}`); got.status != http.StatusOK {
		t.Errorf("what is allowed: %d %s", got.status, got.body)
	}
	got := f.post(t, echo, `neither JSON nor allowed`)
	if got.status != http.StatusForbidden || !strings.Contains(got.body, `"permission_denied"`) || !strings.Contains(got.body, "loopback may not Echo") {
		t.Errorf("%d %s", got.status, got.body)
	}
	client := connect.NewClient[structpb.Struct, structpb.Struct](f.server.Client(), f.url+count)
	out, err := client.CallServerStream(t.Context(), connect.NewRequest(&structpb.Struct{}))
	if err == nil {
		for out.Receive() {
			t.Error("a stream that is not allowed sends")
		}
		err = out.Err()
	}
	if connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Error(err)
	}
	if ran {
		t.Error("the handler ran")
	}
	f.requests(t, echo, "permission_denied", 1)
	lines := f.log.lines(t)
	if len(lines) != 2 || lines[0]["level"] != "WARN" || lines[0]["reason"] != "access" || lines[0]["caller"] != "loopback" {
		t.Error(lines)
	}
}

func metricsText(registry *prometheus.Registry) (string, error) {
	families, err := registry.Gather()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := family.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			fmt.Fprintf(&b, "%s %g\n", name, m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	return b.String(), nil
}
