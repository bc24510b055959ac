package snapshot

import (
	"fmt"
	"net/netip"
	"slices"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// Set is a set of policies that stands by itself: its principals, actions and resources are those of a schema that comes with
// it, and none is of a State. It never changes.
type Set struct {
	policies *cedar.PolicySet
	actions  map[string]types.Entity // by id; each knows the groups that it is in
	kind     types.EntityType        // of actions
}

// maxSet bounds the text of policies, which is parsed and checked as a whole.
const maxSet = 1 << 20

// Compile makes a Set of policies in Cedar's text and checks each against a schema in Cedar's text; all its actions are of
// one namespace. A policy is named by its annotation @id, which all must have. The error is of one line a policy, for whoever
// wrote them.
func Compile(policies, schema []byte) (*Set, error) {
	if len(policies) > maxSet {
		return nil, fmt.Errorf("%d bytes of policies: at most %d are taken", len(policies), maxSet)
	}
	checked, err := readSchema(schema)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	list, err := cedar.NewPolicyListFromBytes("", policies)
	if err != nil {
		return nil, err
	}
	s := &Set{policies: cedar.NewPolicySet(), actions: map[string]types.Entity{}}
	for _, action := range checked.actions() {
		s.kind, s.actions[string(action.UID.ID)] = action.UID.Type, action
	}
	for i, p := range list {
		id := cedar.PolicyID(p.Annotations()["id"])
		exact, err := policy.Exact(p)
		switch {
		case id == "":
			return nil, fmt.Errorf(`policy %d, at line %d, has no name: write @id("…") before it`, i+1, p.Position().Line)
		case err != nil:
			return nil, fmt.Errorf("policy %q, at line %d: %w", id, p.Position().Line, err)
		case !s.policies.Add(id, exact):
			return nil, fmt.Errorf("two policies are called %q", id)
		}
		if err := checked.check(string(id), p); err != nil {
			return nil, fmt.Errorf("policy %q, at line %d: %w", id, p.Position().Line, err)
		}
	}
	return s, nil
}

// SetEntity is the principal or the resource of a SetRequest.
type SetEntity struct {
	Type, ID   string
	ParentType string
	Parents    []string // ids of entities of ParentType
	Attributes map[string]string
}

// SetRequest is a question to a Set.
type SetRequest struct {
	Principal, Resource SetEntity
	Action              string // its id
	// Address is context.sourceAddress, which is absent when it is not valid.
	Address netip.Addr
}

// SetDecision is the answer of a Set.
type SetDecision struct {
	Allow    bool
	Policies []string // that decided, sorted
	Errors   []PolicyError
}

// Decide answers as Cedar does: default deny, forbid wins. A policy that fails to evaluate counts for nothing, but a forbid
// that fails denies. An action that the schema does not have is denied.
func (s *Set) Decide(r *SetRequest) SetDecision {
	request := cedar.Request{
		Principal: r.Principal.uid(), Action: types.NewEntityUID(s.kind, types.String(r.Action)), Resource: r.Resource.uid(),
	}
	action, known := s.actions[r.Action]
	if !known {
		return SetDecision{}
	}
	if r.Address.IsValid() {
		request.Context = types.NewRecord(types.RecordMap{"sourceAddress": types.IPAddr(netip.PrefixFrom(r.Address, r.Address.BitLen()))})
	}
	entities := types.EntityMap{request.Principal: r.Principal.entity(), request.Resource: r.Resource.entity(), request.Action: action}
	decision, diagnostic := cedar.Authorize(s.policies, entities, request)
	out := SetDecision{Allow: bool(decision)}
	for _, reason := range diagnostic.Reasons {
		out.Policies = append(out.Policies, string(reason.PolicyID))
	}
	slices.Sort(out.Policies)
	for _, failed := range diagnostic.Errors {
		out.Errors = append(out.Errors, PolicyError{string(failed.PolicyID), clipTo(failed.Message, maxMessage)})
		if s.policies.Get(failed.PolicyID).Effect() == cedar.Forbid {
			out.Allow = false
		}
	}
	return out
}

func (e *SetEntity) uid() types.EntityUID {
	return types.NewEntityUID(types.EntityType(e.Type), types.String(e.ID))
}

func (e *SetEntity) entity() types.Entity {
	attributes := make(types.RecordMap, len(e.Attributes))
	for name, value := range e.Attributes {
		attributes[types.String(name)] = types.String(value)
	}
	parents := make([]types.EntityUID, len(e.Parents))
	for i, id := range e.Parents {
		parents[i] = types.NewEntityUID(types.EntityType(e.ParentType), types.String(id))
	}
	return types.Entity{UID: e.uid(), Parents: types.NewEntityUIDSet(parents...), Attributes: types.NewRecord(attributes)}
}
