package policy

import (
	"fmt"
	"strings"
	"testing"
)

func validTool() Tool {
	return Tool{
		Name:        "process_refund",
		Description: "Pays an amount back.",
		InputSchema: &Schema{
			Type: SchemaObject, Required: []string{"orderId", "amount"}, Properties: map[string]*Schema{
				"orderId": {Type: SchemaString, Description: "As on the bill."},
				"amount":  {Type: SchemaNumber},
				"lines":   {Type: SchemaArray, Items: &Schema{Type: SchemaInteger}},
				"any":     {Type: SchemaArray},
				"note":    {Type: SchemaObject},
			},
		},
		OutputSchema: &Schema{Type: SchemaBoolean},
	}
}

// nested is an object of the given depth, with a string at the bottom.
func nested(depth int) *Schema {
	s := &Schema{Type: SchemaString}
	for range depth - 1 {
		s = &Schema{Type: SchemaObject, Properties: map[string]*Schema{"p": s}}
	}
	return s
}

// wide is an object of n values in all.
func wide(n int) *Schema {
	s := &Schema{Type: SchemaObject, Properties: map[string]*Schema{}}
	for i := range n - 1 {
		s.Properties[fmt.Sprint(i)] = &Schema{Type: SchemaString}
	}
	return s
}

func TestValidTools(t *testing.T) {
	many := make([]Tool, 1000)
	for i := range many {
		many[i] = Tool{Name: fmt.Sprint(i), Description: "d", InputSchema: &Schema{Type: SchemaObject}}
	}
	for name, d := range map[string]*TargetDefinition{
		"most":         lambdaTarget(many...),
		"deepest":      lambdaTarget(Tool{Name: "a.b/c-d_e", Description: "d", InputSchema: nested(32)}),
		"widest":       lambdaTarget(Tool{Name: strings.Repeat("x", 256), Description: "d", InputSchema: wide(10_000), OutputSchema: wide(10_000)}),
		"kept in S3":   {Configuration: TargetConfiguration{Lambda: &LambdaTarget{ARN: testLambda, Tools: ToolSchema{S3: &S3Object{URI: "s3://b/k"}}}}},
		"one argument": lambdaTarget(validTool()),
	} {
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalidTools(t *testing.T) {
	const schema = "targetConfiguration.mcp.lambda.toolSchema"
	const tool = schema + ".inlinePayload[1]"
	itself := &Schema{Type: SchemaArray}
	itself.Items = itself
	for _, c := range []struct {
		reason, field string
		spoil         func(t *Tool)
	}{
		{"required", tool + ".name", func(t *Tool) { t.Name = "" }},
		{"length", tool + ".name", func(t *Tool) { t.Name = strings.Repeat("x", 257) }},
		{"pattern", tool + ".name", func(t *Tool) { t.Name = "process refund" }},
		{"pattern", tool + ".name", func(t *Tool) { t.Name = "a\n" }},
		{"duplicate", tool + ".name", func(t *Tool) { t.Name = "first" }},
		{"required", tool + ".description", func(t *Tool) { t.Description = "" }},
		{"required", tool + ".inputSchema", func(t *Tool) { t.InputSchema = nil }},
		{"required", tool + ".inputSchema.type", func(t *Tool) { t.InputSchema.Type = "" }},
		{"mismatch", tool + ".inputSchema.type", func(t *Tool) { t.InputSchema.Type = SchemaArray }},
		{"enum", tool + ".inputSchema.properties.amount.type", func(t *Tool) { t.InputSchema.Properties["amount"].Type = "NUMBER" }},
		{"encoding", tool + ".inputSchema.properties.amount.description", func(t *Tool) { t.InputSchema.Properties["amount"].Description = "\xff" }},
		{"unexpected", tool + ".inputSchema.properties.amount.properties", func(t *Tool) {
			t.InputSchema.Properties["amount"].Properties = map[string]*Schema{"x": {Type: SchemaString}}
		}},
		{"unexpected", tool + ".inputSchema.properties.amount.required", func(t *Tool) { t.InputSchema.Properties["amount"].Required = []string{"x"} }},
		{"unexpected", tool + ".inputSchema.items", func(t *Tool) { t.InputSchema.Items = &Schema{Type: SchemaString} }},
		{"enum", tool + ".inputSchema.properties.lines.items.type", func(t *Tool) { t.InputSchema.Properties["lines"].Items.Type = "float" }},
		{"reference", tool + ".inputSchema.required[1]", func(t *Tool) { t.InputSchema.Required[1] = "amuont" }},
		{"duplicate", tool + ".inputSchema.required[1]", func(t *Tool) { t.InputSchema.Required[1] = "orderId" }},
		{"pattern", tool + ".inputSchema.properties", func(t *Tool) { t.InputSchema.Properties["a::b"] = &Schema{Type: SchemaString} }},
		{"length", tool + ".inputSchema.properties", func(t *Tool) { t.InputSchema.Properties[""] = &Schema{Type: SchemaString} }},
		{"length", tool + ".inputSchema.properties", func(t *Tool) { t.InputSchema.Properties[strings.Repeat("x", 257)] = nil }},
		{"required", tool + ".inputSchema.properties.amount", func(t *Tool) { t.InputSchema.Properties["amount"] = nil }},
		{"depth", tool + ".inputSchema" + strings.Repeat(".properties.p", 32), func(t *Tool) { t.InputSchema = nested(33) }},
		{"depth", tool + ".outputSchema" + strings.Repeat(".items", 32), func(t *Tool) { t.OutputSchema = itself }},
		{"size", tool + ".inputSchema.properties.9999", func(t *Tool) { t.InputSchema = wide(10_001) }},
		{"enum", tool + ".outputSchema.type", func(t *Tool) { t.OutputSchema.Type = "null" }},
		{"size", schema + ".inlinePayload", func(t *Tool) { t.Description = strings.Repeat("x", maxInlineBytes) }},
	} {
		t.Run(c.reason+" "+c.field, func(t *testing.T) {
			first, second := validTool(), validTool()
			first.Name = "first"
			c.spoil(&second)
			wantInvalid(t, lambdaTarget(first, second).Validate(), c.reason, c.field)
		})
	}
	wantInvalid(t, lambdaTarget().Validate(), "union", schema)
	wantInvalid(t, lambdaTarget(make([]Tool, 1001)...).Validate(), "count", schema+".inlinePayload")
	both := lambdaTarget(validTool())
	both.Configuration.Lambda.Tools.S3 = &S3Object{URI: "s3://b/k"}
	wantInvalid(t, both.Validate(), "union", schema)
}

func TestTools(t *testing.T) {
	if tools := lambdaTarget(validTool()).Tools(); len(tools) != 1 || tools[0].Name != "process_refund" {
		t.Errorf("tools: %v", tools)
	}
}

func TestSchemaSize(t *testing.T) {
	object := &Schema{Type: SchemaObject, Description: "not counted", Required: []string{"ab"}, Properties: map[string]*Schema{
		"ab": {Type: SchemaArray, Items: &Schema{Type: SchemaString}},
		"c":  {Type: SchemaInteger},
	}}
	one := Tool{Name: "tool", Description: "not counted", InputSchema: object}
	want := len("tool" + "object" + "ab" + "array" + "string" + "c" + "integer")
	if got := lambdaTarget(one).SchemaSize(); got != want {
		t.Errorf("size %d, want %d", got, want)
	}
	two := one
	two.OutputSchema = &Schema{Type: SchemaBoolean}
	if got, want := lambdaTarget(one, two).SchemaSize(), 2*want+len("boolean"); got != want {
		t.Errorf("size of two tools %d, want %d", got, want)
	}
}
