package snapshot

import (
	"sort"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/verdict-io/verdict/services/policy"
)

// The bounds of a JSON text. They keep what a text becomes in proportion to what tools take.
const (
	MaxDepth  = 64      // arrays and objects within each other
	MaxValues = 100_000 // in all
)

// ParseJSON reads one JSON value (RFC 8259) and nothing else. Duplicate names, invalid UTF-8, half surrogate pairs, and more
// than MaxDepth or MaxValues are refused, with an *policy.Error of kind ErrInvalid that says where. Numbers keep their literal.
// It is on the path of every decision: jsontext of go-json-experiment, which also refuses all that, takes half as long again.
// The Value holds on to memory of the size of the text, not to the text.
func ParseJSON(source []byte) (Value, error) {
	p := parser{source: string(source)}
	if at := invalidUTF8(p.source); at >= 0 {
		p.at = at
		return Value{}, p.refuse("the text is not valid UTF-8")
	}
	p.blanks()
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	if p.blanks(); p.at < len(p.source) {
		return Value{}, p.refuse("there is more after the value")
	}
	return v, nil
}

// invalidUTF8 is where the first wrong byte stands, -1 when there is none.
func invalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i
			}
		}
	}
	return -1
}

type parser struct {
	source string
	at     int
	values int
}

func (p *parser) refuse(format string, args ...any) error {
	e := policy.Invalid("json", "contextJson", format, args...)
	e.Message = "contextJson is not the JSON it has to be: at byte " + strconv.Itoa(p.at) + ", " + e.Message
	return e
}

