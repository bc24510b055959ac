package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/gateway"
	"github.com/verdict-io/verdict/services/policy"
)

// The quickstart of the seeds, as raw POSTs.
func TestQuickstart(t *testing.T) {
	w := newWorld(t)
	w.wantText(w.call(refund, `{"amount":500}`), `Refund of $500 processed successfully`)
	w.wantCalls(1)
	w.wantDenied(w.call(refund, `{"amount":2000}`), "No policy applies to the request (denied by default).")
	w.wantCalls(1)
	records := w.recorded()
	if len(records) != 2 || records[0].GetDecision() != decisionv1.Decision_DECISION_ALLOW || records[1].GetDecision() != decisionv1.Decision_DECISION_DENY {
		t.Fatalf("recorded %v", records)
	}
	if got, want := records[0].GetContextJson(), `"input":{"amount":500}`; !strings.Contains(got, want) {
		t.Errorf("recorded %s, want %s in it", got, want)
	}
}

// What callers are told finds the decision in the table and the trace in their logs.
func TestAnswersNameTheirDecision(t *testing.T) {
	w := newWorld(t)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	header := []string{"Traceparent", "00-" + trace + "-00f067aa0ba902b7-01", "X-Request-Id", "r-1"}
	allowed, denied := w.call(refund, `{"amount":5}`, header...), w.call(refund, `{"amount":5000}`, header...)
	var result struct {
		Meta map[string]json.RawMessage `json:"_meta"` //nolint:tagliatelle // MCP calls it so
	}
	if err := json.Unmarshal(allowed.Result, &result); err != nil {
		t.Fatal(err)
	}
	w.wantAbout(result.Meta[gateway.MetaKey], map[string]string{"decision": "ALLOW", "mode": "ENFORCE", "policyEngineId": engineID, "traceId": trace, "requestId": "r-1"})
	w.wantAbout(denied.Error.Data, map[string]string{"decision": "DENY", "mode": "ENFORCE", "policyEngineId": engineID, "traceId": trace, "requestId": "r-1"})
	for _, r := range w.recorded() {
		if got := fmt.Sprintf("%x", r.GetTraceId()); got != trace || r.GetRequestId() != "r-1" {
			t.Errorf("recorded trace %s, request %s", got, r.GetRequestId())
		}
	}
	if got := allowed.header.Get("X-Request-Id"); got != "r-1" {
		t.Errorf("the answer's request id is %q", got)
	}
}

