package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/gateway"
	"github.com/verdict-io/verdict/services/internal/example"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	account = "111111111111"
	region  = "us-east-1"
	suffix  = "0123456789"
	refund  = "RefundTarget___process_refund"
	lookup  = "RefundTarget___lookup_order"
)

var (
	engineID  = policy.NewID(policy.KindEngine, "RefundEngine", suffix)
	gatewayID = policy.NewID(policy.KindGateway, "refund-gw", suffix)
	arn       = policy.ARN(region, account, policy.GatewayRef(gatewayID))
)

// world is a gateway process that decides itself, with functions behind it. Its log is the test's.
type world struct {
	t         testing.TB
	functions *example.Functions
	url       string // of the gateway refund-gw
	stop      func() // ends the process, in order

	mu      sync.Mutex // guards the rest
	state   *policy.State
	node    *decision.Node
	heard   func(*policy.State, []string)
	records []*decisionv1.DecisionDetail
	full    error                                          // what recording comes to
	instead func(context.Context) (gateway.Decider, error) // decides in place of the node; nil for the node
}

// newWorld is the refund example: refunds below 1,000 are permitted on a gateway that everybody may call.
func newWorld(t testing.TB, configure ...func(*gateway.Config)) *world {
	t.Helper()
	w := &world{t: t, functions: example.NewFunctions(), state: policy.Empty()}
	w.functions.Register("refund", example.ProcessRefund)
	lambda := httptest.NewServer(w.functions)
	t.Cleanup(lambda.Close)
	w.do(policy.LogAccount, policy.CreateLog{ID: "log-1", Region: region})
	w.do(account, policy.CreateEngine{ID: engineID, Name: "RefundEngine"})
	w.do(account, policy.CreateGateway{ID: gatewayID, Name: "refund-gw", Definition: definition()})
	w.do(account, policy.CreateTarget{GatewayID: gatewayID, ID: suffix, Name: "RefundTarget", Definition: functionTarget("refund", refundTool(), lookupTool())})
	w.write("refund_limit", "permit", refund, "context.input.amount < 1000")

	cfg := gateway.Config{
		Dir: t.TempDir(), MaxBody: 7 << 20, EgressLoopback: true, Decision: gateway.DecisionEmbedded, DecisionTimeout: 2 * time.Second,
		LambdaEndpoint: lambda.URL, TargetTimeout: time.Minute,
	}
	cfg.Addr, cfg.LogLevel, cfg.LogFormat, cfg.Region = "127.0.0.1:0", "error", "text", region
	for _, c := range configure {
		c(&cfg)
	}
	s, err := gateway.New(cfg, w.embed)
	if err != nil {
		t.Fatal(err)
	}
	w.run(s)
	return w
}

// run serves until the end of the test.
func (w *world) run(s *gateway.Service) {
	w.t.Helper()
	if err := s.Listen(); err != nil {
		w.t.Fatal(err)
	}
	w.url = "http://" + s.Addr() + "/gateways/" + gatewayID + "/mcp"
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(w.stop)
}

