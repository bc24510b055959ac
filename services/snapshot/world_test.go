package snapshot_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

const (
	alice  = "111111111111"
	bob    = "222222222222"
	region = "us-east-1"
	suffix = "0123456789"

	// noon is 2026-03-01T12:00:00.123456Z.
	noon = 1772366400123456

	permitAll = `permit(principal, action, resource is AgentCore::Gateway);`
	forbidAll = `forbid(principal, action, resource is AgentCore::Gateway);`
)

var (
	engineID  = id(policy.KindEngine, "Refunds")
	gatewayID = id(policy.KindGateway, "Refund")
	arn       = arnOf(gatewayID)
)

func id(kind policy.Kind, name string) string { return policy.NewID(kind, name, suffix) }

func policyID(name string) string { return id(policy.KindPolicy, name) }

func arnOf(gatewayID string) string { return policy.ARN(region, alice, policy.GatewayRef(gatewayID)) }

// world is a state, and the snapshot that each commit brought up to date.
type world struct {
	t    testing.TB
	s    *policy.State
	snap *snapshot.Snapshot
}

func emptyWorld(t testing.TB) *world {
	w := &world{t: t, s: policy.Empty(), snap: snapshot.Build(policy.Empty())}
	w.do(policy.LogAccount, policy.LogCreated{LogID: "log-1", Region: region})
	return w
}

// newWorld has, in alice's account, the engine Refunds with these policies, called p0, p1, …, attached in ENFORCE to the gateway
// Refund, whose target RefundTarget has the tool process_refund(orderId!, amount, …) and the target Other the tool ping().
func newWorld(t testing.TB, statements ...string) *world {
	w := emptyWorld(t)
	w.engine("Refunds")
	w.gateway("Refund", "Refunds", policy.ModeEnforce)
	w.target("Refund", "target0001", "RefundTarget", refundTool())
	w.target("Refund", "target0002", "Other", policy.Tool{Name: "ping", InputSchema: object(nil)})
	for i, s := range statements {
		w.policy(fmt.Sprintf("p%d", i), s, policy.EnforcementActive)
	}
	return w
}

func object(properties map[string]*policy.Schema, required ...string) *policy.Schema {
	return &policy.Schema{Type: policy.SchemaObject, Properties: properties, Required: required}
}

func of(t policy.SchemaType) *policy.Schema { return &policy.Schema{Type: t} }

func refundTool() policy.Tool {
	return policy.Tool{Name: "process_refund", InputSchema: object(map[string]*policy.Schema{
		"orderId": of(policy.SchemaString),
		"amount":  of(policy.SchemaInteger),
		"price":   of(policy.SchemaNumber),
		"urgent":  of(policy.SchemaBoolean),
		"labels":  {Type: policy.SchemaArray, Items: of(policy.SchemaString)},
		"any":     of(policy.SchemaArray),
		"matrix":  {Type: policy.SchemaArray, Items: &policy.Schema{Type: policy.SchemaArray, Items: of(policy.SchemaInteger)}},
		"address": object(map[string]*policy.Schema{"city": of(policy.SchemaString), "zip": of(policy.SchemaInteger)}, "city"),
	}, "orderId")}
}

func (w *world) engine(name string) {
	e := id(policy.KindEngine, name)
	w.do(alice, policy.EngineCreated{ID: e, Name: name}, policy.Activated{Of: policy.EngineRef(e)})
}

func (w *world) gateway(name, engine string, mode policy.EngineMode) {
	g := id(policy.KindGateway, name)
	w.do(alice, policy.GatewayCreated{ID: g, Name: name, Definition: attached(engine, mode)}, policy.Activated{Of: policy.GatewayRef(g)})
}

// attached is a gateway with an engine, none for "".
func attached(engine string, mode policy.EngineMode) policy.GatewayDefinition {
	d := policy.GatewayDefinition{AuthorizerType: policy.AuthorizerNone}
	if engine != "" {
		d.PolicyEngine = &policy.EngineAttachment{EngineID: id(policy.KindEngine, engine), Mode: mode}
	}
	return d
}

// attach changes what is attached to the gateway Refund.
func (w *world) attach(engine string, mode policy.EngineMode) {
	w.do(alice, policy.GatewayUpdateRequested{ID: gatewayID, Definition: attached(engine, mode)}, policy.Activated{Of: policy.GatewayRef(gatewayID)})
}