func (w *world) wantAbout(text json.RawMessage, want map[string]string) {
	w.t.Helper()
	var got map[string]string
	if err := json.Unmarshal(text, &got); err != nil {
		w.t.Fatalf("%v: %s", err, text)
	}
	for _, name := range []string{"id", "revision"} {
		if got[name] == "" {
			w.t.Errorf("%s is missing in %s", name, text)
		}
		delete(got, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Error(diff)
	}
}

func TestForbidIsNamed(t *testing.T) {
	w := newWorld(t)
	w.write("no_small_change", "forbid", refund, "context.input.amount > 300 && context.input.amount < 500")
	w.wantDenied(w.call(refund, `{"amount":400}`), "Policy evaluation denied due to no_small_change-"+suffix)
	w.wantText(w.call(refund, `{"amount":500}`), "$500")
	w.wantCalls(1)
}

// A tool that a caller could never call is answered for exactly like one that does not exist, whatever the arguments are.
func TestHiddenToolsAreLikeNoTools(t *testing.T) {
	for name, policies := range map[string]func(*world){
		"denied by default": func(*world) {},
		"forbidden":         func(w *world) { w.write("never", "forbid", lookup, "true") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			policies(w)
			for _, arguments := range []string{`{"orderId":"1"}`, `{}`, `{"orderId":1}`, `{"x":true}`, `[]`, `null`, `{"a":1,"a":2}`} {
				var seen []string
				for _, tool := range []string{lookup, "RefundTarget___no_such_tool", "NoTarget___lookup_order", "lookup_order", "ünïcode"} {
					a := w.call(tool, arguments, "X-Request-Id", "same", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
					seen = append(seen, regardless(a))
				}
				if len(slices.Compact(seen)) != 1 {
					t.Errorf("%s: hidden and unknown tools are told apart:\n%s", arguments, strings.Join(seen, "\n"))
				}
				if !strings.Contains(seen[0], "-32002") {
					t.Errorf("%s: %s", arguments, seen[0])
				}
			}
			w.wantCalls(0)
		})
	}
}

// regardless is an answer without the number of its decision.
func regardless(a answer) string {
	if a.Error == nil {
		return a.body
	}
	var about map[string]string
	if json.Unmarshal(a.Error.Data, &about) == nil {
		delete(about, "id")
	}
	return fmt.Sprintf("%d %d %s %v", a.status, a.Error.Code, a.Error.Message, about)
}

// Arguments that a decision would not type are the caller's mistake, recorded as a denial, and reach no target.
func TestWrongArguments(t *testing.T) {
	w := newWorld(t)
	for arguments, want := range map[string]string{
		`{}`:                             "arguments.amount is required",
		`{"amount":"500"}`:               "arguments.amount has to be an integer and is a string",
		`{"amount":500.5}`:               "arguments.amount has to be an integer and is a number with a fraction",
		`{"amount":9223372036854775808}`: "arguments.amount is beyond the integers of 64 bits",
		`{"amount":1,"amonut":1}`:        "arguments.amonut is not in the tool's schema",
		`{"amount":null}`:                "arguments.amount has to be an integer and is null",
		`[]`:                             "arguments has to be an object and is an array",
		`"x"`:                            "arguments has to be an object and is a string",
	} {
		w.wantError(w.call(refund, arguments), -32602, want)
		records := w.recorded()
		if got := records[len(records)-1]; got.GetDecision() != decisionv1.Decision_DECISION_DENY {
			t.Errorf("%s: recorded %v", arguments, got)
		}
	}
	w.wantCalls(0)
	if got, want := len(w.recorded()), 8; got != want {
		t.Errorf("%d records, want %d", got, want)
	}
}

// What is no JSON of one meaning is no request that could be decided, or recorded.
func TestArgumentsThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for arguments, want := range map[string]string{
		`{"amount":500,"amount":2}`:              `the object that ends here has two members "amount"`,
		`{"amount":500,"note":"\ud800"}`:         "surrogate",
		`{"amount":500,"note":` + deep + `}`:     "nested",
		`{"amount":500,"note":"` + "\xff" + `"}`: "UTF-8",
	} {
		w.wantError(w.call(refund, arguments), -32602, want)
	}
	w.wantCalls(0)
	if got := len(w.recorded()); got > 0 {
		t.Errorf("%d records", got)
	}
}

// Arguments that are larger than a decision takes are denied, and never cut.
func TestLargeArguments(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.MaxBody = 8 << 20 })
	w.wantText(w.call(refund, `{"amount":5,"note":"`+strings.Repeat("x", 6<<20-100)+`"}`), "$5")
	w.wantError(w.call(refund, `{"amount":5,"note":"`+strings.Repeat("x", 6<<20)+`"}`), -32602, "arguments may have 6291456 bytes")
	if a := w.call(refund, `{"amount":5,"note":"`+strings.Repeat("x", 8<<20)+`"}`); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %.200s", a.status, a.body)
	}
	many := strings.TrimSuffix(strings.Repeat("1,", 100_000), ",")
	w.wantError(w.call(refund, `{"amount":5,"note":[`+many+`]}`), -32602, "values")
	w.wantCalls(1)
}

// A whole number beyond 2^53 arrives as it was sent, at the decision and at the function.
func TestLargeNumbersAreExact(t *testing.T) {
	w := newWorld(t)
	w.write("exactly", "permit", refund, "context.input.amount == 9007199254740993")
	w.wantText(w.call(refund, `{"amount":9007199254740993}`), "9007199254740993")
	w.wantDenied(w.call(refund, `{"amount":9007199254740992}`), "No policy applies to the request (denied by default).")
}

