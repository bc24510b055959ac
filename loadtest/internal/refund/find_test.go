package refund_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/loadtest/internal/refund"
	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
)

// control answers from what it has, one thing a page.
type control struct {
	controlv1connect.UnimplementedControlServiceHandler
	gateways []*controlv1.Gateway
	targets  []*controlv1.GatewayTarget
	policies []*controlv1.Policy
}

// page is the page that begins behind token, whose length is how many things came before.
func page[T any](all []T, token string) (things []T, next string) {
	if len(token) >= len(all) {
		return nil, ""
	}
	if len(token)+1 < len(all) {
		next = token + "x"
	}
	return all[len(token) : len(token)+1], next
}

func (c *control) ListGateways(_ context.Context, r *controlv1.ListGatewaysRequest) (*controlv1.ListGatewaysResponse, error) {
	things, next := page(c.gateways, r.GetPageToken())
	return &controlv1.ListGatewaysResponse{Gateways: things, NextPageToken: next}, nil
}

func (c *control) ListGatewayTargets(_ context.Context, r *controlv1.ListGatewayTargetsRequest) (*controlv1.ListGatewayTargetsResponse, error) {
	if r.GetGatewayId() != "gw-1" {
		return nil, errors.New("another gateway")
	}
	things, next := page(c.targets, r.GetPageToken())
	return &controlv1.ListGatewayTargetsResponse{Targets: things, NextPageToken: next}, nil
}

func (c *control) ListPolicies(_ context.Context, r *controlv1.ListPoliciesRequest) (*controlv1.ListPoliciesResponse, error) {
	if r.GetPolicyEngineId() != "engine-1" {
		return nil, errors.New("another engine")
	}
	things, next := page(c.policies, r.GetPageToken())
	return &controlv1.ListPoliciesResponse{Policies: things, NextPageToken: next}, nil
}

// loaded is a control that has the example among other things.
func loaded() *control {
	return &control{
		gateways: []*controlv1.Gateway{{Name: "other"}, {
			Name: "refund-gw", GatewayId: "gw-1", GatewayArn: "arn:gw",
			Definition: &eventv1.GatewayDefinition{PolicyEngineConfiguration: &eventv1.GatewayPolicyEngineConfiguration{
				PolicyEngineId: "engine-1", Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE,
			}},
		}},
		targets:  []*controlv1.GatewayTarget{{Name: "other"}, {Name: "RefundTarget"}},
		policies: []*controlv1.Policy{{Name: "other"}, {Name: "refund_limit", PolicyId: "policy-1", InForce: &eventv1.PolicyBody{}}},
	}
}

func find(t *testing.T, c *control) (*refund.Example, error) {
	t.Helper()
	_, handler := controlv1connect.NewControlServiceHandler(c)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return refund.Find(t.Context(), server.Client(), server.URL)
}

func TestFindGoesThroughAllPages(t *testing.T) {
	got, err := find(t, loaded())
	if err != nil {
		t.Fatal(err)
	}
	if want := (refund.Example{GatewayARN: "arn:gw", EngineID: "engine-1", PolicyID: "policy-1"}); *got != want {
		t.Errorf("found %+v, not %+v", *got, want)
	}
}

func TestFindSaysWhatIsMissing(t *testing.T) {
	for want, spoil := range map[string]func(*control){
		"gateway refund-gw":     func(c *control) { c.gateways = c.gateways[:1] },
		"target RefundTarget":   func(c *control) { c.targets = nil },
		"policy refund_limit":   func(c *control) { c.policies = c.policies[:1] },
		"is not in force":       func(c *control) { c.policies[1].InForce = nil },
		"no engine is attached": func(c *control) { c.gateways[1].Definition = nil },
		"in mode ENFORCE": func(c *control) {
			c.gateways[1].Definition.PolicyEngineConfiguration.Mode = eventv1.EngineMode_ENGINE_MODE_LOG_ONLY
		},
	} {
		c := loaded()
		spoil(c)
		_, err := find(t, c)
		if !errors.Is(err, refund.ErrNoExample) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "make dev") {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestFindWithoutControl(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	_, err := refund.Find(t.Context(), server.Client(), server.URL)
	if err == nil || errors.Is(err, refund.ErrNoExample) || !strings.Contains(err.Error(), "at control") {
		t.Errorf("without control: %v", err)
	}
}
