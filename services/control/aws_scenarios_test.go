package control

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	agentcore "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/policy"
)

// shop is the example as the SDK made it: an engine that is attached to a gateway with the tools of lambdaTarget.
type shop struct {
	*agentcore.Client

	engine, engineARN, gateway, gatewayARN, target string
}

// shop makes the example in the account of a key.
func (r *replica) shop(t *testing.T, key string) shop {
	t.Helper()
	c, ctx := r.sdk(key), t.Context()
	engine, err := c.CreatePolicyEngine(ctx, &agentcore.CreatePolicyEngineInput{Name: new("RefundEngine")})
	must(t, err)
	gateway, err := c.CreateGateway(ctx, &agentcore.CreateGatewayInput{
		Name: new("refund-gw"), RoleArn: new(gatewayRole), AuthorizerType: types.AuthorizerTypeNone,
		PolicyEngineConfiguration: &types.GatewayPolicyEngineConfiguration{Arn: engine.PolicyEngineArn, Mode: types.GatewayPolicyEngineModeEnforce},
	})
	must(t, err)
	target, err := c.CreateGatewayTarget(ctx, &agentcore.CreateGatewayTargetInput{
		GatewayIdentifier: gateway.GatewayId, Name: new("RefundTarget"), TargetConfiguration: lambdaTarget(),
		CredentialProviderConfigurations: []types.CredentialProviderConfiguration{{CredentialProviderType: types.CredentialProviderTypeGatewayIamRole}},
	})
	must(t, err)
	return shop{c, *engine.PolicyEngineId, *engine.PolicyEngineArn, *gateway.GatewayId, *gateway.GatewayArn, *target.TargetId}
}

// create sends a policy; $G in its statement is the gateway.
func (s shop) create(t *testing.T, name, statement string) (*agentcore.CreatePolicyOutput, error) {
	t.Helper()
	return s.CreatePolicy(t.Context(), &agentcore.CreatePolicyInput{PolicyEngineId: &s.engine, Name: &name, Definition: s.cedar(statement)})
}

func (s shop) cedar(statement string) types.PolicyDefinition {
	return cedarDefinition(strings.ReplaceAll(statement, "$G", `AgentCore::Gateway::"`+s.gatewayARN+`"`))
}

// settled is a policy after its examination; the SDK's waiter ends with an error when that failed.
func (s shop) settled(t *testing.T, id string) (*agentcore.GetPolicyOutput, error) {
	t.Helper()
	in := &agentcore.GetPolicyInput{PolicyEngineId: &s.engine, PolicyId: &id}
	waited := agentcore.NewPolicyActiveWaiter(s, soonActive).Wait(t.Context(), in, most)
	got, err := s.GetPolicy(t.Context(), in)
	must(t, err)
	return got, waited
}

// refunds is a permit of the refund tool under a condition.
func refunds(condition string) string {
	return `permit(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == $G) when { ` + condition + ` };`
}

const smallRefunds = `context.input.amount < 1000`

var (
	engineID = regexp.MustCompile(`^RefundEngine-[a-z0-9_]{10}$`)
	policyID = regexp.MustCompile(`^refund_cap-[a-z0-9_]{10}$`)
)

// An engine is made once: under its name, and for its client token, also on another replica.
func TestSDKEngines(t *testing.T) {
	t.Parallel()
	b := newBench(t).withKeys(t)
	c, other, ctx := b.start(t).sdk("admin"), b.start(t).sdk("admin"), t.Context()
	in := &agentcore.CreatePolicyEngineInput{Name: new("RefundEngine"), Description: new("d"), ClientToken: new(firstToken)}
	first, err := c.CreatePolicyEngine(ctx, in)
	must(t, err)
	if !engineID.MatchString(*first.PolicyEngineId) || *first.PolicyEngineArn != "arn:aws:bedrock-agentcore:us-east-1:"+awsAccount+":policy-engine/"+*first.PolicyEngineId {
		t.Errorf("the engine is %+v", first)
	}
	_, err = c.UpdatePolicyEngine(ctx, &agentcore.UpdatePolicyEngineInput{PolicyEngineId: first.PolicyEngineId, Description: &types.UpdatedDescription{OptionalValue: new("later")}})
	must(t, err)
	again, err := other.CreatePolicyEngine(ctx, in)
	must(t, err)
	wantSame(t, "the same request again", first, again)
	in.Description = new("another")
	_, err = other.CreatePolicyEngine(ctx, in)
	wantInvalid(t, "the token with another request", err, types.ValidationExceptionReasonIdempotentParameterMismatchException, "clientToken", "clientToken")
	in.ClientToken = nil
	_, err = c.CreatePolicyEngine(ctx, in)
	wantCode(t, "the name again", err, "ConflictException", "RefundEngine")
	_, err = c.CreatePolicyEngine(ctx, &agentcore.CreatePolicyEngineInput{Name: new("refund-engine")})
	wantInvalid(t, "a name with a hyphen", err, types.ValidationExceptionReasonFieldValidationFailed, "name", "[A-Za-z][A-Za-z0-9_]*")
	all, err := c.ListPolicyEngines(ctx, &agentcore.ListPolicyEnginesInput{})
	must(t, err)
	if len(all.PolicyEngines) != 1 {
		t.Errorf("there are %d engines", len(all.PolicyEngines))
	}
}