func TestModes(t *testing.T) {
	t.Run("LOG_ONLY calls and records", func(t *testing.T) {
		w := newWorld(t)
		w.update(func(d *policy.GatewayDefinition) {
			d.PolicyEngine = &policy.EngineAttachment{EngineID: engineID, Mode: policy.ModeLogOnly}
		})
		w.wantText(w.call(refund, `{"amount":2000}`), "$2000")
		w.wantCalls(1)
		if r := w.recorded()[0]; r.GetDecision() != decisionv1.Decision_DECISION_DENY || !r.GetProceed() || r.GetMode() != decisionv1.Mode_MODE_LOG_ONLY {
			t.Errorf("recorded %v", r)
		}
		w.wantError(w.call(refund, `{"amount":"x"}`), -32602, "has to be an integer")
		w.wantError(w.call("RefundTarget___x", `{}`), -32602, "Unknown tool")
		w.wantCalls(1)
	})
	t.Run("without an engine everything is called", func(t *testing.T) {
		w := newWorld(t)
		w.update(func(d *policy.GatewayDefinition) { d.PolicyEngine = nil })
		w.wantText(w.call(refund, `{"amount":2000}`), "$2000")
		w.wantError(w.call(refund, `{"amount":"x"}`), -32602, "has to be an integer")
		w.wantError(w.call("RefundTarget___x", `{}`), -32602, "Unknown tool")
		w.wantCalls(1)
		if got := len(w.recorded()); got != 1 { // as many as calls
			t.Errorf("%d records", got)
		}
	})
	t.Run("an engine without policies denies everything", func(t *testing.T) {
		w := newWorld(t)
		w.do(account, policy.DeletePolicy{EngineID: engineID, ID: policy.NewID(policy.KindPolicy, "refund_limit", suffix)})
		w.wantDenied(w.call(refund, `{"amount":1}`), "No policy applies to the request (denied by default).")
		if got := w.list(); len(got) > 0 {
			t.Errorf("listed %q", got)
		}
		w.wantCalls(0)
	})
}

// The tag of a gateway turns denials into results, which agents get to read.
func TestDeniedAsAResult(t *testing.T) {
	w := newWorld(t)
	w.do(account, policy.AddTags{Of: policy.GatewayRef(gatewayID), Tags: deniedTag})
	a := w.call(refund, `{"amount":2000}`)
	want := `"text":"AuthorizeActionException - Tool Execution Denied: Tool call not allowed due to policy enforcement [No policy applies to the request (denied by default).]"`
	if !strings.Contains(string(a.Result), want) || !strings.Contains(string(a.Result), `"isError":true`) {
		t.Errorf("%s, want %s", a.body, want)
	}
	w.wantCalls(0)
}

// badDecider answers what no decision node answers.
type badDecider struct{ resp *decisionv1.AuthorizeResponse }

func (b badDecider) Authorize(context.Context, *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error) {
	return b.resp, nil
}

func (b badDecider) ListPermittedActions(context.Context, *decisionv1.ListPermittedActionsRequest) (*decisionv1.ListPermittedActionsResponse, error) {
	return nil, errAway
}

