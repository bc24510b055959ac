package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	agentcore "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// sdkRun is what a client does, one operation after the other, and what became of each.
type sdkRun struct {
	*agentcore.Client

	t        *testing.T
	outcomes map[string]string // :: operation → "ok", or the code of its last error where it never went well
	revision uint64            // the newest that was answered
}

// newSDKRun is a run that sends its requests to the replicas in turn.
func newSDKRun(t *testing.T, replicas ...*replica) *sdkRun {
	t.Helper()
	turns := &signedInTurn{}
	for _, r := range replicas {
		turns.hosts = append(turns.hosts, strings.TrimPrefix(r.url, "http://"))
	}
	out := &sdkRun{t: t, outcomes: map[string]string{}}
	out.Client = replicas[0].sdk("admin", func(o *agentcore.Options) {
		o.HTTPClient = &http.Client{Transport: turns}
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("record", out.record), middleware.Before)
		})
	})
	return out
}

// signedInTurn is inTurn for requests whose Host is signed.
type signedInTurn struct{ inTurn }

func (c *signedInTurn) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Host = req.URL.Host
	return c.inTurn.RoundTrip(req)
}

// record notes what an operation ended with, and looks at what every answer must have.
func (r *sdkRun) record(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	out, metadata, err := next.HandleInitialize(ctx, in)
	name := middleware.GetOperationName(ctx)
	if id, ok := awsmiddleware.GetRequestIDMetadata(metadata); !ok || id == "" {
		r.t.Errorf("%s: there is no request id in the answer", name)
	}
	if refused, ok := errors.AsType[smithy.APIError](err); ok {
		if r.outcomes[name] != "ok" {
			r.outcomes[name] = refused.ErrorCode()
		}
		return out, metadata, err
	}
	if err == nil {
		r.outcomes[name] = "ok"
		r.checkRevision(name, metadata)
	}
	return out, metadata, err
}

// checkRevision: that of a write is beyond all before, and that of a read is not older than what any replica has answered.
func (r *sdkRun) checkRevision(name string, metadata middleware.Metadata) {
	r.t.Helper()
	resp, ok := awsmiddleware.GetRawResponse(metadata).(*smithyhttp.Response)
	if !ok {
		r.t.Errorf("%s: there is no response", name)
		return
	}
	text := resp.Header.Get("X-Verdict-Revision")
	revision, err := strconv.ParseUint(text, 10, 64)
	reads := strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") || name == "SynchronizeGatewayTargets"
	if err != nil || revision < r.revision || (revision == r.revision && !reads) {
		r.t.Errorf("%s answers revision %q after %d", name, text, r.revision)
	}
	r.revision = max(r.revision, revision)
}

// operations are all that the SDK knows, as its client's methods.
func operations() []string {
	var names []string
	for m := range reflect.TypeFor[*agentcore.Client]().Methods() {
		if m.Type.NumIn() == 4 && m.Type.In(2).Kind() == reflect.Pointer && m.Type.In(2).Elem().Name() == m.Name+"Input" {
			names = append(names, m.Name)
		}
	}
	return names
}

// minimal calls an operation with a text in every member that is a text, since the path needs some of them, and with nothing
// else. The SDK's own checks would refuse most of that, so they are left out.
func (r *sdkRun) minimal(name string) error {
	method := reflect.ValueOf(r.Client).MethodByName(name)
	in := reflect.New(method.Type().In(1).Elem())
	for _, f := range in.Elem().Fields() {
		if f.Type() == reflect.TypeFor[*string]() {
			f.Set(reflect.ValueOf(new("minimal-0123456789")))
		}
	}
	out := method.Call([]reflect.Value{reflect.ValueOf(r.t.Context()), in, reflect.ValueOf(unchecked)})
	err, _ := reflect.TypeAssert[error](out[1])
	return err
}

// unchecked has the SDK send what it would refuse.
func unchecked(o *agentcore.Options) {
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		_, _ = stack.Initialize.Remove("OperationInputValidation") // of an operation without checks there is none
		return nil
	})
}

// neverThere are the operations about what there is none of here.
var neverThere = []string{
	"DeleteResourcePolicy", "GetPolicyGeneration", "GetPolicyGenerationSummary", "GetResourcePolicy", "ListPolicyGenerationAssets",
}

// Every operation that the SDK knows does what it is for, or says that it is not there. An operation that a newer SDK brings is
// called too, and must be refused in AgentCore's way.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	b := newBench(t).withKeys(t)
	r := newSDKRun(t, b.start(t), b.start(t))
	f := r.makeAll()
	r.readAll(f)
	r.changeAll(f)
	r.tagAll(f)
	r.generations(f)
	r.resourcePolicies(f)
	r.deleteAll(f)
	r.countAll()
}

