package snapshot

// Everything of this package that touches cedar-go's experimental packages: they may change with any release.

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/verdict-io/verdict/services/policy"
)

// headOf is what the index may know of a policy. What it does not understand it leaves open.
func headOf(p *cedar.Policy) head {
	parsed := (*ast.Policy)(p.AST())
	var h head
	switch n := parsed.Principal.(type) {
	case ast.ScopeTypeEq:
		h.principalType, h.principal = n.Entity.Type, new(string(n.Entity.ID))
	case ast.ScopeTypeIn: // principals are in nothing but themselves
		h.principalType, h.principal = n.Entity.Type, new(string(n.Entity.ID))
	case ast.ScopeTypeIs:
		h.principalType = n.Type
	case ast.ScopeTypeIsIn:
		h.principalType = n.Type
	}
	switch n := parsed.Action.(type) {
	case ast.ScopeTypeEq:
		h.actions = []string{string(n.Entity.ID)}
	case ast.ScopeTypeIn:
		h.actions = []string{string(n.Entity.ID)}
	case ast.ScopeTypeInSet:
		h.actions = outermost(n.Entities)
	}
	if n, ok := parsed.Resource.(ast.ScopeTypeEq); ok {
		h.resource = new(string(n.Entity.ID))
	}
	h.tag = leadingTag(parsed.Conditions)
	return h
}

// outermost are the ids of the entities that are not in another one of them.
func outermost(entities []types.EntityUID) []string {
	ids := make([]string, 0, len(entities))
	for _, uid := range entities {
		ids = append(ids, string(uid.ID))
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	all := slices.Clone(ids)
	return slices.DeleteFunc(ids, func(id string) bool {
		return slices.ContainsFunc(policy.ActionGroups(id), func(group string) bool {
			return group != id && slices.Contains(all, group)
		})
	})
}

// leadingTag is the tag that the conditions test before anything else; nil when they do not.
func leadingTag(conditions []ast.ConditionType) *tag {
	if len(conditions) == 0 || conditions[0].Condition != ast.ConditionWhen {
		return nil
	}
	and := leftmost(conditions[0].Body)
	has, ok := and.Left.(ast.NodeTypeHasTag)
	if !ok || !isPrincipal(has.Left) {
		return nil
	}
	key, ok := literal(has.Right)
	if !ok {
		return nil
	}
	equals, ok := leftOf(and.Right).(ast.NodeTypeEquals)
	if !ok {
		return nil
	}
	get, ok := equals.Left.(ast.NodeTypeGetTag)
	value, literalValue := literal(equals.Right)
	if !ok || !literalValue || !isPrincipal(get.Left) {
		return nil
	}
	if read, ok := literal(get.Right); !ok || read != key {
		return nil
	}
	return &tag{key, value}
}

// leftmost is the innermost of the conjunctions that an expression begins with; the zero one when it is none.
func leftmost(n ast.IsNode) (and ast.NodeTypeAnd) {
	for {
		left, ok := n.(ast.NodeTypeAnd)
		if !ok {
			return and
		}
		and, n = left, left.Left
	}
}

// leftOf is what is evaluated first of an expression.
func leftOf(n ast.IsNode) ast.IsNode {
	if and := leftmost(n); and.Left != nil {
		return and.Left
	}
	return n
}

func isPrincipal(n ast.IsNode) bool {
	variable, ok := n.(ast.NodeTypeVariable)
	return ok && variable.Name == "principal"
}

func literal(n ast.IsNode) (string, bool) {
	value, ok := n.(ast.NodeValue)
	if !ok {
		return "", false
	}
	text, ok := value.Value.(types.String)
	return string(text), ok
}

// reads is what a policy can see of the principal, beside its name, and how it fails.
type reads struct {
	id     bool     // the attribute id
	tags   []string // their keys
	anyTag bool     // keys that are not written down
	// either: it writes records of several members, or asks whether something is in a set of what need not be entities. Of
	// two that fail, cedar-go reports either.
	either bool
}

// readsOf finds out by what the conditions hold, wherever it stands.
func readsOf(p *cedar.Policy) (r reads) {
	tag := func(key ast.IsNode) {
		if text, ok := literal(key); ok {
			r.tags = append(r.tags, text)
			return
		}
		r.anyTag = true
	}
	for _, c := range (*ast.Policy)(p.AST()).Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			switch n := n.(type) {
			case ast.NodeTypeAccess:
				r.id = r.id || n.Value == "id"
			case ast.NodeTypeHas:
				r.id = r.id || n.Value == "id"
			case ast.NodeTypeGetTag:
				tag(n.Right)
			case ast.NodeTypeHasTag:
				tag(n.Right)
			case ast.NodeTypeRecord:
				r.either = r.either || len(n.Elements) > 1
			case ast.NodeTypeIn:
				r.either = r.either || !holdsEntities(n.Right)
			case ast.NodeTypeIsIn:
				r.either = r.either || !holdsEntities(n.Entity)
			}
			return true
		})
	}
	slices.Sort(r.tags)
	r.tags = slices.Compact(r.tags)
	return r
}

