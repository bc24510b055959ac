package stream

import (
	"strings"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// ToolToProto is t as a message; nil for nil.
func ToolToProto(t *policy.Tool) *eventv1.Tool {
	if t == nil {
		return nil
	}
	return toolToProto(*t)
}

// ToolFromProto is the tool in m. A nil message is an empty one.
func ToolFromProto(m *eventv1.Tool) (*policy.Tool, error) {
	if err := checkDefinition(m.ProtoReflect(), "", 1); err != nil {
		return nil, err
	}
	return new(toolFromProto(m)), nil
}

// SchemaToProto is s as a message; nil for nil. What lies below the depth that Validate permits is cut off one level
// further down: a schema that contains itself ends, and stays as invalid as it was.
func SchemaToProto(s *policy.Schema) *eventv1.Schema { return schemaToProto(s, 1) }

// SchemaFromProto is the schema in m; nil for nil.
func SchemaFromProto(m *eventv1.Schema) (*policy.Schema, error) {
	if err := checkDefinition(m.ProtoReflect(), "", 1); err != nil {
		return nil, err
	}
	return convertIf(m, schemaFromProto), nil
}

func toolToProto(t policy.Tool) *eventv1.Tool {
	return &eventv1.Tool{
		Name:         t.Name,
		Description:  t.Description,
		InputSchema:  SchemaToProto(t.InputSchema),
		OutputSchema: SchemaToProto(t.OutputSchema),
	}
}

func toolFromProto(m *eventv1.Tool) policy.Tool {
	return policy.Tool{
		Name:         m.GetName(),
		Description:  m.GetDescription(),
		InputSchema:  convertIf(m.GetInputSchema(), schemaFromProto),
		OutputSchema: convertIf(m.GetOutputSchema(), schemaFromProto),
	}
}

func schemaToProto(s *policy.Schema, depth int) *eventv1.Schema {
	if s == nil || depth > policy.MaxSchemaDepth+1 {
		return nil
	}
	m := &eventv1.Schema{
		// Schema types are the only enum that AgentCore spells in lower case.
		Type:        enumTo[eventv1.SchemaType](strings.ToUpper(string(s.Type))),
		Required:    s.Required,
		Items:       schemaToProto(s.Items, depth+1),
		Description: s.Description,
	}
	if len(s.Properties) > 0 {
		m.Properties = make(map[string]*eventv1.Schema, len(s.Properties))
	}
	for name, p := range s.Properties {
		if below := schemaToProto(p, depth+1); below != nil {
			m.Properties[name] = below
		}
	}
	return m
}

// schemaFromProto recurses as deep as checkDefinition has let pass.
func schemaFromProto(m *eventv1.Schema) *policy.Schema {
	s := &policy.Schema{
		Type:        policy.SchemaType(strings.ToLower(enumFrom[string](m.GetType()))),
		Required:    m.GetRequired(),
		Items:       convertIf(m.GetItems(), schemaFromProto),
		Description: m.GetDescription(),
	}
	if len(m.GetProperties()) > 0 {
		s.Properties = make(map[string]*policy.Schema, len(m.GetProperties()))
	}
	for name, p := range m.GetProperties() {
		s.Properties[name] = schemaFromProto(p)
	}
	return s
}
