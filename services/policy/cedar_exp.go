package policy

// Everything of this package that touches cedar-go's experimental packages: they may change with any release.

import (
	"fmt"
	"math"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	stable "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

type (
	cedarPolicy    = ast.Policy
	cedarType      = resolved.IsType
	cedarRecord    = resolved.RecordType
	cedarAttribute = resolved.Attribute
	cedarSet       = resolved.SetType
	cedarString    = resolved.StringType
	cedarLong      = resolved.LongType
	cedarBool      = resolved.BoolType
	cedarExtension = resolved.ExtensionType
)

// parsePolicies parses all statements of a text. It is this function and not Policy.UnmarshalCedar because that one
// ignores whatever follows the first statement. Callers check the shape of the text first (checkShape).
func parsePolicies(source string) ([]*cedarPolicy, error) {
	list, err := cedar.NewPolicyListFromBytes("", []byte(source))
	if err != nil {
		return nil, err
	}
	policies := make([]*cedarPolicy, len(list))
	for i, p := range list {
		policies[i] = (*cedarPolicy)(p.AST())
	}
	return policies, nil
}

// Compile makes what cedar-go evaluates, as Exact says, and the policy as its author stated it: the same one where nothing has
// to be corrected. Both are nil for the zero Statement.
func (s Statement) Compile() (evaluated, stated *cedar.Policy) {
	if s.parsed == nil {
		return nil, nil
	}
	stated = cedar.NewPolicyFromAST((*stable.Policy)(s.parsed))
	if changed := exact(s.parsed); changed != s.parsed {
		return cedar.NewPolicyFromAST((*stable.Policy)(changed)), stated
	}
	return stated, stated
}

// Exact is a policy as cedar-go has to evaluate it to answer as Cedar does: p itself, or p with what cedar-go gets wrong written
// otherwise (docs/0014). It fails where toDate() and toTime() stand too deeply within each other.
func Exact(p *cedar.Policy) (*cedar.Policy, error) {
	parsed := (*cedarPolicy)(p.AST())
	if dateDepth(parsed) > maxDates {
		return nil, fmt.Errorf("toDate() and toTime() stand more than %d deep within each other", maxDates)
	}
	if changed := exact(parsed); changed != parsed {
		return cedar.NewPolicyFromAST((*stable.Policy)(changed)), nil
	}
	return p, nil
}

// maxDates is how deep toDate() and toTime() may stand within each other. Each level doubles what is evaluated.
const maxDates = 4

// dateDepth is how deep they do.
func dateDepth(p *cedarPolicy) (deepest int) {
	for _, c := range p.Conditions {
		deepest = max(deepest, dateDepthOf(c.Body))
	}
	return deepest
}

func dateDepthOf(n ast.IsNode) (deepest int) {
	for _, child := range children(n) {
		deepest = max(deepest, dateDepthOf(child))
	}
	if name, _ := extension(n); name == "toDate" || name == "toTime" {
		deepest++
	}
	return deepest
}

// extension is the name of an extension function of one argument that an expression calls, and the argument; "" when it is none.
func extension(n ast.IsNode) (name types.Path, argument ast.IsNode) {
	if call, ok := n.(ast.NodeTypeExtensionCall); ok && len(call.Args) == 1 {
		return call.Name, call.Args[0]
	}
	return "", nil
}

// exact is what Exact makes of a policy: p itself when there is nothing to change.
func exact(p *cedarPolicy) *cedarPolicy {
	if !slices.ContainsFunc(p.Conditions, func(c ast.ConditionType) bool { return inexact(c.Body) }) {
		return p
	}
	changed := *p
	changed.Conditions = slices.Clone(p.Conditions)
	for i := range changed.Conditions {
		changed.Conditions[i].Body = ExactExpression(changed.Conditions[i].Body)
	}
	return &changed
}

// inexact tells whether there is anything to correct in an expression.
func inexact(n ast.IsNode) (found bool) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		found = found || correction(n) != nil
		return !found
	})
	return found
}

// ExactExpression is an expression of a Statement as Exact has it.
func ExactExpression(n ast.IsNode) ast.IsNode {
	if inexact(n) {
		return exactNode(n)
	}
	return n
}

func exactNode(n ast.IsNode) ast.IsNode {
	n = withChildren(n, exactNode)
	if changed := correction(n); changed != nil {
		return changed
	}
	return n
}

