package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a target's tools. Those of one schema keep every walk over it short.
const (
	MaxSchemaDepth   = 32 // the schema of a tool's arguments is at depth 1
	maxSchemaNodes   = 10_000
	maxTargetTools   = 1000
	maxPropertyChars = 256
)

// toolNameText is what MCP asks of names, at AgentCore's length: the part of an action's id behind "<Target>___".
var toolNameText = text{1, 256, regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)}

var toolDescriptionText = text{1, maxInlineBytes, nil}

// Tools are the tools given in the definition itself, which only a Lambda target has; nil for all others and for a
// list kept in S3. The caller must not change them.
func (d *TargetDefinition) Tools() []Tool {
	if d.Configuration.Lambda == nil {
		return nil
	}
	return d.Configuration.Lambda.Tools.Inline
}

// SchemaSize is what the tools add to the size of an engine's schema, in bytes: the names of tools and properties and
// the type of every value, of arguments and results alike. Descriptions do not count, since they are no part of what
// statements are checked against. The definition must have passed Validate.
func (d *TargetDefinition) SchemaSize() int {
	size := 0
	for _, t := range d.Tools() {
		size += len(t.Name) + t.InputSchema.size() + t.OutputSchema.size()
	}
	return size
}

// size accepts nil.
func (s *Schema) size() int {
	if s == nil {
		return 0
	}
	size := len(s.Type) + s.Items.size()
	for name, p := range s.Properties {
		size += len(name) + p.size()
	}
	return size
}

func (t *ToolSchema) validate() error {
	err := checkUnion("", member{"s3", t.S3 != nil}, member{"inlinePayload", len(t.Inline) > 0})
	switch {
	case err != nil:
		return err
	case t.S3 != nil:
		return within("s3", t.S3.validate())
	}
	const field = "inlinePayload"
	if err := checkCount(field, len(t.Inline), 1, maxTargetTools); err != nil {
		return err
	}
	size, seen := 0, make(map[string]bool, len(t.Inline))
	return each(field, t.Inline, func(at string, tool Tool) error {
		if err := within(at, cmp.Or(tool.validate(), checkNewName(seen, tool.Name))); err != nil {
			return err
		}
		if size += tool.bytes(); size > maxInlineBytes {
			return Invalid("size", field, "the tools have more than %d bytes together; shorten them or make two targets", maxInlineBytes)
		}
		return nil
	})
}

// checkNewName refuses the name of an earlier tool and notes all others.
func checkNewName(seen map[string]bool, name string) error {
	if seen[name] {
		return Invalid("duplicate", "name", "%s is the name of an earlier tool; names are unique within a target", quoted(name))
	}
	seen[name] = true
	return nil
}

func (t *Tool) validate() error {
	err := cmp.Or(
		toolNameText.required("name", t.Name),
		toolDescriptionText.required("description", t.Description),
	)
	switch {
	case err != nil:
		return err
	case t.InputSchema == nil:
		return Invalid("required", "inputSchema", "inputSchema is required; a tool without arguments has {\"type\": \"object\"}")
	case t.InputSchema.Type != SchemaObject && t.InputSchema.Type != "":
		return Invalid("mismatch", "inputSchema.type", "the arguments of a tool are an object; the type is %s", quoted(string(t.InputSchema.Type)))
	}
	nodes := 0
	if err := within("inputSchema", t.InputSchema.validate(1, &nodes)); err != nil || t.OutputSchema == nil {
		return err
	}
	nodes = 0
	return within("outputSchema", t.OutputSchema.validate(1, &nodes))
}

// validate checks a value and what is in it, counting nodes. It goes no deeper than MaxSchemaDepth, so that a schema
// that contains itself ends too. Paths are put together only on the way back from a refusal: they would be as long as
// the schema is deep, at every node.
func (s *Schema) validate(depth int, nodes *int) error {
	*nodes++
	switch {
	case depth > MaxSchemaDepth:
		return Invalid("depth", "", "the schema is nested more than %d deep", MaxSchemaDepth)
	case *nodes > maxSchemaNodes:
		return Invalid("size", "", "the schema describes more than %d values", maxSchemaNodes)
	}
	err := cmp.Or(
		checkEnum("type", s.Type, SchemaString, SchemaNumber, SchemaInteger, SchemaBoolean, SchemaObject, SchemaArray),
		toolDescriptionText.optional("description", s.Description),
		s.validateShape(),
		s.validateRequired(),
	)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		if err := checkPropertyName(name); err != nil {
			return err
		}
		if p == nil {
			return Invalid("required", "properties."+name, "properties.%s needs a schema", name)
		}
		if err := p.validate(depth+1, nodes); err != nil {
			return within("properties."+name, err)
		}
	}
	if s.Items == nil {
		return nil
	}
	return within("items", s.Items.validate(depth+1, nodes))
}

