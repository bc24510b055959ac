package policy_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	alice  = "111111111111"
	bob    = "222222222222"
	region = "us-east-1"
	suffix = "0123456789"

	permitAll = `permit(principal, action, resource is AgentCore::Gateway);`
)

var (
	// refundGateway is the gateway called "Refund".
	refundGateway = policy.ARN(region, alice, policy.GatewayRef("refund-"+suffix))
	permitRefund  = scoped(refundGateway, `permit(principal is AgentCore::OAuthUser, action == AgentCore::Action::"RefundTarget___process_refund", `)
)

func scoped(arn, head string) string { return head + `resource == AgentCore::Gateway::"` + arn + `");` }

// scopedTo is a policy for every tool of a gateway, with bytes of comment to make it as long as wanted.
func scopedTo(arn string, comment int) string {
	return scoped(arn, "permit(principal, action, ") + "//" + strings.Repeat("x", comment)
}

func parse(t testing.TB, source string) policy.Statement {
	t.Helper()
	st, err := policy.ParseStatement(source)
	if err != nil {
		t.Fatalf("%s\n%v", source, err)
	}
	return st
}

func config() policy.Config {
	return policy.Config{Region: region, Limits: policy.DefaultLimits()}
}

// The ids of these tests are their names with one suffix; a target's is ten characters of its own.
func engineID(name string) string  { return policy.NewID(policy.KindEngine, name, suffix) }
func policyID(name string) string  { return policy.NewID(policy.KindPolicy, name, suffix) }
func gatewayID(name string) string { return policy.NewID(policy.KindGateway, name, suffix) }

func createEngine(name string) policy.CreateEngine {
	return policy.CreateEngine{ID: engineID(name), Name: name}
}

func createPolicy(t testing.TB, engine, name, source string) policy.CreatePolicy {
	t.Helper()
	return policy.CreatePolicy{
		EngineID: engineID(engine), ID: policyID(name), Name: name, Language: policy.LanguageCedar, Statement: parse(t, source),
	}
}

func createGateway(name, engine string) policy.CreateGateway {
	return policy.CreateGateway{ID: gatewayID(name), Name: name, Definition: gatewayTo(engine)}
}

// gatewayTo is a gateway that an engine is attached to, none for "".
func gatewayTo(engine string) policy.GatewayDefinition {
	d := policy.GatewayDefinition{AuthorizerType: policy.AuthorizerNone}
	if engine != "" {
		d.PolicyEngine = &policy.EngineAttachment{EngineID: engineID(engine), Mode: policy.ModeEnforce}
	}
	return d
}

func createTarget(gateway, id, name string, members ...string) policy.CreateTarget {
	return policy.CreateTarget{GatewayID: gatewayID(gateway), ID: id, Name: name, Definition: lambda(members...)}
}

// lambda is a target with the tool process_refund, whose arguments are these strings, all required.
func lambda(members ...string) policy.TargetDefinition {
	input := &policy.Schema{Type: policy.SchemaObject, Properties: map[string]*policy.Schema{}, Required: members}
	for _, name := range members {
		input.Properties[name] = &policy.Schema{Type: policy.SchemaString}
	}
	return policy.TargetDefinition{Configuration: policy.TargetConfiguration{Lambda: &policy.LambdaTarget{
		ARN:   "arn:aws:lambda:us-east-1:111111111111:function:refund",
		Tools: policy.ToolSchema{Inline: []policy.Tool{{Name: "process_refund", Description: "Refunds an order.", InputSchema: input}}},
	}}}
}

// large is a target whose schema has n bytes.
func large(n int) policy.TargetDefinition {
	const each = 100 + len("string")
	n -= len("process_refund") + len("object")
	var names []string
	for i := range n / each {
		names = append(names, fmt.Sprintf("%0100d", i))
	}
	names[0] += strings.Repeat("x", n%each)
	return lambda(names...)
}

// world is a state and how it came about.
type world struct {
	t   testing.TB
	s   *policy.State
	log []policy.Recorded
}

// emptyWorld is a log that has begun.
func emptyWorld(t testing.TB) *world {
	w := &world{t: t, s: policy.Empty()}
	w.do(policy.LogAccount, policy.CreateLog{ID: "log-1", Region: region})
	return w
}