// correction is what has to stand in the place of an expression; nil when it is right as it is.
func correction(n ast.IsNode) ast.IsNode {
	name, argument := extension(n)
	switch name {
	case "toTime":
		return timeOfDay(argument).AsIsNode()
	case "toDate":
		// There is no negative of a duration but the time since a later moment.
		day := ast.Datetime(firstDay)
		return ast.NewNode(argument).Offset(day.DurationSince(day.Offset(timeOfDay(argument)))).AsIsNode()
	}
	value, ok := argument.(ast.NodeValue)
	literal, isString := value.Value.(types.String)
	if !ok || !isString {
		return nil
	}
	return literalCorrection(name, string(literal))
}

// timeOfDay is t.toTime(). cedar-go rounds towards 1970, so that its own is negative before 1970.
func timeOfDay(t ast.IsNode) ast.Node {
	return ast.Datetime(secondDay).Offset(ast.NewNode(t).ToTime()).ToTime()
}

var (
	firstDay  = time.UnixMilli(0).UTC()
	secondDay = firstDay.AddDate(0, 0, 1)
)

// literalCorrection is what has to stand in the place of an extension's literal; nil when it is right as it is.
func literalCorrection(name types.Path, literal string) ast.IsNode {
	sign := strings.HasPrefix(literal, "+") || strings.HasPrefix(literal, "-")
	switch {
	case name == "decimal" && strings.HasPrefix(literal, "+"), name == "datetime" && sign:
		// Cedar takes neither a plus nor a year of nine digits. What fails with two signs fails in cedar-go too, and says so.
		if twice := literal[:1] + literal; literal[:min(2, len(literal))] != twice[:2] {
			return ast.ExtensionCall(name, ast.String(twice)).AsIsNode()
		}
	case name == "duration" && isShortest(literal):
		return ast.NodeValue{Value: types.NewDurationFromMillis(math.MinInt64)}
	}
	return nil
}

// durationParts are days, hours, minutes, seconds and milliseconds.
var durationParts = regexp.MustCompile(`^-(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$`)

// isShortest tells the duration of -2^63 milliseconds, however it is written, for which cedar-go has no room.
func isShortest(literal string) bool {
	parts := durationParts.FindStringSubmatch(literal)
	if parts == nil {
		return false
	}
	total := new(big.Int)
	for i, millis := range []int64{24 * 60 * 60 * 1000, 60 * 60 * 1000, 60 * 1000, 1000, 1} {
		if n, ok := new(big.Int).SetString(parts[i+1], 10); ok {
			total.Add(total, n.Mul(n, big.NewInt(millis)))
		}
	}
	return total.Neg(total).Cmp(big.NewInt(math.MinInt64)) == 0
}

var nodeType = reflect.TypeFor[ast.IsNode]()

// withChildren is a copy of an expression in which those directly below are changed. It finds them by their type, as there are
// some thirty kinds of expressions, and it is called for few.
func withChildren(n ast.IsNode, change func(ast.IsNode) ast.IsNode) ast.IsNode {
	copied := reflect.New(reflect.TypeOf(n)).Elem()
	copied.Set(reflect.ValueOf(n))
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch {
		case !v.CanSet() || v.Type() == nodeType && v.IsNil():
		case v.Type() == nodeType:
			child, _ := reflect.TypeAssert[ast.IsNode](v)
			v.Set(reflect.ValueOf(change(child)))
		case v.Kind() == reflect.Struct:
			for _, field := range v.Fields() {
				walk(field)
			}
		case v.Kind() == reflect.Slice:
			own := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(own, v)
			v.Set(own)
			for i := range v.Len() {
				walk(v.Index(i))
			}
		}
	}
	walk(copied)
	changed, _ := reflect.TypeAssert[ast.IsNode](copied)
	return changed
}

func effectOf(p *cedarPolicy) Effect {
	if p.Effect == ast.EffectPermit {
		return EffectPermit
	}
	return EffectForbid
}

type scopeKind uint8

const (
	scopeAny   scopeKind = iota // principal
	scopeEqual                  // principal == e
	scopeIs                     // principal is T
	scopeIn                     // principal in e
	scopeInSet                  // action in [e, …]
	scopeIsIn                   // principal is T in e
)

// scopeTerm is one of the three parts of a statement's head.
type scopeTerm struct {
	kind     scopeKind
	is       types.EntityType  // of scopeIs and scopeIsIn
	entities []types.EntityUID // those that it names
}

