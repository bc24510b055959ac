package connectapi

import (
	"context"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

func (c *Control) gateway(a *policy.Account, g *policy.Gateway) *controlv1.Gateway {
	return &controlv1.Gateway{
		GatewayId: g.ID, GatewayArn: c.app.ARN(a, policy.GatewayRef(g.ID)), Name: g.Name,
		Definition: stream.GatewayDefinitionToProto(g.Definition()),
		Status:     stream.StatusToProto(g.Status), StatusReasons: g.Reasons,
		CreatedAt: timestamp(g.CreatedAt), UpdatedAt: timestamp(g.UpdatedAt), Tags: g.Tags,
		TargetCount: uint32(g.TargetCount()), Version: g.Version,
	}
}

// gatewayDefinition is required: what is absent would be reset.
func gatewayDefinition(m *eventv1.GatewayDefinition) (policy.GatewayDefinition, error) {
	if m == nil {
		return policy.GatewayDefinition{}, policy.Invalid("required", "definition", "definition is required")
	}
	d, err := stream.GatewayDefinitionFromProto(m)
	if err != nil {
		return policy.GatewayDefinition{}, err
	}
	return *d, nil
}

// CreateGateway implements ControlService.
func (c *Control) CreateGateway(ctx context.Context, req *controlv1.CreateGatewayRequest) (*controlv1.CreateGatewayResponse, error) {
	d, err := gatewayDefinition(req.GetDefinition())
	if err != nil {
		return nil, err
	}
	call, err := c.tokenCall(ctx, req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Create(ctx, call, func(suffix string) policy.Command {
		return policy.CreateGateway{ID: policy.NewID(policy.KindGateway, req.GetName(), suffix), Name: req.GetName(), Definition: d, Tags: req.GetTags()}
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.CreateGatewayResponse{Gateway: c.gateway(out.Account, out.Account.Gateway(out.Ref.ID)), Revision: revision(out.Revision)}, nil
}

// GetGateway implements ControlService.
func (c *Control) GetGateway(ctx context.Context, req *controlv1.GetGatewayRequest) (*controlv1.GetGatewayResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	g, err := account.FindGateway(req.GetGatewayId())
	if err != nil {
		return nil, err
	}
	return &controlv1.GetGatewayResponse{Gateway: c.gateway(account, g), Revision: revision(position)}, nil
}

// ListGateways implements ControlService.
func (c *Control) ListGateways(ctx context.Context, req *controlv1.ListGatewaysRequest) (*controlv1.ListGatewaysResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	page, next, err := app.Page(app.Listing{Account: account.ID, Kind: "gateways"}, req.GetPageSize(), req.GetPageToken(),
		account.GatewaysAfter, func(g *policy.Gateway) string { return g.ID })
	if err != nil {
		return nil, err
	}
	resp := &controlv1.ListGatewaysResponse{NextPageToken: next, Revision: revision(position)}
	for _, g := range page {
		resp.Gateways = append(resp.Gateways, c.gateway(account, g))
	}
	return resp, nil
}

// UpdateGateway implements ControlService.
func (c *Control) UpdateGateway(ctx context.Context, req *controlv1.UpdateGatewayRequest) (*controlv1.UpdateGatewayResponse, error) {
	command, err := updateGateway(req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.app.Call(ctx), command)
	if err != nil {
		return nil, err
	}
	return &controlv1.UpdateGatewayResponse{Gateway: c.gateway(out.Account, out.Account.Gateway(req.GetGatewayId())), Revision: revision(out.Revision)}, nil
}

func updateGateway(req *controlv1.UpdateGatewayRequest) (policy.UpdateGateway, error) {
	d, err := gatewayDefinition(req.GetDefinition())
	return policy.UpdateGateway{ID: req.GetGatewayId(), Definition: d, ExpectedVersion: req.GetExpectedVersion()}, err
}

// DeleteGateway implements ControlService.
func (c *Control) DeleteGateway(ctx context.Context, req *controlv1.DeleteGatewayRequest) (*controlv1.DeleteGatewayResponse, error) {
	out, err := c.app.Delete(ctx, c.app.Call(ctx), policy.DeleteGateway{ID: req.GetGatewayId(), ExpectedVersion: req.GetExpectedVersion()})
	if err != nil {
		return nil, err
	}
	return &controlv1.DeleteGatewayResponse{Gateway: c.gateway(out.Account, out.Account.Gateway(req.GetGatewayId())), Revision: revision(out.Revision)}, nil
}

// AttachPolicyEngine implements ControlService.
func (c *Control) AttachPolicyEngine(ctx context.Context, req *controlv1.AttachPolicyEngineRequest) (*controlv1.AttachPolicyEngineResponse, error) {
	command, err := attachEngine(req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.app.Call(ctx), command)
	if err != nil {
		return nil, err
	}
	return &controlv1.AttachPolicyEngineResponse{Gateway: c.gateway(out.Account, out.Account.Gateway(req.GetGatewayId())), Revision: revision(out.Revision)}, nil
}

func attachEngine(req *controlv1.AttachPolicyEngineRequest) (policy.AttachEngine, error) {
	mode, err := stream.EngineModeFromProto(req.GetMode())
	return policy.AttachEngine{
		GatewayID: req.GetGatewayId(), EngineID: req.GetPolicyEngineId(), Mode: mode, ExpectedVersion: req.GetExpectedVersion(),
	}, err
}

// DetachPolicyEngine implements ControlService.
func (c *Control) DetachPolicyEngine(ctx context.Context, req *controlv1.DetachPolicyEngineRequest) (*controlv1.DetachPolicyEngineResponse, error) {
	out, err := c.app.Change(ctx, c.app.Call(ctx), detachEngine(req))
	if err != nil {
		return nil, err
	}
	return &controlv1.DetachPolicyEngineResponse{Gateway: c.gateway(out.Account, out.Account.Gateway(req.GetGatewayId())), Revision: revision(out.Revision)}, nil
}

func detachEngine(req *controlv1.DetachPolicyEngineRequest) policy.DetachEngine {
	return policy.DetachEngine{GatewayID: req.GetGatewayId(), ExpectedVersion: req.GetExpectedVersion()}
}