// The other things that have a client token.
func TestSDKClientTokens(t *testing.T) {
	t.Parallel()
	s := newBench(t).withKeys(t).start(t).shop(t, "admin")
	ctx := t.Context()
	policy := &agentcore.CreatePolicyInput{PolicyEngineId: &s.engine, Name: new("refund_cap"), Definition: s.cedar(refunds(smallRefunds)), ClientToken: new(firstToken)}
	one, err := s.CreatePolicy(ctx, policy)
	must(t, err)
	_, err = s.settled(t, *one.PolicyId)
	must(t, err)
	two, err := s.CreatePolicy(ctx, policy)
	must(t, err)
	wantSame(t, "a policy, also when it has gone on", one, two)
	gateway := &agentcore.CreateGatewayInput{Name: new("other-gw"), RoleArn: new(gatewayRole), AuthorizerType: types.AuthorizerTypeNone, ClientToken: new(secondToken)}
	first, err := s.CreateGateway(ctx, gateway)
	must(t, err)
	second, err := s.CreateGateway(ctx, gateway)
	must(t, err)
	target := &agentcore.CreateGatewayTargetInput{GatewayIdentifier: first.GatewayId, Name: new("T"), TargetConfiguration: lambdaTarget(), ClientToken: new("3" + firstToken)}
	third, err := s.CreateGatewayTarget(ctx, target)
	must(t, err)
	fourth, err := s.CreateGatewayTarget(ctx, target)
	must(t, err)
	if *first.GatewayArn != *second.GatewayArn || *third.TargetId != *fourth.TargetId {
		t.Errorf("made twice: %s and %s, %s and %s", *first.GatewayArn, *second.GatewayArn, *third.TargetId, *fourth.TargetId)
	}
	_, err = s.CreateGateway(ctx, &agentcore.CreateGatewayInput{Name: new("third-gw"), RoleArn: new(gatewayRole), AuthorizerType: types.AuthorizerTypeNone, ClientToken: new(firstToken)})
	wantInvalid(t, "the token of a policy for a gateway", err, types.ValidationExceptionReasonIdempotentParameterMismatchException, "clientToken")
}

// What is found by looking at the statement alone is refused at once, and nothing is stored.
func TestSDKRefusesStatements(t *testing.T) {
	t.Parallel()
	s := newBench(t).withKeys(t).start(t).shop(t, "admin")
	const invalid = types.ValidationExceptionReasonFieldValidationFailed
	small := refunds(smallRefunds)
	tests := map[string]struct {
		name, statement string
		reason          types.ValidationExceptionReason
		field           string
		says            []string
	}{
		"a syntax error":     {"p", "permit(principal, action,\n resource ===);                      ", invalid, "definition.cedar.statement", []string{"line 2", "column"}},
		"two statements":     {"p", small + "\n" + small, invalid, "definition.cedar.statement", []string{"line 2", "exactly one statement"}},
		"a bare resource":    {"p", `permit(principal, action, resource) when { true };`, invalid, "definition.cedar.statement", []string{"wildcard resource"}},
		"a tool everywhere":  {"p", strings.Replace(small, "resource == $G", "resource is AgentCore::Gateway", 1), invalid, "definition.cedar.statement", []string{"constrained action"}},
		"34 characters":      {"p", `permit(principal,action,resource);`, invalid, "definition.cedar.statement", []string{"35", "34"}},
		"10,001 characters":  {"p", small + strings.Repeat(" ", 10_001-len(small)-len("AgentCore::Gateway::\"\"")-len(s.gatewayARN)+len("$G")), invalid, "definition.cedar.statement", []string{"10000", "10001"}},
		"51 characters":      {strings.Repeat("n", 51), small, invalid, "name", []string{"51"}},
		"no name for a file": {"a/b", small, invalid, "name", []string{"[A-Za-z][A-Za-z0-9_]*"}},
	}
	for what, test := range tests {
		t.Run(what, func(t *testing.T) {
			_, err := s.create(t, test.name, test.statement)
			wantInvalid(t, what, err, test.reason, test.field, test.says...)
		})
	}
	all, err := s.ListPolicies(t.Context(), &agentcore.ListPoliciesInput{PolicyEngineId: &s.engine})
	must(t, err)
	if len(all.Policies) != 0 {
		t.Errorf("stored are %+v", all.Policies)
	}
}