func (w *world) target(gateway, target, name string, tools ...policy.Tool) {
	g := id(policy.KindGateway, gateway)
	w.do(alice, policy.TargetCreated{GatewayID: g, ID: target, Name: name, Definition: lambda(tools...)},
		policy.Activated{Of: policy.TargetRef(g, target)})
}

func lambda(tools ...policy.Tool) policy.TargetDefinition {
	return policy.TargetDefinition{Configuration: policy.TargetConfiguration{Lambda: &policy.LambdaTarget{
		ARN: "arn:aws:lambda:us-east-1:111111111111:function:f", Tools: policy.ToolSchema{Inline: tools},
	}}}
}

func (w *world) policy(name, statement string, mode policy.EnforcementMode) {
	w.t.Helper()
	w.do(alice, policy.PolicyCreated{EngineID: engineID, ID: policyID(name), Name: name, Body: body(statement, mode)},
		policy.Activated{Of: policy.PolicyRef(engineID, policyID(name))})
}

func body(statement string, mode policy.EnforcementMode) policy.Body {
	st, err := policy.ParseStatement(statement)
	b := policy.Body{
		Language: policy.LanguageCedar, Statement: statement, Enforcement: mode, Validation: policy.FailOnAnyFindings,
	}
	if err == nil {
		b.Resource = st.Resource()
	}
	return b
}

func (w *world) settings(s policy.Settings) {
	w.do(alice, policy.EngineSettingsChanged{ID: engineID, Settings: s})
}

// do records the events of one command.
func (w *world) do(account string, events ...policy.Event) {
	w.t.Helper()
	for i, ev := range events {
		r := w.s.Next(account, ev, w.s.RecordedAt+1)
		r.Commits = i == len(events)-1
		r.Hash = sha256.Sum256(append(r.PrevHash[:], byte(r.Position)))
		next, err := w.s.Apply(r)
		if err != nil {
			w.t.Fatalf("%T %+v: %v", ev, ev, err)
		}
		w.s = next
	}
	w.snap = w.snap.Next(w.s, []string{account})
}

// refund is bob's refund of 450, at noon, on a fresh node.
func refund() *snapshot.Request {
	return &snapshot.Request{
		Account:   alice,
		Principal: snapshot.Principal{Type: policy.TypeOAuthUser, ID: "bob", Tags: map[string]string{"role": "agent"}},
		Action:    snapshot.Entity{Type: policy.TypeAction, ID: "RefundTarget___process_refund"},
		Resource:  snapshot.Entity{Type: policy.TypeGateway, ID: arn},
		Context:   context(`{"input": {"orderId": "o-1", "amount": 450}}`),
		Now:       noon, Staleness: time.Second, Proven: true,
	}
}

func context(text string) snapshot.Value {
	v, err := snapshot.ParseJSON([]byte(text))
	if err != nil {
		panic(err)
	}
	return v
}

// with is refund changed.
func with(change func(*snapshot.Request)) *snapshot.Request {
	r := refund()
	change(r)
	return r
}

func withInput(input string) *snapshot.Request {
	return with(func(r *snapshot.Request) { r.Context = context(`{"input": ` + input + `}`) })
}

func (w *world) ask(r *snapshot.Request) *snapshot.Decision {
	w.t.Helper()
	d, err := w.snap.Authorize(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// wantCode wants an answer with this word.
func wantCode(t testing.TB, d *snapshot.Decision, code string) {
	t.Helper()
	if d.ReasonCode != code {
		t.Errorf("got %s (%s), want %s", d.ReasonCode, d.Reason, code)
	}
	if allowed := code == snapshot.CodeAllowed || code == snapshot.CodeNoEngine; d.Allow != allowed {
		t.Errorf("%s: allow is %v", code, d.Allow)
	}
}

// wantRefusal wants an *policy.Error of this kind about this field.
func wantRefusal(t testing.TB, err, kind error, field string) {
	t.Helper()
	e, ok := errors.AsType[*policy.Error](err)
	if !ok || !errors.Is(err, kind) || e.Field != field || e.Reason == "" || !strings.Contains(e.Message, " ") {
		t.Errorf("got %+v, want %v about %s", err, kind, field)
	}
}
