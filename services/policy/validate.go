package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
)

// GatewayTools are the tools behind one gateway.
type GatewayTools struct {
	ARN     string
	Targets []TargetTools
}

// TargetTools are the tools of one target. A target that has no tools that are known is in no statement's reach.
type TargetTools struct {
	Name  string
	Tools []Tool
}

// The bounds of what Validate returns (docs: statusReasons).
const (
	maxReasons = 100
	maxReason  = 2048
)

// The bounds of what type-checking costs. Guards count on their own because the work grows with their third power.
const (
	maxGuards = 100
	maxWork   = 2_000_000 // steps of the type-checker, about half a second
)

// Validate type-checks a statement against the tools of the gateways given: those that the engine is attached to, and
// the one that the statement names. A statement that names a gateway is checked against the tools of that one alone; a
// statement that names no tool must be right for every tool and for any that may come later.
//
// It returns the reasons why the statement cannot be activated, in an order that depends on nothing but the
// arguments; none when it is valid. They are at most 100 of at most 2,048 characters each.
func Validate(s Statement, gateways []GatewayTools) []string {
	if s.parsed == nil {
		return []string{"there is no statement"}
	}
	if s.resource != "" {
		gateways = slices.DeleteFunc(slices.Clone(gateways), func(g GatewayTools) bool { return g.ARN != s.resource })
	}
	v := validation{
		statement: s,
		scope:     scopeOf(s.parsed),
		survey:    surveyOf(s.parsed),
		catalog:   catalog{gateways},
	}
	if reason := v.unreachable(); reason != "" {
		return []string{reason}
	}
	reasons := v.undeclared()
	if len(reasons) == 0 {
		reasons = v.mistyped()
	}
	return bounded(reasons)
}

// validation is one call of Validate.
type validation struct {
	statement Statement
	scope     statementScope
	survey    *survey
	catalog   catalog
	loose     []types.EntityUID // literals that are left when comparisons of the variable action are decided
}

// unreachable says why there is nothing to check the statement against.
func (v *validation) unreachable() string {
	gateway := v.statement.resource
	switch {
	case gateway != "" && len(v.catalog.gateways) == 0:
		return fmt.Sprintf("unrecognized gateway `%s`: a policy names a gateway that exists; create it, and a target "+
			"with its tools, first", gateway)
	case !v.catalog.empty():
		return ""
	case gateway != "":
		return fmt.Sprintf("gateway `%s` has no tools: policies are checked against the tools of their gateway; create "+
			"a target, and wait until it is READY, first", gateway)
	}
	return "there are no tools: policies are checked against the tools of the gateways that their engine is attached " +
		"to; create a gateway with a target, wait until it is READY and attach the engine to it first"
}

// undeclared lists the types, actions and groups that the statement names and that there are not. cedar-go does not
// look at all of them, and of the others it does not say where they stand or what was probably meant.
func (v *validation) undeclared() []string {
	var reasons []string
	for _, name := range v.scope.principal.types() {
		reasons = append(reasons, v.checkPrincipal(name)...)
	}
	if v.scope.action.kind == scopeInSet && len(v.scope.action.entities) == 0 {
		reasons = append(reasons, "empty set literals are forbidden in policies: name at least one tool")
	}
	for _, uid := range v.scope.action.entities {
		reasons = append(reasons, v.checkScopeAction(uid)...)
	}
	for _, uid := range v.survey.entities {
		switch {
		case uid.Type == "Action" || strings.HasSuffix(string(uid.Type), "::Action"):
			reasons = append(reasons, v.checkAction(uid)...)
		case !slices.Contains(entityTypes, string(uid.Type)):
			reasons = append(reasons, v.unrecognizedType(string(uid.Type)))
		}
	}
	for _, name := range v.survey.is {
		if !slices.Contains(entityTypes, string(name)) && name != typeAction {
			reasons = append(reasons, v.unrecognizedType(string(name)))
		}
	}
	return unique(reasons)
}

// entityTypes are the types that a statement may name besides the type of actions.
var entityTypes = append(slices.Clone(principalTypes), typeGateway)

const notApplicable = "unable to find an applicable action given the policy scope constraints"