func (p *parser) blanks() {
	for p.at < len(p.source) {
		switch p.source[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// next is the byte to be read; 0 at the end, which is no byte of JSON either.
func (p *parser) next() byte {
	if p.at < len(p.source) {
		return p.source[p.at]
	}
	return 0
}

func (p *parser) value(depth int) (Value, error) {
	if p.values++; p.values > MaxValues {
		return Value{}, p.refuse("there are more than %d values", MaxValues)
	}
	switch c := p.next(); {
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.array(depth + 1)
	case c == '"':
		s, err := p.string()
		return String(s), err
	case c == '-' || isDigit(c):
		return p.number()
	case p.word("null"):
		return Null(), nil
	case p.word("true"):
		return Bool(true), nil
	case p.word("false"):
		return Bool(false), nil
	}
	return Value{}, p.refuse("a value has to stand here")
}

func (p *parser) word(w string) bool {
	if len(p.source)-p.at < len(w) || p.source[p.at:p.at+len(w)] != w {
		return false
	}
	p.at += len(w)
	return true
}

// open reads the beginning of an array or object, and its end when there is nothing between the two.
func (p *parser) open(depth int, end byte) (empty bool, err error) {
	if depth > MaxDepth {
		return false, p.refuse("values are nested more than %d deep", MaxDepth)
	}
	p.at++
	p.blanks()
	if p.next() == end {
		p.at++
		return true, nil
	}
	return false, nil
}

// more reads what stands between two elements, or the end.
func (p *parser) more(end byte) (bool, error) {
	p.blanks()
	switch p.next() {
	case ',':
		p.at++
		p.blanks()
		return true, nil
	case end:
		p.at++
		return false, nil
	}
	return false, p.refuse("a comma or %q has to stand here", end)
}

func (p *parser) array(depth int) (Value, error) {
	v := Value{kind: array}
	empty, err := p.open(depth, ']')
	for more := !empty; more && err == nil; {
		var elem Value
		if elem, err = p.value(depth); err != nil {
			break
		}
		v.elems = append(v.elems, elem)
		more, err = p.more(']')
	}
	return v, err
}

func (p *parser) object(depth int) (Value, error) {
	v := Value{kind: object}
	empty, err := p.open(depth, '}')
	for more := !empty; more && err == nil; {
		if err = p.member(&v, depth); err != nil {
			break
		}
		more, err = p.more('}')
	}
	if err != nil {
		return Value{}, err
	}
	if !sort.StringsAreSorted(v.names) {
		sort.Stable(members{&v})
	}
	for i := 1; i < len(v.names); i++ {
		if v.names[i] == v.names[i-1] {
			return Value{}, p.refuse("the object that ends here has two members %s", quote(v.names[i]))
		}
	}
	return v, nil
}

func (p *parser) member(v *Value, depth int) error {
	if p.next() != '"' {
		return p.refuse("the name of a member, in quotes, has to stand here")
	}
	name, err := p.string()
	if err != nil {
		return err
	}
	p.blanks()
	if p.next() != ':' {
		return p.refuse("a colon has to stand here")
	}
	p.at++
	p.blanks()
	elem, err := p.value(depth)
	v.names, v.elems = append(v.names, name), append(v.elems, elem)
	return err
}

// members sorts an object by names.
type members struct{ *Value }

func (m members) Len() int           { return len(m.names) }
func (m members) Less(i, j int) bool { return m.names[i] < m.names[j] }
func (m members) Swap(i, j int) {
	m.names[i], m.names[j] = m.names[j], m.names[i]
	m.elems[i], m.elems[j] = m.elems[j], m.elems[i]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// digits reads as many as there are.
func (p *parser) digits() (n int) {
	for isDigit(p.next()) {
		p.at++
		n++
	}
	return n
}

func (p *parser) number() (Value, error) {
	from := p.at
	if p.next() == '-' {
		p.at++
	}
	if p.next() == '0' {
		p.at++
	} else if p.digits() == 0 {
		return Value{}, p.refuse("a digit has to stand here")
	}
	if p.next() == '.' {
		p.at++
		if p.digits() == 0 {
			return Value{}, p.refuse("a digit has to stand here")
		}
	}
	if c := p.next(); c == 'e' || c == 'E' {
		p.at++
		if c := p.next(); c == '+' || c == '-' {
			p.at++
		}
		if p.digits() == 0 {
			return Value{}, p.refuse("a digit has to stand here")
		}
	}
	return Value{kind: literalNumber, text: p.source[from:p.at]}, nil
}

// string reads a string. Without escapes it is a part of the source.
func (p *parser) string() (string, error) {
	p.at++
	from := p.at
	var unescaped []byte
	for {
		switch c := p.next(); {
		case c == '"':
			s := p.source[from:p.at]
			p.at++
			if unescaped != nil {
				s = string(append(unescaped, s...))
			}
			return s, nil
		case c < ' ' && p.at == len(p.source):
			return "", p.refuse("the string has no end")
		case c < ' ':
			return "", p.refuse("a control character has to be escaped")
		case c == '\\':
			unescaped = append(unescaped, p.source[from:p.at]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			unescaped = utf8.AppendRune(unescaped, r)
			from = p.at
		default:
			p.at++
		}
	}
}

// escapes are the characters behind a backslash and what they stand for.
var escapes = map[byte]rune{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

func (p *parser) escape() (rune, error) {
	p.at++
	c := p.next()
	if c != 'u' {
		r, ok := escapes[c]
		if !ok {
			return 0, p.refuse("there is no such escape")
		}
		p.at++
		return r, nil
	}
	r, ok := p.hex()
	if !ok {
		return 0, p.refuse(`\u needs four hexadecimal digits`)
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if p.next() == '\\' {
		if p.at++; p.next() == 'u' {
			if low, ok := p.hex(); ok {
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					return pair, nil
				}
			}
		}
	}
	return 0, p.refuse("half a surrogate pair is no character")
}

// hex reads the u and the four digits of an escape.
func (p *parser) hex() (rune, bool) {
	if len(p.source)-p.at < 5 {
		return 0, false
	}
	digits := p.source[p.at+1 : p.at+5]
	for i := range len(digits) {
		if c := digits[i] | 0x20; !isDigit(digits[i]) && (c < 'a' || c > 'f') {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(digits, 16, 16)
	p.at += 5
	return rune(n), err == nil
}
