package decision

import (
	"context"
	"strconv"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// ListPermittedActions implements DecisionService.
func (n *Node) ListPermittedActions(ctx context.Context, req *decisionv1.ListPermittedActionsRequest) (*decisionv1.ListPermittedActionsResponse, error) {
	revision, err := parseRevision("atLeastRevision", req.GetAtLeastRevision())
	if err != nil {
		return nil, err
	}
	if err := checkNames(req.GetPrincipal(), req.GetAction(), req.GetResource()); err != nil {
		return nil, err
	}
	t, err := n.begin(ctx, time.Now(), revision)
	if err != nil {
		return nil, err
	}
	permitted, err := t.snapshot.PermittedActions(&snapshot.Request{
		Account: t.account, Principal: readPrincipal(req.GetPrincipal()), Resource: readEntity(req.GetResource()),
		PolicyEngineID: req.GetPolicyEngineId(), Staleness: t.staleness, Proven: t.proven,
	})
	if err != nil {
		return nil, err
	}
	if only := req.GetAction(); only != nil {
		if only.GetType() != policy.TypeAction {
			return nil, policy.Invalid("type", "action", "action must be of type %s", policy.TypeAction)
		}
		permitted.Only(only.GetId())
	}
	out := &decisionv1.ListPermittedActionsResponse{
		Revision: strconv.FormatUint(t.snapshot.Revision(), 10), Mode: modes[permitted.Mode], PolicyEngineId: permitted.EngineID,
		Stale: permitted.Stale, Reason: permitted.Reason,
	}
	for a := range permitted.All(req.GetExplain()) {
		if ctx.Err() != nil { // nobody waits for the rest, which may be much work; and half a list would hide tools
			return nil, context.Cause(ctx)
		}
		out.Actions = append(out.Actions, &decisionv1.PermittedAction{
			Action: &decisionv1.Entity{Type: policy.TypeAction, Id: a.ID}, Condition: a.Condition,
		})
	}
	return out, nil
}
