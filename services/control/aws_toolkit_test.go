package control

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	agentcore "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
)

// The quickstart of AgentCore Policy: what its starter toolkit sends, in its order, with what it reads of the answers.
func TestStarterToolkit(t *testing.T) {
	t.Parallel()
	k := toolkit{newBench(t).withKeys(t).start(t).sdk("admin"), t}
	gateway := k.createGateway()
	target := k.createTarget(gateway)
	engine := k.createOrGetEngine("RefundPolicyEngine")
	if again := k.createOrGetEngine("RefundPolicyEngine"); *again.PolicyEngineId != *engine.PolicyEngineId {
		t.Errorf("a second engine: %s", *again.PolicyEngineId)
	}
	policy := k.createPolicy(engine, gateway)
	k.attach(gateway, engine)
	k.cleanUp(engine, policy, gateway, target)
}

// toolkit is the starter toolkit, without what it does in other services of AWS.
type toolkit struct {
	*agentcore.Client

	t *testing.T
}

func (k toolkit) createGateway() *agentcore.GetGatewayOutput {
	t, ctx := k.t, k.t.Context()
	t.Helper()
	authorizer := &types.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: types.CustomJWTAuthorizerConfiguration{
		DiscoveryUrl:   new("https://cognito-idp.us-east-1.amazonaws.com/us-east-1_a1b2c3d4e/.well-known/openid-configuration"),
		AllowedClients: []string{"4jkdoq1a2b3c4d5e6f7g8h9i0"},
	}}
	made, err := k.CreateGateway(ctx, &agentcore.CreateGatewayInput{
		Name: new("TestGateway1a2b3c4d"), RoleArn: new("arn:aws:iam::" + awsAccount + ":role/AgentCoreGatewayExecutionRole"),
		ProtocolType: types.GatewayProtocolTypeMcp, AuthorizerType: types.AuthorizerTypeCustomJwt,
		AuthorizerConfiguration: authorizer,
	})
	must(t, err)
	got, err := k.GetGateway(ctx, &agentcore.GetGatewayInput{GatewayIdentifier: made.GatewayId})
	must(t, err)
	if got.Status != types.GatewayStatusReady || aws.ToString(made.GatewayUrl) == "" || aws.ToString(got.RoleArn) == "" {
		t.Fatalf("the gateway is %+v", got)
	}
	wantSame(t, "the authorizer", authorizer, got.AuthorizerConfiguration)
	return got
}

func (k toolkit) createTarget(gateway *agentcore.GetGatewayOutput) *agentcore.GetGatewayTargetOutput {
	t, ctx := k.t, k.t.Context()
	t.Helper()
	refund := types.ToolDefinition{
		Name: new("process_refund"), Description: new("Process a customer refund"),
		InputSchema: &types.SchemaDefinition{
			Type: types.SchemaTypeObject, Required: []string{"amount"},
			Properties: map[string]types.SchemaDefinition{"amount": {Type: types.SchemaTypeInteger, Description: new("Refund amount in dollars")}},
		},
	}
	configuration := &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberLambda{Value: types.McpLambdaTargetConfiguration{
		LambdaArn:  new("arn:aws:lambda:us-east-1:" + awsAccount + ":function:RefundTool-1760000000"),
		ToolSchema: &types.ToolSchemaMemberInlinePayload{Value: []types.ToolDefinition{refund}},
	}}}
	made, err := k.CreateGatewayTarget(ctx, &agentcore.CreateGatewayTargetInput{
		GatewayIdentifier: gateway.GatewayId, Name: new("RefundTarget"), TargetConfiguration: configuration,
		CredentialProviderConfigurations: []types.CredentialProviderConfiguration{{CredentialProviderType: types.CredentialProviderTypeGatewayIamRole}},
	})
	must(t, err)
	got, err := k.GetGatewayTarget(ctx, &agentcore.GetGatewayTargetInput{GatewayIdentifier: gateway.GatewayId, TargetId: made.TargetId})
	must(t, err)
	if got.Status != types.TargetStatusReady {
		t.Fatalf("the target is %+v", got)
	}
	wantSame(t, "the target's configuration", configuration, got.TargetConfiguration)
	return got
}

// createOrGetEngine looks for the name in pages of 100 before it makes an engine.
func (k toolkit) createOrGetEngine(name string) *agentcore.GetPolicyEngineOutput {
	t, ctx := k.t, k.t.Context()
	t.Helper()
	var id *string
	for pages := agentcore.NewListPolicyEnginesPaginator(k, &agentcore.ListPolicyEnginesInput{MaxResults: new(int32(100))}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		must(t, err)
		for _, e := range page.PolicyEngines {
			if *e.Name == name {
				id = e.PolicyEngineId
			}
		}
	}
	if id == nil {
		made, err := k.CreatePolicyEngine(ctx, &agentcore.CreatePolicyEngineInput{Name: &name, Description: new("Policy engine to regulate refund operations")})
		must(t, err)
		id = made.PolicyEngineId
	}
	got, err := agentcore.NewPolicyEngineActiveWaiter(k, soonEngine).WaitForOutput(ctx, &agentcore.GetPolicyEngineInput{PolicyEngineId: id}, most)
	must(t, err)
	return got
}