// metricsText is what /metrics says.
func (w *world) metricsText() string {
	w.t.Helper()
	base, _, _ := strings.Cut(w.url, "/gateways/")
	resp, err := http.Get(base + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// embed is the decision node, whose follower and log are the test's.
func (w *world) embed(_ *process.Process, _ gateway.Config, publish func(*policy.State, []string)) (gateway.Decider, error) {
	w.node, w.heard = decision.NewNode(w, nil), publish
	w.node.Follow(w)
	w.publish(nil)
	return decider{w}, nil
}

// decider is the node, or what a test has instead.
type decider struct{ w *world }

func (d decider) now(ctx context.Context) (gateway.Decider, error) {
	d.w.mu.Lock()
	instead := d.w.instead
	d.w.mu.Unlock()
	if instead != nil {
		return instead(ctx)
	}
	return d.w.node, nil
}

func (d decider) Authorize(ctx context.Context, req *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error) {
	to, err := d.now(ctx)
	if err != nil {
		return nil, err
	}
	return to.Authorize(ctx, req)
}

func (d decider) ListPermittedActions(ctx context.Context, req *decisionv1.ListPermittedActionsRequest) (*decisionv1.ListPermittedActionsResponse, error) {
	to, err := d.now(ctx)
	if err != nil {
		return nil, err
	}
	return to.ListPermittedActions(ctx, req)
}

// decideWith puts something in the node's place; nil puts the node back.
func (w *world) decideWith(instead func(context.Context) (gateway.Decider, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instead = instead
}

// Record implements decision.Log.
func (w *world) Record(d *decisionv1.DecisionDetail, _ time.Time) (stream.DecisionID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full != nil {
		return stream.DecisionID{}, w.full
	}
	w.records = append(w.records, d)
	return stream.DecisionID{Seq: uint64(len(w.records))}, nil
}

func (w *world) recorded() []*decisionv1.DecisionDetail {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records
}

// Staleness implements decision.Follower.
func (w *world) Staleness() (time.Duration, bool) { return 0, true }

// Wait implements decision.Follower.
func (w *world) Wait(ctx context.Context, position uint64) error {
	if w.state.Position >= position {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// publish gives node and gateway the newest state.
func (w *world) publish(accounts []string) {
	if w.node == nil {
		return
	}
	w.node.Publish(w.state, accounts)
	w.heard(w.state, accounts)
}

// do carries a command out.
func (w *world) do(who string, c policy.Command) {
	w.t.Helper()
	w.state = testenv.Carry(w.t, w.state, who, c, region)
	w.publish([]string{who})
}

// write adds a policy about a tool, or about all ("").
func (w *world) write(name, effect, tool, condition string) {
	w.t.Helper()
	action := "action"
	if tool != "" {
		action = `action == AgentCore::Action::"` + tool + `"`
	}
	statement, err := policy.ParseStatement(effect + `(principal, ` + action + `, resource == AgentCore::Gateway::"` + arn + `") when { ` + condition + ` };`)
	if err != nil {
		w.t.Fatal(err)
	}
	id := policy.NewID(policy.KindPolicy, name, suffix)
	w.do(account, policy.CreatePolicy{EngineID: engineID, ID: id, Name: name, Language: policy.LanguageCedar, Statement: statement, Validation: policy.IgnoreAllFindings})
	examined, ok := policy.Examine(w.state.Account(account), policy.PolicyRef(engineID, id), region)
	if !ok {
		w.t.Fatal("nothing to examine")
	}
	w.do(account, policy.FinishPolicy{EngineID: engineID, ID: id, Examination: examined})
	if p := w.state.Account(account).Engine(engineID).Policy(id); p.InForce == nil {
		w.t.Fatalf("%s: %q", name, p.Reasons)
	}
}

// update changes the gateway's definition.
func (w *world) update(change func(*policy.GatewayDefinition)) {
	w.t.Helper()
	d := *w.state.Account(account).Gateway(gatewayID).InForce
	change(&d)
	w.do(account, policy.UpdateGateway{ID: gatewayID, Definition: d})
}

func definition() policy.GatewayDefinition {
	return policy.GatewayDefinition{
		AuthorizerType: policy.AuthorizerNone, PolicyEngine: &policy.EngineAttachment{EngineID: engineID, Mode: policy.ModeEnforce},
	}
}

func functionTarget(name string, tools ...policy.Tool) policy.TargetDefinition {
	return policy.TargetDefinition{
		Configuration: policy.TargetConfiguration{Lambda: &policy.LambdaTarget{
			ARN: "arn:aws:lambda:us-east-1:111111111111:function:" + name, Tools: policy.ToolSchema{Inline: tools},
		}},
		Credentials: []policy.Credentials{{Type: policy.CredentialsGatewayRole}},
	}
}

func refundTool() policy.Tool {
	return policy.Tool{Name: "process_refund", Description: "Process a customer refund", InputSchema: &policy.Schema{
		Type:       policy.SchemaObject,
		Properties: map[string]*policy.Schema{"amount": {Type: policy.SchemaInteger, Description: "Refund amount in dollars"}, "note": {Type: policy.SchemaString}},
		Required:   []string{"amount"},
	}}
}

func lookupTool() policy.Tool {
	return policy.Tool{Name: "lookup_order", Description: "Find an order by its number", InputSchema: &policy.Schema{
		Type: policy.SchemaObject, Properties: map[string]*policy.Schema{"orderId": {Type: policy.SchemaString}}, Required: []string{"orderId"},
	}}
}

// answer is an HTTP answer with a JSON-RPC message in it.
type answer struct {
	status int
	header http.Header
	body   string

	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int64           `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
}

// post sends a body with the headers name, value, name, value, …, and Accept: */* as the seeds' test does.
func (w *world) post(body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return w.send(req)
}

func (w *world) send(req *http.Request) answer {
	w.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	isObject := bytes.HasPrefix(body, []byte("{")) // a batch is answered by an array
	if err := json.Unmarshal(body, &a); err != nil && isObject && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		w.t.Fatalf("%v: %s", err, body)
	}
	return a
}

// call is a bare tools/call.
func (w *world) call(tool, arguments string, header ...string) answer {
	w.t.Helper()
	name, err := json.Marshal(tool)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":`+string(name)+`,"arguments":`+arguments+`}}`, header...)
}

// wantDenied is a call that was denied for a reason, and did not reach its function.
func (w *world) wantDenied(a answer, reason string) {
	w.t.Helper()
	want := "Tool Execution Denied: Tool call not allowed due to policy enforcement [" + reason + "]"
	if a.status != http.StatusOK || a.Error == nil || a.Error.Code != -32002 || a.Error.Message != want {
		w.t.Errorf("%d %s, want %s", a.status, a.body, want)
	}
}

func (w *world) wantError(a answer, code int64, text string) {
	w.t.Helper()
	if a.Error == nil || a.Error.Code != code || !strings.Contains(a.Error.Message, text) {
		w.t.Errorf("%d %s, want %d %s", a.status, a.body, code, text)
	}
}

// wantText is a result with a text, not an error.
func (w *world) wantText(a answer, text string) {
	w.t.Helper()
	if a.status != http.StatusOK || !strings.HasPrefix(string(a.Result), `{"isError":false,`) || !strings.Contains(string(a.Result), text) {
		w.t.Errorf("%d %s, want a result with %s", a.status, a.body, text)
	}
}

func (w *world) wantCalls(n int) {
	w.t.Helper()
	if got := w.functions.Calls("refund"); got != n {
		w.t.Errorf("the function was called %d times, want %d", got, n)
	}
}

// list is every tool that tools/list has, over all pages.
func (w *world) list() []string {
	w.t.Helper()
	session := w.connect()
	var names []string
	for tool, err := range session.Tools(w.t.Context(), nil) {
		if err != nil {
			w.t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	return names
}

// connect is the SDK's client.
func (w *world) connect() *mcp.ClientSession {
	w.t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(w.t.Context(), &mcp.StreamableClientTransport{Endpoint: w.url, DisableStandaloneSSE: true}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = session.Close() })
	return session
}

var errAway = errors.New("away")
