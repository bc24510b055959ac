package client_test

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	"github.com/verdict-io/verdict/services/client"
	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	account = "111111111111"
	region  = "us-east-1"
	suffix  = "0123456789"
)

var (
	engineID  = policy.NewID(policy.KindEngine, "RefundEngine", suffix)
	gatewayID = policy.NewID(policy.KindGateway, "refund-gw", suffix)
	gateway   = policy.ARN(region, account, policy.GatewayRef(gatewayID))
)

// history is a log, as states: its last one is the newest.
type history []*policy.State

// newHistory is the refund example: refunds below 1,000 are permitted.
func newHistory(t testing.TB) history {
	t.Helper()
	h := history{policy.Empty()}
	integer := &policy.Schema{Type: policy.SchemaInteger}
	refund := policy.Tool{Name: "process_refund", Description: "Refunds an order", InputSchema: &policy.Schema{
		Type: policy.SchemaObject, Properties: map[string]*policy.Schema{"amount": integer}, Required: []string{"amount"},
	}}
	h.do(t, policy.LogAccount, policy.CreateLog{ID: "log-1", Region: region})
	h.do(t, account, policy.CreateEngine{ID: engineID, Name: "RefundEngine"})
	h.do(t, account, policy.CreateGateway{ID: gatewayID, Name: "refund-gw", Definition: policy.GatewayDefinition{
		AuthorizerType: policy.AuthorizerNone, PolicyEngine: &policy.EngineAttachment{EngineID: engineID, Mode: policy.ModeEnforce},
	}})
	h.do(t, account, policy.CreateTarget{GatewayID: gatewayID, ID: suffix, Name: "RefundTarget", Definition: policy.TargetDefinition{
		Configuration: policy.TargetConfiguration{Lambda: &policy.LambdaTarget{
			ARN: "arn:aws:lambda:us-east-1:111111111111:function:refund", Tools: policy.ToolSchema{Inline: []policy.Tool{refund}},
		}},
	}})
	h.write(t, "refund_limit", "permit", "context.input.amount < 1000")
	return h
}

// write adds a policy about refunds, and has it examined.
func (h *history) write(t testing.TB, name, effect, condition string) {
	t.Helper()
	statement, err := policy.ParseStatement(effect + `(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::"` +
		gateway + `") when { ` + condition + ` };`)
	if err != nil {
		t.Fatal(err)
	}
	id := policy.NewID(policy.KindPolicy, name, suffix)
	h.do(t, account, policy.CreatePolicy{EngineID: engineID, ID: id, Name: name, Language: policy.LanguageCedar, Statement: statement})
	examined, ok := policy.Examine(h.newest().Account(account), policy.PolicyRef(engineID, id), region)
	if !ok {
		t.Fatal("nothing to examine")
	}
	h.do(t, account, policy.FinishPolicy{EngineID: engineID, ID: id, Examination: examined})
}

// do carries a command out.
func (h *history) do(t testing.TB, who string, c policy.Command) {
	t.Helper()
	*h = append(*h, testenv.Carry(t, h.newest(), who, c, region))
}

func (h *history) newest() *policy.State { return (*h)[len(*h)-1] }

// server is a decision node that a test can take away: a real one, on a port of its own, whose follower and log are the test's.
type server struct {
	t    testing.TB
	node *decision.Node
	addr string
	http *http.Server
	// requests counts those that have arrived.
	requests atomic.Int64
	// instead is what happens to a request in the node's place, and after once it has decided and was not heard. Nil for the node.
	instead, after http.HandlerFunc

	waits chan struct{} // hears of each call that waits for a revision; nil for nobody

	mu      sync.Mutex // guards the rest
	arrived chan struct{}
	state   *policy.State
	records []*decisionv1.DecisionDetail
}

// newServer is a node with this state, of which nothing is done before it is asked.
func newServer(t testing.TB, state *policy.State) *server {
	t.Helper()
	s := &server{t: t, arrived: make(chan struct{}), addr: "127.0.0.1:0"}
	s.node = decision.NewNode(s, nil)
	s.node.Follow(s)
	s.publish(state)
	return s
}

// start serves until stop, or the end of the test.
func (s *server) start() *server {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = listener.Addr().String() // so that it can be started again where it was
	handler := s.behindEdge()
	s.http = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		switch {
		case s.instead != nil:
			s.instead(w, r)
		case s.after != nil:
			handler.ServeHTTP(&unheard{header: http.Header{}}, r)
			s.after(w, r)
		default:
			handler.ServeHTTP(w, r)
		}
	})}
	served := make(chan struct{})
	go func(server *http.Server) { _ = server.Serve(listener); close(served) }(s.http)
	s.t.Cleanup(func() { s.kill(); <-served })
	return s
}

// unheard takes an answer that nobody gets.
type unheard struct{ header http.Header }

func (u *unheard) Header() http.Header         { return u.header }
func (u *unheard) Write(p []byte) (int, error) { return len(p), nil }
func (u *unheard) WriteHeader(int)             {}

// behindEdge is the node as a service has it.
func (s *server) behindEdge() http.Handler {
	callers, err := identity.NewLoopback(account)
	if err != nil {
		s.t.Fatal(err)
	}
	rules, err := access.New("")
	if err != nil {
		s.t.Fatal(err)
	}
	edge := rpc.New(rpc.Config{Callers: callers, Access: rules, Registry: prometheus.NewRegistry()})
	_, h := decisionv1connect.NewDecisionServiceHandler(s.node, edge.HandlerOptions()...)
	return edge.Handler(h)
}

// kill closes the port and breaks all connections, whatever is under way.
func (s *server) kill() { _ = s.http.Close() }

func (s *server) url() string { return "http://" + s.addr }

// publish gives the node a newer state.
func (s *server) publish(state *policy.State) {
	s.node.Publish(state, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// Staleness is part of decision.Follower.
func (s *server) Staleness() (time.Duration, bool) { return 0, true }

// Wait is part of decision.Follower.
func (s *server) Wait(ctx context.Context, position uint64) error {
	if s.waits != nil {
		s.waits <- struct{}{}
	}
	for {
		s.mu.Lock()
		state, arrived := s.state, s.arrived
		s.mu.Unlock()
		if state != nil && state.Position >= position {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Record is part of decision.Log.
func (s *server) Record(d *decisionv1.DecisionDetail, _ time.Time) (stream.DecisionID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, d)
	return stream.DecisionID{Seq: uint64(len(s.records))}, nil
}

// recorded are the request ids of what the node has recorded.
func (s *server) recorded() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, r := range s.records {
		ids = append(ids, r.GetRequestId())
	}
	return ids
}

// newClient is a client of these URLs.
func newClient(t testing.TB, cfg client.Config, urls ...string) *client.Client {
	t.Helper()
	cfg.Nodes = urls
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// patient is a context whose end no test reaches, unless something hangs.
func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// refundOf is the request to refund an amount.
func refundOf(amount int) *decisionv1.AuthorizeRequest {
	return &decisionv1.AuthorizeRequest{
		Principal:   &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "agent"}},
		Action:      &decisionv1.Entity{Type: "AgentCore::Action", Id: "RefundTarget___process_refund"},
		Resource:    &decisionv1.Entity{Type: "AgentCore::Gateway", Id: gateway},
		ContextJson: `{"input":{"amount":` + strconv.Itoa(amount) + `}}`,
	}
}

// revisionOf is the number of an answer's revision.
func revisionOf(t testing.TB, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Error(err)
	}
	return n
}
