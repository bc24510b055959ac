package connectapi

import (
	"context"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

func timestamp(us int64) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: us / 1e6, Nanos: int32(us % 1e6 * 1e3)}
}

// settingsToProto is never nil: an answer about settings has them, empty or not.
func settingsToProto(s policy.Settings) *eventv1.Settings {
	if m := stream.SettingsToProto(s); m != nil {
		return m
	}
	return &eventv1.Settings{}
}

func settingsFromProto(m *eventv1.Settings) (policy.Settings, error) {
	if m == nil {
		return policy.Settings{}, policy.Invalid("required", "settings", "settings is required: {} sets nothing and leaves all to the defaults")
	}
	return stream.SettingsFromProto(m)
}

func (c *Control) engine(a *policy.Account, e *policy.Engine) *controlv1.PolicyEngine {
	return &controlv1.PolicyEngine{
		PolicyEngineId: e.ID, PolicyEngineArn: c.app.ARN(a, policy.EngineRef(e.ID)), Name: e.Name,
		Definition: stream.EngineDefinitionToProto(e.Definition()),
		Status:     stream.StatusToProto(e.Status), StatusReasons: e.Reasons,
		CreatedAt: timestamp(e.CreatedAt), UpdatedAt: timestamp(e.UpdatedAt), Tags: e.Tags,
		Settings: settingsToProto(e.Settings), PolicyCount: uint32(e.PolicyCount()), Version: e.Version,
		UnindexedPolicies: uint32(c.unkeyed.count(a, e)),
	}
}

// unkeyed remembers which policies of engines the index cannot key. Finding out takes some 40 microseconds a policy.
type unkeyed struct {
	mu sync.Mutex
	of map[engineKey]*snapshot.UnkeyedOf // guarded by mu
}

type engineKey struct{ account, engine string }

// maxUnkeyed is how many engines are remembered; then all are forgotten.
const maxUnkeyed = 10_000

func (u *unkeyed) count(a *policy.Account, e *policy.Engine) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := engineKey{a.ID, e.ID}
	known := u.of[key]
	if known == nil {
		known = &snapshot.UnkeyedOf{}
	}
	if len(u.of) >= maxUnkeyed {
		clear(u.of)
	}
	u.of[key] = known.Next(e)
	return u.of[key].Policies()
}

// CreatePolicyEngine implements ControlService.
func (c *Control) CreatePolicyEngine(ctx context.Context, req *controlv1.CreatePolicyEngineRequest) (*controlv1.CreatePolicyEngineResponse, error) {
	call, err := c.tokenCall(ctx, req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Create(ctx, call, func(suffix string) policy.Command {
		return policy.CreateEngine{
			ID: policy.NewID(policy.KindEngine, req.GetName(), suffix), Name: req.GetName(),
			Definition: *stream.EngineDefinitionFromProto(req.GetDefinition()), Tags: req.GetTags(),
		}
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.CreatePolicyEngineResponse{PolicyEngine: c.engine(out.Account, out.Account.Engine(out.Ref.ID)), Revision: revision(out.Revision)}, nil
}

// GetPolicyEngine implements ControlService.
func (c *Control) GetPolicyEngine(ctx context.Context, req *controlv1.GetPolicyEngineRequest) (*controlv1.GetPolicyEngineResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	e, err := account.FindEngine(req.GetPolicyEngineId())
	if err != nil {
		return nil, err
	}
	return &controlv1.GetPolicyEngineResponse{PolicyEngine: c.engine(account, e), Revision: revision(position)}, nil
}

// ListPolicyEngines implements ControlService.
func (c *Control) ListPolicyEngines(ctx context.Context, req *controlv1.ListPolicyEnginesRequest) (*controlv1.ListPolicyEnginesResponse, error) {
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	page, next, err := app.Page(app.Listing{Account: account.ID, Kind: "engines"}, req.GetPageSize(), req.GetPageToken(),
		account.EnginesAfter, func(e *policy.Engine) string { return e.ID })
	if err != nil {
		return nil, err
	}
	resp := &controlv1.ListPolicyEnginesResponse{NextPageToken: next, Revision: revision(position)}
	for _, e := range page {
		if ctx.Err() != nil { // nobody waits for the rest, whose policies may be many
			return nil, context.Cause(ctx)
		}
		resp.PolicyEngines = append(resp.PolicyEngines, c.engine(account, e))
	}
	return resp, nil
}

// UpdatePolicyEngine implements ControlService.
func (c *Control) UpdatePolicyEngine(ctx context.Context, req *controlv1.UpdatePolicyEngineRequest) (*controlv1.UpdatePolicyEngineResponse, error) {
	out, err := c.app.Change(ctx, c.app.Call(ctx), policy.UpdateEngine{
		ID: req.GetPolicyEngineId(), Description: req.Description, ExpectedVersion: req.GetExpectedVersion(),
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.UpdatePolicyEngineResponse{PolicyEngine: c.engine(out.Account, out.Account.Engine(req.GetPolicyEngineId())), Revision: revision(out.Revision)}, nil
}

// UpdatePolicyEngineSettings implements ControlService.
func (c *Control) UpdatePolicyEngineSettings(ctx context.Context, req *controlv1.UpdatePolicyEngineSettingsRequest) (*controlv1.UpdatePolicyEngineSettingsResponse, error) {
	command, err := setEngineSettings(req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.app.Call(ctx), command)
	if err != nil {
		return nil, err
	}
	return &controlv1.UpdatePolicyEngineSettingsResponse{PolicyEngine: c.engine(out.Account, out.Account.Engine(req.GetPolicyEngineId())), Revision: revision(out.Revision)}, nil
}

func setEngineSettings(req *controlv1.UpdatePolicyEngineSettingsRequest) (policy.SetEngineSettings, error) {
	settings, err := settingsFromProto(req.GetSettings())
	return policy.SetEngineSettings{ID: req.GetPolicyEngineId(), Settings: settings, ExpectedVersion: req.GetExpectedVersion()}, err
}

// DeletePolicyEngine implements ControlService.
func (c *Control) DeletePolicyEngine(ctx context.Context, req *controlv1.DeletePolicyEngineRequest) (*controlv1.DeletePolicyEngineResponse, error) {
	out, err := c.app.Delete(ctx, c.app.Call(ctx), policy.DeleteEngine{ID: req.GetPolicyEngineId(), ExpectedVersion: req.GetExpectedVersion()})
	if err != nil {
		return nil, err
	}
	return &controlv1.DeletePolicyEngineResponse{PolicyEngine: c.engine(out.Account, out.Account.Engine(req.GetPolicyEngineId())), Revision: revision(out.Revision)}, nil
}
