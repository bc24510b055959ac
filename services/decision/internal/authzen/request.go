package authzen

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// parts are the keys of an evaluation, as they came. What else an evaluation has is ignored, as AuthZEN wants it; null is an absent
// member.
type parts struct {
	Subject  jsontext.Value `json:"subject"`
	Action   jsontext.Value `json:"action"`
	Resource jsontext.Value `json:"resource"`
	Context  jsontext.Value `json:"context"`
}

// entity is a subject or a resource.
type entity struct {
	Type       string                    `json:"type"`
	ID         string                    `json:"id"`
	Properties map[string]jsontext.Value `json:"properties"`
}

// action is a tool with its arguments, which stay as they were written.
type action struct {
	Name       string         `json:"name"`
	Properties jsontext.Value `json:"properties"`
}

// environment is as much of a context as there is a place for in a request.
type environment struct {
	Input jsontext.Value `json:"input"`
}

// The short names of types.
var (
	subjectTypes  = map[string]string{"OAuthUser": policy.TypeOAuthUser, "IamEntity": policy.TypeIamEntity}
	resourceTypes = map[string]string{"Gateway": policy.TypeGateway, "gateway": policy.TypeGateway}
)

// decode reads one JSON object whose members are there once.
func decode[T any](text []byte) (*T, error) {
	var out T
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, policy.Invalid("json", "", "the body is empty: send a JSON object")
	}
	if !object(text) {
		return nil, policy.Invalid("json", "", "an evaluation is a JSON object")
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, explain("", err)
	}
	return &out, nil
}

func object(text []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) }

// absent tells members that are not there.
func absent(v jsontext.Value) bool { return len(v) == 0 || v.Kind() == 'n' }

// inherit takes from the request what an evaluation does not say. A key that it has replaces the whole key.
func (p *parts) inherit(common *parts) {
	for _, key := range []struct{ own, common *jsontext.Value }{
		{&p.Subject, &common.Subject}, {&p.Action, &common.Action}, {&p.Resource, &common.Resource}, {&p.Context, &common.Context},
	} {
		if absent(*key.own) {
			*key.own = *key.common
		}
	}
}

// checkTypes refuses keys that are no objects.
func (p *parts) checkTypes() error {
	for _, key := range []struct {
		name  string
		value jsontext.Value
	}{{"subject", p.Subject}, {"action", p.Action}, {"resource", p.Resource}, {"context", p.Context}} {
		if !absent(key.value) && !object(key.value) {
			return policy.Invalid("type", key.name, "%s has to be an object", key.name)
		}
	}
	return nil
}

// request is what the node is asked.
func (p *parts) request() (*decisionv1.AuthorizeRequest, error) {
	if err := p.checkTypes(); err != nil {
		return nil, err
	}
	subject, err := member[entity]("subject", p.Subject)
	if err != nil {
		return nil, err
	}
	tool, err := member[action]("action", p.Action)
	if err != nil {
		return nil, err
	}
	resource, err := member[entity]("resource", p.Resource)
	if err != nil {
		return nil, err
	}
	out := &decisionv1.AuthorizeRequest{
		Principal: &decisionv1.Principal{Id: subject.ID, Tags: tags(subject.Properties)},
		Action:    &decisionv1.Entity{Type: policy.TypeAction, Id: tool.Name},
		Resource:  &decisionv1.Entity{Id: resource.ID},
	}
	if err := checkRequired(subject, tool, resource); err != nil {
		return nil, err
	}
	if out.Principal.Type, err = typeOf("subject.type", subject.Type, subjectTypes); err != nil {
		return nil, err
	}
	if out.Resource.Type, err = typeOf("resource.type", resource.Type, resourceTypes); err != nil {
		return nil, err
	}
	out.ContextJson, err = arguments(tool.Properties, p.Context)
	return out, err
}

// member decodes a key; one that is absent has no members.
func member[T any](name string, text jsontext.Value) (*T, error) {
	var out T
	if absent(text) {
		return &out, nil
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, explain(name, err)
	}
	return &out, nil
}

