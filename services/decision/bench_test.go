package decision_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/decision/internal/decisionlog"
	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// BenchmarkAuthorize compares, in process and without a network, an empty Connect handler of the same messages with a node, without
// and with its decision log.
func BenchmarkAuthorize(b *testing.B) {
	req := request(b, `"amount":500`)
	req.ContextJson = ""
	req.Context = &structpb.Struct{Fields: map[string]*structpb.Value{"input": structpb.NewStructValue(&structpb.Struct{
		Fields: map[string]*structpb.Value{"orderId": structpb.NewStringValue("12345"), "amount": structpb.NewNumberValue(500)},
	})}}
	text, err := protojson.Marshal(req)
	if err != nil {
		b.Fatal(err)
	}
	req = request(b, `"amount":500`)
	binary, err := proto.Marshal(req)
	if err != nil {
		b.Fatal(err)
	}
	quiet := newSite(b)
	quiet.node = decision.NewNode(forgetful{}, nil)
	quiet.node.Follow(quiet.follower)
	quiet.node.Publish(quiet.state, nil)
	logging := newSite(b)
	logging.node = decision.NewNode(realLog(b), nil)
	logging.node.Follow(logging.follower)
	logging.node.Publish(logging.state, nil)
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{
		{"empty", emptyHandler()}, {"edge", behindEdge(b, empty{})}, {"node", behindEdge(b, quiet.node)}, {"log", behindEdge(b, logging.node)},
	} {
		b.Run("json/"+c.name, func(b *testing.B) { drive(b, c.handler, "application/json", text) })
		b.Run("binary/"+c.name, func(b *testing.B) { drive(b, c.handler, "application/proto", binary) })
	}
}

// drive calls a handler for each iteration.
func drive(b *testing.B, h http.Handler, contentType string, body []byte) {
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1"+decisionv1connect.DecisionServiceAuthorizeProcedure, bytes.NewReader(body))
		r.RemoteAddr = "127.0.0.1:5000"
		r.Header.Set("Content-Type", contentType)
		w := &discard{header: http.Header{}}
		h.ServeHTTP(w, r)
		if w.status >= http.StatusBadRequest {
			b.Fatalf("status %d: %s", w.status, w.body)
		}
	}
}

// discard is a ResponseWriter that keeps only the beginning of refusals.
type discard struct {
	header http.Header
	status int
	body   []byte
}

func (d *discard) Header() http.Header    { return d.header }
func (d *discard) WriteHeader(status int) { d.status = status }
func (d *discard) Write(p []byte) (int, error) {
	if d.status >= http.StatusBadRequest {
		d.body = append(d.body, p...)
	}
	return io.Discard.Write(p)
}

// empty answers without deciding.
type empty struct {
	decisionv1connect.UnimplementedDecisionServiceHandler
}

func (empty) Authorize(context.Context, *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error) {
	return &decisionv1.AuthorizeResponse{
		Decision: decisionv1.Decision_DECISION_ALLOW, Proceed: true, DeterminingPolicies: []string{policyID},
		Reason: "a reason of about as many characters as one has", DecisionId: stream.DecisionID{}.String(), PolicyEngineId: engineID,
		Revision: "42", Mode: decisionv1.Mode_MODE_ENFORCE,
	}, nil
}

func emptyHandler() http.Handler {
	_, h := decisionv1connect.NewDecisionServiceHandler(empty{}, connect.WithCompressMinBytes(4<<10))
	return h
}

func behindEdge(b testing.TB, node decisionv1connect.DecisionServiceHandler) http.Handler {
	b.Helper()
	callers, err := identity.NewLoopback(account)
	if err != nil {
		b.Fatal(err)
	}
	rules, err := access.New("")
	if err != nil {
		b.Fatal(err)
	}
	edge := rpc.New(rpc.Config{Callers: callers, Access: rules, Registry: prometheus.NewRegistry()})
	_, h := decisionv1connect.NewDecisionServiceHandler(node, edge.HandlerOptions()...)
	return edge.Handler(h)
}

// forgetful is a log that keeps nothing.
type forgetful struct{}

func (forgetful) Record(*decisionv1.DecisionDetail, time.Time) (stream.DecisionID, error) {
	return stream.DecisionID{}, nil
}

// realLog writes to a disk and sends to a NATS.
func realLog(b *testing.B) *decisionlog.Writer {
	b.Helper()
	conn := testenv.NewNATS(b).Connect(b)
	js, err := jetstream.New(conn)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), stream.DecisionStreamConfig(0, 1, 8<<30)); err != nil {
		b.Fatal(err)
	}
	w, err := decisionlog.Open(decisionlog.Config{
		Dir: b.TempDir(), Node: "bench", Partitions: 1, SpoolBytes: 8 << 30, Conn: conn, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, w.Close(ctx)); err != nil && !errors.Is(err, context.Canceled) {
			b.Log(err)
		}
	})
	return w
}