// holdsEntities tells an expression that is an entity or a set of entities, whatever the request.
func holdsEntities(n ast.IsNode) bool {
	switch n := n.(type) {
	case ast.NodeTypeVariable:
		return n.Name != "context"
	case ast.NodeValue:
		_, ok := n.Value.(types.EntityUID)
		return ok
	case ast.NodeTypeSet:
		return !slices.ContainsFunc(n.Elements, func(n ast.IsNode) bool {
			_, set := n.(ast.NodeTypeSet)
			return set || !holdsEntities(n)
		})
	}
	return false
}

// setSchema is what the policies of a Set are checked against.
type setSchema struct{ resolved *resolved.Schema }

func readSchema(text []byte) (setSchema, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar(text); err != nil {
		return setSchema{}, err
	}
	r, err := s.Resolve()
	return setSchema{r}, err
}

// actions are those of the schema. The parents of each are all groups that it is in, near and far: an evaluation has no other
// actions to look them up in.
func (s setSchema) actions() []types.Entity {
	var out []types.Entity
	for uid := range s.resolved.Actions {
		out = append(out, types.Entity{UID: uid, Parents: types.NewEntityUIDSet(s.groups(uid)...)})
	}
	return out
}

func (s setSchema) groups(uid types.EntityUID) []types.EntityUID {
	var out []types.EntityUID
	for parent := range s.resolved.Actions[uid].Entity.Parents.All() {
		out = append(append(out, parent), s.groups(parent)...)
	}
	return out
}

// check panics are errors: the checker is experimental, and the policies are whoever's.
func (s setSchema) check(id string, p *cedar.Policy) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("it cannot be checked: %v", v)
		}
	}()
	if err := validate.New(s.resolved).Policy(id, (*ast.Policy)(p.AST())); err != nil {
		return err
	}
	return s.checkEnums(p)
}

// checkEnums finds what the checker lets pass: an entity of an enumerated type which is not one of those enumerated.
func (s setSchema) checkEnums(p *cedar.Policy) error {
	text, err := p.MarshalJSON()
	if err != nil {
		return err
	}
	var parsed any
	if err := json.Unmarshal(text, &parsed); err != nil {
		return err
	}
	return s.checkEnum(parsed)
}

// checkEnum walks the JSON form of a policy, in which an entity is an object of type and id wherever it stands.
func (s setSchema) checkEnum(node any) error {
	switch node := node.(type) {
	case []any:
		for _, elem := range node {
			if err := s.checkEnum(elem); err != nil {
				return err
			}
		}
	case map[string]any:
		kind, _ := node["type"].(string)
		id, named := node["id"].(string)
		if enum, ok := s.resolved.Enums[types.EntityType(kind)]; ok && named {
			uid := types.NewEntityUID(types.EntityType(kind), types.String(id))
			if !slices.Contains(enum.Values, uid) {
				return fmt.Errorf("there is no %s; there are %v", uid, enum.Values)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(node)) {
			if err := s.checkEnum(node[key]); err != nil {
				return err
			}
		}
	}
	return nil
}