// countAll calls what has not been called, and counts.
func (r *sdkRun) countAll() {
	t, before := r.t, r.revision
	t.Helper()
	counts := map[string]int{}
	for _, name := range operations() {
		switch got := r.outcomes[name]; {
		case got == "ok":
			counts["answered"]++
			continue
		case slices.Contains(neverThere, name) && got == "ResourceNotFoundException":
			counts["not found"]++
			continue
		}
		counts["refused"]++
		says := "Verdict does not offer " + name
		if r.outcomes[name] != "" { // it was tried, and said more
			says = "Verdict"
		}
		wantCode(t, name, r.minimal(name), "ValidationException", says)
	}
	_, err := r.ListPolicyEngines(t.Context(), &agentcore.ListPolicyEnginesInput{})
	must(t, err)
	if r.revision != before {
		t.Errorf("what was refused moved the log from %d to %d", before, r.revision)
	}
	t.Logf("%d operations: %v", len(operations()), counts)
	if got := counts["answered"]; got != 30 {
		t.Errorf("%d operations were answered, want 30: %v", got, r.outcomes)
	}
}

// things are what a run made.
type things struct {
	engine, engineARN, gateway, gatewayARN, target, policy, policyARN string
}

// makeAll makes the example, waits until it is there with the SDK's waiters, and finds everything as it was made.
func (r *sdkRun) makeAll() things {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	engine, err := r.CreatePolicyEngine(ctx, &agentcore.CreatePolicyEngineInput{
		Name: new("RefundEngine"), Description: new("for refunds"), Tags: map[string]string{"team": "payments"},
	})
	must(t, err)
	there, err := agentcore.NewPolicyEngineActiveWaiter(r, soonEngine).WaitForOutput(ctx, &agentcore.GetPolicyEngineInput{PolicyEngineId: engine.PolicyEngineId}, most)
	must(t, err)
	wantSame(t, "the engine", engine, there)
	gateway, err := r.CreateGateway(ctx, &agentcore.CreateGatewayInput{
		Name: new("Refund-GW"), Description: new("of the shop"), RoleArn: new(gatewayRole), ProtocolType: types.GatewayProtocolTypeMcp,
		AuthorizerType: types.AuthorizerTypeNone, ExceptionLevel: types.ExceptionLevelDebug, Tags: map[string]string{"team": "payments"},
		PolicyEngineConfiguration: &types.GatewayPolicyEngineConfiguration{Arn: engine.PolicyEngineArn, Mode: types.GatewayPolicyEngineModeEnforce},
	})
	must(t, err)
	target, err := r.CreateGatewayTarget(ctx, &agentcore.CreateGatewayTargetInput{
		GatewayIdentifier: gateway.GatewayId, Name: new("RefundTarget"), Description: new("the shop's"), TargetConfiguration: lambdaTarget(),
		CredentialProviderConfigurations: []types.CredentialProviderConfiguration{{CredentialProviderType: types.CredentialProviderTypeGatewayIamRole}},
	})
	must(t, err)
	policy, err := r.CreatePolicy(ctx, &agentcore.CreatePolicyInput{
		PolicyEngineId: engine.PolicyEngineId, Name: new("refund_limit"), Description: new("small refunds"),
		Definition: cedarDefinition(fmt.Sprintf(refundStatement, *gateway.GatewayArn)),
	})
	must(t, err)
	must(t, agentcore.NewPolicyActiveWaiter(r, soonActive).Wait(ctx, &agentcore.GetPolicyInput{PolicyEngineId: engine.PolicyEngineId, PolicyId: policy.PolicyId}, most))
	return things{
		*engine.PolicyEngineId, *engine.PolicyEngineArn, *gateway.GatewayId, *gateway.GatewayArn, *target.TargetId, *policy.PolicyId, *policy.PolicyArn,
	}
}