// validateShape wants the members that describe contents only where the type has contents.
func (s *Schema) validateShape() error {
	switch {
	case s.Type != SchemaObject && len(s.Properties) > 0:
		return Invalid("unexpected", "properties", "only a schema of type object has properties; this one is %s", s.Type)
	case s.Type != SchemaObject && len(s.Required) > 0:
		return Invalid("unexpected", "required", "only a schema of type object has required; this one is %s", s.Type)
	case s.Type != SchemaArray && s.Items != nil:
		return Invalid("unexpected", "items", "only a schema of type array has items; this one is %s", s.Type)
	}
	return nil
}

// validateRequired wants every required name once, and to be that of a property.
func (s *Schema) validateRequired() error {
	seen := make(map[string]bool, len(s.Properties))
	for i, name := range s.Required {
		_, ok := s.Properties[name]
		switch {
		case !ok:
			return Invalid("reference", fmt.Sprintf("required[%d]", i),
				"%s is required but not among the properties; describe it there or leave it out", quoted(name))
		case seen[name]:
			return Invalid("duplicate", fmt.Sprintf("required[%d]", i), "%s is required twice; leave one out", quoted(name))
		}
		seen[name] = true
	}
	return nil
}

// checkPropertyName wants a name that can be an attribute of a Cedar record. "::" separates Cedar's namespaces.
func checkPropertyName(name string) error {
	if err := checkLength("the name of a property", name, 1, maxPropertyChars); err != nil {
		return atField("properties", err)
	}
	if strings.Contains(name, "::") {
		return Invalid("pattern", "properties", `the name of a property must not contain "::"; it is %s`, quoted(name))
	}
	return nil
}

// bytes is the length of all texts of a tool.
func (t *Tool) bytes() int {
	return len(t.Name) + len(t.Description) + t.InputSchema.bytes() + t.OutputSchema.bytes()
}

// bytes accepts nil.
func (s *Schema) bytes() int {
	if s == nil {
		return 0
	}
	n := len(s.Type) + len(s.Description) + s.Items.bytes()
	for _, name := range s.Required {
		n += len(name)
	}
	for name, p := range s.Properties {
		n += len(name) + p.bytes()
	}
	return n
}

// maxJSONDepth is how deep the values of a connector's parameters may be nested.
const maxJSONDepth = 32

// checkJSONObject wants an object that loses nothing on its way through binary64 numbers, or nothing at all.
func checkJSONObject(field string, raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	if len(raw) > maxInlineBytes {
		return Invalid("size", field, "%s has %d bytes; at most %d are allowed", field, len(raw), maxInlineBytes)
	}
	if !utf8.Valid(raw) || !json.Valid(raw) || bytes.TrimLeft(raw, " \t\r\n")[0] != '{' {
		return Invalid("json", field, "%s must be a JSON object; it is %s", field, quoted(string(raw)))
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	depth := 0
	for {
		token, err := decoder.Token()
		if err != nil { // the end, since the text is valid
			return nil
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
			if depth > maxJSONDepth {
				return Invalid("depth", field, "%s is nested more than %d deep", field, maxJSONDepth)
			}
		case json.Number:
			if err := checkNumber(field, t); err != nil {
				return err
			}
		}
	}
}

// checkNumber refuses what binary64 has no place for, and whole numbers that it would round.
func checkNumber(field string, n json.Number) error {
	if _, err := n.Float64(); err != nil {
		return Invalid("range", field, "%s holds the number %s, which is too large", field, quoted(n.String()))
	}
	if strings.ContainsAny(n.String(), ".eE") {
		return nil
	}
	if whole, err := n.Int64(); err != nil || whole > 1<<53 || whole < -1<<53 {
		return Invalid("range", field, "%s holds the number %s, which is beyond 2^53; make it a string", field, quoted(n.String()))
	}
	return nil
}
