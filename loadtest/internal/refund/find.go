// Package refund turns the refund example of the control plane into requests for Authorize, and judges every answer by what the
// example's policy says: whoever uses the gateway may refund less than 1000.
//
// It guarantees that an answer it lets pass has the right decision for the amount that was asked, and a decision id that no other
// answer had.
package refund

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
)

// The example as `make dev` loads it.
const (
	gatewayName = "refund-gw"
	targetName  = "RefundTarget"
	toolName    = "process_refund"
	policyName  = "refund_limit"

	// Limit is the first amount that is denied.
	Limit = 1000
)

// ErrNoExample: control does not have the example, or not as it is loaded.
var ErrNoExample = errors.New("the refund example is not there as `make dev` loads it")

// Example is what Authorize is asked about, and what decides.
type Example struct {
	GatewayARN string
	EngineID   string
	PolicyID   string
}

// Find looks the example up at control, whose URL has no path. Client must not leave this machine.
func Find(ctx context.Context, client *http.Client, controlURL string) (*Example, error) {
	control := controlv1connect.NewControlServiceClient(client, controlURL)
	gateway, err := findGateway(ctx, control)
	if err != nil {
		return nil, err
	}
	attached := gateway.GetDefinition().GetPolicyEngineConfiguration()
	if attached.GetMode() != eventv1.EngineMode_ENGINE_MODE_ENFORCE {
		return nil, fmt.Errorf("%w: no engine is attached to gateway %s in mode ENFORCE", ErrNoExample, gatewayName)
	}
	policy, err := findPolicy(ctx, control, attached.GetPolicyEngineId())
	if err != nil {
		return nil, err
	}
	return &Example{
		GatewayARN: gateway.GetGatewayArn(), EngineID: attached.GetPolicyEngineId(), PolicyID: policy.GetPolicyId(),
	}, nil
}

// findGateway finds the gateway, and sees that it has the target.
func findGateway(ctx context.Context, control controlv1connect.ControlServiceClient) (*controlv1.Gateway, error) {
	gateway, err := named("gateway "+gatewayName, gatewayName, func(token string) ([]*controlv1.Gateway, string, error) {
		page, err := control.ListGateways(ctx, &controlv1.ListGatewaysRequest{PageToken: token})
		return page.GetGateways(), page.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	_, err = named("target "+targetName, targetName, func(token string) ([]*controlv1.GatewayTarget, string, error) {
		page, err := control.ListGatewayTargets(ctx, &controlv1.ListGatewayTargetsRequest{GatewayId: gateway.GetGatewayId(), PageToken: token})
		return page.GetTargets(), page.GetNextPageToken(), err
	})
	return gateway, err
}

func findPolicy(ctx context.Context, control controlv1connect.ControlServiceClient, engineID string) (*controlv1.Policy, error) {
	policy, err := named("policy "+policyName, policyName, func(token string) ([]*controlv1.Policy, string, error) {
		page, err := control.ListPolicies(ctx, &controlv1.ListPoliciesRequest{PolicyEngineId: engineID, PageToken: token})
		return page.GetPolicies(), page.GetNextPageToken(), err
	})
	if err == nil && policy.GetInForce() == nil {
		err = fmt.Errorf("%w: policy %s is not in force", ErrNoExample, policyName)
	}
	return policy, err
}

// named finds a thing by its name in a list that comes in pages.
func named[T interface{ GetName() string }](what, name string, page func(token string) (things []T, next string, err error)) (T, error) {
	var none T
	for token := ""; ; {
		things, next, err := page(token)
		if err != nil {
			return none, fmt.Errorf("look for %s at control: %w", what, err)
		}
		for _, thing := range things {
			if thing.GetName() == name {
				return thing, nil
			}
		}
		if next == "" || next == token {
			return none, fmt.Errorf("%w: control has no %s: run `make dev`, which loads it", ErrNoExample, what)
		}
		token = next
	}
}
