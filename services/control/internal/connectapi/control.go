// Package connectapi is Verdict's own API: it turns requests of ControlService and EventService into commands and queries of
// app, and what they answer into messages. Proto types end here.
package connectapi

import (
	"context"
	"crypto/sha256"
	"strconv"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/control/internal/fleet"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// Control implements ControlService.
type Control struct {
	app       *app.App
	fleet     *fleet.Fleet
	mayWeaken func(identity.Caller) bool
}

var _ controlv1connect.ControlServiceHandler = (*Control)(nil)

// NewControl serves a, and what f knows of nodes. mayWeaken tells whether a caller may weaken the enforcement that is in force, and propose and approve that.
func NewControl(a *app.App, f *fleet.Fleet, mayWeaken func(identity.Caller) bool) *Control {
	return &Control{app: a, fleet: f, mayWeaken: mayWeaken}
}

// caller is who calls; rpc.Edge lets nobody unknown through.
func caller(ctx context.Context) identity.Caller {
	c, _ := identity.FromContext(ctx)
	return c
}

func (c *Control) call(ctx context.Context) app.Call {
	by := caller(ctx)
	return app.Call{Caller: by, RequestID: rpc.RequestID(ctx), MayWeaken: c.mayWeaken(by)}
}

// tokenRequest is a request with a client token.
type tokenRequest interface {
	proto.Message
	GetClientToken() string
}

// tokenCall is call for a request with a client token. The request's hash leaves the token out.
func (c *Control) tokenCall(ctx context.Context, req tokenRequest) (app.Call, error) {
	out := c.call(ctx)
	out.ClientToken = req.GetClientToken()
	asked := proto.Clone(req).ProtoReflect()
	asked.Clear(asked.Descriptor().Fields().ByName("client_token"))
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(asked.Interface())
	if err != nil {
		return out, err
	}
	out.RequestHash = sha256.Sum256(append([]byte(asked.Descriptor().FullName()+"\n"), data...))
	return out, nil
}

// revision is a position as callers see it: opaque.
func revision(position uint64) string { return strconv.FormatUint(position, 10) }

func (c *Control) account(ctx context.Context) (*policy.Account, uint64, error) {
	return c.app.Account(ctx, caller(ctx).Account)
}

func (c *Control) arn(account *policy.Account, ref policy.Ref) string {
	return policy.ARN(c.app.Region(), account.ID, ref)
}

// TagResource implements ControlService.
func (c *Control) TagResource(ctx context.Context, req *controlv1.TagResourceRequest) (*controlv1.TagResourceResponse, error) {
	ref, err := c.parseARN(ctx, req.GetResourceArn())
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.call(ctx), policy.AddTags{Of: ref, Tags: req.GetTags()})
	if err != nil {
		return nil, err
	}
	return &controlv1.TagResourceResponse{Tags: out.Account.Tags(ref), Revision: revision(out.Revision)}, nil
}

// UntagResource implements ControlService.
func (c *Control) UntagResource(ctx context.Context, req *controlv1.UntagResourceRequest) (*controlv1.UntagResourceResponse, error) {
	ref, err := c.parseARN(ctx, req.GetResourceArn())
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.call(ctx), policy.RemoveTags{Of: ref, Keys: req.GetTagKeys()})
	if err != nil {
		return nil, err
	}
	return &controlv1.UntagResourceResponse{Tags: out.Account.Tags(ref), Revision: revision(out.Revision)}, nil
}

// ListTagsForResource implements ControlService.
func (c *Control) ListTagsForResource(ctx context.Context, req *controlv1.ListTagsForResourceRequest) (*controlv1.ListTagsForResourceResponse, error) {
	ref, err := c.parseARN(ctx, req.GetResourceArn())
	if err != nil {
		return nil, err
	}
	account, position, err := c.account(ctx)
	if err != nil {
		return nil, err
	}
	if !account.Has(ref) {
		return nil, policy.NotFound("resource", "resourceArn", req.GetResourceArn())
	}
	return &controlv1.ListTagsForResourceResponse{Tags: account.Tags(ref), Revision: revision(position)}, nil
}

func (c *Control) parseARN(ctx context.Context, arn string) (policy.Ref, error) {
	return policy.ParseARN(c.app.Region(), caller(ctx).Account, "resourceArn", arn)
}

// GetAccountSettings implements ControlService.
func (c *Control) GetAccountSettings(ctx context.Context, _ *controlv1.GetAccountSettingsRequest) (*controlv1.GetAccountSettingsResponse, error) {
	account, position, err := c.account(ctx)
	if err != nil {
		return nil, err
	}
	return &controlv1.GetAccountSettingsResponse{
		Settings: settingsToProto(account.Settings), SecondPerson: account.SecondPerson, Version: account.Version, Revision: revision(position),
	}, nil
}

// UpdateAccountSettings implements ControlService.
func (c *Control) UpdateAccountSettings(ctx context.Context, req *controlv1.UpdateAccountSettingsRequest) (*controlv1.UpdateAccountSettingsResponse, error) {
	command, err := setAccountSettings(req)
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.call(ctx), command)
	if err != nil {
		return nil, err
	}
	return &controlv1.UpdateAccountSettingsResponse{
		Settings: settingsToProto(out.Account.Settings), SecondPerson: out.Account.SecondPerson,
		Version: out.Account.Version, Revision: revision(out.Revision),
	}, nil
}

func setAccountSettings(req *controlv1.UpdateAccountSettingsRequest) (policy.SetAccountSettings, error) {
	settings, err := settingsFromProto(req.GetSettings())
	return policy.SetAccountSettings{Settings: settings, SecondPerson: req.SecondPerson, ExpectedVersion: req.GetExpectedVersion()}, err
}
