package connectapi

import (
	"context"
	"iter"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

func (c *Control) policy(a *policy.Account, p *policy.Policy) *controlv1.Policy {
	m := &controlv1.Policy{
		PolicyId: p.ID, PolicyArn: c.app.ARN(a, policy.PolicyRef(p.EngineID, p.ID)), PolicyEngineId: p.EngineID, Name: p.Name,
		Status: stream.StatusToProto(p.Status), StatusReasons: p.Reasons,
		InForce: stream.BodyToProto(p.InForce), Candidate: stream.BodyToProto(p.Candidate),
		CreatedAt: timestamp(p.CreatedAt), UpdatedAt: timestamp(p.UpdatedAt), Tags: p.Tags, Version: p.Version,
	}
	if p.ActiveRevision > 0 {
		m.ActiveRevision = revision(p.ActiveRevision)
	}
	return m
}

// statement takes a definition apart and parses it.
func statement(m *eventv1.PolicyDefinition) (policy.Language, policy.Statement, error) {
	language, text, err := stream.PolicyDefinitionFromProto(m)
	if err != nil {
		return "", policy.Statement{}, err
	}
	s, err := policy.ParseStatement(text)
	return language, s, err
}

// CreatePolicy implements ControlService.
func (c *Control) CreatePolicy(ctx context.Context, req *controlv1.CreatePolicyRequest) (*controlv1.CreatePolicyResponse, error) {
	command, err := createPolicy(req)
	if err != nil {
		return nil, err
	}
	call, err := c.tokenCall(ctx, req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Create(ctx, call, func(suffix string) policy.Command {
		command.ID = policy.NewID(policy.KindPolicy, command.Name, suffix)
		return command
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.CreatePolicyResponse{Policy: c.policy(out.Account, out.Account.Engine(out.Ref.Parent).Policy(out.Ref.ID)), Revision: revision(out.Revision)}, nil
}

func createPolicy(req *controlv1.CreatePolicyRequest) (policy.CreatePolicy, error) {
	language, s, err := statement(req.GetDefinition())
	if err != nil {
		return policy.CreatePolicy{}, err
	}
	enforcement, err := stream.EnforcementModeFromProto(req.GetEnforcementMode())
	if err != nil {
		return policy.CreatePolicy{}, err
	}
	validation, err := stream.ValidationModeFromProto(req.GetValidationMode())
	return policy.CreatePolicy{
		EngineID: req.GetPolicyEngineId(), Name: req.GetName(), Language: language, Statement: s,
		Description: req.GetDescription(), Enforcement: enforcement, Validation: validation, Tags: req.GetTags(),
	}, err
}

// GetPolicy implements ControlService.
func (c *Control) GetPolicy(ctx context.Context, req *controlv1.GetPolicyRequest) (*controlv1.GetPolicyResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	p, err := account.FindPolicy(req.GetPolicyEngineId(), req.GetPolicyId())
	if err != nil {
		return nil, err
	}
	return &controlv1.GetPolicyResponse{Policy: c.policy(account, p), Revision: revision(position)}, nil
}

// ListPolicies implements ControlService.
func (c *Control) ListPolicies(ctx context.Context, req *controlv1.ListPoliciesRequest) (*controlv1.ListPoliciesResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	e, err := account.FindEngine(req.GetPolicyEngineId())
	if err != nil {
		return nil, err
	}
	scope := req.GetTargetResourceScope()
	listing := app.Listing{Account: account.ID, Kind: "policies", Parent: e.ID, Filter: scope}
	page, next, err := app.Page(listing, req.GetPageSize(), req.GetPageToken(),
		func(after string) iter.Seq[*policy.Policy] { return e.PoliciesScopedAfter(after, scope) },
		func(p *policy.Policy) string { return p.ID })
	if err != nil {
		return nil, err
	}
	resp := &controlv1.ListPoliciesResponse{NextPageToken: next, Revision: revision(position)}
	for _, p := range page {
		resp.Policies = append(resp.Policies, c.policy(account, p))
	}
	return resp, nil
}

// UpdatePolicy implements ControlService.
func (c *Control) UpdatePolicy(ctx context.Context, req *controlv1.UpdatePolicyRequest) (*controlv1.UpdatePolicyResponse, error) {
	command, err := updatePolicy(req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.app.Call(ctx), command)
	if err != nil {
		return nil, err
	}
	return &controlv1.UpdatePolicyResponse{Policy: c.policy(out.Account, out.Account.Engine(command.EngineID).Policy(command.ID)), Revision: revision(out.Revision)}, nil
}

func updatePolicy(req *controlv1.UpdatePolicyRequest) (policy.UpdatePolicy, error) {
	u := policy.UpdatePolicy{
		EngineID: req.GetPolicyEngineId(), ID: req.GetPolicyId(), Description: req.Description, ExpectedVersion: req.GetExpectedVersion(),
	}
	if req.GetDefinition() != nil {
		language, s, err := statement(req.GetDefinition())
		if err != nil {
			return u, err
		}
		u.Language, u.Statement = language, &s
	}
	var err error
	if u.Enforcement, err = stream.EnforcementModeFromProto(req.GetEnforcementMode()); err != nil {
		return u, err
	}
	u.Validation, err = stream.ValidationModeFromProto(req.GetValidationMode())
	return u, err
}

// DeletePolicy implements ControlService.
func (c *Control) DeletePolicy(ctx context.Context, req *controlv1.DeletePolicyRequest) (*controlv1.DeletePolicyResponse, error) {
	out, err := c.app.Delete(ctx, c.app.Call(ctx), deletePolicy(req))
	if err != nil {
		return nil, err
	}
	return &controlv1.DeletePolicyResponse{Policy: c.policy(out.Account, out.Account.Engine(req.GetPolicyEngineId()).Policy(req.GetPolicyId())), Revision: revision(out.Revision)}, nil
}

func deletePolicy(req *controlv1.DeletePolicyRequest) policy.DeletePolicy {
	return policy.DeletePolicy{EngineID: req.GetPolicyEngineId(), ID: req.GetPolicyId(), ExpectedVersion: req.GetExpectedVersion()}
}
