package snapshot

import (
	"slices"
	"strings"
)

// Value is a JSON value as it came. The zero Value is an absent one. A Value does not change and may be shared.
type Value struct {
	kind   kind
	text   string   // of a string; the literal of a number
	number float64  // of a number that came without its literal; 1 is true
	elems  []Value  // of an array, or of an object
	names  []string // of an object: those of elems, sorted
}

type kind uint8

const (
	absent kind = iota
	null
	boolean
	literalNumber
	floatNumber
	text
	array
	object
)

// words are the kinds as messages name them.
var words = [...]string{"absent", "null", "a boolean", "a number", "a number", "a string", "an array", "an object"}

func (k kind) String() string { return words[k] }

// Null is null.
func Null() Value { return Value{kind: null} }

// Bool is true or false.
func Bool(b bool) Value {
	v := Value{kind: boolean}
	if b {
		v.number = 1
	}
	return v
}

// Float is a number of which only the float64 is left, such as one of a google.protobuf.Struct. Where an integer is wanted,
// it must be one and below 2^53, since above that it need not be the number that was sent.
func Float(f float64) Value { return Value{kind: floatNumber, number: f} }

// String is a string of valid UTF-8.
func String(s string) Value { return Value{kind: text, text: s} }

// Array is an array; it takes the elements over.
func Array(elems []Value) Value { return Value{kind: array, elems: elems} }

// Member is one member of an object.
type Member struct {
	Name  string
	Value Value
}

// Object is an object. Names should be unique: two of a kind fit no schema.
func Object(members []Member) Value {
	sorted := slices.Clone(members)
	slices.SortStableFunc(sorted, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	v := Value{kind: object, elems: make([]Value, len(sorted)), names: make([]string, len(sorted))}
	for i, m := range sorted {
		v.elems[i], v.names[i] = m.Value, m.Name
	}
	return v
}

// member finds a member of an object; an absent Value when there is none.
func (v Value) member(name string) Value {
	if i, ok := slices.BinarySearch(v.names, name); ok {
		return v.elems[i]
	}
	return Value{}
}