// newWorld has, in alice's account, the engine Refunds, attached to the gateway Refund with the target RefundTarget, and in
// it the policies active, creating, updating (which is active as well) and failed; the engine Spare and the gateway Bare,
// with nothing in them; and in bob's account the engine Other.
func newWorld(t testing.TB) *world {
	w := emptyWorld(t)
	w.do(alice, createEngine("Refunds"))
	w.do(alice, createEngine("Spare"))
	w.do(alice, createGateway("Refund", "Refunds"))
	w.do(alice, createGateway("Bare", ""))
	w.do(alice, createTarget("Refund", "target0001", "RefundTarget", "orderId"))
	w.do(alice, createPolicy(t, "Refunds", "active", permitAll))
	w.do(alice, createPolicy(t, "Refunds", "updating", permitRefund))
	w.do(alice, createPolicy(t, "Refunds", "failed", scoped(refundGateway, `permit(principal, action == AgentCore::Action::"RefundTarget___nothing", `)))
	w.work(alice)
	w.do(alice, policy.UpdatePolicy{EngineID: engineID("Refunds"), ID: policyID("updating"), Language: policy.LanguageCedar, Statement: new(parse(t, permitRefund+"// again"))})
	w.do(alice, createPolicy(t, "Refunds", "creating", permitRefund))
	w.do(bob, createEngine("Other"))
	return w
}

// do carries a command out.
func (w *world) do(account string, c policy.Command) []policy.Event {
	w.t.Helper()
	events, err := w.decide(account, c, config())
	if err != nil {
		w.t.Fatalf("%T %+v: %v", c, c, err)
	}
	w.record(account, events...)
	return events
}

func (w *world) decide(account string, c policy.Command, config policy.Config) ([]policy.Event, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return policy.Decide(w.s, account, c, config)
}

// work examines and finishes what waits.
func (w *world) work(account string) {
	w.t.Helper()
	for ref := range w.s.Account(account).Pending() {
		w.do(account, w.examined(account, ref))
	}
}

func (w *world) examined(account string, ref policy.Ref) policy.FinishPolicy {
	w.t.Helper()
	e, ok := policy.Examine(w.s.Account(account), ref, region)
	if !ok {
		w.t.Fatalf("%v does not wait", ref)
	}
	return policy.FinishPolicy{EngineID: ref.Parent, ID: ref.ID, Examination: e}
}

// record applies the events of one command.
func (w *world) record(account string, events ...policy.Event) {
	w.t.Helper()
	for i, ev := range events {
		next, r, err := apply(w.s, account, ev, i == len(events)-1)
		if err != nil {
			w.t.Fatalf("%T %+v: %v", ev, ev, err)
		}
		w.s, w.log = next, append(w.log, r)
	}
}

// apply applies an event as the next one, with a hash made up.
func apply(s *policy.State, account string, ev policy.Event, commits bool) (*policy.State, policy.Recorded, error) {
	r := s.Next(account, ev, s.RecordedAt+1)
	r.Commits = commits
	r.Hash = sha256.Sum256(append(r.PrevHash[:], byte(r.Position)))
	next, err := s.Apply(r)
	return next, r, err
}

func encode(t testing.TB, s *policy.State) string {
	t.Helper()
	data, err := stream.EncodeState(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// refusal is what a test wants of an *Error: all of it but the text, of which it wants a part.
type refusal struct {
	kind          error
	reason, field string
	text          string
}

func (want refusal) check(t testing.TB, err error) {
	t.Helper()
	e, ok := errors.AsType[*policy.Error](err)
	if !ok {
		t.Fatalf("got %v, want a refusal: %+v", err, want)
	}
	if !errors.Is(err, want.kind) || e.Reason != want.reason || e.Field != want.field || !strings.Contains(e.Message, want.text) {
		t.Errorf("got %v, %s, field %q: %s\nwant %v, %s, field %q: …%s…", e.Kind, e.Reason, e.Field, e.Message, want.kind, want.reason, want.field, want.text)
	}
}

func wantEvents(t testing.TB, got []policy.Event, want ...policy.Event) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