// What needs the tools is found afterwards: a policy is CREATING, and then ACTIVE, or CREATE_FAILED with reasons.
func TestSDKExamination(t *testing.T) {
	t.Parallel()
	s := newBench(t).withKeys(t).start(t).shop(t, "admin")
	quote := strings.NewReplacer("process_refund", "quote")
	tests := map[string]struct {
		statement string
		says      string // in the reasons; "" when there are none
	}{
		"small refunds":      {refunds(smallRefunds), ""},
		"a tag, unguarded":   {refunds(`principal.getTag("role") == "clerk"`), "unable to guarantee safety of access to tag"},
		"a tag, guarded":     {refunds(`principal.hasTag("role") && principal.getTag("role") == "clerk"`), ""},
		"optional":           {refunds(`context.input.reason == "x"`), "optional attribute `input.reason`"},
		"optional, guarded":  {refunds(`context.input has reason && context.input.reason == "x"`), ""},
		"two underscores":    {strings.Replace(refunds(smallRefunds), "RefundTarget___", "RefundTarget__", 1), "RefundTarget___process_refund"},
		"a number with <":    {quote.Replace(refunds(`context.input.price < 5`)), "decimal"},
		"a number as it is":  {quote.Replace(refunds(`context.input.price.lessThan(decimal("5.0"))`)), ""},
		"a misspelled input": {refunds(`context.input.amonut < 5`), "did you mean `amount`"},
	}
	n := 0
	for what, test := range tests {
		n++
		name := fmt.Sprintf("policy_%d", n)
		t.Run(what, func(t *testing.T) {
			made, err := s.create(t, name, test.statement)
			must(t, err)
			if made.Status != types.PolicyStatusCreating || made.StatusReasons == nil || len(made.StatusReasons) != 0 {
				t.Errorf("at first it is %s, %q", made.Status, made.StatusReasons)
			}
			got, err := s.settled(t, *made.PolicyId)
			reasons := strings.Join(got.StatusReasons, "\n")
			if want := wantedStatus(test.says); got.Status != want || (err == nil) != (want == types.PolicyStatusActive) || !strings.Contains(reasons, test.says) || (test.says == "" && reasons != "") {
				t.Errorf("it is %s with %q, and the waiter ended with %v; want %s and %q", got.Status, reasons, err, want, test.says)
			}
		})
	}
}

func wantedStatus(reason string) types.PolicyStatus {
	if reason == "" {
		return types.PolicyStatusActive
	}
	return types.PolicyStatusCreateFailed
}

