package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The shape that a statement may have. Cedar itself has no such limits, but cedar-go does work that is quadratic in
// the length of a dotted `has` and doubles with every dotted `has` inside the operand of another, so a statement of
// 300 characters could otherwise hold a parser for minutes.
const (
	maxNesting = 100 // brackets, and `if` inside `if`
	maxPath    = 50  // members in one path, as in a.b.c
	maxUnary   = 4   // `!` or `-` in a row; the number that Cedar's grammar allows
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenInteger
	tokenString
	tokenOperator
	tokenUnknown // a character that begins no token of Cedar
)

// token is one word of a statement. Line and column are 1-based, the column counts characters.
type token struct {
	kind         tokenKind
	source       string // as written, a string with its quotes
	line, column int
}

// describe names the token in a message.
func (t token) describe() string {
	switch {
	case t.kind == tokenEnd:
		return "unexpected end of the statement"
	case t.kind == tokenUnknown && !unicode.IsPrint([]rune(t.source)[0]):
		return fmt.Sprintf("unexpected character %U", []rune(t.source)[0])
	}
	return "unexpected token `" + clip(t.source, 64) + "`"
}

// endsOperand tells `a - b` from `-b`, and `a[…]` from a set.
func (t token) endsOperand() bool {
	switch t.kind {
	case tokenName:
		return !slices.Contains([]string{"if", "then", "else", "in", "has", "like", "is"}, t.source)
	case tokenInteger, tokenString:
		return true
	case tokenOperator:
		return t.source == ")" || t.source == "]" || t.source == "}"
	case tokenEnd, tokenUnknown:
	}
	return false
}

func syntaxError(at token, format string, args ...any) *Error {
	return at.refuse("statement_syntax", format, args...)
}

// refuse is a refusal of the statement at this token.
func (t token) refuse(reason, format string, args ...any) *Error {
	err := Invalid(reason, statementField, format, args...)
	err.Line, err.Column = t.line, t.column
	return err
}

// lexer cuts a statement into tokens just as cedar-go's scanner does, so that positions agree.
type lexer struct {
	rest         string
	line, column int
}

// tokenize returns the tokens of a statement; the last is always tokenEnd. The text must be valid UTF-8.
func tokenize(source string) ([]token, *Error) {
	l := lexer{rest: source, line: 1, column: 1}
	var tokens []token
	for {
		l.skipBlanks()
		t := token{line: l.line, column: l.column}
		if l.rest == "" {
			return append(tokens, t), nil
		}
		var length int
		t.kind, length = l.measure()
		if t.kind == tokenUnknown && strings.HasPrefix(l.rest, "/*") {
			return nil, syntaxError(t, "unexpected token `/*`: a comment begins with // and ends with the line")
		}
		t.source = l.rest[:length]
		if t.kind == tokenString && (length == 1 || t.source[length-1] != '"') {
			return nil, syntaxError(t, "the string that begins here is not closed on its line")
		}
		tokens = append(tokens, t)
		l.advance(length)
	}
}

func (l *lexer) skipBlanks() {
	for l.rest != "" {
		switch {
		case strings.ContainsRune(" \t\r\n", rune(l.rest[0])):
			l.advance(1)
		case strings.HasPrefix(l.rest, "//"):
			end := strings.IndexByte(l.rest, '\n')
			if end < 0 {
				end = len(l.rest)
			}
			l.advance(end)
		default:
			return
		}
	}
}

// advance moves over n bytes.
func (l *lexer) advance(n int) {
	for _, r := range l.rest[:n] {
		l.column++
		if r == '\n' {
			l.line, l.column = l.line+1, 1
		}
	}
	l.rest = l.rest[n:]
}

// measure tells the kind and the length in bytes of the token that comes next.
func (l *lexer) measure() (tokenKind, int) {
	switch c := l.rest[0]; {
	case isNameByte(c) && !isDigit(c):
		return tokenName, l.while(isNameByte)
	case isDigit(c):
		return tokenInteger, l.while(isDigit)
	case c == '"':
		return tokenString, l.stringLength()
	}
	if len(l.rest) > 1 && slices.Contains([]string{"::", "!=", "<=", ">=", "==", "||", "&&"}, l.rest[:2]) {
		return tokenOperator, 2
	}
	if strings.IndexByte("@.,;(){}[]+-*:!<>", l.rest[0]) >= 0 {
		return tokenOperator, 1
	}
	_, size := utf8.DecodeRuneInString(l.rest)
	return tokenUnknown, size
}