// types are the entity types that the term names.
func (t scopeTerm) types() []string {
	var names []string
	if t.is != "" {
		names = append(names, string(t.is))
	}
	for _, e := range t.entities {
		names = append(names, string(e.Type))
	}
	return names
}

type statementScope struct{ principal, action, resource scopeTerm }

func scopeOf(p *cedarPolicy) statementScope {
	return statementScope{principal: termOf(p.Principal), action: termOf(p.Action), resource: termOf(p.Resource)}
}

func termOf(node ast.IsScopeNode) scopeTerm {
	switch n := node.(type) {
	case ast.ScopeTypeEq:
		return scopeTerm{kind: scopeEqual, entities: []types.EntityUID{n.Entity}}
	case ast.ScopeTypeIs:
		return scopeTerm{kind: scopeIs, is: n.Type}
	case ast.ScopeTypeIn:
		return scopeTerm{kind: scopeIn, entities: []types.EntityUID{n.Entity}}
	case ast.ScopeTypeInSet:
		return scopeTerm{kind: scopeInSet, entities: n.Entities}
	case ast.ScopeTypeIsIn:
		return scopeTerm{kind: scopeIsIn, is: n.Type, entities: []types.EntityUID{n.Entity}}
	case ast.ScopeTypeAll:
	}
	return scopeTerm{}
}

// survey is what a walk over a statement's conditions finds out, before and apart from type-checking.
type survey struct {
	entities   []types.EntityUID   // literals, in order
	is         []types.EntityType  // right sides of `is`, in order
	members    map[string]bool     // members of context.input that are read or tested
	paths      [][]string          // what is read of context: ["input", "amount"]
	guards     map[string]struct{} // distinct `has` and `hasTag` tests
	wholeInput bool                // context or context.input is used as a value of its own
	usesAction bool
	usesIn     bool
	nodes      int
	cost       float64 // type-checker steps per request environment, paths of context not counted
}

func surveyOf(p *cedarPolicy) *survey {
	s := &survey{members: map[string]bool{}, guards: map[string]struct{}{}}
	for _, c := range p.Conditions {
		s.cost += s.visit(c.Body)
	}
	return s
}

// visit walks one expression and returns what the type-checker has to do for it.
func (s *survey) visit(n ast.IsNode) float64 {
	s.nodes++
	switch n := n.(type) {
	case ast.NodeTypeAccess:
		return s.visitAccess(n)
	case ast.NodeTypeGetTag:
		// A message about a tag prints the expression of its key, in quadratic time.
		before := s.nodes
		cost := s.visit(n.Left) + s.visit(n.Right)
		return cost + math.Pow(float64(s.nodes-before), 2)
	case ast.NodeTypeHas:
		if path, ok := contextPath(n.Arg); ok {
			full := append(slices.Clone(path), string(n.Value))
			s.guards[strings.Join(full, "\x00")] = struct{}{}
			s.note(full)
			s.paths = append(s.paths, path)
			return float64(len(full) + 1)
		}
		s.guards[fmt.Sprintf("%v", n)] = struct{}{}
	case ast.NodeTypeHasTag:
		s.guards[fmt.Sprintf("%v", n)] = struct{}{}
	case ast.NodeTypeVariable:
		s.usesAction = s.usesAction || n.Name == "action"
		s.wholeInput = s.wholeInput || n.Name == "context"
	case ast.NodeValue:
		if uid, ok := n.Value.(types.EntityUID); ok {
			s.entities = append(s.entities, uid)
		}
	case ast.NodeTypeIs:
		s.is = append(s.is, n.EntityType)
	case ast.NodeTypeIsIn:
		s.is = append(s.is, n.EntityType)
	case ast.NodeTypeIn:
		s.usesIn = true
	}
	cost := 1.0
	for _, child := range children(n) {
		cost += s.visit(child)
	}
	return cost
}

// visitAccess walks a path. cedar-go's type-checker checks what is left of an unguarded optional member once more for
// each member of the path, so that its work doubles with every one of them. For paths of context that is counted by
// the schema; any other path of a statement is one or two members long in earnest.
func (s *survey) visitAccess(n ast.NodeTypeAccess) float64 {
	if path, ok := contextPath(n); ok {
		s.note(path)
		s.paths = append(s.paths, path)
		s.wholeInput = s.wholeInput || len(path) == 1 && path[0] == "input"
		return float64(1 + len(path))
	}
	length, root := 0, ast.IsNode(n)
	for {
		access, ok := root.(ast.NodeTypeAccess)
		if !ok {
			break
		}
		length, root = length+1, access.Arg
	}
	cost := s.visit(root)
	if _, variable := root.(ast.NodeTypeVariable); variable {
		return cost + float64(length)
	}
	return cost * math.Pow(2, float64(length))
}