// readAll reads everything, and finds the lists, the summaries and the single things in agreement.
func (r *sdkRun) readAll(f things) {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	engine, err1 := r.GetPolicyEngine(ctx, &agentcore.GetPolicyEngineInput{PolicyEngineId: &f.engine})
	engineSummary, err2 := r.GetPolicyEngineSummary(ctx, &agentcore.GetPolicyEngineSummaryInput{PolicyEngineId: &f.engine})
	policy, err3 := r.GetPolicy(ctx, &agentcore.GetPolicyInput{PolicyEngineId: &f.engine, PolicyId: &f.policy})
	policySummary, err4 := r.GetPolicySummary(ctx, &agentcore.GetPolicySummaryInput{PolicyEngineId: &f.engine, PolicyId: &f.policy})
	gateway, err5 := r.GetGateway(ctx, &agentcore.GetGatewayInput{GatewayIdentifier: &f.gateway})
	target, err6 := r.GetGatewayTarget(ctx, &agentcore.GetGatewayTargetInput{GatewayIdentifier: &f.gateway, TargetId: &f.target})
	must(t, errors.Join(err1, err2, err3, err4, err5, err6))
	if engine.Status != types.PolicyEngineStatusActive || policy.Status != types.PolicyStatusActive || gateway.Status != types.GatewayStatusReady || target.Status != types.TargetStatusReady {
		t.Errorf("they are %s, %s, %s and %s", engine.Status, policy.Status, gateway.Status, target.Status)
	}
	if *engineSummary.PolicyEngineArn != f.engineARN || *policySummary.PolicyArn != f.policyARN || policySummary.Status != policy.Status {
		t.Errorf("the summaries are %+v and %+v", engineSummary, policySummary)
	}
	wantSame(t, "the target's configuration", lambdaTarget(), target.TargetConfiguration)
	if url := *gateway.GatewayUrl; !strings.HasSuffix(url, "/gateways/"+f.gateway+"/mcp") || *gateway.RoleArn != gatewayRole || gateway.ExceptionLevel != types.ExceptionLevelDebug {
		t.Errorf("the gateway is %+v, at %s", gateway, url)
	}
	if a := gateway.PolicyEngineConfiguration; a == nil || *a.Arn != f.engineARN || a.Mode != types.GatewayPolicyEngineModeEnforce {
		t.Errorf("attached is %+v", a)
	}
	r.listAll(f)
}

// listAll pages through the lists, each of which has one thing in it.
func (r *sdkRun) listAll(f things) {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	engines, err1 := agentcore.NewListPolicyEnginesPaginator(r, &agentcore.ListPolicyEnginesInput{}).NextPage(ctx)
	engineSummaries, err2 := agentcore.NewListPolicyEngineSummariesPaginator(r, &agentcore.ListPolicyEngineSummariesInput{}).NextPage(ctx)
	policies, err3 := agentcore.NewListPoliciesPaginator(r, &agentcore.ListPoliciesInput{PolicyEngineId: &f.engine, TargetResourceScope: &f.gatewayARN}).NextPage(ctx)
	policySummaries, err4 := agentcore.NewListPolicySummariesPaginator(r, &agentcore.ListPolicySummariesInput{PolicyEngineId: &f.engine, TargetResourceScope: &f.gatewayARN}).NextPage(ctx)
	gateways, err5 := agentcore.NewListGatewaysPaginator(r, &agentcore.ListGatewaysInput{}).NextPage(ctx)
	targets, err6 := agentcore.NewListGatewayTargetsPaginator(r, &agentcore.ListGatewayTargetsInput{GatewayIdentifier: &f.gateway}).NextPage(ctx)
	must(t, errors.Join(err1, err2, err3, err4, err5, err6))
	sizes := []int{len(engines.PolicyEngines), len(engineSummaries.PolicyEngines), len(policies.Policies), len(policySummaries.Policies), len(gateways.Items), len(targets.Items)}
	if fmt.Sprint(sizes) != "[1 1 1 1 1 1]" {
		t.Fatalf("the lists have %v entries, want one each", sizes)
	}
	one, err := r.GetPolicy(ctx, &agentcore.GetPolicyInput{PolicyEngineId: &f.engine, PolicyId: &f.policy})
	must(t, err)
	if p := policies.Policies[0]; *p.PolicyArn != f.policyARN || !p.UpdatedAt.Equal(*one.UpdatedAt) || p.EnforcementMode != types.EnforcementModeActive {
		t.Errorf("the list has %+v, and alone it is %+v", p, one)
	}
	if g, target := gateways.Items[0], targets.Items[0]; *g.GatewayId != f.gateway || *target.TargetId != f.target || target.TargetType != types.TargetTypeLambda {
		t.Errorf("the lists have %+v and %+v", g, target)
	}
	elsewhere := strings.Replace(f.gatewayARN, "refund-gw", "other-gw", 1)
	none, err := r.ListPolicies(ctx, &agentcore.ListPoliciesInput{PolicyEngineId: &f.engine, TargetResourceScope: &elsewhere})
	must(t, err)
	if len(none.Policies) != 0 || none.NextToken != nil {
		t.Errorf("for another gateway there are %+v", none)
	}
}

