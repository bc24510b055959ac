package dev

import (
	"context"
	"fmt"
	"io"
	"net/http"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
)

// RemoveExample takes the refund example apart, in the order that control asks for: nothing is deleted that something else needs. What is
// not there is passed over, and what was made beside the example stays, and with it what holds it.
func RemoveExample(ctx context.Context, client *http.Client, controlURL string, out io.Writer) error {
	e := &refundExample{control: controlv1connect.NewControlServiceClient(client, controlURL)}
	for _, step := range []func(context.Context) (string, error){e.removePolicy, e.detach, e.removeEngine, e.removeTarget, e.removeGateway} {
		done, err := step(ctx)
		if err != nil {
			return err
		}
		if done == "" {
			continue
		}
		if _, err := fmt.Fprintln(out, done); err != nil {
			return err
		}
	}
	return nil
}

func (e *refundExample) removePolicy(ctx context.Context) (string, error) {
	if err := e.findEngine(ctx); err != nil || e.engine == nil {
		return "", err
	}
	if err := e.findPolicy(ctx); err != nil || e.policy == nil {
		return "", err
	}
	id := e.policy.GetPolicyId()
	_, err := e.control.DeletePolicy(ctx, &controlv1.DeletePolicyRequest{PolicyEngineId: e.engine.GetPolicyEngineId(), PolicyId: id})
	return "deleted policy " + id, err
}

func (e *refundExample) detach(ctx context.Context) (string, error) {
	if err := e.findGateway(ctx); err != nil || e.gateway == nil || e.engine == nil {
		return "", err
	}
	if e.gateway.GetDefinition().GetPolicyEngineConfiguration().GetPolicyEngineId() != e.engine.GetPolicyEngineId() {
		return "", nil
	}
	id := e.gateway.GetGatewayId()
	_, err := e.control.DetachPolicyEngine(ctx, &controlv1.DetachPolicyEngineRequest{GatewayId: id})
	return "detached the policy engine from gateway " + id, err
}

func (e *refundExample) removeEngine(ctx context.Context) (string, error) {
	if e.engine == nil {
		return "", nil
	}
	id := e.engine.GetPolicyEngineId()
	_, err := e.control.DeletePolicyEngine(ctx, &controlv1.DeletePolicyEngineRequest{PolicyEngineId: id})
	return "deleted policy engine " + id, err
}

func (e *refundExample) removeTarget(ctx context.Context) (string, error) {
	if e.gateway == nil {
		return "", nil
	}
	target, err := e.findTarget(ctx)
	if err != nil || target == nil {
		return "", err
	}
	id := target.GetTargetId()
	_, err = e.control.DeleteGatewayTarget(ctx, &controlv1.DeleteGatewayTargetRequest{GatewayId: e.gateway.GetGatewayId(), TargetId: id})
	return "deleted target " + id, err
}

func (e *refundExample) removeGateway(ctx context.Context) (string, error) {
	if e.gateway == nil {
		return "", nil
	}
	id := e.gateway.GetGatewayId()
	_, err := e.control.DeleteGateway(ctx, &controlv1.DeleteGatewayRequest{GatewayId: id})
	return "deleted gateway " + id, err
}
