package policy

// SchemaType is a JSON Schema type as AgentCore spells it on the wire (docs: SchemaDefinition.type, lower case).
type SchemaType string

// The schema types that a tool's arguments may have.
const (
	SchemaString  SchemaType = "string"
	SchemaNumber  SchemaType = "number"
	SchemaInteger SchemaType = "integer"
	SchemaBoolean SchemaType = "boolean"
	SchemaObject  SchemaType = "object"
	SchemaArray   SchemaType = "array"
)

// Schema describes one value of a tool's arguments: AgentCore's SchemaDefinition, which has these five members and
// no others (no enum, format, additionalProperties, minimum).
type Schema struct {
	Type        SchemaType
	Properties  map[string]*Schema // of an object
	Required    []string           // of an object
	Items       *Schema            // of an array; nil is "anything"
	Description string
}

// Tool is one tool of a target: AgentCore's ToolDefinition.
type Tool struct {
	Name        string
	Description string
	InputSchema *Schema
	// OutputSchema is nil when the tool declares none.
	OutputSchema *Schema
}