// An update changes what it names and nothing else; what is wrong leaves the old definition.
func TestSDKUpdates(t *testing.T) {
	t.Parallel()
	s := newBench(t).withKeys(t).start(t).shop(t, "admin")
	made, err := s.CreatePolicy(t.Context(), &agentcore.CreatePolicyInput{
		PolicyEngineId: &s.engine, Name: new("refund_cap"), Description: new("small ones"), Definition: s.cedar(refunds(smallRefunds)),
		EnforcementMode: types.EnforcementModeLogOnly,
	})
	must(t, err)
	id := *made.PolicyId
	if !policyID.MatchString(id) || *made.PolicyArn != s.engineARN+"/policy/"+id {
		t.Errorf("the policy is %+v", made)
	}
	first, err := s.settled(t, id)
	must(t, err)
	update := func(in agentcore.UpdatePolicyInput) *agentcore.GetPolicyOutput {
		t.Helper()
		in.PolicyEngineId, in.PolicyId = &s.engine, &id
		_, err := s.UpdatePolicy(t.Context(), &in)
		must(t, err)
		got, _ := s.settled(t, id)
		return got
	}
	promoted := update(agentcore.UpdatePolicyInput{EnforcementMode: types.EnforcementModeActive})
	wantSame(t, "the definition after a promotion", first.Definition, promoted.Definition)
	if promoted.EnforcementMode != types.EnforcementModeActive || aws.ToString(promoted.Description) != "small ones" || *promoted.PolicyArn != *first.PolicyArn || !promoted.CreatedAt.Equal(*first.CreatedAt) {
		t.Errorf("promoted: %+v", promoted)
	}
	if got := update(agentcore.UpdatePolicyInput{Description: &types.UpdatedDescription{OptionalValue: new("others")}}); aws.ToString(got.Description) != "others" {
		t.Errorf("described anew: %+v", got)
	}
	if got := update(agentcore.UpdatePolicyInput{Description: &types.UpdatedDescription{}}); got.Description != nil || got.EnforcementMode != types.EnforcementModeActive {
		t.Errorf("cleared: %+v", got)
	}
	failed := update(agentcore.UpdatePolicyInput{Definition: s.cedar(refunds(`context.input.amonut < 5`))})
	if failed.Status != types.PolicyStatusUpdateFailed || len(failed.StatusReasons) == 0 {
		t.Errorf("misspelled: %+v", failed)
	}
	wantSame(t, "the definition after an update that failed", first.Definition, failed.Definition)
	mended := update(agentcore.UpdatePolicyInput{Definition: s.cedar(refunds(`context.input.amount < 5`))})
	if mended.Status != types.PolicyStatusActive || len(mended.StatusReasons) != 0 {
		t.Errorf("mended: %+v", mended)
	}
	_, err = s.UpdatePolicy(t.Context(), &agentcore.UpdatePolicyInput{PolicyEngineId: &s.engine, PolicyId: &id})
	wantCode(t, "an update of nothing", err, "ValidationException")
}

// What is in use stays, and the error says by what.
func TestSDKConflicts(t *testing.T) {
	t.Parallel()
	s := newBench(t).withKeys(t).start(t).shop(t, "admin")
	ctx := t.Context()
	var ids []*string
	for i := range 2 {
		made, err := s.create(t, fmt.Sprintf("policy_%d", i), refunds(smallRefunds))
		must(t, err)
		_, err = s.settled(t, *made.PolicyId)
		must(t, err)
		ids = append(ids, made.PolicyId)
	}
	_, err := s.DeletePolicyEngine(ctx, &agentcore.DeletePolicyEngineInput{PolicyEngineId: &s.engine})
	wantCode(t, "an engine with policies", err, "ConflictException", "2 policies")
	_, err = s.create(t, "policy_1", refunds(smallRefunds))
	wantCode(t, "the name of a policy", err, "ConflictException", "policy_1")
	for _, id := range ids {
		gone, err := s.DeletePolicy(ctx, &agentcore.DeletePolicyInput{PolicyEngineId: &s.engine, PolicyId: id})
		must(t, err)
		if gone.Status != types.PolicyStatusDeleting {
			t.Errorf("a deleted policy is %s", gone.Status)
		}
		_, err = s.GetPolicy(ctx, &agentcore.GetPolicyInput{PolicyEngineId: &s.engine, PolicyId: id})
		wantCode(t, "a deleted policy", err, "ResourceNotFoundException", *id)
		must(t, agentcore.NewPolicyDeletedWaiter(s, soonDeleted).Wait(ctx, &agentcore.GetPolicyInput{PolicyEngineId: &s.engine, PolicyId: id}, most))
		_, err = s.DeletePolicy(ctx, &agentcore.DeletePolicyInput{PolicyEngineId: &s.engine, PolicyId: id})
		wantCode(t, "a policy deleted twice", err, "ResourceNotFoundException", *id)
	}
	_, err = s.DeletePolicyEngine(ctx, &agentcore.DeletePolicyEngineInput{PolicyEngineId: &s.engine})
	wantCode(t, "an attached engine", err, "ConflictException", "attached", s.gateway)
	_, err = s.DeleteGateway(ctx, &agentcore.DeleteGatewayInput{GatewayIdentifier: &s.gateway})
	wantCode(t, "a gateway with targets", err, "ConflictException", "1 target")
	// Without policyEngineConfiguration the engine is detached.
	detached, err := s.UpdateGateway(ctx, &agentcore.UpdateGatewayInput{GatewayIdentifier: &s.gateway, Name: new("refund-gw"), RoleArn: new(gatewayRole), AuthorizerType: types.AuthorizerTypeNone})
	must(t, err)
	if detached.PolicyEngineConfiguration != nil {
		t.Errorf("still attached: %+v", detached.PolicyEngineConfiguration)
	}
	_, err = s.DeletePolicyEngine(ctx, &agentcore.DeletePolicyEngineInput{PolicyEngineId: &s.engine})
	must(t, err)
}

