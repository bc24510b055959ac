package connectapi

import (
	"context"
	"math"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/control/internal/fleet"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

var standings = map[fleet.Standing]controlv1.NodeStanding{
	fleet.Forgotten: controlv1.NodeStanding_NODE_STANDING_UNSPECIFIED, fleet.Current: controlv1.NodeStanding_NODE_STANDING_CURRENT,
	fleet.Behind: controlv1.NodeStanding_NODE_STANDING_BEHIND, fleet.Ahead: controlv1.NodeStanding_NODE_STANDING_AHEAD,
	fleet.AnotherLog: controlv1.NodeStanding_NODE_STANDING_ANOTHER_LOG, fleet.NoState: controlv1.NodeStanding_NODE_STANDING_NO_STATE,
	fleet.AnotherHistory: controlv1.NodeStanding_NODE_STANDING_ANOTHER_HISTORY,
}

// Propagation implements ControlService.
func (c *Control) Propagation(ctx context.Context, _ *controlv1.PropagationRequest) (*controlv1.PropagationResponse, error) {
	head, err := c.app.Head(ctx)
	if err != nil {
		return nil, err
	}
	nodes, listening := c.fleet.Nodes()
	out := &controlv1.PropagationResponse{Revision: revision(head.Position), LogId: head.LogID}
	if listening > 0 {
		out.ListeningMs = new(milliseconds(listening))
	}
	for _, n := range nodes {
		out.Nodes = append(out.Nodes, nodeToProto(n))
	}
	return out, nil
}

func nodeToProto(n fleet.Node) *controlv1.NodePropagation {
	out := &controlv1.NodePropagation{
		Node: n.Report.GetNode(), Standing: standings[n.Standing], HeardMsAgo: milliseconds(n.Age), Silent: n.Silent,
		Stopped: n.Report.GetStopped(), LogId: n.Report.GetLogId(), Build: n.Report.GetBuild(),
	}
	if n.Standing != fleet.NoState {
		out.Revision = revision(n.Report.GetPosition())
	}
	if n.Report.StalenessUs != nil {
		out.StalenessMs = new(n.Report.GetStalenessUs() / 1000)
	}
	return out
}

func milliseconds(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) }

// WaitForRevision implements ControlService.
func (c *Control) WaitForRevision(ctx context.Context, req *controlv1.WaitForRevisionRequest) (*controlv1.WaitForRevisionResponse, error) {
	position, err := policy.ParseRevision("awaitedRevision", req.GetAwaitedRevision())
	if err != nil {
		return nil, err
	}
	switch req.GetWaitFor() {
	case controlv1.WaitFor_WAIT_FOR_UNSPECIFIED, controlv1.WaitFor_WAIT_FOR_ALL, controlv1.WaitFor_WAIT_FOR_QUORUM:
	default:
		return nil, policy.Invalid("enum", "waitFor", "waitFor is WAIT_FOR_ALL or WAIT_FOR_QUORUM")
	}
	head, err := c.app.Head(ctx)
	if err != nil {
		return nil, err
	}
	if position > head.Position {
		return nil, rpc.Errorf(connect.CodeOutOfRange, "beyond_the_head", "no write has led to this revision: send one as an answer to a write named it")
	}
	ctx, cancel := answerInTime(ctx)
	defer cancel()
	p, err := c.fleet.Wait(ctx, fleet.Wanted{
		Account: app.Caller(ctx).Account, Position: position, Quorum: req.GetWaitFor() == controlv1.WaitFor_WAIT_FOR_QUORUM,
	})
	if err != nil {
		return nil, err
	}
	return &controlv1.WaitForRevisionResponse{
		Reached: p.Reached, Done: count(p.Done), Nodes: count(p.Nodes), Laggards: p.Laggards, Unknown: p.Unknown, Revision: revision(head.Position),
	}, nil
}

func count(n int) uint32 { return uint32(min(n, math.MaxUint32)) }

// answerInTime ends before the deadline, by a quarter of the time or half a second, so that the answer arrives before the caller
// gives up.
func answerInTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	left := time.Until(deadline)
	return context.WithDeadline(ctx, deadline.Add(-min(left/4, 500*time.Millisecond)))
}