func checkRequired(subject *entity, tool *action, resource *entity) error {
	for _, key := range []struct{ name, value, what string }{
		{"subject.type", subject.Type, "OAuthUser or IamEntity"},
		{"subject.id", subject.ID, "the token's subject, or the ARN"},
		{"action.name", tool.Name, "the tool, as RefundTarget___process_refund"},
		{"resource.type", resource.Type, "Gateway"},
		{"resource.id", resource.ID, "the ARN of a gateway"},
	} {
		if key.value == "" {
			return policy.Invalid("required", key.name, "%s is required: %s", key.name, key.what)
		}
	}
	return nil
}

// typeOf is the Cedar type that a name stands for, short or not.
func typeOf(field, name string, short map[string]string) (string, error) {
	if long, ok := short[name]; ok {
		return long, nil
	}
	known := slices.Compact(slices.Sorted(maps.Values(short)))
	if slices.Contains(known, name) {
		return name, nil
	}
	return "", policy.Invalid("enum", field, "%s is none that there is: use %s", field, strings.Join(known, " or "))
}

// tags are the properties of a subject as a token's claims are tags: strings as they are, everything else as JSON in one form, so that one
// value is one text, whoever wrote it.
func tags(properties map[string]jsontext.Value) map[string]string {
	if len(properties) == 0 {
		return nil
	}
	out := make(map[string]string, len(properties))
	for name, value := range properties {
		switch value.Kind() {
		case 'n':
		case '"':
			text, _ := jsontext.AppendUnquote(nil, value) // which the decoder has read
			out[name] = string(text)
		default:
			out[name] = string(inOneForm(value))
		}
	}
	return out
}

// arguments are those of the tool, as the text of a request's context. They are the action's properties, or context.input.
func arguments(properties, context jsontext.Value) (string, error) {
	env, err := member[environment]("context", context)
	if err != nil {
		return "", err
	}
	input := env.Input
	switch {
	case !absent(properties) && !object(properties):
		return "", policy.Invalid("type", "action.properties", "action.properties has to be an object")
	case !absent(input) && !object(input):
		return "", policy.Invalid("type", "context.input", "context.input has to be an object")
	case absent(input):
		input = properties
	case !absent(properties) && !same(properties, input):
		return "", policy.Invalid("both", "context.input", "action.properties and context.input are two ways to say one thing, and differ: send one of them")
	}
	if absent(input) {
		return "", nil
	}
	return `{"input":` + string(input) + `}`, nil
}

// same compares two values.
func same(a, b jsontext.Value) bool { return bytes.Equal(inOneForm(a), inOneForm(b)) }

// inOneForm is a value without spaces, the names of objects in order, and nothing escaped that need not be. Numbers stay as they are
// written: to a float64, 9007199254740993 would be 9007199254740992.
func inOneForm(v jsontext.Value) jsontext.Value {
	v = v.Clone()
	_ = v.Format(jsontext.ReorderRawObjects(true), jsontext.PreserveRawStrings(false), // which the decoder has read
		jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false))
	return v
}

// explain is what is wrong with the JSON of a part of a request.
func explain(part string, err error) error {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return policy.Invalid("json", part, "the body is not the JSON it has to be: %s at byte %d", strings.TrimPrefix(syntax.Err.Error(), "jsontext: "), syntax.ByteOffset)
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return policy.Invalid("json", part, "the body is not the JSON it has to be: it ends too early")
	}
	at := path(part, semantic.JSONPointer)
	return policy.Invalid("type", at, "%s is not of the type it has to be: it is %s", at, kinds[semantic.JSONKind])
}

// path is a place in a request, cut where it is longer than a message should be.
func path(part string, p jsontext.Pointer) string {
	const most = 200
	out := part
	for token := range p.Tokens() {
		if out != "" {
			out += "."
		}
		if out += token; len(out) > most {
			return strings.ToValidUTF8(out[:most], "") + "…"
		}
	}
	return out
}

var kinds = map[jsontext.Kind]string{'n': "null", 't': "a boolean", 'f': "a boolean", '"': "a string", '0': "a number", '{': "an object", '[': "an array"}
