package snapshot

// Everything of this package that touches cedar-go's experimental packages: they may change with any release.

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	stable "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
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

// expression is a part of a policy's conditions.
type expression = ast.IsNode

// environment is what expressions are evaluated in.
type environment = eval.Env

// evaluate is the value of an expression as its author wrote it.
func evaluate(n expression, env *environment) (types.Value, error) {
	return eval.Eval(policy.ExactExpression(n), *env)
}

// condition is a `when`, or an `unless`.
type condition struct {
	unless bool
	body   expression
}

func conditionsOf(p *cedar.Policy) []condition {
	parsed := (*ast.Policy)(p.AST())
	out := make([]condition, len(parsed.Conditions))
	for i, c := range parsed.Conditions {
		out[i] = condition{c.Condition == ast.ConditionUnless, c.Body}
	}
	return out
}

// fitsCaller tells whether a request's principal and resource fit the head of a policy.
func fitsCaller(p *cedar.Policy, env *environment) bool {
	parsed := (*ast.Policy)(p.AST())
	return fits(parsed.Principal, env.Principal, env) && fits(parsed.Resource, env.Resource, env)
}

// fitsAction tells whether a request's action fits the head of a policy.
func fitsAction(p *cedar.Policy, env *environment) bool {
	return fits((*ast.Policy)(p.AST()).Action, env.Action, env)
}

// fits tests one part of a head. Whatever an entity is in is its parent, near and far.
func fits(scope ast.IsScopeNode, value types.Value, env *environment) bool {
	uid := value.(types.EntityUID)
	in := func(group types.EntityUID) bool {
		if uid == group {
			return true
		}
		e, _ := env.Entities.Get(uid)
		return e.Parents.Contains(group)
	}
	switch n := scope.(type) {
	case ast.ScopeTypeEq:
		return uid == n.Entity
	case ast.ScopeTypeIs:
		return uid.Type == n.Type
	case ast.ScopeTypeIn:
		return in(n.Entity)
	case ast.ScopeTypeInSet:
		return slices.ContainsFunc(n.Entities, in)
	case ast.ScopeTypeIsIn:
		return uid.Type == n.Type && in(n.Entity)
	case ast.ScopeTypeAll:
	}
	return true
}

// form is how the value of an expression comes about from its operands.
type form uint8

const (
	formStrict   form = iota // from all of them: one that fails makes it fail
	formTest                 // so, and it is a boolean
	formLiteral              // there are none, it is a value
	formVariable             // there are none, it is principal, action, resource or context
	formMember               // of one: a member of it
	formHas                  // of one: whether there is that member
	formAnd                  // the second only when the first is true
	formOr                   // the second only when the first is false
	formNot                  // of one
	formIf                   // the second or the third
)

// parts is an expression taken apart.
type parts struct {
	form     form
	value    types.Value // of a literal
	name     string      // of a variable or a member
	operands []expression
	// made is the expression with other operands.
	made func([]expression) expression
}

// partsOf takes an expression apart.
func partsOf(n expression) parts {
	switch n := n.(type) {
	case ast.NodeValue:
		return parts{form: formLiteral, value: n.Value}
	case ast.NodeTypeVariable:
		return parts{form: formVariable, name: string(n.Name)}
	case ast.NodeTypeAccess:
		return onMember(formMember, n.StrOpNode, func(s ast.StrOpNode) expression { return ast.NodeTypeAccess{StrOpNode: s} })
	case ast.NodeTypeHas:
		return onMember(formHas, n.StrOpNode, func(s ast.StrOpNode) expression { return ast.NodeTypeHas{StrOpNode: s} })
	case ast.NodeTypeAnd:
		return ofTwo(formAnd, n.BinaryNode, and)
	case ast.NodeTypeOr:
		return ofTwo(formOr, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeOr{BinaryNode: b} })
	case ast.NodeTypeNot:
		return ofOne(formNot, n.Arg, not)
	case ast.NodeTypeIfThenElse:
		return parts{form: formIf, operands: []expression{n.If, n.Then, n.Else}, made: func(o []expression) expression {
			return ast.NodeTypeIfThenElse{If: o[0], Then: o[1], Else: o[2]}
		}}
	case ast.NodeTypeIsIn: // the entity is only evaluated when the type is right
		return partsOf(and(ast.BinaryNode{
			Left: n.NodeTypeIs, Right: ast.NodeTypeIn{BinaryNode: ast.BinaryNode{Left: n.Left, Right: n.Entity}},
		}))
	case ast.NodeTypeSet:
		return parts{operands: n.Elements, made: func(o []expression) expression { return ast.NodeTypeSet{Elements: o} }}
	case ast.NodeTypeExtensionCall:
		return parts{operands: n.Args, made: func(o []expression) expression { return ast.NodeTypeExtensionCall{Name: n.Name, Args: o} }}
	case ast.NodeTypeRecord:
		return partsOfRecord(n)
	}
	return partsOfOperator(n)
}

