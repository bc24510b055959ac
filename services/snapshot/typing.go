package snapshot

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// The bounds of arrays. A Cedar set is a hash table whose hashes a caller can make collide, so that what it costs to build
// and to compare one grows with the square of its elements: easily for sets of sets, with a lot of work for strings.
const (
	MaxElements       = 1000 // of one array
	MaxNestedElements = 200  // of one array with arrays somewhere in it
	MaxElementsInAll  = 5000 // values in arrays, at any depth
)

// misfit is why arguments do not fit a tool's schema.
type misfit struct {
	code string
	path []string // from the inside out
	text string   // goes on behind the path
}

func misfits(code, text string) *misfit { return &misfit{code: code, text: text} }

// under puts a name in front of the path.
func (m *misfit) under(name string) *misfit {
	m.path = append(m.path, name)
	return m
}

// maxPath is how many bytes of a path a reason repeats.
const maxPath = 200

func (m *misfit) reason(root string) string {
	var b strings.Builder
	b.WriteString(root)
	for i := len(m.path) - 1; i >= 0 && b.Len() < maxPath; i-- {
		name := m.path[i]
		if !strings.HasPrefix(name, "[") {
			b.WriteByte('.')
		}
		b.WriteString(clip(name))
	}
	return clipTo(b.String(), maxPath) + " " + m.text
}

// CheckArguments is nil when the JSON text of a tool's arguments fits its schema, so that Authorize gets as far as the policies; nil
// stands for the schema of a tool without arguments. The error says what is wrong, for the caller.
func CheckArguments(input *policy.Schema, arguments []byte) error {
	v, err := ParseJSON(arguments)
	if err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	if _, wrong := (&typer{}).record(inputOf(input), v, 1); wrong != nil {
		return errors.New(wrong.reason("arguments"))
	}
	return nil
}

// typer gives JSON values the types of a schema.
type typer struct {
	elements int // values in arrays so far
}

// typeContext types what a caller sent as context: an object with nothing but `input`, the arguments of the tool. What is
// absent is an empty object. now is in microseconds and becomes context.system.now.
func typeContext(input *policy.Schema, context Value, now int64) (types.Record, *misfit) {
	for _, name := range context.names {
		if name != "input" {
			return types.Record{}, misfits(CodeArgumentUndeclared,
				"is not a member of a request's context: send the tool's arguments as context.input").under(name)
		}
	}
	arguments := context.member("input")
	if arguments.kind == absent {
		arguments.kind = object
	}
	if len(context.names) > 1 {
		return types.Record{}, twice("input")
	}
	typed, wrong := (&typer{}).record(inputOf(input), arguments, 1)
	if wrong != nil {
		return types.Record{}, wrong.under("input")
	}
	millis := now / 1000
	if now%1000 < 0 {
		millis--
	}
	system := types.NewRecord(types.RecordMap{"now": types.NewDatetimeFromMillis(millis)})
	return types.NewRecord(types.RecordMap{"input": typed, "system": system}), nil
}

func twice(name string) *misfit { return misfits(CodeArgumentType, "stands twice").under(name) }

var noArguments = &policy.Schema{Type: policy.SchemaObject}

// inputOf is the schema of a tool's arguments: those of a tool without one are none.
func inputOf(s *policy.Schema) *policy.Schema {
	if s == nil || s.Type != policy.SchemaObject {
		return noArguments
	}
	return s
}

// value types a value. A schema that is nil leaves the type open.
func (t *typer) value(s *policy.Schema, v Value, depth int) (types.Value, *misfit) {
	if s == nil {
		return t.open(v, depth)
	}
	switch s.Type {
	case policy.SchemaString:
		if v.kind == text {
			return types.String(v.text), nil
		}
		return nil, wants("a string", v)
	case policy.SchemaBoolean:
		if v.kind == boolean {
			return types.Boolean(v.number == 1), nil
		}
		return nil, wants("a boolean", v)
	case policy.SchemaInteger:
		return integer(v)
	case policy.SchemaNumber:
		return number(v)
	case policy.SchemaObject:
		return asValue(t.record(s, v, depth))
	case policy.SchemaArray:
		return asValue(t.set(s.Items, v, depth))
	}
	return t.open(v, depth)
}

// asValue keeps a typed nil out of the interface.
func asValue[V types.Value](v V, wrong *misfit) (types.Value, *misfit) {
	if wrong != nil {
		return nil, wrong
	}
	return v, nil
}

func wants(what string, v Value) *misfit {
	return misfits(CodeArgumentType, "has to be "+what+" and is "+v.kind.String())
}

// integer makes a Long. As in JSON Schema, 5.0 and 5e0 are integers.
func integer(v Value) (types.Value, *misfit) {
	switch v.kind {
	case floatNumber:
		return floatInteger(v.number)
	case literalNumber:
	default:
		return nil, wants("an integer", v)
	}
	if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
		return types.Long(n), nil
	}
	d := readDecimal(v.text)
	if !d.integral() {
		return nil, misfits(CodeArgumentType, "has to be an integer and is a number with a fraction")
	}
	n, ok := d.scaled(0)
	if !ok {
		return nil, misfits(CodeNumberTooLarge, "is beyond the integers of 64 bits")
	}
	return types.Long(n), nil
}

// tooLargeForFloat is the advice for numbers that a float64 cannot be trusted with.
const tooLargeForFloat = "is 2^53 or more, which `context` cannot carry exactly: send the arguments as `contextJson`"

func floatInteger(f float64) (types.Value, *misfit) {
	switch {
	case !(math.Abs(f) < 1<<53): // NaN as well
		return nil, misfits(CodeNumberTooLarge, tooLargeForFloat)
	case f != math.Trunc(f):
		return nil, misfits(CodeArgumentType, "has to be an integer and is a number with a fraction")
	}
	return types.Long(f), nil
}

