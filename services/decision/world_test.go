package decision_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/internal/identity"
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
	policyID  = policy.NewID(policy.KindPolicy, "refund_limit", suffix)
)

// world is the refund example, at the end of a log.
type world struct {
	t     testing.TB
	state *policy.State
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, state: policy.Empty()}
	w.do(policy.LogAccount, policy.CreateLog{ID: "log-1", Region: region})
	w.do(account, policy.CreateEngine{ID: engineID, Name: "RefundEngine"})
	w.do(account, policy.CreateGateway{ID: gatewayID, Name: "refund-gw", Definition: attached(policy.ModeEnforce)})
	w.do(account, policy.CreateTarget{GatewayID: gatewayID, ID: suffix, Name: "RefundTarget", Definition: policy.TargetDefinition{
		Configuration: policy.TargetConfiguration{Lambda: &policy.LambdaTarget{
			ARN: "arn:aws:lambda:us-east-1:111111111111:function:refund", Tools: policy.ToolSchema{Inline: []policy.Tool{refund()}},
		}},
	}})
	w.permit("refund_limit", `permit(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::"`+gateway+`")
		when { context.input.amount < 1000 };`)
	return w
}

func attached(mode policy.EngineMode) policy.GatewayDefinition {
	return policy.GatewayDefinition{AuthorizerType: policy.AuthorizerNone, PolicyEngine: &policy.EngineAttachment{EngineID: engineID, Mode: mode}}
}

func refund() policy.Tool {
	text := &policy.Schema{Type: policy.SchemaString}
	return policy.Tool{Name: "process_refund", Description: "Refunds an order", InputSchema: &policy.Schema{
		Type: policy.SchemaObject,
		Properties: map[string]*policy.Schema{
			"orderId": text, "note": text, "amount": {Type: policy.SchemaInteger}, "list": {Type: policy.SchemaArray, Items: text},
		},
		Required: []string{"orderId", "amount"},
	}}
}

// permit makes a policy and has it examined.
func (w *world) permit(name, source string) {
	w.t.Helper()
	statement, err := policy.ParseStatement(source)
	if err != nil {
		w.t.Fatal(err)
	}
	id := policy.NewID(policy.KindPolicy, name, suffix)
	w.do(account, policy.CreatePolicy{EngineID: engineID, ID: id, Name: name, Language: policy.LanguageCedar, Statement: statement})
	examined, ok := policy.Examine(w.state.Account(account), policy.PolicyRef(engineID, id), region)
	if !ok {
		w.t.Fatal("nothing to examine")
	}
	w.do(account, policy.FinishPolicy{EngineID: engineID, ID: id, Examination: examined})
}

// do carries a command out.
func (w *world) do(who string, c policy.Command) {
	w.t.Helper()
	w.state = testenv.Carry(w.t, w.state, who, c, region)
}

// fresh is a follower whose state was just proved, or not.
type fresh struct {
	age      time.Duration
	unproven bool
	node     *decision.Node
	arrives  *policy.State // what comes while somebody waits; nil for nothing
}

func (f *fresh) Staleness() (time.Duration, bool) { return f.age, !f.unproven }

func (f *fresh) Wait(ctx context.Context, position uint64) error {
	if f.arrives != nil && f.arrives.Position >= position {
		f.node.Publish(f.arrives, nil)
		return nil
	}
	if position == 0 {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// journal keeps records in memory, as the decision log does in its spool.
type journal struct {
	mu      sync.Mutex
	records []*decisionv1.DecisionDetail
	full    error
}

func (j *journal) Record(d *decisionv1.DecisionDetail, _ time.Time) (stream.DecisionID, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.full != nil {
		return stream.DecisionID{}, j.full
	}
	j.records = append(j.records, d)
	return stream.DecisionID{Seq: uint64(len(j.records))}, nil
}

func (j *journal) last(t testing.TB) *decisionv1.DecisionDetail {
	t.Helper()
	if len(j.records) == 0 {
		t.Fatal("nothing was recorded")
	}
	return j.records[len(j.records)-1]
}

// site is a node with its surroundings.
type site struct {
	*world
	node     *decision.Node
	follower *fresh
	journal  *journal
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{world: newWorld(t), journal: &journal{}}
	s.node = decision.NewNode(s.journal, nil)
	s.follower = &fresh{node: s.node}
	s.node.Follow(s.follower)
	s.node.Publish(s.state, nil)
	return s
}

// asCaller is the context of a caller of the account.
func asCaller(t testing.TB) context.Context {
	return identity.NewContext(t.Context(), identity.Caller{Account: account, ID: "test", Method: "loopback"})
}

// request is a refund of an amount.
func request(t testing.TB, input string) *decisionv1.AuthorizeRequest {
	t.Helper()
	return &decisionv1.AuthorizeRequest{
		Principal:   &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "agent", "email": "a@example.com"}},
		Action:      &decisionv1.Entity{Type: "AgentCore::Action", Id: "RefundTarget___process_refund"},
		Resource:    &decisionv1.Entity{Type: "AgentCore::Gateway", Id: gateway},
		ContextJson: strings.ReplaceAll(`{"input":{"orderId":"1",INPUT}}`, "INPUT", input),
	}
}
