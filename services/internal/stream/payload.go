package stream

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// typeVersion names one meaning of a payload. It stays decodable for ever: a new version of a type gets an entry of its
// own here, which turns the old payload into today's event (an upcaster), and golden bytes in testdata.
type typeVersion struct {
	name    string // without the kind where all kinds share it: ".activated"
	version uint32
}

// decoder turns a payload into an event about ref, whose Parent the payload knows.
type decoder func(ref policy.Ref, payload []byte) (policy.Event, error)

// decoders are those of events about things. Such events can be carried by a change.
var decoders = map[typeVersion]decoder{
	{"log.created", 1}:              decodeLogCreated,
	{"account.settings_changed", 1}: decodeAccountSettingsChanged,
	{"engine.created", 1}:           decodeEngineCreated,
	{"engine.update_requested", 1}:  decodeEngineUpdateRequested,
	{"engine.settings_changed", 1}:  decodeEngineSettingsChanged,
	{"policy.created", 1}:           decodePolicyCreated,
	{"policy.update_requested", 1}:  decodePolicyUpdateRequested,
	{"gateway.created", 1}:          decodeGatewayCreated,
	{"gateway.update_requested", 1}: decodeGatewayUpdateRequested,
	{"target.created", 1}:           decodeTargetCreated,
	{"target.update_requested", 1}:  decodeTargetUpdateRequested,
	{".activated", 1}:               decodeActivated,
	{".failed", 1}:                  decodeFailed,
	{".delete_requested", 1}:        decodeDeleteRequested,
	{".deleted", 1}:                 decodeDeleted,
	{".tags_changed", 1}:            decodeTagsChanged,
}

// changeDecoders are those of events about changes. They stand apart since a change uses the others, and cannot carry a change.
var changeDecoders = map[typeVersion]decoder{
	{"change.proposed", 1}: decodeChangeProposed,
	{"change.approved", 1}: decodeChangeApproved,
	{"change.rejected", 1}: decodeChangeRejected,
}

// shared are the kinds that have the life-cycle events.
var shared = map[policy.Kind]bool{
	policy.KindEngine: true, policy.KindPolicy: true, policy.KindGateway: true, policy.KindTarget: true,
}

// findDecoder finds the decoder of an event about a thing; nil when there is none.
func findDecoder(name string, version uint32, ref policy.Ref) decoder {
	if decode, known := decoders[typeVersion{name, version}]; known || !shared[ref.Kind] {
		return decode
	}
	return decoders[typeVersion{strings.TrimPrefix(name, string(ref.Kind)), version}]
}

func decodePayload(name string, version uint32, ref policy.Ref, payload []byte, find func(string, uint32, policy.Ref) decoder) (policy.Event, error) {
	decode := find(name, version, ref)
	if decode == nil {
		return nil, fmt.Errorf("%s version %d: %w", name, version, ErrUnknownType)
	}
	event, err := decode(ref, payload)
	if err != nil {
		return nil, fmt.Errorf("payload of %s version %d: %w", name, version, err)
	}
	return event, nil
}

func encodePayload(event policy.Event) ([]byte, error) {
	if e, ok := event.(policy.ChangeProposed); ok {
		m, err := proposedToProto(e)
		if err != nil {
			return nil, err
		}
		return marshal(m)
	}
	m := payloadOf(event)
	if m == nil {
		return nil, fmt.Errorf("no payload for %T", event)
	}
	return marshal(m)
}

func payloadOf(event policy.Event) proto.Message {
	switch e := event.(type) {
	case policy.LogCreated:
		return &eventv1.LogCreated{Region: e.Region}
	case policy.AccountSettingsChanged:
		return &eventv1.AccountSettingsChanged{Settings: SettingsToProto(e.Settings), SecondPerson: e.SecondPerson}
	case policy.EngineCreated:
		return &eventv1.EngineCreated{Name: e.Name, Definition: EngineDefinitionToProto(&e.Definition), Tags: e.Tags}
	case policy.EngineUpdateRequested:
		return &eventv1.EngineUpdateRequested{Definition: EngineDefinitionToProto(&e.Definition)}
	case policy.EngineSettingsChanged:
		return &eventv1.EngineSettingsChanged{Settings: SettingsToProto(e.Settings)}
	case policy.PolicyCreated:
		return &eventv1.PolicyCreated{PolicyEngineId: e.EngineID, Name: e.Name, Definition: BodyToProto(&e.Body), Tags: e.Tags}
	case policy.PolicyUpdateRequested:
		return &eventv1.PolicyUpdateRequested{PolicyEngineId: e.EngineID, Definition: BodyToProto(&e.Body)}
	case policy.GatewayCreated:
		return &eventv1.GatewayCreated{Name: e.Name, Definition: GatewayDefinitionToProto(&e.Definition), Tags: e.Tags}
	case policy.GatewayUpdateRequested:
		return &eventv1.GatewayUpdateRequested{Definition: GatewayDefinitionToProto(&e.Definition)}
	case policy.TargetCreated:
		return &eventv1.TargetCreated{GatewayId: e.GatewayID, Name: e.Name, Definition: TargetDefinitionToProto(&e.Definition)}
	case policy.TargetUpdateRequested:
		return &eventv1.TargetUpdateRequested{GatewayId: e.GatewayID, Definition: TargetDefinitionToProto(&e.Definition)}
	case policy.Activated:
		return &eventv1.Activated{ParentId: e.Of.Parent}
	case policy.Failed:
		return &eventv1.Failed{ParentId: e.Of.Parent, Reasons: e.Reasons}
	case policy.DeleteRequested:
		return &eventv1.DeleteRequested{ParentId: e.Of.Parent}
	case policy.Deleted:
		return &eventv1.Deleted{ParentId: e.Of.Parent}
	case policy.TagsChanged:
		return &eventv1.TagsChanged{ParentId: e.Of.Parent, Tags: e.Tags}
	case policy.ChangeApproved:
		return &eventv1.ChangeApproved{}
	case policy.ChangeRejected:
		return &eventv1.ChangeRejected{Reason: e.Reason}
	}
	return nil
}

