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
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// Control implements ControlService.
type Control struct {
	app     *app.App
	fleet   *fleet.Fleet
	unkeyed unkeyed
}

var _ controlv1connect.ControlServiceHandler = (*Control)(nil)

// NewControl serves a, and what f knows of nodes.
func NewControl(a *app.App, f *fleet.Fleet) *Control {
	return &Control{app: a, fleet: f, unkeyed: unkeyed{of: map[engineKey]*snapshot.UnkeyedOf{}}}
}

// tokenRequest is a request with a client token.
type tokenRequest interface {
	proto.Message
	GetClientToken() string
}

// tokenCall is call for a request with a client token. The request's hash leaves the token out.
func (c *Control) tokenCall(ctx context.Context, req tokenRequest) (app.Call, error) {
	out := c.app.Call(ctx)
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

// TagResource implements ControlService.
func (c *Control) TagResource(ctx context.Context, req *controlv1.TagResourceRequest) (*controlv1.TagResourceResponse, error) {
	ref, err := c.app.ParseARN(ctx, "resourceArn", req.GetResourceArn())
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.app.Call(ctx), policy.AddTags{Of: ref, Tags: req.GetTags()})
	if err != nil {
		return nil, err
	}
	return &controlv1.TagResourceResponse{Tags: out.Account.Tags(ref), Revision: revision(out.Revision)}, nil
}

// UntagResource implements ControlService.
func (c *Control) UntagResource(ctx context.Context, req *controlv1.UntagResourceRequest) (*controlv1.UntagResourceResponse, error) {
	ref, err := c.app.ParseARN(ctx, "resourceArn", req.GetResourceArn())
	if err != nil {
		return nil, err
	}
	out, err := c.app.Change(ctx, c.app.Call(ctx), policy.RemoveTags{Of: ref, Keys: req.GetTagKeys()})
	if err != nil {
		return nil, err
	}
	return &controlv1.UntagResourceResponse{Tags: out.Account.Tags(ref), Revision: revision(out.Revision)}, nil
}

// ListTagsForResource implements ControlService.
func (c *Control) ListTagsForResource(ctx context.Context, req *controlv1.ListTagsForResourceRequest) (*controlv1.ListTagsForResourceResponse, error) {
	ref, err := c.app.ParseARN(ctx, "resourceArn", req.GetResourceArn())
	if err != nil {
		return nil, err
	}
	account, position, err := c.app.Account(ctx)
	if err != nil {
		return nil, err
	}
	if !account.Has(ref) {
		return nil, policy.NotFound("resource", "resourceArn", req.GetResourceArn())
	}
	return &controlv1.ListTagsForResourceResponse{Tags: account.Tags(ref), Revision: revision(position)}, nil
}

// GetAccountSettings implements ControlService.
func (c *Control) GetAccountSettings(ctx context.Context, _ *controlv1.GetAccountSettingsRequest) (*controlv1.GetAccountSettingsResponse, error) {
	account, position, err := c.app.Account(ctx)
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
	out, err := c.app.Change(ctx, c.app.Call(ctx), command)
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