func (l *lexer) while(in func(byte) bool) int {
	n := 0
	for n < len(l.rest) && in(l.rest[n]) {
		n++
	}
	return n
}

// stringLength is the length of the string that comes next with its quotes. A string that is not closed ends before
// the line does, or at a backslash.
func (l *lexer) stringLength() int {
	for n := 1; n < len(l.rest); n++ {
		switch l.rest[n] {
		case '\\':
			n++
			if n < len(l.rest) && l.rest[n] == '\n' {
				return n
			}
		case '"':
			return n + 1
		case '\n':
			return n
		}
	}
	return len(l.rest)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameByte(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c)
}

// level is what checkShape knows about one open bracket.
type level struct {
	ifs        int  // `if`s whose `else` part is still going on
	path       int  // members in the path that is going on
	hasPath    bool // the operand that is going on holds a dotted `has`
	hasPathAny bool // anything in these brackets does
}

// checkShape refuses what would cost cedar-go more than time in proportion to the text. It looks at each token once
// and lets everything else pass that is not Cedar, which the parser will explain better.
func checkShape(tokens []token) *Error {
	levels := []level{{}}
	depth, unary := 0, 0
	for i, t := range tokens {
		top := &levels[len(levels)-1]
		afterOperand := i > 0 && tokens[i-1].endsOperand()
		if (t.source == "!" || t.source == "-") && !afterOperand {
			unary++
		} else {
			unary = 0
		}
		switch t.source {
		case "(", "[", "{":
			if t.source == "[" && afterOperand {
				top.path++
			}
			levels = append(levels, level{})
			depth++
		case ")", "]", "}":
			if len(levels) > 1 {
				depth -= 1 + top.ifs
				levels = levels[:len(levels)-1]
				levels[len(levels)-1].close(*top)
			}
		case "if":
			top.ifs++
			depth++
		case ",", ";":
			depth -= top.ifs
			*top = level{hasPathAny: top.hasPathAny}
		default:
			if top.pass(tokens, i) {
				return t.refuse("statement_nesting",
					"a dotted `has` inside the operand of another: test one member at a time")
			}
		}
		if depth > maxNesting || unary > maxUnary || top.path > maxPath {
			return t.refuse("statement_nesting", "nested too deep: at most %d brackets or `if`s inside each other, "+
				"%d members in one path, %d signs in a row", maxNesting, maxPath, maxUnary)
		}
	}
	return nil
}

// close takes over what a pair of brackets inside held: they are part of the operand that is going on.
func (l *level) close(inner level) {
	l.hasPath = l.hasPath || inner.hasPathAny
	l.hasPathAny = l.hasPathAny || inner.hasPathAny
}

// pass goes over a token that is no bracket and tells whether it is a dotted `has` whose operand holds another.
func (l *level) pass(tokens []token, i int) (doubles bool) {
	t := tokens[i]
	switch {
	case t.source == ".":
		l.path++
	case t.source == "has":
		l.path = 0
		if i+2 < len(tokens) && tokens[i+1].kind == tokenName && tokens[i+2].source == "." {
			doubles = l.hasPath
			l.hasPath, l.hasPathAny = true, true
		}
	case t.source == "+" || t.source == "-" || t.source == "*" || t.source == "!":
		l.path = 0
	case t.kind == tokenOperator && t.source != "::" || slices.Contains([]string{"in", "then", "else"}, t.source):
		l.path, l.hasPath = 0, false
	}
	return doubles
}

// cedarParseError takes cedar-go's error apart: line, column, and what it wanted.
var cedarParseError = regexp.MustCompile(`(?s)parse error at <input>:(\d+):(\d+) "(?:[^"\\]|\\.)*": (.*)$`)