func decodeLogCreated(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.LogCreated
	err := proto.Unmarshal(payload, &m)
	return policy.LogCreated{LogID: ref.ID, Region: m.GetRegion()}, err
}

func decodeAccountSettingsChanged(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.AccountSettingsChanged
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	s, err := SettingsFromProto(m.GetSettings())
	return policy.AccountSettingsChanged{Account: ref.ID, Settings: s, SecondPerson: m.GetSecondPerson()}, err
}

func decodeEngineCreated(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.EngineCreated
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	d := EngineDefinitionFromProto(m.GetDefinition())
	return policy.EngineCreated{ID: ref.ID, Name: m.GetName(), Definition: *d, Tags: m.GetTags()}, nil
}

func decodeEngineUpdateRequested(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.EngineUpdateRequested
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	return policy.EngineUpdateRequested{ID: ref.ID, Definition: *EngineDefinitionFromProto(m.GetDefinition())}, nil
}

func decodeEngineSettingsChanged(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.EngineSettingsChanged
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	s, err := SettingsFromProto(m.GetSettings())
	return policy.EngineSettingsChanged{ID: ref.ID, Settings: s}, err
}

func decodePolicyCreated(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.PolicyCreated
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	b, err := BodyFromProto(m.GetDefinition())
	if err != nil {
		return nil, err
	}
	return policy.PolicyCreated{EngineID: m.GetPolicyEngineId(), ID: ref.ID, Name: m.GetName(), Body: *b, Tags: m.GetTags()}, nil
}

func decodePolicyUpdateRequested(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.PolicyUpdateRequested
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	b, err := BodyFromProto(m.GetDefinition())
	if err != nil {
		return nil, err
	}
	return policy.PolicyUpdateRequested{EngineID: m.GetPolicyEngineId(), ID: ref.ID, Body: *b}, nil
}

func decodeGatewayCreated(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.GatewayCreated
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	d, err := GatewayDefinitionFromProto(m.GetDefinition())
	if err != nil {
		return nil, err
	}
	return policy.GatewayCreated{ID: ref.ID, Name: m.GetName(), Definition: *d, Tags: m.GetTags()}, nil
}

func decodeGatewayUpdateRequested(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.GatewayUpdateRequested
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	d, err := GatewayDefinitionFromProto(m.GetDefinition())
	if err != nil {
		return nil, err
	}
	return policy.GatewayUpdateRequested{ID: ref.ID, Definition: *d}, nil
}

func decodeTargetCreated(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.TargetCreated
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	d, err := TargetDefinitionFromProto(m.GetDefinition())
	if err != nil {
		return nil, err
	}
	return policy.TargetCreated{GatewayID: m.GetGatewayId(), ID: ref.ID, Name: m.GetName(), Definition: *d}, nil
}

func decodeTargetUpdateRequested(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.TargetUpdateRequested
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	d, err := TargetDefinitionFromProto(m.GetDefinition())
	if err != nil {
		return nil, err
	}
	return policy.TargetUpdateRequested{GatewayID: m.GetGatewayId(), ID: ref.ID, Definition: *d}, nil
}

func decodeActivated(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.Activated
	err := proto.Unmarshal(payload, &m)
	ref.Parent = m.GetParentId()
	return policy.Activated{Of: ref}, err
}

func decodeFailed(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.Failed
	err := proto.Unmarshal(payload, &m)
	ref.Parent = m.GetParentId()
	return policy.Failed{Of: ref, Reasons: m.GetReasons()}, err
}

func decodeDeleteRequested(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.DeleteRequested
	err := proto.Unmarshal(payload, &m)
	ref.Parent = m.GetParentId()
	return policy.DeleteRequested{Of: ref}, err
}

func decodeDeleted(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.Deleted
	err := proto.Unmarshal(payload, &m)
	ref.Parent = m.GetParentId()
	return policy.Deleted{Of: ref}, err
}

func decodeTagsChanged(ref policy.Ref, payload []byte) (policy.Event, error) {
	var m eventv1.TagsChanged
	err := proto.Unmarshal(payload, &m)
	ref.Parent = m.GetParentId()
	return policy.TagsChanged{Of: ref, Tags: m.GetTags()}, err
}
