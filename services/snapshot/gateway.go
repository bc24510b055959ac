package snapshot

import (
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// gateway is a gateway with its tools.
type gateway struct {
	source  *policy.Gateway
	arn     string
	targets map[string]*target // by name
}

// target is a target in force.
type target struct {
	source *policy.Target
	tools  map[string]*tool // by name
}

// tool is a tool as an action of a request.
type tool struct {
	uid    types.EntityUID
	entity types.Entity
	groups []string // that the action is in, the nearest first
	input  *policy.Schema
}

// next is the gateway as it is in a new state; g is nil when there was none.
func (g *gateway) next(source *policy.Gateway, arn string) *gateway {
	next := &gateway{source: source, arn: arn, targets: make(map[string]*target, source.TargetCount())}
	for t := range source.TargetsAfter("") {
		if t.InForce == nil {
			continue
		}
		if g != nil {
			if known := g.targets[t.Name]; known != nil && known.source.InForce == t.InForce {
				next.targets[t.Name] = known
				continue
			}
		}
		next.targets[t.Name] = newTarget(t)
	}
	return next
}

func newTarget(source *policy.Target) *target {
	tools := source.InForce.Tools()
	t := &target{source: source, tools: make(map[string]*tool, len(tools))}
	for i := range tools {
		id := policy.ActionID(source.Name, tools[i].Name)
		groups := policy.ActionGroups(id)
		t.tools[tools[i].Name] = &tool{
			uid: actionUID(id), entity: actionEntity(id, groups), groups: groups, input: tools[i].InputSchema,
		}
	}
	return t
}

func byActionID(a, b *tool) int { return strings.Compare(string(a.uid.ID), string(b.uid.ID)) }

// tool finds the tool with the action's id; nil when there is none.
func (g *gateway) tool(id string) *tool {
	targetName, name, _ := policy.SplitAction(id)
	if t := g.targets[targetName]; t != nil {
		return t.tools[name]
	}
	return nil
}

// all are the tools of the gateway, sorted by the ids of their actions.
func (g *gateway) all() []*tool {
	var tools []*tool
	for _, t := range g.targets {
		tools = slices.AppendSeq(tools, maps.Values(t.tools))
	}
	slices.SortFunc(tools, byActionID)
	return tools
}

// attaches reports whether the engine is attached to the gateway.
func (g *gateway) attaches(engineID string) bool {
	a := g.source.InForce.PolicyEngine
	return a != nil && a.EngineID == engineID
}

// tool finds the tool with the action's id among the gateways that an engine is attached to. It is nil when there is none,
// and when there are several that differ.
func (a *account) tool(engineID, id string) (found *tool, differ bool) {
	for _, g := range a.gateways.sorted {
		if !g.value.attaches(engineID) {
			continue
		}
		t := g.value.tool(id)
		switch {
		case t == nil:
		case found == nil:
			found = t
		case !sameShape(found.input, t.input):
			return nil, true
		}
	}
	return found, false
}

// sameShape reports whether the same arguments fit two schemas and are typed in the same way.
func sameShape(a, b *policy.Schema) bool {
	if a == nil || b == nil || a == b {
		return a == b
	}
	if a.Type != b.Type || len(a.Properties) != len(b.Properties) || !sameNames(a.Required, b.Required) {
		return false
	}
	for name, p := range a.Properties {
		q, ok := b.Properties[name]
		if !ok || !sameShape(p, q) {
			return false
		}
	}
	return sameShape(a.Items, b.Items)
}

// sameNames compares two lists without duplicates, whatever their order.
func sameNames(a, b []string) bool {
	set := make(map[string]struct{}, len(a))
	for _, name := range a {
		set[name] = struct{}{}
	}
	for _, name := range b {
		if _, ok := set[name]; !ok {
			return false
		}
	}
	return len(a) == len(b)
}

func actionUID(id string) types.EntityUID {
	return types.NewEntityUID(policy.TypeAction, types.String(id))
}

// actionEntity is an action with the groups that it is in. All of them are parents, so that none has to be looked up.
func actionEntity(id string, groups []string) types.Entity {
	parents := make([]types.EntityUID, len(groups))
	for i, group := range groups {
		parents[i] = actionUID(group)
	}
	return types.Entity{UID: actionUID(id), Parents: types.NewEntityUIDSet(parents...)}
}
