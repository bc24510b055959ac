package policy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Checks of single members of a request. Each takes the member's path relative to what its caller checks; within puts
// the caller's own path in front. They return nil or an *Error of kind ErrInvalid whose Reason is one of:
//
//	required    the member is missing
//	length      too short or too long
//	pattern     does not match the pattern in the message
//	encoding    is not UTF-8
//	enum        is none of the values in the message
//	range       a number too small or too large
//	count       a list or map with too few or too many members
//	duplicate   a value that may stand once stands twice
//	union       not exactly one of the members of a union
//	unexpected  a member that may not stand beside another one
//	mismatch    a value that does not go with another member's
//	reference   names something that is not there
//	depth       nested too deeply
//	size        too many bytes or nodes in all
//	json        is not the JSON it has to be

// maxQuoted is how many characters of an offending value a message repeats.
const maxQuoted = 64

// checkPattern wants value to match re, which must be anchored at both ends.
func checkPattern(field, value string, re *regexp.Regexp) error {
	if re.MatchString(value) {
		return nil
	}
	return Invalid("pattern", field, "%s must match %s; it is %s", field, re, quoted(value))
}

// checkLength wants value to be UTF-8 of min to max characters (code points).
func checkLength(field, value string, min, max int) error {
	if !utf8.ValidString(value) {
		return Invalid("encoding", field, "%s must be UTF-8; it is %s", field, quoted(value))
	}
	if n := utf8.RuneCountInString(value); n < min || n > max {
		return Invalid("length", field, "%s must have %d to %d characters; it has %d: %s", field, min, max, n, quoted(value))
	}
	return nil
}

// text is what a string member must look like.
type text struct {
	min, max int            // in characters
	pattern  *regexp.Regexp // nil allows everything
}

// required refuses an empty value as a missing one.
func (t text) required(field, value string) error {
	if value == "" && t.min > 0 {
		return Invalid("required", field, "%s is required", field)
	}
	if err := checkLength(field, value, t.min, t.max); err != nil || t.pattern == nil {
		return err
	}
	return checkPattern(field, value, t.pattern)
}

// optional takes an empty value for an absent one.
func (t text) optional(field, value string) error {
	if value == "" {
		return nil
	}
	return t.required(field, value)
}

// list wants at most max values. An empty list is an absent one.
func (t text) list(field string, values []string, max int) error {
	if err := checkCount(field, len(values), 0, max); err != nil {
		return err
	}
	return each(field, values, t.required)
}

// checkMap wants at most max entries, keys and values as the two texts say. It reports the first offender by key order.
func checkMap(field string, entries map[string]string, key, value text, max int) error {
	if err := checkCount(field, len(entries), 0, max); err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(entries)) {
		if err := key.required("a key of "+field, k); err != nil {
			return atField(field, err)
		}
		if err := value.required(field+"."+k, entries[k]); err != nil {
			return err
		}
	}
	return nil
}

// checkEnum wants value to be one of allowed; the zero value is a missing one.
func checkEnum[T ~string](field string, value T, allowed ...T) error {
	if value == "" {
		return Invalid("required", field, "%s is required; use %s", field, alternatives(allowed))
	}
	if slices.Contains(allowed, value) {
		return nil
	}
	return Invalid("enum", field, "%s is %s; use %s", field, quoted(string(value)), alternatives(allowed))
}

// checkOptionalEnum is checkEnum for a member that may be missing.
func checkOptionalEnum[T ~string](field string, value T, allowed ...T) error {
	if value == "" {
		return nil
	}
	return checkEnum(field, value, allowed...)
}

// checkRange wants a value from min to max, or none.
func checkRange(field string, value *int32, min, max int32) error {
	if value == nil || (*value >= min && *value <= max) {
		return nil
	}
	return Invalid("range", field, "%s must be %d to %d; it is %d", field, min, max, *value)
}

// checkCount wants min to max entries. A list that must have some and has none is a missing one.
func checkCount(field string, n, min, max int) error {
	switch {
	case n == 0 && min > 0:
		return Invalid("required", field, "%s is required and must not be empty", field)
	case n < min || n > max:
		return Invalid("count", field, "%s must have %d to %d entries; it has %d", field, min, max, n)
	}
	return nil
}

// checkUnique wants no two values to be equal.
func checkUnique[T ~string](field string, values []T) error {
	places := make(map[T]int, len(values))
	for i, v := range values {
		if earlier, dup := places[v]; dup {
			return Invalid("duplicate", fmt.Sprintf("%s[%d]", field, i),
				"%s[%d] is %s, as %s[%d] is; leave one out", field, i, quoted(string(v)), field, earlier)
		}
		places[v] = i
	}
	return nil
}

// member is one member of a union, by its name on the wire.
type member struct {
	name string
	set  bool
}

// checkUnion wants exactly one of the members to be set. The field is that of the union itself.
func checkUnion(field string, members ...member) error {
	var names, set []string
	for _, m := range members {
		names = append(names, m.name)
		if m.set {
			set = append(set, m.name)
		}
	}
	switch len(set) {
	case 1:
		return nil
	case 0:
		return Invalid("union", field, "give exactly one of %s; none is given", alternatives(names))
	}
	return Invalid("union", field, "give exactly one of %s; %s are given", alternatives(names), strings.Join(set, " and "))
}

// each runs check on every item, as field[0], field[1], …, and returns the first refusal.
func each[T any](field string, items []T, check func(field string, item T) error) error {
	for i, item := range items {
		if err := check(fmt.Sprintf("%s[%d]", field, i), item); err != nil {
			return err
		}
	}
	return nil
}

// within puts field in front of the path of a refusal.
func within(field string, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || field == "" {
		return err
	}
	if e.Field != "" {
		field += "." + e.Field
	}
	return atField(field, e)
}

// atField is the refusal with another path.
func atField(field string, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	moved := *e
	moved.Field = field
	return &moved
}

// quoted is a value as a message repeats it: in quotes, cut after maxQuoted characters.
func quoted(value string) string { return quotedUpTo(maxQuoted, value) }

func quotedUpTo(most int, value string) string {
	n := 0
	for i := range value {
		if n == most {
			return fmt.Sprintf("%q…", value[:i])
		}
		n++
	}
	return fmt.Sprintf("%q", value)
}

// alternatives is "a", "a or b", "a, b or c".
func alternatives[T ~string](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = string(v)
	}
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
