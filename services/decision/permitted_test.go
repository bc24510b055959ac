package decision_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// listing asks for what request asks about.
func listing(t testing.TB) *decisionv1.ListPermittedActionsRequest {
	r := request(t, "")
	return &decisionv1.ListPermittedActionsRequest{Principal: r.GetPrincipal(), Resource: r.GetResource()}
}

func TestListPermittedActions(t *testing.T) {
	s := newSite(t)
	s.permit("not_the_boss", `forbid(principal, action, resource == AgentCore::Gateway::"`+gateway+`")
		when { principal.hasTag("role") && principal.getTag("role") == "boss" };`)
	s.node.Publish(s.state, nil)
	req := listing(t)
	req.Explain = true
	got, err := s.node.ListPermittedActions(asCaller(t), req)
	if err != nil {
		t.Fatal(err)
	}
	want := &decisionv1.ListPermittedActionsResponse{
		Actions: []*decisionv1.PermittedAction{{
			Action:    &decisionv1.Entity{Type: policy.TypeAction, Id: "RefundTarget___process_refund"},
			Condition: `@id("` + policyID + "\")\npermit ( principal, action, resource )\nwhen { context.input.amount < 1000 };",
		}},
		Revision: strconv.FormatUint(s.state.Position, 10), Mode: decisionv1.Mode_MODE_ENFORCE, PolicyEngineId: engineID,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	for only, listed := range map[string]int{"RefundTarget___process_refund": 1, "RefundTarget___other": 0} {
		req.Action = &decisionv1.Entity{Type: policy.TypeAction, Id: only}
		if got, err := s.node.ListPermittedActions(asCaller(t), req); err != nil || len(got.GetActions()) != listed {
			t.Errorf("of %s alone: listed %v, %v", only, got, err)
		}
	}
	req.Action = &decisionv1.Entity{Type: policy.TypeGateway, Id: "x"}
	if _, err := s.node.ListPermittedActions(asCaller(t), req); !errors.Is(err, policy.ErrInvalid) {
		t.Errorf("what is no action: %v", err)
	}
	req.Action = nil
	req.Principal.Tags["role"] = "boss"
	if got, err := s.node.ListPermittedActions(asCaller(t), req); err != nil || len(got.GetActions()) > 0 {
		t.Errorf("listed %v, %v", got, err)
	}
	if len(s.journal.records) > 0 {
		t.Error("a list was recorded as a decision")
	}
}

// What Authorize denies because of the node's state is not listed; where a DENY does not block, everything is.
func TestListOfAStaleNode(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*site)
		stale  bool
		want   int
	}{
		"stale and served": {func(s *site) { s.follower.age = time.Hour }, true, 1},
		"never proved":     {func(s *site) { s.follower.unproven = true }, true, 1},
		"stale and denied": {func(s *site) { s.follower.age = time.Hour; s.deny() }, true, 0},
		"… only logged": {func(s *site) {
			s.follower.age = time.Hour
			s.deny()
			s.do(account, policy.AttachEngine{GatewayID: gatewayID, EngineID: engineID, Mode: policy.ModeLogOnly})
		}, true, 1},
		"without engine":        {func(s *site) { s.do(account, policy.DetachEngine{GatewayID: gatewayID}) }, false, 1},
		"… and a state unknown": {func(s *site) { s.do(account, policy.DetachEngine{GatewayID: gatewayID}); s.follower.unproven = true }, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			c.change(s)
			s.node.Publish(s.state, nil)
			got, err := s.node.ListPermittedActions(asCaller(t), listing(t))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.GetActions()) != c.want || got.GetStale() != c.stale {
				t.Errorf("listed %v", got)
			}
		})
	}
}

// deny makes a stale node deny.
func (s *site) deny() {
	s.do(account, policy.SetAccountSettings{Settings: policy.Settings{OnStale: policy.OnStaleDeny}})
}

func TestListIsNeverFromBefore(t *testing.T) {
	s := newSite(t)
	req := listing(t)
	req.AtLeastRevision = strconv.FormatUint(s.state.Position+2, 10)
	ended, cancel := context.WithCancel(asCaller(t))
	cancel()
	_, err := s.node.ListPermittedActions(ended, req)
	if refusal, ok := errors.AsType[*rpc.Error](err); !ok || refusal.Code != connect.CodeUnavailable {
		t.Errorf("a revision from the future: %v", err)
	}
	s.do(account, policy.DetachEngine{GatewayID: gatewayID})
	s.follower.arrives = s.state
	if got, err := s.node.ListPermittedActions(asCaller(t), req); err != nil || got.GetRevision() != req.GetAtLeastRevision() {
		t.Errorf("answered %v, %v", got, err)
	}
}

// Half a list would hide tools, so that one which nobody waits for is none.
func TestListIsWholeOrNone(t *testing.T) {
	s := newSite(t)
	ended, cancel := context.WithCancel(asCaller(t))
	cancel()
	if got, err := s.node.ListPermittedActions(ended, listing(t)); !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("answered %v, %v", got, err)
	}
}

func TestListRefuses(t *testing.T) {
	s := newSite(t)
	for field, change := range map[string]func(*decisionv1.ListPermittedActionsRequest){
		"principal.type":  func(r *decisionv1.ListPermittedActionsRequest) { r.Principal = nil },
		"principal":       func(r *decisionv1.ListPermittedActionsRequest) { r.Principal.Tags["t"] = strings.Repeat("x", 128<<10) },
		"resource.type":   func(r *decisionv1.ListPermittedActionsRequest) { r.Resource = nil },
		"resource.id":     func(r *decisionv1.ListPermittedActionsRequest) { r.Resource.Id += "x" },
		"policyEngineId":  func(r *decisionv1.ListPermittedActionsRequest) { r.PolicyEngineId = "Other-0123456789" },
		"atLeastRevision": func(r *decisionv1.ListPermittedActionsRequest) { r.AtLeastRevision = "x" },
	} {
		req := listing(t)
		change(req)
		got, err := s.node.ListPermittedActions(asCaller(t), req)
		if refusal, ok := errors.AsType[*policy.Error](err); !ok || refusal.Field != field || got != nil {
			t.Errorf("%s: answered %v, %v", field, got, err)
		}
	}
	other := identity.NewContext(t.Context(), identity.Caller{Account: "222222222222"})
	if got, err := s.node.ListPermittedActions(other, listing(t)); !errors.Is(err, policy.ErrNotFound) {
		t.Errorf("another account's gateway: %v, %v", got, err)
	}
	if got, err := s.node.ListPermittedActions(t.Context(), listing(t)); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("nobody: %v, %v", got, err)
	}
	empty := decision.NewNode(s.journal, nil)
	empty.Follow(s.follower)
	if got, err := empty.ListPermittedActions(asCaller(t), listing(t)); !errors.Is(err, decision.ErrNoState) {
		t.Errorf("without a state: %v, %v", got, err)
	}
}