// Whoever may not weaken enforcement cannot do so by leaving out the engine of UpdateGateway, or with a weaker mode.
func TestSDKWeakening(t *testing.T) {
	t.Parallel()
	r := newBench(t).withKeys(t).start(t)
	s := r.shop(t, "admin")
	update := func(key string, attached *types.GatewayPolicyEngineConfiguration) error {
		_, err := r.sdk(key).UpdateGateway(t.Context(), &agentcore.UpdateGatewayInput{
			GatewayIdentifier: &s.gateway, Name: new("refund-gw"), Description: new("d"), RoleArn: new(gatewayRole), AuthorizerType: types.AuthorizerTypeNone, PolicyEngineConfiguration: attached,
		})
		return err
	}
	logOnly := &types.GatewayPolicyEngineConfiguration{Arn: &s.engineARN, Mode: types.GatewayPolicyEngineModeLogOnly}
	enforce := &types.GatewayPolicyEngineConfiguration{Arn: &s.engineARN, Mode: types.GatewayPolicyEngineModeEnforce}
	wantCode(t, "an author who leaves the engine out", update("author", nil), "AccessDeniedException")
	wantCode(t, "an author who only logs", update("author", logOnly), "AccessDeniedException")
	must(t, update("author", enforce))
	must(t, update("admin", logOnly))
	must(t, update("author", enforce))
}

// A statement may stand in either member of the union that holds one, and is read there again.
func TestSDKDefinitions(t *testing.T) {
	t.Parallel()
	s := newBench(t).withKeys(t).start(t).shop(t, "admin")
	cedar, _ := s.cedar(refunds(smallRefunds)).(*types.PolicyDefinitionMemberCedar)
	definition := &types.PolicyDefinitionMemberPolicy{Value: types.PolicyStatement{Statement: cedar.Value.Statement}}
	made, err := s.CreatePolicy(t.Context(), &agentcore.CreatePolicyInput{PolicyEngineId: &s.engine, Name: new("p"), Definition: definition})
	must(t, err)
	got, err := s.settled(t, *made.PolicyId)
	must(t, err)
	if _, same := got.Definition.(*types.PolicyDefinitionMemberPolicy); !same {
		t.Errorf("it became %T", got.Definition)
	}
	wantSame(t, "the definition", definition, got.Definition)
	generated := &types.PolicyDefinitionMemberPolicyGeneration{Value: types.PolicyGenerationDetails{PolicyGenerationId: new("g-0123456789"), PolicyGenerationAssetId: new("a-0123456789")}}
	_, err = s.CreatePolicy(t.Context(), &agentcore.CreatePolicyInput{PolicyEngineId: &s.engine, Name: new("q"), Definition: generated})
	wantInvalid(t, "a generated one", err, types.ValidationExceptionReasonFieldValidationFailed, "definition.policyGeneration", "policyGeneration")
}

// 23 policies come in pages of 10, 10 and 3, each once, whichever list it is; the SDK's paginator finds the end.
func TestSDKPages(t *testing.T) {
	t.Parallel()
	s := newBench(t).withKeys(t).start(t).shop(t, "admin")
	ctx := t.Context()
	for i := range 23 {
		_, err := s.create(t, fmt.Sprintf("policy_%d", i), refunds(smallRefunds))
		must(t, err)
	}
	var sizes []int
	var names, summarized []string
	for pages := agentcore.NewListPoliciesPaginator(s, &agentcore.ListPoliciesInput{PolicyEngineId: &s.engine, MaxResults: new(int32(10))}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		must(t, err)
		sizes = append(sizes, len(page.Policies))
		for _, p := range page.Policies {
			names = append(names, *p.Name)
		}
	}
	for pages := agentcore.NewListPolicySummariesPaginator(s, &agentcore.ListPolicySummariesInput{PolicyEngineId: &s.engine, MaxResults: new(int32(7))}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		must(t, err)
		for _, p := range page.Policies {
			summarized = append(summarized, *p.Name)
		}
	}
	if fmt.Sprint(sizes) != "[10 10 3]" || !slices.Equal(names, summarized) {
		t.Errorf("pages of %v; %v, summarized %v", sizes, names, summarized)
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) != 23 {
		t.Errorf("there are %d different ones", len(names))
	}
	_, err := s.ListPolicies(ctx, &agentcore.ListPoliciesInput{PolicyEngineId: &s.engine, NextToken: new("made-up")})
	wantInvalid(t, "a token that is made up", err, types.ValidationExceptionReasonFieldValidationFailed, "nextToken", "nextToken")
}