// Without a whole decision that says so, nothing is called.
func TestNoDecisionNoCall(t *testing.T) {
	const allow, deny = decisionv1.Decision_DECISION_ALLOW, decisionv1.Decision_DECISION_DENY
	bad := func(resp *decisionv1.AuthorizeResponse) func(context.Context) (gateway.Decider, error) {
		return func(context.Context) (gateway.Decider, error) { return badDecider{resp}, nil }
	}
	for name, decide := range map[string]func(context.Context) (gateway.Decider, error){
		"away":                           func(context.Context) (gateway.Decider, error) { return nil, errAway },
		"hangs":                          func(ctx context.Context) (gateway.Decider, error) { <-ctx.Done(); return nil, ctx.Err() },
		"nothing":                        bad(&decisionv1.AuthorizeResponse{}),
		"nil":                            bad(nil),
		"proceeds without a decision":    bad(&decisionv1.AuthorizeResponse{Proceed: true}),
		"denies and proceeds":            bad(&decisionv1.AuthorizeResponse{Proceed: true, Decision: deny, Mode: decisionv1.Mode_MODE_ENFORCE}),
		"allows and does not proceed":    bad(&decisionv1.AuthorizeResponse{Decision: allow, Mode: decisionv1.Mode_MODE_ENFORCE}),
		"a decision that is none":        bad(&decisionv1.AuthorizeResponse{Decision: 7, Proceed: true}),
		"panics":                         func(context.Context) (gateway.Decider, error) { panic("a decider") },
		"the decision log takes no more": func(context.Context) (gateway.Decider, error) { return nil, errAway },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *gateway.Config) { c.DecisionTimeout = 50_000_000 })
			w.decideWith(decide)
			a := w.call(refund, `{"amount":5}`)
			if name == "panics" {
				w.wantError(a, -32603, "An internal error occurred")
			} else {
				w.wantDenied(a, "Policy evaluation failed: no decision could be had, so the call is denied. Please retry later.")
			}
			if a := w.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); a.Error == nil || strings.Contains(a.body, "RefundTarget") {
				t.Errorf("listed all the same: %s", a.body)
			}
			w.wantCalls(0)
			w.decideWith(nil)
			w.wantText(w.call(refund, `{"amount":5}`), "$5")
		})
	}
}

// A call is decided by a state at least as new as the one whose tools were looked at.
func TestDecisionsAreNoOlderThanTheTools(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.DecisionTimeout = 50_000_000 })
	node := w.node
	state := w.state
	w.write("never", "forbid", refund, "true")
	node.Publish(state, nil) // as a node that is behind
	w.wantDenied(w.call(refund, `{"amount":5}`), "Policy evaluation failed: no decision could be had, so the call is denied. Please retry later.")
	w.wantCalls(0)
}

// What an author changes is in force for the next call.
func TestChangesAreLive(t *testing.T) {
	w := newWorld(t)
	w.wantDenied(w.call(refund, `{"amount":1500}`), "No policy applies to the request (denied by default).")
	w.write("more", "permit", refund, "context.input.amount < 2000")
	w.wantText(w.call(refund, `{"amount":1500}`), "$1500")
	w.functions.Register("other", func(context.Context, json.RawMessage, map[string]string) (any, error) { return "other", nil })
	w.do(account, policy.UpdateTarget{GatewayID: gatewayID, ID: suffix, Definition: functionTarget("other", refundTool())})
	w.wantText(w.call(refund, `{"amount":1500}`), `\"other\"`)
	w.do(account, policy.DeleteTarget{GatewayID: gatewayID, ID: suffix})
	w.wantDenied(w.call(refund, `{"amount":1500}`), "No policy applies to the request (denied by default).")
	w.do(account, policy.DeleteGateway{ID: gatewayID})
	if a := w.call(refund, `{"amount":1500}`); a.status != http.StatusNotFound {
		t.Errorf("a gateway that is gone: %d %s", a.status, a.body)
	}
	w.wantCalls(1)
}

// A node may hear of a tool before the gateway process does: until then there is no such tool, whatever the node says.
func TestToolThatOnlyTheNodeKnows(t *testing.T) {
	w := newWorld(t)
	heard := w.heard
	w.heard = func(*policy.State, []string) {}
	w.do(account, policy.CreateTarget{GatewayID: gatewayID, ID: "newtarget0", Name: "New", Definition: functionTarget("refund", refundTool())})
	w.write("new", "permit", "New___process_refund", "true")
	w.wantDenied(w.call("New___process_refund", `{"amount":1}`), "No policy applies to the request (denied by default).")
	w.wantCalls(0)
	heard(w.state, nil)
	w.wantText(w.call("New___process_refund", `{"amount":1}`), "$1")
	w.wantCalls(1)
}