// changeAll changes everything once.
func (r *sdkRun) changeAll(f things) {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	engine, err := r.UpdatePolicyEngine(ctx, &agentcore.UpdatePolicyEngineInput{PolicyEngineId: &f.engine, Description: &types.UpdatedDescription{OptionalValue: new("for all refunds")}})
	must(t, err)
	target, err := r.UpdateGatewayTarget(ctx, &agentcore.UpdateGatewayTargetInput{
		GatewayIdentifier: &f.gateway, TargetId: &f.target, Name: new("RefundTarget"), TargetConfiguration: lambdaTarget(),
	})
	must(t, err)
	gateway, err := r.UpdateGateway(ctx, &agentcore.UpdateGatewayInput{
		GatewayIdentifier: &f.gateway, Name: new("Refund-GW"), RoleArn: new(gatewayRole), AuthorizerType: types.AuthorizerTypeAwsIam,
		PolicyEngineConfiguration: &types.GatewayPolicyEngineConfiguration{Arn: &f.engineARN, Mode: types.GatewayPolicyEngineModeLogOnly},
	})
	must(t, err)
	if aws.ToString(engine.Description) != "for all refunds" || target.Description != nil || target.Status != types.TargetStatusReady ||
		gateway.Description != nil || gateway.ExceptionLevel != "" || gateway.AuthorizerType != types.AuthorizerTypeAwsIam || gateway.PolicyEngineConfiguration.Mode != types.GatewayPolicyEngineModeLogOnly {
		t.Errorf("after the changes there are %+v, %+v and %+v", engine, target, gateway)
	}
	tighter := strings.ReplaceAll(fmt.Sprintf(refundStatement, f.gatewayARN), "1000", "500")
	_, err = r.UpdatePolicy(ctx, &agentcore.UpdatePolicyInput{PolicyEngineId: &f.engine, PolicyId: &f.policy, Definition: cedarDefinition(tighter)})
	must(t, err)
	changed, err := agentcore.NewPolicyActiveWaiter(r, soonActive).WaitForOutput(ctx, &agentcore.GetPolicyInput{PolicyEngineId: &f.engine, PolicyId: &f.policy}, most)
	must(t, err)
	wantSame(t, "the changed definition", cedarDefinition(tighter), changed.Definition)
	synchronized, err := r.SynchronizeGatewayTargets(ctx, &agentcore.SynchronizeGatewayTargetsInput{GatewayIdentifier: &f.gateway, TargetIdList: []string{f.target}})
	must(t, err)
	if len(synchronized.Targets) != 1 || *synchronized.Targets[0].TargetId != f.target || synchronized.Targets[0].Status != types.TargetStatusReady {
		t.Errorf("synchronized: %+v", synchronized.Targets)
	}
}

// tagAll tags whatever can be tagged. The SDK escapes an ARN into one segment of the path.
func (r *sdkRun) tagAll(f things) {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	for _, arn := range []string{f.engineARN, f.gatewayARN, f.policyARN} {
		_, err1 := r.TagResource(ctx, &agentcore.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"cost center": "a b+c/d=e@f", "stage": "", "owner": "o"}})
		_, err2 := r.UntagResource(ctx, &agentcore.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"owner", "team"}})
		got, err3 := r.ListTagsForResource(ctx, &agentcore.ListTagsForResourceInput{ResourceArn: &arn})
		must(t, errors.Join(err1, err2, err3))
		if fmt.Sprint(got.Tags) != "map[cost center:a b+c/d=e@f stage:]" {
			t.Errorf("the tags of %s are %v", arn, got.Tags)
		}
	}
}

