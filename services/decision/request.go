package decision

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

const (
	// maxRequestID is the longest request id that is recorded.
	maxRequestID = 256
	// maxNames is how long principal, action and resource may be together. They are recorded whole, whatever has to be left out of a
	// record, and what cannot be recorded is not decided.
	maxNames = 128 << 10
)

// read is a request as the snapshot takes it. What it refuses is no Cedar request.
func (t *turn) read(m *decisionv1.AuthorizeRequest) (*snapshot.Request, error) {
	if n := len(m.GetRequestId()); n > maxRequestID {
		return nil, policy.Invalid("length", "requestId", "requestId may have %d bytes; it has %d", maxRequestID, n)
	}
	if err := checkNames(m.GetPrincipal(), m.GetAction(), m.GetResource()); err != nil {
		return nil, err
	}
	context, err := readContext(m)
	if err != nil {
		return nil, err
	}
	return &snapshot.Request{
		Account:   t.account,
		Principal: readPrincipal(m.GetPrincipal()),
		Action:    readEntity(m.GetAction()), Resource: readEntity(m.GetResource()),
		Context: context, PolicyEngineID: m.GetPolicyEngineId(),
		Now: t.now, Staleness: t.staleness, Proven: t.proven,
	}, nil
}

// checkNames refuses texts of principal, action and resource that are too long.
func checkNames(p *decisionv1.Principal, a, r *decisionv1.Entity) error {
	n := len(p.GetType()) + len(p.GetId()) + len(a.GetType()) + len(a.GetId()) + len(r.GetType()) + len(r.GetId())
	for name, value := range p.GetTags() {
		n += len(name) + len(value)
	}
	if n > maxNames {
		return policy.Invalid("length", "principal", "principal with its tags, action and resource may have %d bytes together; they have %d", maxNames, n)
	}
	return nil
}

func readPrincipal(m *decisionv1.Principal) snapshot.Principal {
	return snapshot.Principal{Type: m.GetType(), ID: m.GetId(), Tags: m.GetTags()}
}

func readEntity(m *decisionv1.Entity) snapshot.Entity {
	return snapshot.Entity{Type: m.GetType(), ID: m.GetId()}
}

func readContext(m *decisionv1.AuthorizeRequest) (snapshot.Value, error) {
	switch {
	case m.GetContextJson() == "":
		return (&structReader{}).object(m.GetContext(), 0)
	case m.GetContext() != nil:
		return snapshot.Value{}, policy.Invalid("both", "contextJson", "context and contextJson are two ways to say one thing: send one of them")
	}
	value, err := snapshot.ParseJSON([]byte(m.GetContextJson()))
	if err != nil {
		if refusal, ok := errors.AsType[*policy.Error](err); ok {
			return value, refusal
		}
		return value, policy.Invalid("json", "contextJson", "contextJson: %s", err)
	}
	return value, nil
}

// The bounds of a context that comes as a google.protobuf.Struct. snapshot.ParseJSON has those of a text.
const (
	maxDepth  = 100 // the edge refuses deeper JSON; binary messages come this far
	maxValues = snapshot.MaxValues
)

// structReader reads a google.protobuf.Struct.
type structReader struct{ values int }

func (r *structReader) object(m *structpb.Struct, depth int) (snapshot.Value, error) {
	if m == nil {
		return snapshot.Value{}, nil
	}
	members := make([]snapshot.Member, 0, len(m.GetFields()))
	for name, field := range m.GetFields() {
		value, err := r.value(field, depth+1)
		if err != nil {
			return value, err
		}
		members = append(members, snapshot.Member{Name: name, Value: value})
	}
	return snapshot.Object(members), nil
}

func (r *structReader) value(m *structpb.Value, depth int) (snapshot.Value, error) {
	if depth > maxDepth {
		return snapshot.Value{}, policy.Invalid("depth", "context", "context is nested deeper than the %d levels that are allowed", maxDepth)
	}
	if r.values++; r.values > maxValues {
		return snapshot.Value{}, policy.Invalid("json", "context", "context holds more than %d values", maxValues)
	}
	switch kind := m.GetKind().(type) {
	case *structpb.Value_NullValue:
		return snapshot.Null(), nil
	case *structpb.Value_BoolValue:
		return snapshot.Bool(kind.BoolValue), nil
	case *structpb.Value_NumberValue:
		return snapshot.Float(kind.NumberValue), nil
	case *structpb.Value_StringValue:
		return snapshot.String(kind.StringValue), nil
	case *structpb.Value_StructValue:
		return r.object(kind.StructValue, depth)
	case *structpb.Value_ListValue:
		return r.array(kind.ListValue, depth)
	default: // binary messages may hold a value without a kind
		return snapshot.Value{}, policy.Invalid("json", "context", "context holds a value that is no JSON value (%s)", fmt.Sprintf("%T", kind))
	}
}

func (r *structReader) array(m *structpb.ListValue, depth int) (snapshot.Value, error) {
	elems := make([]snapshot.Value, len(m.GetValues()))
	for i, elem := range m.GetValues() {
		var err error
		if elems[i], err = r.value(elem, depth+1); err != nil {
			return snapshot.Value{}, err
		}
	}
	return snapshot.Array(elems), nil
}