// explainParseError says what is wrong with a text that cedar-go refuses, and where. cedar-go reports the token after
// the wrong one, or the wrong one itself when it had only looked at it, or no position at all for a bad literal.
//
// The text is parsed again with two tokens after it that fit nowhere, so that the end of the text is a token too and
// the one after a wrong last token has a position.
func explainParseError(source string, tokens []token) *Error {
	_, err := parsePolicies(source + "\n~ ~")
	if err == nil { // cannot be: `~` begins no token
		return Invalid("statement_syntax", statementField, "the statement is not valid Cedar")
	}
	found := cedarParseError.FindStringSubmatch(err.Error())
	if found == nil {
		return explainLiteral(tokens)
	}
	line, _ := strconv.Atoi(found[1])
	column, _ := strconv.Atoi(found[2])
	i := indexAt(tokens, line, column)
	wanted := found[3]
	switch {
	case strings.HasPrefix(wanted, "got "): // only looked at
	case strings.HasPrefix(wanted, "`") || strings.Contains(wanted, " expects "):
		i = callBefore(tokens, i, strings.Trim(strings.Fields(wanted)[0], "`"))
	case strings.HasPrefix(wanted, "duplicate key"):
		i = keyBefore(tokens, i, strings.TrimPrefix(wanted, "duplicate key: "))
	default:
		i--
	}
	i = max(0, min(i, len(tokens)-1))
	return syntaxError(tokens[i], "%s", complaint(tokens, i, wanted)+hint(tokens, i))
}

// indexAt finds the token at a position, or the end for one behind it.
func indexAt(tokens []token, line, column int) int {
	i := slices.IndexFunc(tokens, func(t token) bool { return t.kind != tokenEnd && t.line == line && t.column == column })
	if i >= 0 {
		return i
	}
	// One of the two tokens that were appended, or the end behind them: a wrong token before it is the last of ours
	// when it is the first of them.
	if column == 1 {
		return len(tokens) - 1
	}
	return len(tokens)
}

// callBefore finds the name of the function whose call ends before token i.
func callBefore(tokens []token, i int, name string) int {
	for j := min(i, len(tokens)-1); j >= 0; j-- {
		if tokens[j].source == name && j+1 < len(tokens) && tokens[j+1].source == "(" {
			return j
		}
	}
	return i - 1
}

// keyBefore finds the second use of a record's key, which ends before token i.
func keyBefore(tokens []token, i int, key string) int {
	for j := min(i, len(tokens)-1); j >= 0; j-- {
		if tokens[j].source == key || tokens[j].source == strconv.Quote(key) {
			return j
		}
	}
	return i - 1
}

// complaint says what is wrong at token i in the words of the grammar.
func complaint(tokens []token, i int, wanted string) string {
	at := tokens[i]
	switch {
	case strings.HasPrefix(wanted, "exact got "):
		_, want, _ := strings.Cut(wanted, " want ")
		return at.describe() + ", expected `" + want + "`"
	case strings.HasPrefix(wanted, "got "):
		return at.describe() + ", expected `,`"
	case strings.HasPrefix(wanted, "unexpected effect"):
		if i > 0 && tokens[i-1].source == ";" {
			return at.describe() + " after the end of the statement"
		}
		return at.describe() + ", expected `permit` or `forbid`"
	case strings.HasPrefix(wanted, "expected ident"):
		return at.describe() + ", expected a name"
	case strings.HasPrefix(wanted, "expected string"):
		return at.describe() + ", expected a string in double quotes"
	case strings.HasPrefix(wanted, "invalid primary"):
		return at.describe() + ", expected a value"
	case strings.HasPrefix(wanted, "unexpected token"):
		return at.describe()
	}
	return clip(wanted, 200) // duplicate annotation or key, unknown function, wrong number of arguments
}

// explainLiteral finds the literal that cedar-go could not read; it reports none of them with a position.
func explainLiteral(tokens []token) *Error {
	for i, t := range tokens {
		switch t.kind {
		case tokenInteger:
			n, err := strconv.ParseUint(t.source, 10, 64)
			negative := i > 0 && tokens[i-1].source == "-" && (i < 2 || !tokens[i-2].endsOperand())
			if err == nil && (n < 1<<63 || n == 1<<63 && negative) {
				continue
			}
			return syntaxError(t, "the number %s is too big: integers are -9223372036854775808 to 9223372036854775807",
				clip(t.source, 64))
		case tokenString:
			like := ""
			if i > 0 && tokens[i-1].source == "like" {
				like = `"" like `
			}
			if _, err := parsePolicies("permit(principal,action,resource)when{" + like + t.source + "};"); err != nil {
				return syntaxError(t, "%s holds an escape that Cedar does not have: "+
					`there are \n \r \t \\ \0 \' \" \x7f \u{1F600}, and \* in a pattern of like`, clip(t.source, 64))
			}
		case tokenEnd, tokenName, tokenOperator, tokenUnknown:
		}
	}
	return Invalid("statement_syntax", statementField, "the statement is not valid Cedar")
}

// clip shortens what a message repeats of the caller's text to about n characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
