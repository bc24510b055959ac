package policy

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
)

// opaque is the Cedar type of a value of which a tool's schema does not say the type: an array's members without
// `items`, a required member that is not among the properties. It is an extension type that has no literals and no
// functions, so that the only things that type-check are those which cannot fail whatever the value is: to test that
// it is there and to compare it with another such value.
const opaque = cedarExtension("unknown")

// The actions that every gateway has. All but UnknownTool are groups or belong to protocols that are not served, so
// no request has them as its action. UnknownTool stands for the tools that a gateway may get later: a statement that
// names no tool must be right for them too, and nothing is known of their arguments.
const (
	actionMcp      = "Mcp"
	actionCallTool = "CallTool"
	unknownTool    = "UnknownTool"
)

// builtinActions are these actions and the groups that they are in.
var builtinActions = map[string][]string{
	actionMcp:      nil,
	"Http":         nil,
	actionCallTool: {actionMcp},
	unknownTool:    {actionCallTool},
	"InvokeAgent":  {"Http"},
	"InvokeLLM":    {"Http"},
}

// actionSeparator stands between the target and the tool in the id of an action. A target's name has no underscore.
const actionSeparator = "___"

func actionUID(id string) types.EntityUID { return types.NewEntityUID(typeAction, types.String(id)) }

// typeOfSchema is the Cedar type of a value: integer is Long, number decimal, boolean Bool, string String, an object a
// record and an array a set.
func typeOfSchema(s *Schema) cedarType {
	if s == nil {
		return opaque
	}
	switch s.Type {
	case SchemaString:
		return cedarString{}
	case SchemaInteger:
		return cedarLong{}
	case SchemaNumber:
		return cedarExtension("decimal")
	case SchemaBoolean:
		return cedarBool{}
	case SchemaObject:
		return recordOf(s, memberNames(s))
	case SchemaArray:
		return cedarSet{Element: typeOfSchema(s.Items)}
	}
	return opaque
}

// recordOf is the record of an object, limited to some of its members.
func recordOf(s *Schema, names []string) cedarRecord {
	record := make(cedarRecord, len(names))
	for _, name := range names {
		record[types.String(name)] = cedarAttribute{
			Type:     typeOfSchema(s.Properties[name]),
			Optional: !slices.Contains(s.Required, name),
		}
	}
	return record
}

// memberNames are the members of an object, sorted: its properties and what is required without being one.
func memberNames(s *Schema) []string {
	if s == nil || s.Type != SchemaObject {
		return nil
	}
	names := slices.AppendSeq(slices.Clone(s.Required), maps.Keys(s.Properties))
	slices.Sort(names)
	return slices.Compact(names)
}

func hasMember(s *Schema, name string) bool {
	if s == nil || s.Type != SchemaObject {
		return false
	}
	_, ok := s.Properties[name]
	return ok || slices.Contains(s.Required, name)
}

// inputMembers are the members of a tool's arguments that can matter to a statement. A record is only compared as a
// whole, and the members that the statement does not name matter only then.
func inputMembers(s *Schema, statement *survey) []string {
	if statement.wholeInput {
		return memberNames(s)
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(statement.members)),
		func(name string) bool { return !hasMember(s, name) })
}

// writeShape writes what makes two records the same Cedar type, so that one of them is checked for both.
func writeShape(b *strings.Builder, s *Schema, names []string) {
	b.WriteByte('{')
	for _, name := range names {
		b.WriteString(strconv.Quote(name))
		if slices.Contains(s.Required, name) {
			b.WriteByte('!')
		}
		value := s.Properties[name]
		for value != nil && value.Type == SchemaArray {
			b.WriteString("array ")
			value = value.Items
		}
		switch {
		case value == nil:
			b.WriteString("unknown")
		case value.Type == SchemaObject:
			writeShape(b, value, memberNames(value))
		default:
			b.WriteString(string(value.Type))
		}
		b.WriteByte(',')
	}
	b.WriteByte('}')
}