func (k toolkit) createPolicy(engine *agentcore.GetPolicyEngineOutput, gateway *agentcore.GetGatewayOutput) *agentcore.GetPolicyOutput {
	t, ctx := k.t, k.t.Context()
	t.Helper()
	there, err := k.ListPolicies(ctx, &agentcore.ListPoliciesInput{PolicyEngineId: engine.PolicyEngineId, MaxResults: new(int32(100))})
	must(t, err)
	if len(there.Policies) != 0 {
		t.Fatalf("there is a policy already: %+v", there.Policies)
	}
	// As the quickstart's script puts it together.
	statement := `permit(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::"` +
		*gateway.GatewayArn + `") when { context.input.amount < 1000 };`
	made, err := k.CreatePolicy(ctx, &agentcore.CreatePolicyInput{
		PolicyEngineId: engine.PolicyEngineId, Name: new("refund_limit_policy"), Description: new("Allow refunds under $1000"), Definition: cedarDefinition(statement),
	})
	must(t, err)
	got, err := agentcore.NewPolicyActiveWaiter(k, soonActive).WaitForOutput(ctx, &agentcore.GetPolicyInput{PolicyEngineId: engine.PolicyEngineId, PolicyId: made.PolicyId}, most)
	must(t, err)
	return got
}

// attach sends back what GetGateway told, with the engine.
func (k toolkit) attach(gateway *agentcore.GetGatewayOutput, engine *agentcore.GetPolicyEngineOutput) {
	t, ctx := k.t, k.t.Context()
	t.Helper()
	_, err := k.UpdateGateway(ctx, &agentcore.UpdateGatewayInput{
		GatewayIdentifier: gateway.GatewayId, Name: gateway.Name, RoleArn: gateway.RoleArn, ProtocolType: gateway.ProtocolType,
		AuthorizerType: gateway.AuthorizerType, AuthorizerConfiguration: gateway.AuthorizerConfiguration, ProtocolConfiguration: gateway.ProtocolConfiguration,
		Description: gateway.Description, KmsKeyArn: gateway.KmsKeyArn, CustomTransformConfiguration: gateway.CustomTransformConfiguration,
		InterceptorConfigurations: gateway.InterceptorConfigurations, ExceptionLevel: gateway.ExceptionLevel,
		PolicyEngineConfiguration: &types.GatewayPolicyEngineConfiguration{Arn: engine.PolicyEngineArn, Mode: types.GatewayPolicyEngineModeEnforce},
	})
	must(t, err)
	got, err := k.GetGateway(ctx, &agentcore.GetGatewayInput{GatewayIdentifier: gateway.GatewayId})
	must(t, err)
	if a := got.PolicyEngineConfiguration; got.Status != types.GatewayStatusReady || a == nil || *a.Arn != *engine.PolicyEngineArn || a.Mode != types.GatewayPolicyEngineModeEnforce {
		t.Errorf("after the attachment the gateway is %+v", got)
	}
	wantSame(t, "the authorizer after the attachment", gateway.AuthorizerConfiguration, got.AuthorizerConfiguration)
}

// cleanUp is the toolkit's order: the engine first, which is refused while it is attached and passed over; then the gateway.
// After that the engine can go.
func (k toolkit) cleanUp(engine *agentcore.GetPolicyEngineOutput, policy *agentcore.GetPolicyOutput, gateway *agentcore.GetGatewayOutput, target *agentcore.GetGatewayTargetOutput) {
	t, ctx := k.t, k.t.Context()
	t.Helper()
	there, err := k.ListPolicies(ctx, &agentcore.ListPoliciesInput{PolicyEngineId: engine.PolicyEngineId, MaxResults: new(int32(100))})
	must(t, err)
	if len(there.Policies) != 1 || *there.Policies[0].PolicyId != *policy.PolicyId {
		t.Fatalf("the policies are %+v", there.Policies)
	}
	_, err = k.DeletePolicy(ctx, &agentcore.DeletePolicyInput{PolicyEngineId: engine.PolicyEngineId, PolicyId: policy.PolicyId})
	must(t, err)
	must(t, agentcore.NewPolicyDeletedWaiter(k, soonDeleted).Wait(ctx, &agentcore.GetPolicyInput{PolicyEngineId: engine.PolicyEngineId, PolicyId: policy.PolicyId}, most))
	_, err = k.DeletePolicyEngine(ctx, &agentcore.DeletePolicyEngineInput{PolicyEngineId: engine.PolicyEngineId})
	wantCode(t, "the attached engine", err, "ConflictException", "attached")
	targets, err := k.ListGatewayTargets(ctx, &agentcore.ListGatewayTargetsInput{GatewayIdentifier: gateway.GatewayId})
	must(t, err)
	if len(targets.Items) != 1 || *targets.Items[0].TargetId != *target.TargetId {
		t.Fatalf("the targets are %+v", targets.Items)
	}
	_, err = k.DeleteGatewayTarget(ctx, &agentcore.DeleteGatewayTargetInput{GatewayIdentifier: gateway.GatewayId, TargetId: target.TargetId})
	must(t, err)
	_, err = k.DeleteGateway(ctx, &agentcore.DeleteGatewayInput{GatewayIdentifier: gateway.GatewayId})
	must(t, err)
	_, err = k.DeletePolicyEngine(ctx, &agentcore.DeletePolicyEngineInput{PolicyEngineId: engine.PolicyEngineId})
	must(t, err)
}
