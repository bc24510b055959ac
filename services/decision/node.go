// Package decision is a decision node: policy state becomes a snapshot, a snapshot and a request a decision, and every decision
// a record of the decision log before it is answered.
//
// It guarantees that an answer names the revision that decided and is never from before the one that the request asks for, that
// no answer goes out unrecorded, and that it answers with what it knows while control, NATS and ClickHouse are away.
package decision

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// ErrNoState: the node has never seen a whole state of the log.
var ErrNoState = errors.New("no policy state yet: neither a local file nor control had one")

// Follower is where a node's state comes from, and how fresh it is.
type Follower interface {
	// Staleness is how long ago the state was proved to be the newest; proven is false when it never was.
	Staleness() (age time.Duration, proven bool)
	// Wait returns when a state at or above position has been published, or with an error when ctx ends.
	Wait(ctx context.Context, position uint64) error
}

// Log is where a node's decisions go before they are answered.
type Log interface {
	// Record keeps a decision and gives it its id. It does not keep d.
	Record(d *decisionv1.DecisionDetail, at time.Time) (stream.DecisionID, error)
}

// Node decides. It has the methods of the generated client and handler, so it serves over the network and in process.
type Node struct {
	log      Log
	follower Follower
	snapshot atomic.Pointer[snapshot.Snapshot]
	metrics  *metrics
}

var _ decisionv1connect.DecisionServiceHandler = (*Node)(nil)

// NewNode is a node that records in log. Before it is asked anything, Follow must have been called.
func NewNode(log Log, registerer prometheus.Registerer) *Node {
	return &Node{log: log, metrics: newMetrics(registerer)}
}

// Follow names the follower that calls Publish.
func (n *Node) Follow(f Follower) { n.follower = f }

// Publish makes a new state the one that decides; accounts are those that may have changed since the last, nil is all. One call
// at a time.
func (n *Node) Publish(state *policy.State, accounts []string) {
	began := time.Now()
	if old := n.snapshot.Load(); old != nil {
		n.snapshot.Store(old.Next(state, accounts))
	} else {
		n.snapshot.Store(snapshot.Build(state))
	}
	n.metrics.published(state, n.snapshot.Load().Unkeyed(), time.Since(began))
}

// Ready is nil when there is a state to decide with.
func (n *Node) Ready() error {
	if n.snapshot.Load() == nil {
		return ErrNoState
	}
	return nil
}

// observe says in a report which state decides, and how fresh it is, which is read first, so that it is not claimed for a newer one.
func (n *Node) observe(m *decisionv1.NodeReport) {
	if age, proven := n.follower.Staleness(); proven {
		m.StalenessUs = new(uint64(max(0, age.Microseconds())))
	}
	s := n.snapshot.Load()
	if s == nil {
		return
	}
	hash := s.Hash()
	m.LogId, m.Position, m.Hash = s.LogID(), s.Revision(), hash[:]
}

// Authorize implements DecisionService.
func (n *Node) Authorize(ctx context.Context, req *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error) {
	began := time.Now()
	revision, err := parseRevision("atLeastRevision", req.GetAtLeastRevision())
	if err != nil {
		return nil, err
	}
	t, err := n.begin(ctx, began, revision)
	if err != nil {
		return nil, err
	}
	of, err := t.decide(req)
	if err != nil {
		return nil, err
	}
	return t.record(of)
}

// AtOneRevision is for requests that belong together and of which some may be none: what it returns is Authorize, at the revision and
// the time of this call. It looks at no atLeastRevision, decides nothing after ctx has ended, and is for one goroutine.
func (n *Node) AtOneRevision(ctx context.Context) (func(*decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error), error) {
	t, err := n.begin(ctx, time.Now(), 0)
	if err != nil {
		return nil, err
	}
	return func(req *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		of, err := t.decide(req)
		if err != nil {
			return nil, err
		}
		return t.record(of)
	}, nil
}

const (
	// maxBatch is how many requests a batch may have.
	maxBatch = 1000
	// maxExplained is how many of them may ask for an explanation, which can be as long as the policies are.
	maxExplained = 20
)