func partsOfRecord(n ast.NodeTypeRecord) parts {
	p := parts{made: func(o []expression) expression {
		made := ast.NodeTypeRecord{Elements: slices.Clone(n.Elements)}
		for i := range o {
			made.Elements[i].Value = o[i]
		}
		return made
	}}
	for _, e := range n.Elements {
		p.operands = append(p.operands, e.Value)
	}
	return p
}

// partsOfOperator takes an operator apart that evaluates all its operands.
func partsOfOperator(n expression) parts {
	switch n := n.(type) {
	case ast.NodeTypeEquals:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeEquals{BinaryNode: b} })
	case ast.NodeTypeNotEquals:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeNotEquals{BinaryNode: b} })
	case ast.NodeTypeLessThan:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeLessThan{BinaryNode: b} })
	case ast.NodeTypeLessThanOrEqual:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeLessThanOrEqual{BinaryNode: b} })
	case ast.NodeTypeGreaterThan:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeGreaterThan{BinaryNode: b} })
	case ast.NodeTypeGreaterThanOrEqual:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeGreaterThanOrEqual{BinaryNode: b} })
	case ast.NodeTypeIn:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeIn{BinaryNode: b} })
	case ast.NodeTypeHasTag:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeHasTag{BinaryNode: b} })
	case ast.NodeTypeContains:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeContains{BinaryNode: b} })
	case ast.NodeTypeContainsAll:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeContainsAll{BinaryNode: b} })
	case ast.NodeTypeContainsAny:
		return ofTwo(formTest, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeContainsAny{BinaryNode: b} })
	case ast.NodeTypeGetTag:
		return ofTwo(formStrict, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeGetTag{BinaryNode: b} })
	case ast.NodeTypeAdd:
		return ofTwo(formStrict, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeAdd{BinaryNode: b} })
	case ast.NodeTypeSub:
		return ofTwo(formStrict, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeSub{BinaryNode: b} })
	case ast.NodeTypeMult:
		return ofTwo(formStrict, n.BinaryNode, func(b ast.BinaryNode) expression { return ast.NodeTypeMult{BinaryNode: b} })
	case ast.NodeTypeNegate:
		return ofOne(formStrict, n.Arg, func(u ast.UnaryNode) expression { return ast.NodeTypeNegate{UnaryNode: u} })
	case ast.NodeTypeIsEmpty:
		return ofOne(formTest, n.Arg, func(u ast.UnaryNode) expression { return ast.NodeTypeIsEmpty{UnaryNode: u} })
	case ast.NodeTypeLike:
		return parts{form: formTest, operands: []expression{n.Arg}, made: func(o []expression) expression {
			return ast.NodeTypeLike{Arg: o[0], Value: n.Value}
		}}
	case ast.NodeTypeIs:
		return parts{form: formTest, operands: []expression{n.Left}, made: func(o []expression) expression {
			return ast.NodeTypeIs{Left: o[0], EntityType: n.EntityType}
		}}
	}
	// A node of a later cedar-go: nothing is known of it.
	return parts{operands: []expression{variable("context")}, made: func([]expression) expression { return n }}
}

func ofTwo(f form, b ast.BinaryNode, made func(ast.BinaryNode) expression) parts {
	return parts{form: f, operands: []expression{b.Left, b.Right}, made: func(o []expression) expression {
		return made(ast.BinaryNode{Left: o[0], Right: o[1]})
	}}
}

func ofOne(f form, arg expression, made func(ast.UnaryNode) expression) parts {
	return parts{form: f, operands: []expression{arg}, made: func(o []expression) expression { return made(ast.UnaryNode{Arg: o[0]}) }}
}

