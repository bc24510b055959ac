package dev

import (
	"context"
	"fmt"
	"net/http"
	"time"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
)

// The refund example: whoever may use the gateway may refund less than 1000.
const (
	engineName  = "RefundEngine"
	gatewayName = "refund-gw"
	targetName  = "RefundTarget"
	toolName    = "process_refund"
	policyName  = "refund_limit"
	limit       = 1000

	action = targetName + "___" + toolName
)

// refundExample is the refund example as it is in the control plane.
type refundExample struct {
	control  controlv1connect.ControlServiceClient
	issuer   string // URL
	engine   *controlv1.PolicyEngine
	gateway  *controlv1.Gateway
	policy   *controlv1.Policy
	revision string // which has all of it
}

// loadExample makes what is missing of the example, found by name, and changes nothing of what is there.
func loadExample(ctx context.Context, controlURL, issuerURL string) (*refundExample, error) {
	e := &refundExample{control: controlv1connect.NewControlServiceClient(http.DefaultClient, controlURL), issuer: issuerURL}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"policy engine " + engineName, e.loadEngine},
		{"gateway " + gatewayName, e.loadGateway},
		{"target " + targetName, e.loadTarget},
		{"policy " + policyName, e.loadPolicy},
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("example: %s: %w", step.what, err)
		}
	}
	return e, nil
}

// url is where the gateway is, below that of the process that serves it.
func (e *refundExample) url(base string) string {
	return base + "/gateways/" + e.gateway.GetGatewayId() + "/mcp"
}

// named finds a thing by its name in a list that comes in pages; the zero value when it is not there.
func named[T interface{ GetName() string }](name string, page func(token string) (things []T, next string, err error)) (T, error) {
	var none T
	for token := ""; ; {
		things, next, err := page(token)
		if err != nil {
			return none, err
		}
		for _, thing := range things {
			if thing.GetName() == name {
				return thing, nil
			}
		}
		if token = next; token == "" {
			return none, nil
		}
	}
}

func (e *refundExample) findEngine(ctx context.Context) (err error) {
	e.engine, err = named(engineName, func(token string) ([]*controlv1.PolicyEngine, string, error) {
		page, err := e.control.ListPolicyEngines(ctx, &controlv1.ListPolicyEnginesRequest{PageToken: token})
		return page.GetPolicyEngines(), page.GetNextPageToken(), err
	})
	return err
}

func (e *refundExample) loadEngine(ctx context.Context) error {
	if err := e.findEngine(ctx); err != nil || e.engine != nil {
		return err
	}
	made, err := e.control.CreatePolicyEngine(ctx, &controlv1.CreatePolicyEngineRequest{
		Name: engineName, Definition: &eventv1.EngineDefinition{Description: "Decides about refunds"},
	})
	e.engine = made.GetPolicyEngine()
	return err
}

// loadGateway makes the gateway, for the agent of the issuer, with the engine attached to it.
func (e *refundExample) loadGateway(ctx context.Context) error {
	if err := e.findGateway(ctx); err != nil || e.gateway != nil {
		return err
	}
	made, err := e.control.CreateGateway(ctx, &controlv1.CreateGatewayRequest{
		Name: gatewayName,
		Definition: &eventv1.GatewayDefinition{
			Description: "Agents refund here", ProtocolType: eventv1.GatewayProtocolType_GATEWAY_PROTOCOL_TYPE_MCP,
			AuthorizerType: eventv1.AuthorizerType_AUTHORIZER_TYPE_CUSTOM_JWT,
			AuthorizerConfiguration: &eventv1.AuthorizerConfiguration{Configuration: &eventv1.AuthorizerConfiguration_CustomJwtAuthorizer{
				CustomJwtAuthorizer: &eventv1.CustomJwtAuthorizer{
					DiscoveryUrl: e.issuer + "/.well-known/openid-configuration", AllowedClients: []string{agentID},
				},
			}},
			PolicyEngineConfiguration: &eventv1.GatewayPolicyEngineConfiguration{
				PolicyEngineId: e.engine.GetPolicyEngineId(), Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE,
			},
		},
	})
	e.gateway = made.GetGateway()
	return err
}

func (e *refundExample) findGateway(ctx context.Context) (err error) {
	e.gateway, err = named(gatewayName, func(token string) ([]*controlv1.Gateway, string, error) {
		page, err := e.control.ListGateways(ctx, &controlv1.ListGatewaysRequest{PageToken: token})
		return page.GetGateways(), page.GetNextPageToken(), err
	})
	return err
}

