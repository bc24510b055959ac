package wire

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// AppendRequest appends a request in deterministic form. One with fields that this version does not know goes through the library,
// which keeps them.
func AppendRequest(dst []byte, m *decisionv1.AuthorizeRequest) ([]byte, error) {
	if hasUnknown(m) {
		return proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, m)
	}
	e := &encoder{b: dst}
	e.principal(1, m.GetPrincipal())
	e.entity(2, m.GetAction())
	e.entity(3, m.GetResource())
	if context := m.GetContext(); context != nil {
		start := e.begin(4)
		known := e.object(context)
		e.end(start)
		if !known {
			return proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, m)
		}
	}
	e.text(5, m.GetContextJson())
	e.text(6, m.GetPolicyEngineId())
	e.text(7, m.GetAtLeastRevision())
	e.text(8, m.GetRequestId())
	e.flag(9, m.GetExplain())
	return e.b, e.err
}

func hasUnknown(m *decisionv1.AuthorizeRequest) bool {
	return unknown(m) || m.GetPrincipal() != nil && unknown(m.GetPrincipal()) || m.GetAction() != nil && unknown(m.GetAction()) ||
		m.GetResource() != nil && unknown(m.GetResource())
}

func unknown(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) > 0 }

// object appends the members of a Struct; false when something in it is not known.
func (e *encoder) object(m *structpb.Struct) bool {
	if unknown(m) {
		return false
	}
	var room [16]string
	names := room[:0]
	for name := range m.GetFields() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		entry := e.begin(1)
		e.element(1, name)
		value := e.begin(2)
		known := e.value(m.GetFields()[name])
		e.end(value)
		e.end(entry)
		if !known {
			return false
		}
	}
	return true
}

func (e *encoder) value(m *structpb.Value) bool {
	if m == nil || unknown(m) {
		return false
	}
	switch kind := m.GetKind().(type) {
	case *structpb.Value_NullValue:
		e.present(1, uint64(kind.NullValue))
	case *structpb.Value_NumberValue:
		e.float(2, kind.NumberValue)
	case *structpb.Value_StringValue:
		e.element(3, kind.StringValue)
	case *structpb.Value_BoolValue:
		e.present(4, protowire.EncodeBool(kind.BoolValue))
	case *structpb.Value_StructValue:
		start := e.begin(5)
		defer func() { e.end(start) }()
		return kind.StructValue != nil && e.object(kind.StructValue)
	case *structpb.Value_ListValue:
		start := e.begin(6)
		defer func() { e.end(start) }()
		return kind.ListValue != nil && e.list(kind.ListValue)
	case nil: // a value without a kind is an empty message
	default:
		return false
	}
	return true
}

func (e *encoder) list(m *structpb.ListValue) bool {
	if unknown(m) {
		return false
	}
	for _, elem := range m.GetValues() {
		start := e.begin(1)
		known := e.value(elem)
		e.end(start)
		if !known {
			return false
		}
	}
	return true
}
