package connectapi

import (
	"context"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// change shows c as it was proposed.
func change(c *policy.Change) *controlv1.Change {
	return &controlv1.Change{
		ChangeId: c.ID, Description: c.Description, Weakens: c.Weakens, Steps: steps(c.Events, c.Basis),
		Proposer: stream.ActorToProto(c.Proposer), ProposedAt: timestamp(c.ProposedAt), ExpiresAt: timestamp(c.ExpiresAt()),
	}
}

// waiting shows c as it waits in a.
func waiting(a *policy.Account, c *policy.Change) *controlv1.Change {
	m := change(c)
	m.Stale = a.Outdated(c)
	return m
}

// steps shows events, which have happened or not; basis are the things they are about as they were before, as far as that is
// known.
func steps(events []policy.Event, basis []policy.Versioned) []*controlv1.ChangeStep {
	var all []*controlv1.ChangeStep
	for _, ev := range events {
		thing := policy.Versioned{Of: ev.Ref()}
		for _, b := range basis {
			if b.Of == thing.Of {
				thing = b
			}
		}
		step := &controlv1.ChangeStep{Type: ev.Type(), Thing: stream.StreamVersionToProto(thing)}
		switch e := ev.(type) {
		case policy.PolicyUpdateRequested:
			step.Definition = &controlv1.ChangeStep_Policy{Policy: stream.BodyToProto(&e.Body)}
		case policy.GatewayUpdateRequested:
			step.Definition = &controlv1.ChangeStep_Gateway{Gateway: stream.GatewayDefinitionToProto(&e.Definition)}
		case policy.EngineSettingsChanged:
			step.Definition = &controlv1.ChangeStep_Settings{Settings: settingsToProto(e.Settings)}
		case policy.AccountSettingsChanged:
			step.Definition = &controlv1.ChangeStep_Settings{Settings: settingsToProto(e.Settings)}
			step.SecondPerson = e.SecondPerson
		}
		all = append(all, step)
	}
	return all
}

// proposed is the command of a request that can be proposed. It is nil for none, which Check refuses.
func proposed(req *controlv1.ProposeChangeRequest) (policy.Command, error) {
	switch r := req.GetRequest().(type) {
	case *controlv1.ProposeChangeRequest_UpdatePolicy:
		return updatePolicy(r.UpdatePolicy)
	case *controlv1.ProposeChangeRequest_DeletePolicy:
		return deletePolicy(r.DeletePolicy), nil
	case *controlv1.ProposeChangeRequest_UpdateGateway:
		return updateGateway(r.UpdateGateway)
	case *controlv1.ProposeChangeRequest_AttachPolicyEngine:
		return attachEngine(r.AttachPolicyEngine)
	case *controlv1.ProposeChangeRequest_DetachPolicyEngine:
		return detachEngine(r.DetachPolicyEngine), nil
	case *controlv1.ProposeChangeRequest_UpdatePolicyEngineSettings:
		return setEngineSettings(r.UpdatePolicyEngineSettings)
	case *controlv1.ProposeChangeRequest_UpdateAccountSettings:
		return setAccountSettings(r.UpdateAccountSettings)
	}
	return nil, nil
}

// ProposeChange implements ControlService.
func (c *Control) ProposeChange(ctx context.Context, req *controlv1.ProposeChangeRequest) (*controlv1.ProposeChangeResponse, error) {
	command, err := proposed(req)
	if err != nil {
		return nil, err
	}
	call, err := c.tokenCall(ctx, req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Create(ctx, call, func(suffix string) policy.Command {
		return policy.ProposeChange{ID: policy.NewID(policy.KindChange, "", suffix), Description: req.GetDescription(), Command: command}
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.ProposeChangeResponse{Change: change(out.Account.Change(out.Ref.ID)), Revision: revision(out.Revision)}, nil
}

// GetChange implements ControlService.
func (c *Control) GetChange(ctx context.Context, req *controlv1.GetChangeRequest) (*controlv1.GetChangeResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	found, err := account.FindChange(req.GetChangeId())
	if err != nil {
		return nil, err
	}
	return &controlv1.GetChangeResponse{Change: waiting(account, found), Revision: revision(position)}, nil
}

// ListChanges implements ControlService.
func (c *Control) ListChanges(ctx context.Context, req *controlv1.ListChangesRequest) (*controlv1.ListChangesResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	page, next, err := app.Page(app.Listing{Account: account.ID, Kind: "changes"}, req.GetPageSize(), req.GetPageToken(),
		account.ChangesAfter, func(c *policy.Change) string { return c.ID })
	if err != nil {
		return nil, err
	}
	resp := &controlv1.ListChangesResponse{NextPageToken: next, Revision: revision(position)}
	for _, found := range page {
		resp.Changes = append(resp.Changes, waiting(account, found))
	}
	return resp, nil
}

// ApproveChange implements ControlService.
func (c *Control) ApproveChange(ctx context.Context, req *controlv1.ApproveChangeRequest) (*controlv1.ApproveChangeResponse, error) {
	call, err := c.tokenCall(ctx, req)
	if err != nil {
		return nil, err
	}
	events, position, err := c.app.Approve(ctx, call, req.GetChangeId())
	if err != nil {
		return nil, err
	}
	return &controlv1.ApproveChangeResponse{Steps: steps(events, nil), Revision: revision(position)}, nil
}

// RejectChange implements ControlService.
func (c *Control) RejectChange(ctx context.Context, req *controlv1.RejectChangeRequest) (*controlv1.RejectChangeResponse, error) {
	out, err := c.app.Reject(ctx, c.app.Call(ctx), policy.RejectChange{ID: req.GetChangeId(), Reason: req.GetReason()})
	if err != nil {
		return nil, err
	}
	return &controlv1.RejectChangeResponse{Change: waiting(out.Account, out.Account.Change(req.GetChangeId())), Revision: revision(out.Revision)}, nil
}