func (v *validation) checkPrincipal(name string) []string {
	switch {
	case slices.Contains(principalTypes, name):
		return nil
	case name == typeGateway || name == typeAction:
		return []string{fmt.Sprintf("%s: the principal of a tool call is an %s, never an %s",
			notApplicable, strings.Join(principalTypes, " or an "), name)}
	}
	return []string{v.unrecognizedType(name)}
}

// checkScopeAction checks an action of the statement's head, which has to select at least one tool.
func (v *validation) checkScopeAction(uid types.EntityUID) []string {
	if reasons := v.checkAction(uid); len(reasons) > 0 {
		return reasons
	}
	id := string(uid.ID)
	if _, builtin := builtinActions[id]; builtin {
		return []string{fmt.Sprintf("invalid action ID %q%s: the head of a policy names tools or targets; "+
			"write `action` alone for all tools", id, v.place(uid))}
	}
	if v.scope.action.kind == scopeEqual && len(v.catalog.tool(id)) == 0 {
		return []string{fmt.Sprintf("%s: %s is a target, not a tool; write `action in %s`", notApplicable, uid, uid)}
	}
	for range v.catalog.tools(id) {
		return nil
	}
	if len(v.catalog.tool(id)) > 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: target `%s` has no tools", notApplicable, id)}
}

func (v *validation) checkAction(uid types.EntityUID) []string {
	if uid.Type == typeAction && v.catalog.knows(string(uid.ID)) {
		return nil
	}
	return []string{fmt.Sprintf("unrecognized action `%s`%s%s", uid, v.place(uid), v.insteadOf(uid))}
}

// insteadOf says what was probably meant by an action that there is not.
func (v *validation) insteadOf(uid types.EntityUID) string {
	id := string(uid.ID)
	if v.catalog.knows(id) {
		return fmt.Sprintf(": did you mean `%s`?", actionUID(id))
	}
	names := v.catalog.names()
	if name, ok := nearest(id, names); ok {
		return fmt.Sprintf(": did you mean `%s`?", name)
	}
	if name, ok := sameTool(id, names); ok {
		return fmt.Sprintf(": did you mean `%s`?", name)
	}
	if target, _, ok := strings.Cut(id, actionSeparator); ok && !v.catalog.isTarget(target) {
		var targets []string
		for t := range v.catalog.targets() {
			targets = append(targets, t.Name)
		}
		_, gateway, _ := strings.Cut(v.statement.resource, ":gateway/")
		return fmt.Sprintf(": Target '%s' does not exist in gateway '%s'. Available targets: %s",
			clip(target, 100), gateway, listed(unique(targets), 10))
	}
	return ". Available actions: " + listed(names, 10)
}

func (v *validation) unrecognizedType(name string) string {
	where := v.placeOf(func(tokens []token, i int) bool {
		path, from := pathBefore(tokens, i+1)
		return path == name && tokens[i+1].source != "::" && from > 0 && tokens[from-1].source == "is" ||
			path == name && tokens[i+1].source == "::" && tokens[i+2].kind == tokenString
	})
	text := fmt.Sprintf("unrecognized entity type `%s`%s", clip(name, 200), where)
	if near, ok := nearest(name, entityTypes); ok {
		return text + ": did you mean `" + near + "`?"
	}
	last := name[strings.LastIndexByte(name, ':')+1:]
	if near := "AgentCore::" + last; slices.Contains(entityTypes, near) {
		return text + ": did you mean `" + near + "`?"
	}
	return text + ". There are " + strings.Join(entityTypes, ", ")
}

// place is where the statement names an entity, as " at line 1, column 2"; "" when it is not written plainly.
func (v *validation) place(uid types.EntityUID) string {
	return v.placeOf(func(tokens []token, i int) bool {
		if tokens[i].kind != tokenString || tokens[i].source != `"`+string(uid.ID)+`"` || i == 0 {
			return false
		}
		path, _ := pathBefore(tokens, i-1)
		return path == string(uid.Type)
	})
}

// placeOf is the place of the first token, the last excepted, for which is holds.
func (v *validation) placeOf(is func(tokens []token, i int) bool) string {
	tokens, err := tokenize(v.statement.source)
	if err != nil {
		return ""
	}
	for i := range tokens[:len(tokens)-1] {
		if !is(tokens, i) {
			continue
		}
		var from int
		if tokens[i].kind == tokenString {
			i--
			_, from = pathBefore(tokens, i)
		} else {
			_, from = pathBefore(tokens, i+1)
		}
		return fmt.Sprintf(" at line %d, column %d", tokens[from].line, tokens[from].column)
	}
	return ""
}