// note remembers which argument of the tool a path begins with.
func (s *survey) note(path []string) {
	if len(path) > 1 && path[0] == "input" {
		s.members[path[1]] = true
	}
}

// contextPath is the path of context.a.b, and whether the expression is one; it is empty for context itself.
func contextPath(n ast.IsNode) ([]string, bool) {
	switch n := n.(type) {
	case ast.NodeTypeVariable:
		return nil, n.Name == "context"
	case ast.NodeTypeAccess:
		path, ok := contextPath(n.Arg)
		return append(path, string(n.Value)), ok
	}
	return nil, false
}

// children are the expressions directly below one.
func children(n ast.IsNode) []ast.IsNode {
	var found []ast.IsNode
	top := true
	ast.Inspect(ast.NewNode(n), func(child ast.IsNode) bool {
		if top {
			top = false
			return true
		}
		found = append(found, child)
		return false
	})
	return found
}

// forAction is the policy as the type-checker shall see it for one action:
//   - all clauses in one, because cedar-go checks them one by one and forgets in the second what the first has tested;
//   - `x is T in e` as `x is T && x in e`, because cedar-go does not see that the former is false for another type;
//   - `action == A` and `action in [A, B]` decided, because cedar-go leaves the first open and takes long for the
//     second.
func forAction(p *cedarPolicy, env environment) *cedarPolicy {
	changed := *p
	changed.Action = ast.ScopeTypeEq{Entity: env.action}
	changed.Conditions = nil
	var all ast.IsNode
	for _, c := range p.Conditions {
		clause := env.rewrite(c.Body)
		if c.Condition == ast.ConditionUnless {
			clause = ast.NodeTypeNot{UnaryNode: ast.UnaryNode{Arg: clause}}
		}
		if all == nil {
			all = clause
			continue
		}
		all = ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{Left: all, Right: clause}}
	}
	if all != nil {
		changed.Conditions = []ast.ConditionType{{Condition: ast.ConditionWhen, Body: all}}
	}
	return &changed
}

// rewrite changes the expressions that decide on their own whether a clause holds; those inside values keep their
// form, which the type-checker can only judge more strictly.
func (e environment) rewrite(n ast.IsNode) ast.IsNode {
	pair := func(b ast.BinaryNode) ast.BinaryNode {
		return ast.BinaryNode{Left: e.rewrite(b.Left), Right: e.rewrite(b.Right)}
	}
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		return ast.NodeTypeAnd{BinaryNode: pair(n.BinaryNode)}
	case ast.NodeTypeOr:
		return ast.NodeTypeOr{BinaryNode: pair(n.BinaryNode)}
	case ast.NodeTypeNot:
		return ast.NodeTypeNot{UnaryNode: ast.UnaryNode{Arg: e.rewrite(n.Arg)}}
	case ast.NodeTypeIfThenElse:
		return ast.NodeTypeIfThenElse{If: e.rewrite(n.If), Then: e.rewrite(n.Then), Else: e.rewrite(n.Else)}
	case ast.NodeTypeIsIn:
		if isPath(n.Left) { // it is doubled, and operands inside operands would double each time
			in := ast.NodeTypeIn{BinaryNode: ast.BinaryNode{Left: n.Left, Right: n.Entity}}
			return ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{Left: n.NodeTypeIs, Right: in}}
		}
	case ast.NodeTypeEquals:
		if uid, ok := comparedAction(n.BinaryNode); ok {
			return ast.NodeValue{Value: types.Boolean(uid == e.action)}
		}
	case ast.NodeTypeNotEquals:
		if uid, ok := comparedAction(n.BinaryNode); ok {
			return ast.NodeValue{Value: types.Boolean(uid != e.action)}
		}
	case ast.NodeTypeIn:
		if groups, ok := actionLiterals(n.Right); ok && isVariable(n.Left, "action") {
			return ast.NodeValue{Value: types.Boolean(slices.ContainsFunc(groups, e.inGroup))}
		}
	}
	return n
}