func onMember(f form, s ast.StrOpNode, made func(ast.StrOpNode) expression) parts {
	return parts{form: f, name: string(s.Value), operands: []expression{s.Arg}, made: func(o []expression) expression {
		return made(ast.StrOpNode{Arg: o[0], Value: s.Value})
	}}
}

func and(b ast.BinaryNode) expression { return ast.NodeTypeAnd{BinaryNode: b} }

func not(u ast.UnaryNode) expression { return ast.NodeTypeNot{UnaryNode: u} }

func variable(name string) expression { return ast.NodeTypeVariable{Name: types.String(name)} }

func literalOf(v types.Value) expression { return ast.NodeValue{Value: v} }

func conjunction(left, right expression) expression {
	return and(ast.BinaryNode{Left: left, Right: right})
}

// nonEmpty are the operands of an expression which, being sets, must not be empty for it to hold.
func nonEmpty(n expression) (operands []int) {
	switch n.(type) {
	case ast.NodeTypeContains:
		return []int{0}
	case ast.NodeTypeContainsAny:
		return []int{0, 1}
	case ast.NodeTypeIn:
		return []int{1}
	}
	return nil
}

// textOf is a policy in Cedar's text, named by the annotation @id, about whatever is asked, with these conditions.
func textOf(id string, forbid bool, conditions []condition) []byte {
	p := ast.Permit()
	if forbid {
		p = ast.Forbid()
	}
	p.Annotations = []ast.AnnotationType{{Key: "id", Value: types.String(id)}}
	for _, c := range conditions {
		kind := ast.ConditionType{Condition: ast.ConditionWhen, Body: c.body}
		if c.unless {
			kind.Condition = ast.ConditionUnless
		}
		p.Conditions = append(p.Conditions, kind)
	}
	return cedar.NewPolicyFromAST((*stable.Policy)(p)).MarshalCedar()
}

// expressionText is an expression in Cedar's text: cedar-go writes policies only.
func expressionText(n expression) string {
	text := string(textOf("", false, []condition{{body: n}}))
	_, text, _ = strings.Cut(text, "when { ")
	return strings.TrimSuffix(text, " };")
}

// clausesOf are expressions of which all hold where a policy applies, but for what its head says of the action: what it says of
// principal and resource, and the conditions, taken apart.
func clausesOf(p *cedar.Policy) []expression {
	parsed := (*ast.Policy)(p.AST())
	var out []expression
	for _, head := range []ast.Policy{
		{Principal: parsed.Principal, Action: ast.ScopeTypeAll{}, Resource: ast.ScopeTypeAll{}},
		{Principal: ast.ScopeTypeAll{}, Action: ast.ScopeTypeAll{}, Resource: parsed.Resource},
	} {
		n := eval.PolicyToNode(&head).AsIsNode()
		if _, all := n.(ast.NodeValue); !all {
			out = append(out, n)
		}
	}
	for _, c := range conditionsOf(p) {
		if c.unless {
			out = appendNone(out, c.body)
		} else {
			out = appendAll(out, c.body)
		}
	}
	return out
}

// appendAll appends expressions that are all true when n is.
func appendAll(out []expression, n expression) []expression {
	if n, ok := n.(ast.NodeTypeAnd); ok {
		return appendAll(appendAll(out, n.Left), n.Right)
	}
	return append(out, n)
}

// appendNone appends expressions that are all true when n is false.
func appendNone(out []expression, n expression) []expression {
	if n, ok := n.(ast.NodeTypeOr); ok {
		return appendNone(appendNone(out, n.Left), n.Right)
	}
	return append(out, not(ast.UnaryNode{Arg: n}))
}

// readIn are the parts of an expression that read the request: members, as far as they go, tags, and what is taken as a whole.
func readIn(n expression) (out []expression) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		switch n := n.(type) {
		case ast.NodeTypeHas:
			return !isRead(n.Arg) // that it is there says the clause
		case ast.NodeTypeHasTag:
			return !isRead(n.Left)
		}
		if isRead(n) {
			out = append(out, n)
			return false
		}
		return true
	})
	return out
}

// isRead tells whether an expression is a variable, or leads from one to a member or tag.
func isRead(n expression) bool {
	for {
		switch at := n.(type) {
		case ast.NodeTypeVariable:
			return true
		case ast.NodeTypeAccess:
			n = at.Arg
		case ast.NodeTypeGetTag:
			if _, written := literal(at.Right); !written {
				return false
			}
			n = at.Left
		default:
			return false
		}
	}
}
