package client

import (
	"strconv"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// revision is the highest that was seen. Revisions are numbers of the log, which all accounts share.
type revision struct{ highest atomic.Uint64 }

// see raises it.
func (r *revision) see(n uint64) {
	for {
		if old := r.highest.Load(); n <= old || r.highest.CompareAndSwap(old, n) {
			return
		}
	}
}

// floor is the revision that an answer must have, and how the request is to say so: the caller's own, or a higher one that was seen. A
// text that is no revision stays as it is, for the node to refuse.
func (c *Client) floor(own string) (floor uint64, text string) {
	if own != "" {
		var err error
		if floor, err = strconv.ParseUint(own, 10, 64); err != nil {
			return 0, own
		}
	}
	if seen := c.seen.highest.Load(); seen > floor && !c.cfg.AnyRevision {
		return seen, strconv.FormatUint(seen, 10)
	}
	return floor, own
}

// check is nil when these are decisions, of the floor or above.
func (c *Client) check(floor uint64, answers ...*decisionv1.AuthorizeResponse) error {
	for _, answer := range answers {
		if d := answer.GetDecision(); d != decisionv1.Decision_DECISION_ALLOW && d != decisionv1.Decision_DECISION_DENY {
			return strange("its answer holds no decision: is it a decision node?")
		}
		if err := c.notBefore(floor, answer.GetRevision()); err != nil {
			return err
		}
	}
	return nil
}

// notBefore is nil when the revision of an answer is the floor or above. The revision is then one that was seen.
func (c *Client) notBefore(floor uint64, text string) error {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return strange("its answer names no revision, but %q", text)
	}
	if n < floor {
		return strange("its answer is of revision %d, and %d was asked for", n, floor)
	}
	c.seen.see(n)
	return nil
}

// shallow is a copy of a message that shares what the message points to: the caller's own is not to be changed, and other calls may
// be reading it. Fields of later versions of the contract are copied too.
func shallow[M proto.Message](m M) M {
	from := m.ProtoReflect()
	to := from.New()
	from.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		to.Set(field, value)
		return true
	})
	to.SetUnknown(from.GetUnknown())
	return to.Interface().(M)
}