// optionalMembers counts the members of a path of context that may be missing.
func optionalMembers(s *Schema, path []string) int {
	n := 0
	for _, name := range path[min(1, len(path)):] {
		if !hasMember(s, name) {
			break
		}
		if !slices.Contains(s.Required, name) {
			n++
		}
		s = s.Properties[name]
	}
	return n
}

// missingMember finds the first member of a path of context that is not declared: how many members of the path there
// are up to it, and the names that there are in its place. ok is false when the path is declared, or leads into
// something that is no record.
func missingMember(input *Schema, path []string) (length int, instead []string, ok bool) {
	if len(path) == 0 {
		return 0, nil, false
	}
	switch path[0] {
	case "system":
		return 2, []string{"now"}, len(path) > 1 && path[1] != "now"
	case "input":
	default:
		return 1, []string{"input", "system"}, true
	}
	for i, name := range path[1:] {
		if i > 0 && (input == nil || input.Type != SchemaObject) {
			break
		}
		if !hasMember(input, name) {
			return i + 2, memberNames(input), true
		}
		input = input.Properties[name]
	}
	return 0, nil, false
}

// toolAction is one action that a statement may apply to.
type toolAction struct {
	id    string
	input *Schema
}

// catalog answers which actions there are behind some gateways.
type catalog struct{ gateways []GatewayTools }

func (c catalog) targets() iter.Seq[TargetTools] {
	return func(yield func(TargetTools) bool) {
		for _, g := range c.gateways {
			for _, t := range g.Targets {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// tools are all tools of one target, or of all of them for "".
func (c catalog) tools(target string) iter.Seq[toolAction] {
	return func(yield func(toolAction) bool) {
		for t := range c.targets() {
			if target != "" && t.Name != target {
				continue
			}
			for _, tool := range t.Tools {
				if !yield(toolAction{t.Name + actionSeparator + tool.Name, tool.InputSchema}) {
					return
				}
			}
		}
	}
}

func (c catalog) empty() bool {
	for range c.tools("") {
		return false
	}
	return true
}

func (c catalog) isTarget(name string) bool {
	for t := range c.targets() {
		if t.Name == name {
			return true
		}
	}
	return false
}

// tool returns the definitions of an action: one, or one of each gateway that has it.
func (c catalog) tool(id string) []toolAction {
	target, name, ok := strings.Cut(id, actionSeparator)
	if !ok {
		return nil
	}
	var found []toolAction
	for t := range c.targets() {
		if t.Name != target {
			continue
		}
		for _, tool := range t.Tools {
			if tool.Name == name {
				found = append(found, toolAction{id, tool.InputSchema})
			}
		}
	}
	return found
}

// knows tells whether there is such an action, be it a tool or a group.
func (c catalog) knows(id string) bool {
	_, builtin := builtinActions[id]
	return builtin || c.isTarget(id) || len(c.tool(id)) > 0
}

// parents are the groups that an action is in.
func (c catalog) parents(id string) []string {
	if groups, ok := builtinActions[id]; ok {
		return groups
	}
	if target, _, ok := strings.Cut(id, actionSeparator); ok {
		return []string{target}
	}
	return []string{actionCallTool}
}

// names are the ids that a statement may name: targets and tools, sorted.
func (c catalog) names() []string {
	var names []string
	for t := range c.targets() {
		names = append(names, t.Name)
	}
	for t := range c.tools("") {
		names = append(names, t.id)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// selected are the actions that the head of a statement selects, sorted by id, with UnknownTool last. A head that
// compares the action with a target, which selects nothing, has been refused before.
func (c catalog) selected(term scopeTerm) []toolAction {
	var actions []toolAction
	if term.kind == scopeAny {
		actions = slices.AppendSeq(actions, c.tools(""))
	}
	for _, uid := range term.entities {
		id := string(uid.ID)
		actions = append(actions, c.tool(id)...)
		actions = slices.AppendSeq(actions, c.tools(id)) // of a target; there are none of a tool
	}
	slices.SortStableFunc(actions, func(a, b toolAction) int { return strings.Compare(a.id, b.id) })
	if term.kind == scopeAny {
		actions = append(actions, toolAction{id: unknownTool})
	}
	return actions
}