// group is a set of actions that a statement cannot tell apart: the members that it reads have the same types in all
// of them, so that one is checked for all.
type group struct {
	action  toolAction // the one that is checked
	members []string   // of its arguments
	actions []string   // the ids of all
}

// mistyped type-checks the conditions once for each group of actions and says in one reason what is wrong in one way
// with many actions.
func (v *validation) mistyped() []string {
	if len(v.survey.guards) > maxGuards {
		return []string{fmt.Sprintf("the statement tests %d different things with `has` and `hasTag`, and at most %d "+
			"are supported: split it into several policies", len(v.survey.guards), maxGuards)}
	}
	v.loose = surveyOf(forAction(v.statement.parsed, v.environment(group{action: toolAction{id: unknownTool}}))).entities
	selected := v.catalog.selected(v.scope.action)
	groups, work := v.group(selected)
	if work > maxWork {
		return []string{fmt.Sprintf("the statement is too complex to be checked against %d different tools: name fewer "+
			"tools in its head, or split it into several policies", len(groups))}
	}
	ids := map[string]bool{}
	for _, a := range selected {
		ids[a.id] = true
	}
	found := v.check(groups, work)
	return found.reasons(len(ids))
}

// check type-checks the statement for each group.
func (v *validation) check(groups []group, work float64) (found findings) {
	for i, g := range groups {
		messages := typeErrors(v.statement.parsed, v.environment(g))
		for _, message := range messages {
			found.add(v.explain(message, g), g.actions)
		}
		// What is wrong costs far more than what is right: messages are copied at each level of the expression. The
		// statement is not valid any more, so that nothing is lost but the names of some tools.
		if len(messages) > 0 {
			work += math.Pow(float64(v.survey.nodes), 2) / 10
		}
		if work > maxWork && i+1 < len(groups) {
			found.add("there are more tools, for which the statement was not checked", nil)
			break
		}
	}
	return found
}

// group sorts actions into groups, in the order in which they come, and estimates the work of checking them.
func (v *validation) group(actions []toolAction) (groups []group, work float64) {
	index := map[string]int{}
	for _, a := range actions {
		members := inputMembers(a.input, v.survey)
		var shape strings.Builder
		if v.survey.usesAction {
			shape.WriteString(a.id)
		}
		writeShape(&shape, a.input, members)
		if i, ok := index[shape.String()]; ok {
			groups[i].actions = append(groups[i].actions, a.id)
			continue
		}
		index[shape.String()] = len(groups)
		groups = append(groups, group{action: a, members: members, actions: []string{a.id}})
		work += v.work(a.input, shape.Len())
	}
	return groups, work
}

// work estimates what it costs to type-check the statement for one action, whose arguments have a type of some size:
// a message about a record prints all of it, and an optional member that is not tested is looked at again for each
// that is read of it.
func (v *validation) work(input *Schema, size int) float64 {
	const perGroup = 150
	steps := perGroup + v.survey.cost + float64(size)
	steps += math.Pow(float64(len(v.survey.guards)), 3)/40 + math.Pow(float64(len(v.loose)), 2)
	for _, path := range v.survey.paths {
		steps += 16 * math.Pow(2, float64(optionalMembers(input, path)))
		if v.survey.wholeInput || len(path) > 1 {
			steps += float64(size) / 10
		}
	}
	return steps
}

// environment is what a group is checked against.
func (v *validation) environment(g group) environment {
	env := environment{
		action:  actionUID(g.action.id),
		input:   recordOf(g.action.input, g.members),
		parents: map[types.EntityUID][]types.EntityUID{},
	}
	pending := []string{g.action.id}
	for _, uid := range v.loose {
		if uid.Type == typeAction {
			pending = append(pending, string(uid.ID))
		}
	}
	for len(pending) > 0 {
		id := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if _, done := env.parents[actionUID(id)]; done {
			continue
		}
		env.parents[actionUID(id)] = nil
		for _, parent := range v.catalog.parents(id) {
			env.parents[actionUID(id)] = append(env.parents[actionUID(id)], actionUID(parent))
			pending = append(pending, parent)
		}
	}
	return env
}