// What a target does wrong is told to agents in a word, and to those who may know in detail.
func TestFailingTarget(t *testing.T) {
	w := newWorld(t)
	w.functions.Register("refund", func(context.Context, json.RawMessage, map[string]string) (any, error) { return nil, errAway })
	a := w.call(refund, `{"amount":1}`)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"isError":true`) || !strings.Contains(a.body, `"decision":"ALLOW"`) || strings.Contains(a.body, `"debug"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.update(func(d *policy.GatewayDefinition) { d.ExceptionLevel = policy.ExceptionDebug })
	if a := w.call(refund, `{"amount":1}`); !strings.Contains(a.body, `"debug":"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.wantCalls(2)
}

// A target that does not answer is left alone: nothing is decided about calls that are not made, and who cannot know of the tool hears
// nothing of that either.
func TestTargetThatIsLeftAlone(t *testing.T) {
	var asked atomic.Int64
	broken := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(broken.Close)
	w := newWorld(t, func(c *gateway.Config) { c.LambdaEndpoint = broken.URL })
	w.write("orders", "permit", lookup, `context.input.orderId == "1"`)
	failed := func() {
		t.Helper()
		if a := w.call(refund, `{"amount":1}`); !strings.Contains(a.body, `"isError":true`) {
			t.Error(a.body)
		}
	}
	for range 5 {
		failed()
	}
	decisions := len(w.recorded())
	failed()
	if got := len(w.recorded()); got != decisions || int(asked.Load()) != decisions {
		t.Errorf("%d decisions, %d calls, want %d", got, asked.Load(), decisions)
	}
	w.write("closed", "forbid", lookup, "true")
	w.wantDenied(w.call(lookup, `{"orderId":"1"}`), "No policy applies to the request (denied by default).")
}

// A call that hangs, in a session that ends because the gateway's settings change, holds up no change of any account.
func TestChangesDoNotWaitForCalls(t *testing.T) {
	w := newWorld(t)
	w.mcp(policy.MCPConfiguration{Session: &policy.SessionConfiguration{}})
	session := w.connect()
	running, release := make(chan struct{}), make(chan struct{})
	w.functions.Register("refund", func(context.Context, json.RawMessage, map[string]string) (any, error) {
		close(running)
		<-release
		return nil, nil
	})
	called := make(chan error, 1)
	go func() {
		_, err := session.CallTool(context.Background(), &mcp.CallToolParams{Name: refund, Arguments: map[string]any{"amount": 7}})
		called <- err
	}()
	<-running
	w.mcp(policy.MCPConfiguration{}) // would wait until the call has ended
	w.write("never", "forbid", refund, "true")
	w.wantDenied(w.call(refund, `{"amount":1}`), "No policy applies to the request (denied by default).")
	close(release)
	if err := <-called; err != nil {
		t.Logf("its session has ended: %v", err)
	}
}

// A thousand gateways are served by one process, each with its own tools.
func TestThousandGateways(t *testing.T) {
	w := newWorld(t)
	heard := w.heard
	w.heard = func(*policy.State, []string) {}
	const n = 999
	id := func(i int) string { return policy.NewID(policy.KindGateway, fmt.Sprintf("gw-%d", i), suffix) }
	for i := range n {
		name := fmt.Sprintf("gw-%d", i)
		w.do(account, policy.CreateGateway{ID: id(i), Name: name, Definition: policy.GatewayDefinition{AuthorizerType: policy.AuthorizerNone}})
		w.do(account, policy.CreateTarget{GatewayID: id(i), ID: fmt.Sprintf("%010d", i), Name: "T", Definition: functionTarget("refund", policy.Tool{
			Name: fmt.Sprintf("tool_%d", i), Description: "One", InputSchema: refundTool().InputSchema,
		})})
	}
	heard(w.state, nil)
	base, _, _ := strings.Cut(w.url, "/gateways/")
	for i := range n {
		w.url = base + "/gateways/" + id(i) + "/mcp"
		if a := w.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); !strings.Contains(a.body, fmt.Sprintf(`"T___tool_%d"`, i)) {
			t.Fatalf("%d: %s", i, a.body)
		}
	}
	w.wantText(w.call(fmt.Sprintf("T___tool_%d", n-1), `{"amount":7}`), "$7")
	w.wantCalls(1)
}