// number makes a decimal. What is behind the fourth digit is cut off. Of a float64 it takes the shortest decimal number that
// stands for it, which is what was sent if that had no more than 15 digits.
func number(v Value) (types.Value, *misfit) {
	literal := v.text
	switch v.kind {
	case literalNumber:
	case floatNumber:
		if !(math.Abs(v.number) < 1<<53) {
			return nil, misfits(CodeNumberTooLarge, tooLargeForFloat)
		}
		literal = strconv.FormatFloat(v.number, 'e', -1, 64)
	default:
		return nil, wants("a number", v)
	}
	n, ok := readDecimal(literal).scaled(4)
	d, err := types.NewDecimal(n, -4)
	if !ok || err != nil {
		return nil, misfits(CodeNumberTooLarge, "is beyond Cedar's decimals, which end at 922337203685477.5807")
	}
	return d, nil
}

// record makes a record that has the members of the schema and no others. That is what statements are checked against: an
// argument that they cannot see must not pass.
func (t *typer) record(s *policy.Schema, v Value, depth int) (types.Record, *misfit) {
	if v.kind != object {
		return types.Record{}, wants("an object", v)
	}
	if depth > MaxDepth {
		return types.Record{}, misfits(CodeArgumentTooLarge, "is nested too deeply")
	}
	typed := make(types.RecordMap, len(v.elems))
	for i, name := range v.names {
		p, declared := s.Properties[name]
		if !declared && !slices.Contains(s.Required, name) {
			return types.Record{}, misfits(CodeArgumentUndeclared,
				"is not in the tool's schema: leave it out, or add it to the tool").under(name)
		}
		if i > 0 && v.names[i-1] == name {
			return types.Record{}, twice(name)
		}
		value, wrong := t.value(p, v.elems[i], depth+1)
		if wrong != nil {
			return types.Record{}, wrong.under(name)
		}
		typed[types.String(name)] = value
	}
	for _, name := range s.Required {
		if _, ok := typed[types.String(name)]; !ok {
			return types.Record{}, misfits(CodeArgumentMissing, "is required by the tool's schema and missing").under(name)
		}
	}
	return types.NewRecord(typed), nil
}

func (t *typer) set(items *policy.Schema, v Value, depth int) (types.Set, *misfit) {
	if v.kind != array {
		return types.Set{}, wants("an array", v)
	}
	if wrong := t.room(v, depth); wrong != nil {
		return types.Set{}, wrong
	}
	typed := make([]types.Value, len(v.elems))
	for i, elem := range v.elems {
		value, wrong := t.value(items, elem, depth+1)
		if wrong != nil {
			return types.Set{}, wrong.under("[" + strconv.Itoa(i) + "]")
		}
		typed[i] = value
	}
	return types.NewSet(typed...), nil
}

// room refuses an array that would become too large a set.
func (t *typer) room(v Value, depth int) *misfit {
	n, most := len(v.elems), MaxElements
	if n > MaxNestedElements && v.holdsArrays() {
		most = MaxNestedElements
	}
	switch {
	case depth > MaxDepth:
		return misfits(CodeArgumentTooLarge, "is nested too deeply")
	case n > most:
		return misfits(CodeArgumentTooLarge, "has "+strconv.Itoa(n)+" elements and may have "+strconv.Itoa(most))
	}
	for _, elem := range v.elems {
		t.elements += elem.size()
	}
	if t.elements > MaxElementsInAll {
		return misfits(CodeArgumentTooLarge, "is where there are more than "+strconv.Itoa(MaxElementsInAll)+" values in arrays")
	}
	return nil
}

// size counts the value and the members of objects in it; arrays count their elements when their turn comes.
func (v Value) size() int {
	n := 1
	if v.kind == object {
		for _, elem := range v.elems {
			n += elem.size()
		}
	}
	return n
}

// holdsArrays tells whether there are arrays within an array.
func (v Value) holdsArrays() bool {
	for _, elem := range v.elems {
		if elem.kind == array || elem.kind == object && elem.holdsArrays() {
			return true
		}
	}
	return false
}

// open types a value of which the schema leaves the type open, as it would be typed most naturally. A statement can only ask
// whether it is there and compare it with another such value.
func (t *typer) open(v Value, depth int) (types.Value, *misfit) {
	switch v.kind {
	case text:
		return types.String(v.text), nil
	case boolean:
		return types.Boolean(v.number == 1), nil
	case literalNumber:
		if readDecimal(v.text).integral() {
			return integer(v)
		}
		return number(v)
	case floatNumber:
		if v.number == math.Trunc(v.number) {
			return integer(v)
		}
		return number(v)
	case array:
		return asValue(t.set(nil, v, depth))
	case object:
		return asValue(t.openRecord(v, depth))
	case absent, null:
	}
	return nil, misfits(CodeArgumentType, "is null, which Cedar has no value for: leave it out")
}

func (t *typer) openRecord(v Value, depth int) (types.Record, *misfit) {
	open := &policy.Schema{Type: policy.SchemaObject, Properties: make(map[string]*policy.Schema, len(v.names))}
	for _, name := range v.names {
		open.Properties[name] = nil
	}
	return t.record(open, v, depth)
}

// maxQuoted is how many characters of a caller's text a message repeats.
const maxQuoted = 64

func clip(s string) string { return clipTo(s, maxQuoted) }

// clipTo is the beginning of a text, of whole characters and at most so many bytes.
func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

func quote(s string) string { return strconv.Quote(clip(s)) }