// generations: none can be begun, so there are none.
func (r *sdkRun) generations(f things) {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	_, err := r.StartPolicyGeneration(ctx, &agentcore.StartPolicyGenerationInput{
		PolicyEngineId: &f.engine, Name: new("generated"), Resource: &types.ResourceMemberArn{Value: f.gatewayARN},
		Content: &types.ContentMemberRawText{Value: "Allow refunds of less than $500"},
	})
	wantCode(t, "a generation", err, "ValidationException", "does not write policies from English")
	all, err1 := agentcore.NewListPolicyGenerationsPaginator(r, &agentcore.ListPolicyGenerationsInput{PolicyEngineId: &f.engine}).NextPage(ctx)
	summaries, err2 := agentcore.NewListPolicyGenerationSummariesPaginator(r, &agentcore.ListPolicyGenerationSummariesInput{PolicyEngineId: &f.engine}).NextPage(ctx)
	must(t, errors.Join(err1, err2))
	if len(all.PolicyGenerations) != 0 || len(summaries.PolicyGenerations) != 0 {
		t.Errorf("there are %+v and %+v", all, summaries)
	}
	const id = "generated-0123456789"
	_, err1 = r.GetPolicyGeneration(ctx, &agentcore.GetPolicyGenerationInput{PolicyEngineId: &f.engine, PolicyGenerationId: new(id)})
	_, err2 = r.GetPolicyGenerationSummary(ctx, &agentcore.GetPolicyGenerationSummaryInput{PolicyEngineId: &f.engine, PolicyGenerationId: new(id)})
	_, err3 := agentcore.NewListPolicyGenerationAssetsPaginator(r, &agentcore.ListPolicyGenerationAssetsInput{PolicyEngineId: &f.engine, PolicyGenerationId: new(id)}).NextPage(ctx)
	err4 := agentcore.NewPolicyGenerationCompletedWaiter(r).Wait(ctx, &agentcore.GetPolicyGenerationInput{PolicyEngineId: &f.engine, PolicyGenerationId: new(id)}, most)
	for i, err := range []error{err1, err2, err3, err4} {
		wantCode(t, fmt.Sprintf("generation, call %d", i), err, "ResourceNotFoundException", id)
	}
	_, err = r.ListPolicyGenerations(ctx, &agentcore.ListPolicyGenerationsInput{PolicyEngineId: new("Nope-0123456789")})
	wantCode(t, "generations of no engine", err, "ResourceNotFoundException", "Nope-0123456789")
}

// resourcePolicies: there are none, and none is taken.
func (r *sdkRun) resourcePolicies(f things) {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	_, err := r.PutResourcePolicy(ctx, &agentcore.PutResourcePolicyInput{ResourceArn: &f.engineARN, Policy: new(`{"Version":"2012-10-17","Statement":[]}`)})
	wantCode(t, "a resource policy", err, "ValidationException", "no resource policies")
	_, err = r.GetResourcePolicy(ctx, &agentcore.GetResourcePolicyInput{ResourceArn: &f.engineARN})
	wantCode(t, "reading one", err, "ResourceNotFoundException")
	_, err = r.DeleteResourcePolicy(ctx, &agentcore.DeleteResourcePolicyInput{ResourceArn: &f.engineARN})
	wantCode(t, "deleting one", err, "ResourceNotFoundException")
}

// deleteAll deletes everything in an order in which that is possible, and waits until it is gone with the SDK's waiters.
func (r *sdkRun) deleteAll(f things) {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	policy, err := r.DeletePolicy(ctx, &agentcore.DeletePolicyInput{PolicyEngineId: &f.engine, PolicyId: &f.policy})
	must(t, err)
	must(t, agentcore.NewPolicyDeletedWaiter(r, soonDeleted).Wait(ctx, &agentcore.GetPolicyInput{PolicyEngineId: &f.engine, PolicyId: &f.policy}, most))
	target, err := r.DeleteGatewayTarget(ctx, &agentcore.DeleteGatewayTargetInput{GatewayIdentifier: &f.gateway, TargetId: &f.target})
	must(t, err)
	gateway, err := r.DeleteGateway(ctx, &agentcore.DeleteGatewayInput{GatewayIdentifier: &f.gateway})
	must(t, err)
	engine, err := r.DeletePolicyEngine(ctx, &agentcore.DeletePolicyEngineInput{PolicyEngineId: &f.engine})
	must(t, err)
	must(t, agentcore.NewPolicyEngineDeletedWaiter(r, soonNoEngine).Wait(ctx, &agentcore.GetPolicyEngineInput{PolicyEngineId: &f.engine}, most))
	if policy.Status != types.PolicyStatusDeleting || policy.Definition == nil || engine.Status != types.PolicyEngineStatusDeleting ||
		target.Status != types.TargetStatusDeleting || *target.GatewayArn != f.gatewayARN || gateway.Status != types.GatewayStatusDeleting {
		t.Errorf("deleted are %+v, %+v, %+v and %+v", policy, target, gateway, engine)
	}
	_, err1 := r.GetGateway(ctx, &agentcore.GetGatewayInput{GatewayIdentifier: &f.gateway})
	_, err2 := r.GetGatewayTarget(ctx, &agentcore.GetGatewayTargetInput{GatewayIdentifier: &f.gateway, TargetId: &f.target})
	_, err3 := r.ListTagsForResource(ctx, &agentcore.ListTagsForResourceInput{ResourceArn: &f.engineARN})
	for i, err := range []error{err1, err2, err3} {
		wantCode(t, fmt.Sprintf("after all is deleted, call %d", i), err, "ResourceNotFoundException")
	}
}