func (e *refundExample) findTarget(ctx context.Context) (*controlv1.GatewayTarget, error) {
	gatewayID := e.gateway.GetGatewayId()
	return named(targetName, func(token string) ([]*controlv1.GatewayTarget, string, error) {
		page, err := e.control.ListGatewayTargets(ctx, &controlv1.ListGatewayTargetsRequest{GatewayId: gatewayID, PageToken: token})
		return page.GetTargets(), page.GetNextPageToken(), err
	})
}

func (e *refundExample) loadTarget(ctx context.Context) error {
	found, err := e.findTarget(ctx)
	if err != nil || found != nil {
		return err
	}
	_, err = e.control.CreateGatewayTarget(ctx, &controlv1.CreateGatewayTargetRequest{
		GatewayId: e.gateway.GetGatewayId(), Name: targetName, Definition: refundTarget(),
	})
	return err
}

// refundTarget is a Lambda function with one tool.
func refundTarget() *eventv1.TargetDefinition {
	property := func(t eventv1.SchemaType, description string) *eventv1.Schema {
		return &eventv1.Schema{Type: t, Description: description}
	}
	tool := &eventv1.Tool{
		Name: toolName, Description: "Refunds an order",
		InputSchema: &eventv1.Schema{
			Type: eventv1.SchemaType_SCHEMA_TYPE_OBJECT,
			Properties: map[string]*eventv1.Schema{
				"orderId": property(eventv1.SchemaType_SCHEMA_TYPE_STRING, "The order"),
				"amount":  property(eventv1.SchemaType_SCHEMA_TYPE_INTEGER, "In dollars"),
				"reason":  property(eventv1.SchemaType_SCHEMA_TYPE_STRING, "Why"),
			},
			Required: []string{"orderId", "amount"},
		},
	}
	return &eventv1.TargetDefinition{
		Description: "The refund tool",
		TargetConfiguration: &eventv1.TargetConfiguration{Configuration: &eventv1.TargetConfiguration_Mcp{Mcp: &eventv1.McpTargetConfiguration{
			Configuration: &eventv1.McpTargetConfiguration_Lambda{Lambda: &eventv1.LambdaTargetConfiguration{
				LambdaArn:  "arn:aws:lambda:us-east-1:000000000000:function:refund",
				ToolSchema: &eventv1.ToolSchema{InlinePayload: []*eventv1.Tool{tool}},
			}},
		}}},
	}
}

func (e *refundExample) findPolicy(ctx context.Context) (err error) {
	e.policy, err = named(policyName, func(token string) ([]*controlv1.Policy, string, error) {
		page, err := e.control.ListPolicies(ctx, &controlv1.ListPoliciesRequest{PolicyEngineId: e.engine.GetPolicyEngineId(), PageToken: token})
		return page.GetPolicies(), page.GetNextPageToken(), err
	})
	return err
}

// loadPolicy makes the policy and waits until it decides.
func (e *refundExample) loadPolicy(ctx context.Context) error {
	engineID := e.engine.GetPolicyEngineId()
	if err := e.findPolicy(ctx); err != nil {
		return err
	}
	if e.policy != nil {
		return e.awaitPolicy(ctx, e.policy.GetPolicyId())
	}
	statement := fmt.Sprintf("permit(principal, action == AgentCore::Action::%q, resource == AgentCore::Gateway::%q)\n"+
		"when { context.input.amount < %d };", action, e.gateway.GetGatewayArn(), limit)
	made, err := e.control.CreatePolicy(ctx, &controlv1.CreatePolicyRequest{
		PolicyEngineId: engineID, Name: policyName, Description: fmt.Sprintf("Refunds of less than %d", limit),
		Definition: &eventv1.PolicyDefinition{Definition: &eventv1.PolicyDefinition_Cedar{Cedar: &eventv1.CedarPolicy{Statement: statement}}},
	})
	if err != nil {
		return err
	}
	return e.awaitPolicy(ctx, made.GetPolicy().GetPolicyId())
}

// awaitPolicy waits until control has checked the policy.
func (e *refundExample) awaitPolicy(ctx context.Context, id string) error {
	for {
		now, err := e.control.GetPolicy(ctx, &controlv1.GetPolicyRequest{PolicyEngineId: e.engine.GetPolicyEngineId(), PolicyId: id})
		if err != nil {
			return err
		}
		e.policy, e.revision = now.GetPolicy(), now.GetRevision()
		switch e.policy.GetStatus() {
		case eventv1.Status_STATUS_CREATING, eventv1.Status_STATUS_UPDATING:
		case eventv1.Status_STATUS_ACTIVE, eventv1.Status_STATUS_UPDATE_FAILED:
			return nil
		default:
			return fmt.Errorf("it is %s: %v", e.policy.GetStatus(), e.policy.GetStatusReasons()) //nolint:err113 // for people
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
