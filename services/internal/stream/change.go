package stream

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

func proposedToProto(e policy.ChangeProposed) (*eventv1.ChangeProposed, error) {
	m := &eventv1.ChangeProposed{Description: e.Description, Weakens: e.Weakens}
	for _, ev := range e.Events {
		payload, err := encodePayload(ev)
		if err != nil {
			return nil, err
		}
		m.Events = append(m.Events, &eventv1.ProposedEvent{
			Stream: ev.Ref().Stream(), Type: ev.Type(), TypeVersion: typeVersionNow, Payload: payload,
		})
	}
	for _, b := range e.Basis {
		m.Basis = append(m.Basis, StreamVersionToProto(b))
	}
	return m, nil
}

// StreamVersionToProto is a thing as of one version on the wire.
func StreamVersionToProto(v policy.Versioned) *eventv1.StreamVersion {
	return &eventv1.StreamVersion{Stream: v.Of.Stream(), ParentId: v.Of.Parent, Version: v.Version}
}

// proposedFromProto is the inverse of proposedToProto. What is carried goes through the same decoders as what is recorded, and
// so does not grow old in a change; but those of changes, so that nothing nests.
func proposedFromProto(id string, m *eventv1.ChangeProposed) (policy.ChangeProposed, error) {
	e := policy.ChangeProposed{ID: id, Description: m.GetDescription(), Weakens: m.GetWeakens()}
	for _, p := range m.GetEvents() {
		ev, err := decodeEvent(p, findDecoder)
		if err != nil {
			return e, fmt.Errorf("proposed: %w", err)
		}
		e.Events = append(e.Events, ev)
	}
	for _, b := range m.GetBasis() {
		ref, err := parseStream(b.GetStream())
		if err != nil {
			return e, fmt.Errorf("basis: %w", err)
		}
		ref.Parent = b.GetParentId()
		e.Basis = append(e.Basis, policy.Versioned{Of: ref, Version: b.GetVersion()})
	}
	return e, nil
}

func decodeChangeProposed(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.ChangeProposed
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	return proposedFromProto(ref.ID, &m)
}

func decodeChangeApproved(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.ChangeApproved
	err := proto.Unmarshal(payload, &m)
	return policy.ChangeApproved{ID: ref.ID}, err
}

func decodeChangeRejected(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.ChangeRejected
	err := proto.Unmarshal(payload, &m)
	return policy.ChangeRejected{ID: ref.ID, Reason: m.GetReason()}, err
}

func changeToProto(c policy.Change) (*eventv1.ChangeState, error) {
	proposed, err := proposedToProto(policy.ChangeProposed{
		ID: c.ID, Description: c.Description, Weakens: c.Weakens, Events: c.Events, Basis: c.Basis,
	})
	return &eventv1.ChangeState{
		Id: c.ID, Proposed: proposed, Proposer: ActorToProto(c.Proposer), ProposedAtUs: c.ProposedAt, Version: c.Version, Revision: c.Revision,
	}, err
}

func changeFromProto(m *eventv1.ChangeState) (policy.Change, error) {
	p, err := proposedFromProto(m.GetId(), m.GetProposed())
	return policy.Change{
		ID: p.ID, Description: p.Description, Weakens: p.Weakens, Events: p.Events, Basis: p.Basis,
		Proposer: actorFromProto(m.GetProposer()), ProposedAt: m.GetProposedAtUs(), Version: m.GetVersion(), Revision: m.GetRevision(),
	}, err
}