// A quota is 402, and what is full takes one more when one is gone.
func TestSDKQuota(t *testing.T) {
	t.Parallel()
	b := newBench(t).withKeys(t)
	b.cfg.AppendTimeout = 30 * time.Second // a thousand policies and their examinations, in large transactions
	r := b.start(t)
	c, ctx := r.sdk("admin"), t.Context()
	engine, err := c.CreatePolicyEngine(ctx, &agentcore.CreatePolicyEngineInput{Name: new("RefundEngine")})
	must(t, err)
	const everything = "permit(principal, action, resource is AgentCore::Gateway);"
	ids := r.fill(t, *engine.PolicyEngineId, everything, policy.DefaultLimits().PoliciesPerEngine)
	in := &agentcore.CreatePolicyInput{PolicyEngineId: engine.PolicyEngineId, Name: new("one_more"), Definition: cedarDefinition(everything)}
	_, err = c.CreatePolicy(ctx, in)
	wantCode(t, "the 1,001st policy", err, "ServiceQuotaExceededException", "1000")
	if quota, ok := errors.AsType[*types.ServiceQuotaExceededException](err); !ok || quota.ErrorMessage() == "" {
		t.Errorf("the SDK takes it for %T", err)
	}
	_, err = c.DeletePolicy(ctx, &agentcore.DeletePolicyInput{PolicyEngineId: engine.PolicyEngineId, PolicyId: &ids[0]})
	must(t, err)
	_, err = c.CreatePolicy(ctx, in)
	must(t, err)
}

// fill puts policies into an engine, past the API, and gives their ids once the first has been examined.
func (r *replica) fill(t *testing.T, engine, text string, n int) []string {
	t.Helper()
	statement, err := policy.ParseStatement(text)
	must(t, err)
	requests, ids := make([]eventlog.Request, n), make([]string, n)
	for i := range n {
		name := fmt.Sprintf("policy_%d", i)
		ids[i] = policy.NewID(policy.KindPolicy, name, "0123456789")
		requests[i] = eventlog.Request{Account: awsAccount, Command: policy.CreatePolicy{EngineID: engine, ID: ids[i], Name: name, Language: policy.LanguageCedar, Statement: statement}}
	}
	for some := range slices.Chunk(requests, 100) { // as many as a transaction of a busy machine can take
		results, err := r.service.log.Append(t.Context(), some...)
		must(t, err)
		for _, result := range results {
			must(t, result.Err)
		}
	}
	in := &agentcore.GetPolicyInput{PolicyEngineId: &engine, PolicyId: &ids[0]}
	_ = agentcore.NewPolicyActiveWaiter(r.sdk("admin"), soonActive).Wait(t.Context(), in, most) // active or not
	return ids
}

// With AgentCore's limits one engine is made in a second. The SDK tries again for those who come too early, until all are made;
// another account has limits of its own.
func TestSDKThrottle(t *testing.T) {
	t.Parallel()
	b := newBench(t).withKeys(t)
	b.cfg.Throttle = "aws"
	r := b.start(t)
	const engines = 4
	patient := r.sdk("admin", func(o *agentcore.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 50, time.Second })
	})
	attempts := make([]int, engines)
	var group sync.WaitGroup
	for i := range engines {
		group.Go(func() {
			made, err := patient.CreatePolicyEngine(t.Context(), &agentcore.CreatePolicyEngineInput{Name: new(fmt.Sprintf("E%d", i))})
			if err != nil {
				t.Error(err)
				return
			}
			results, _ := retry.GetAttemptResults(made.ResultMetadata)
			attempts[i] = len(results.Results)
			for _, failed := range results.Results[:attempts[i]-1] {
				wantCode(t, "an early request", failed.Err, "ThrottlingException", "CreatePolicyEngine")
			}
		})
	}
	group.Wait()
	if slices.Max(attempts) < 2 {
		t.Errorf("nobody was early: attempts %v", attempts)
	}
	_, err := r.sdk("stranger", once).CreatePolicyEngine(t.Context(), &agentcore.CreatePolicyEngineInput{Name: new("E")})
	must(t, err)
}

// once has the SDK not try again.
func once(o *agentcore.Options) { o.Retryer = aws.NopRetryer{} }