// inGroup tells whether the action is a group or in it.
func (e environment) inGroup(group types.EntityUID) bool {
	pending := []types.EntityUID{e.action}
	for len(pending) > 0 {
		uid := pending[len(pending)-1]
		if uid == group {
			return true
		}
		pending = append(pending[:len(pending)-1], e.parents[uid]...)
	}
	return false
}

func isVariable(n ast.IsNode, name types.String) bool {
	variable, ok := n.(ast.NodeTypeVariable)
	return ok && variable.Name == name
}

// isPath tells a path of members that begins at a variable or a literal from any other expression.
func isPath(n ast.IsNode) bool {
	for {
		access, ok := n.(ast.NodeTypeAccess)
		if !ok {
			return len(children(n)) == 0
		}
		n = access.Arg
	}
}

// comparedAction is the action that the variable action is compared with, on either side.
func comparedAction(b ast.BinaryNode) (types.EntityUID, bool) {
	left, right := b.Left, b.Right
	if !isVariable(left, "action") {
		left, right = right, left
	}
	uids, ok := actionLiterals(right)
	if !ok || !isVariable(left, "action") {
		return types.EntityUID{}, false
	}
	_, set := right.(ast.NodeTypeSet)
	return uids[0], !set
}

// actionLiterals are the actions of `A` or of `[A, B]`; there is at least one.
func actionLiterals(n ast.IsNode) ([]types.EntityUID, bool) {
	elements := []ast.IsNode{n}
	if set, ok := n.(ast.NodeTypeSet); ok {
		elements = set.Elements
	}
	var uids []types.EntityUID
	for _, element := range elements {
		value, ok := element.(ast.NodeValue)
		if !ok {
			return nil, false
		}
		uid, ok := value.Value.(types.EntityUID)
		if !ok || uid.Type != typeAction {
			return nil, false
		}
		uids = append(uids, uid)
	}
	return uids, len(uids) > 0
}

// environment is what a statement is type-checked against at one time.
type environment struct {
	action types.EntityUID
	input  cedarRecord
	// parents holds the action, the actions that the conditions name otherwise than by comparing the variable action
	// with them, and all that these are in.
	parents map[types.EntityUID][]types.EntityUID
}

// typeErrors type-checks a policy for one action and every type of principal, and returns cedar-go's messages, sorted
// and each once.
func typeErrors(p *cedarPolicy, env environment) (messages []string) {
	// cedar-go's type-checker asserts types where it expects no others and has panicked on input that it did not
	// expect. A statement must not take the service down with it: one that cannot be checked is not activated.
	defer func() {
		if recover() != nil {
			messages = []string{"the statement could not be type-checked; write it in a simpler way"}
		}
	}()
	err := validate.New(env.schema()).Policy("", forAction(p, env))
	messages = flatten(err, nil)
	slices.Sort(messages)
	return slices.Compact(messages)
}

// flatten lists the texts of joined errors.
func flatten(err error, to []string) []string {
	if err == nil {
		return to
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return append(to, err.Error())
	}
	for _, e := range joined.Unwrap() {
		to = flatten(e, to)
	}
	return to
}

// schema is the Cedar schema of one environment. It holds only the actions that the statement can see, because
// cedar-go builds the environments of all actions of a schema for every policy that it checks.
func (e environment) schema() *resolved.Schema {
	id := cedarRecord{"id": {Type: cedarString{}}}
	s := &resolved.Schema{
		Entities: map[types.EntityType]resolved.Entity{
			typeOAuthUser:           {Name: typeOAuthUser, Shape: id, Tags: cedarString{}},
			typeIamEntity:           {Name: typeIamEntity, Shape: id},
			typeUnauthenticatedUser: {Name: typeUnauthenticatedUser, Shape: id},
			typeGateway:             {Name: typeGateway},
		},
		Actions: map[types.EntityUID]resolved.Action{},
	}
	for uid, parents := range e.parents {
		s.Actions[uid] = resolved.Action{Entity: types.Entity{UID: uid, Parents: types.NewEntityUIDSet(parents...)}}
	}
	action := s.Actions[e.action]
	action.AppliesTo = &resolved.AppliesTo{
		Principals: []types.EntityType{typeOAuthUser, typeIamEntity, typeUnauthenticatedUser},
		Resources:  []types.EntityType{typeGateway},
		Context: cedarRecord{
			"input":  {Type: e.input},
			"system": {Type: cedarRecord{"now": {Type: cedarExtension("datetime")}}},
		},
	}
	s.Actions[e.action] = action
	return s
}
