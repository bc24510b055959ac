package connectapi

import (
	"context"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

func target(t *policy.Target) *controlv1.GatewayTarget {
	return &controlv1.GatewayTarget{
		TargetId: t.ID, GatewayId: t.GatewayID, Name: t.Name, Definition: stream.TargetDefinitionToProto(t.Definition()),
		Status: stream.StatusToProto(t.Status), StatusReasons: t.Reasons,
		CreatedAt: timestamp(t.CreatedAt), UpdatedAt: timestamp(t.UpdatedAt), Version: t.Version,
	}
}

// targetDefinition is required: what is absent would be reset.
func targetDefinition(m *eventv1.TargetDefinition) (policy.TargetDefinition, error) {
	if m == nil {
		return policy.TargetDefinition{}, policy.Invalid("required", "definition", "definition is required")
	}
	d, err := stream.TargetDefinitionFromProto(m)
	if err != nil {
		return policy.TargetDefinition{}, err
	}
	return *d, nil
}

// CreateGatewayTarget implements ControlService.
func (c *Control) CreateGatewayTarget(ctx context.Context, req *controlv1.CreateGatewayTargetRequest) (*controlv1.CreateGatewayTargetResponse, error) {
	d, err := targetDefinition(req.GetDefinition())
	if err != nil {
		return nil, err
	}
	call, err := c.tokenCall(ctx, req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Create(ctx, call, func(suffix string) policy.Command {
		return policy.CreateTarget{GatewayID: req.GetGatewayId(), ID: policy.NewID(policy.KindTarget, req.GetName(), suffix), Name: req.GetName(), Definition: d}
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.CreateGatewayTargetResponse{Target: target(out.Account.Gateway(out.Ref.Parent).Target(out.Ref.ID)), Revision: revision(out.Revision)}, nil
}

// GetGatewayTarget implements ControlService.
func (c *Control) GetGatewayTarget(ctx context.Context, req *controlv1.GetGatewayTargetRequest) (*controlv1.GetGatewayTargetResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	t, err := account.FindTarget(req.GetGatewayId(), req.GetTargetId())
	if err != nil {
		return nil, err
	}
	return &controlv1.GetGatewayTargetResponse{Target: target(t), Revision: revision(position)}, nil
}

// ListGatewayTargets implements ControlService.
func (c *Control) ListGatewayTargets(ctx context.Context, req *controlv1.ListGatewayTargetsRequest) (*controlv1.ListGatewayTargetsResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	g, err := account.FindGateway(req.GetGatewayId())
	if err != nil {
		return nil, err
	}
	page, next, err := app.Page(app.Listing{Account: account.ID, Kind: "targets", Parent: g.ID}, req.GetPageSize(), req.GetPageToken(),
		g.TargetsAfter, func(t *policy.Target) string { return t.ID })
	if err != nil {
		return nil, err
	}
	resp := &controlv1.ListGatewayTargetsResponse{NextPageToken: next, Revision: revision(position)}
	for _, t := range page {
		resp.Targets = append(resp.Targets, target(t))
	}
	return resp, nil
}

// UpdateGatewayTarget implements ControlService.
func (c *Control) UpdateGatewayTarget(ctx context.Context, req *controlv1.UpdateGatewayTargetRequest) (*controlv1.UpdateGatewayTargetResponse, error) {
	d, err := targetDefinition(req.GetDefinition())
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.app.Call(ctx), policy.UpdateTarget{
		GatewayID: req.GetGatewayId(), ID: req.GetTargetId(), Definition: d, ExpectedVersion: req.GetExpectedVersion(),
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.UpdateGatewayTargetResponse{Target: target(out.Account.Gateway(req.GetGatewayId()).Target(req.GetTargetId())), Revision: revision(out.Revision)}, nil
}

// DeleteGatewayTarget implements ControlService.
func (c *Control) DeleteGatewayTarget(ctx context.Context, req *controlv1.DeleteGatewayTargetRequest) (*controlv1.DeleteGatewayTargetResponse, error) {
	out, err := c.app.Delete(ctx, c.app.Call(ctx), policy.DeleteTarget{
		GatewayID: req.GetGatewayId(), ID: req.GetTargetId(), ExpectedVersion: req.GetExpectedVersion(),
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.DeleteGatewayTargetResponse{Target: target(out.Account.Gateway(req.GetGatewayId()).Target(req.GetTargetId())), Revision: revision(out.Revision)}, nil
}
