package gateway

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/verdict-io/verdict/services/gateway/internal/lambda"
	"github.com/verdict-io/verdict/services/policy"
)

// front is one gateway with its tools. It does not change; what changes is a new front.
type front struct {
	account string
	source  *policy.Gateway // InForce is not nil
	arn     string
	targets map[string]*target // by id
	tools   []*tool            // sorted by id
	surface *surface
	lacking string              // what its definition asks for and is not there; "" when nothing is
	index   func() *searchIndex // made at the first search
}

// target is what stands behind some tools.
type target struct {
	source *policy.TargetDefinition
	tools  []*tool
}

// tool is one tool.
type tool struct {
	id       string // of its action: "<Target>___<tool>"
	target   lambda.Key
	function string // ARN
	input    *policy.Schema
	listed   *mcp.Tool // as tools/list has it; not to be changed
	// lacking is what the target's definition asks for and is not there, so that the tool is neither listed nor called.
	lacking string
}

// next is the front of a gateway of which f is an earlier one, or nil. What is the same as before is taken from there.
func (f *front) next(account, region string, source *policy.Gateway, surfaceOf func(*policy.Gateway, *surface) *surface) *front {
	out := &front{
		account: account, source: source, arn: policy.ARN(region, account, policy.GatewayRef(source.ID)), targets: map[string]*target{},
	}
	var before *surface
	if f != nil {
		before = f.surface
	}
	out.surface, out.lacking = surfaceOf(source, before), lacking(source.InForce)
	for t := range source.TargetsAfter("") {
		if t.InForce == nil {
			continue
		}
		known := (*target)(nil)
		if f != nil {
			known = f.targets[t.ID]
		}
		if known == nil || known.source != t.InForce {
			known = newTarget(lambda.Key{Account: account, Gateway: source.ID, Target: t.ID}, t)
		}
		out.targets[t.ID] = known
		out.tools = append(out.tools, known.tools...)
	}
	slices.SortFunc(out.tools, func(a, b *tool) int { return strings.Compare(a.id, b.id) })
	out.index = sync.OnceValue(func() *searchIndex { return newSearchIndex(out.tools) })
	return out
}

// lacking names what a definition asks for that would be passed over here, and may be what keeps somebody from something.
func lacking(d *policy.GatewayDefinition) string {
	switch {
	case len(d.Interceptors) > 0:
		return "interceptorConfigurations"
	case d.CustomTransform != nil:
		return "customTransformConfiguration"
	case d.WAF != nil:
		return "wafConfiguration"
	}
	return ""
}

func newTarget(key lambda.Key, source *policy.Target) *target {
	t := &target{source: source.InForce}
	tools := source.InForce.Tools() // none but Lambda's have any yet
	missing := ""
	if source.InForce.PrivateEndpoint != nil {
		missing = "privateEndpoint"
	}
	for i := range tools {
		id := policy.ActionID(source.Name, tools[i].Name)
		t.tools = append(t.tools, &tool{
			id: id, target: key, function: source.InForce.Configuration.Lambda.ARN, input: tools[i].InputSchema, lacking: missing,
			listed: &mcp.Tool{
				Name: id, Description: tools[i].Description, InputSchema: inputSchema(tools[i].InputSchema), OutputSchema: outputSchema(tools[i].OutputSchema),
			},
		})
	}
	return t
}

// tool finds a tool by the id of its action; nil when there is none.
func (f *front) tool(id string) *tool {
	i, found := slices.BinarySearchFunc(f.tools, id, func(t *tool, id string) int { return strings.Compare(t.id, id) })
	if !found {
		return nil
	}
	return f.tools[i]
}

// attached reports whether an engine decides about calls, as far as this process knows.
func (f *front) attached() bool { return f.source.InForce.PolicyEngine != nil }

// searches reports whether the gateway offers the tool that searches tools.
func (f *front) searches() bool {
	m := f.source.InForce.MCP
	return m != nil && m.SearchType == policy.SearchSemantic
}

// pageSize is how many tools a page of tools/list has.
func (f *front) pageSize() int {
	if m := f.source.InForce.MCP; m != nil && m.DisableListToolsPagination != nil && *m.DisableListToolsPagination {
		return len(f.tools) + 1
	}
	return pageSize
}

// debug reports whether callers are told what went wrong.
func (f *front) debug() bool { return f.source.InForce.ExceptionLevel == policy.ExceptionDebug }

// schemaJSON is a schema as JSON Schema.
type schemaJSON struct {
	Type        policy.SchemaType      `json:"type,omitempty"`
	Description string                 `json:"description,omitempty"`
	Properties  map[string]*schemaJSON `json:"properties,omitempty"`
	Required    []string               `json:"required,omitempty"`
	Items       *schemaJSON            `json:"items,omitempty"`
	// AdditionalProperties is false where a schema has them: an argument that policies cannot see is refused.
	AdditionalProperties *bool `json:"additionalProperties,omitempty"`
}

// asJSON accepts nil. Objects of arguments are closed, since others than those of the schema are not taken.
func asJSON(s *policy.Schema, closed bool) *schemaJSON {
	if s == nil {
		return nil
	}
	out := &schemaJSON{Type: s.Type, Description: s.Description, Required: s.Required, Items: asJSON(s.Items, closed)}
	if s.Type == policy.SchemaObject && closed {
		out.AdditionalProperties = new(false)
	}
	for name, p := range s.Properties {
		if out.Properties == nil {
			out.Properties = make(map[string]*schemaJSON, len(s.Properties))
		}
		out.Properties[name] = asJSON(p, closed)
	}
	return out
}

// inputSchema is the JSON Schema of a tool's arguments, which MCP wants to be an object's.
func inputSchema(s *policy.Schema) any {
	if s == nil || s.Type != policy.SchemaObject {
		s = &policy.Schema{Type: policy.SchemaObject}
	}
	return encoded(asJSON(s, true))
}

// outputSchema is that of a result, nil unless it is an object's, which MCP wants it to be.
func outputSchema(s *policy.Schema) any {
	if s == nil || s.Type != policy.SchemaObject {
		return nil
	}
	return encoded(asJSON(s, false))
}

func encoded(s *schemaJSON) json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil { // it holds strings and booleans
		return json.RawMessage(`{"type":"object"}`)
	}
	return text
}