// BatchAuthorize implements DecisionService. Nothing is recorded before everything is decided.
func (n *Node) BatchAuthorize(ctx context.Context, req *decisionv1.BatchAuthorizeRequest) (*decisionv1.BatchAuthorizeResponse, error) {
	began := time.Now()
	items := req.GetRequests()
	if len(items) == 0 || len(items) > maxBatch {
		return nil, policy.Invalid("length", "requests", "a batch has 1 to %d requests; this one has %d", maxBatch, len(items))
	}
	if err := checkExplained(items); err != nil {
		return nil, err
	}
	revision, err := highest(items)
	if err != nil {
		return nil, err
	}
	t, err := n.begin(ctx, began, revision)
	if err != nil {
		return nil, err
	}
	all := make([]decided, len(items))
	for i, item := range items {
		if ctx.Err() != nil { // nobody waits for the rest, which may be much work
			return nil, context.Cause(ctx)
		}
		if all[i], err = t.decide(item); err != nil {
			return nil, atIndex(i, err)
		}
	}
	out := &decisionv1.BatchAuthorizeResponse{Responses: make([]*decisionv1.AuthorizeResponse, len(items))}
	for i, of := range all {
		if out.Responses[i], err = t.record(of); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func checkExplained(items []*decisionv1.AuthorizeRequest) error {
	n := 0
	for _, item := range items {
		if item.GetExplain() {
			n++
		}
	}
	if n > maxExplained {
		return policy.Invalid("length", "requests", "%d requests of a batch may ask to be explained; here %d do", maxExplained, n)
	}
	return nil
}

// turn is one call: who asks, one snapshot, one reading of the clocks.
type turn struct {
	node      *Node
	snapshot  *snapshot.Snapshot
	account   string
	began     time.Time
	now       int64
	staleness time.Duration
	proven    bool
	trace     trace
}

// begin waits for the revision, if need be. Freshness is read before the snapshot, so that it is not claimed for a newer one.
func (n *Node) begin(ctx context.Context, began time.Time, revision uint64) (*turn, error) {
	caller, ok := identity.FromContext(ctx)
	if !ok {
		return nil, identity.ErrUnauthenticated
	}
	if s := n.snapshot.Load(); s == nil || s.Revision() < revision {
		if err := n.wait(ctx, revision); err != nil {
			return nil, err
		}
	}
	t := &turn{node: n, account: caller.Account, began: began, now: began.UnixMicro(), trace: traceOf(ctx)}
	t.staleness, t.proven = n.follower.Staleness()
	t.snapshot = n.snapshot.Load()
	return t, nil
}

// wait is for callers who have seen a revision that this node has not, and for those who come before there is any.
func (n *Node) wait(ctx context.Context, revision uint64) error {
	err := n.follower.Wait(ctx, revision)
	switch s := n.snapshot.Load(); {
	case s == nil:
		return ErrNoState
	case err != nil || s.Revision() < revision:
		return &rpc.Error{
			Code: connect.CodeUnavailable, Reason: "revision_not_reached", Field: "atLeastRevision", Cause: err,
			Message: fmt.Sprintf("this node decides with revision %d and did not reach %d within the deadline: ask again, or another node",
				s.Revision(), revision),
		}
	}
	return nil
}

// parseRevision takes "" for any revision.
func parseRevision(field, text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	return policy.ParseRevision(field, text)
}

// highest is the revision that satisfies all items of a batch.
func highest(items []*decisionv1.AuthorizeRequest) (uint64, error) {
	var out uint64
	for i, item := range items {
		revision, err := parseRevision("atLeastRevision", item.GetAtLeastRevision())
		if err != nil {
			return 0, atIndex(i, err)
		}
		out = max(out, revision)
	}
	return out, nil
}

// atIndex says which item of a batch an error is about.
func atIndex(i int, err error) error {
	var refusal *policy.Error
	if !errors.As(err, &refusal) {
		return err
	}
	at := *refusal
	at.Field = fmt.Sprintf("requests[%d].%s", i, refusal.Field)
	at.Message = fmt.Sprintf("requests[%d]: %s", i, refusal.Message)
	return &at
}
