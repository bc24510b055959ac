package policy

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const testGateway = "arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/refund-gw-a1b2c3d4e5"

// withCondition is a policy for every tool.
func withCondition(condition string) string {
	return `permit(principal, action, resource is AgentCore::Gateway) when { ` + condition + ` };`
}

// forTool is a policy about one gateway with a part of the head that constrains the action.
func forTool(action, condition string) string {
	return `permit(principal is AgentCore::OAuthUser, ` + action + `, resource == AgentCore::Gateway::"` + testGateway +
		`") when { ` + condition + ` };`
}

func TestParseStatementAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		source   string
		resource string
		effect   Effect
	}{
		{`permit(principal, action, resource is AgentCore::Gateway);`, "", EffectPermit},
		{`forbid(principal, action, resource is AgentCore::Gateway);`, "", EffectForbid},
		{forTool(`action == AgentCore::Action::"T___t"`, "context.input.amount < 500"), testGateway, EffectPermit},
		{forTool(`action in [AgentCore::Action::"T___t", AgentCore::Action::"T"]`, "true"), testGateway, EffectPermit},
		{"// stop everything\n@id(\"stop\")\nforbid (principal, action, resource is AgentCore::Gateway,)\n; // end", "", EffectForbid},
		{withCondition(`context.x == "// no comment ( [ { \" ?principal"`), "", EffectPermit},
		{withCondition(`context.x == -9223372036854775808`), "", EffectPermit},
		{withCondition(`context.x like "*\*"`), "", EffectPermit},
		{withCondition(strings.Repeat("(", 99) + "true" + strings.Repeat(")", 99)), "", EffectPermit},
		{withCondition("context has a" + strings.Repeat(".a", 50)), "", EffectPermit},
		{withCondition(strings.TrimSuffix(strings.Repeat("context has a.b && ", 500), "&& ")), "", EffectPermit},
		{withCondition(strings.Repeat("(if true then true else true) && ", 120) + "true"), "", EffectPermit},
		{withCondition("[" + strings.Repeat("if true then 1 else 2, ", 120) + "3].contains(1)"), "", EffectPermit},
		{withCondition("!!!!true && 1 - ---1 == 0"), "", EffectPermit},
		{withCondition("[1, 2].contains(if context has a.b then 1 else 2)"), "", EffectPermit},
		{pad(`permit(principal,action,resource is AgentCore::Gateway);`, maxStatement), "", EffectPermit},
		{pad(`permit(principal,action,resource is AgentCore::Gateway);//é`, maxStatement), "", EffectPermit},
	}
	for _, tt := range tests {
		s, err := ParseStatement(tt.source)
		if err != nil {
			t.Errorf("%s\n%v", clip(tt.source, 200), err)
			continue
		}
		if s.Text() != tt.source || s.Resource() != tt.resource || s.Effect() != tt.effect {
			t.Errorf("%s\ngot %q, %s", clip(tt.source, 200), s.Resource(), s.Effect())
		}
	}
}

// pad makes a text n characters long.
func pad(source string, n int) string {
	return source + strings.Repeat(" ", n-utf8.RuneCountInString(source))
}

func TestParseStatementRefuses(t *testing.T) {
	t.Parallel()
	head := `permit(principal, action, resource is AgentCore::Gateway)`
	tests := []struct {
		name, source, reason string
		line, column         int
		message              string // a part of it
	}{
		{"34 characters", `permit(principal,action,resource);`, "statement_length", 0, 0, "35 to 10000 characters, this one has 34"},
		{"too long", pad(head+";", maxStatement+1), "statement_length", 0, 0, "this one has 10001"},
		{"empty", "", "statement_length", 0, 0, "this one has 0"},
		{"not UTF-8", head + "\n;//\xff", "statement_encoding", 2, 4, "UTF-8"},
		{"NUL", head + " when { \"\x00\" == \"\" };", "statement_encoding", 1, 67, "NUL"},
		{"comments only", "// nothing here but this comment,\n// and this one\n", "statement_empty", 0, 0, "no statement"},
		{"two statements", head + ";\n\n  @id(\"2\")\n" + head + ";", "statement_count", 3, 3, "holds 2"},
		{"three statements", head + ";" + head + ";" + head + ";", "statement_count", 1, 59, "holds 3"},
		{"garbage behind", head + ";garbage", "statement_syntax", 1, 59, "unexpected token `garbage` after the end"},
		{"semicolon behind", head + "; ;", "statement_syntax", 1, 60, "unexpected token `;` after the end"},
		{"no semicolon", head + " // bye", "statement_syntax", 1, 65, "unexpected end of the statement, expected `;`"},
		{"cut off", head + " when { context.", "statement_syntax", 1, 74, "unexpected end of the statement, expected a name"},
		{"cut off in a path", `permit(principal, action, resource is AgentCore::`, "statement_syntax", 1, 50, "unexpected end"},
		{"byte order mark", "\ufeff" + head + ";", "statement_syntax", 1, 1, "unexpected character U+FEFF"},
		{"wrong effect", "allow" + head[6:] + ";", "statement_syntax", 1, 1, "expected `permit` or `forbid`: write `permit`"},
		{"no bracket", "permit principal, action, resource is AgentCore::Gateway;", "statement_syntax", 1, 8, "`principal`, expected `(`"},
		{"open string", withCondition("context.x == \"abc"), "statement_syntax", 1, 79, "not closed on its line"},
		{"escaped end", withCondition(`context.x == "abc\"`), "statement_syntax", 1, 79, "not closed on its line"},
		{"line end in string", head + " when { \"a\nb\" == \"\" };", "statement_syntax", 1, 66, "not closed on its line"},
		{"escaped line end", head + " when { \"a\\\nb\" == \"\" };", "statement_syntax", 1, 66, "not closed on its line"},
		{"block comment", withCondition("/* x */ true"), "statement_syntax", 1, 66, "begins with //"},
		{"unknown escape", withCondition(`"a" == "\q"`), "statement_syntax", 1, 73, "escape"},
		{"hex escape", withCondition(`"é" == "\x99"`), "statement_syntax", 1, 73, "escape"},
		{"pattern escape", withCondition(`"é" like "\y"`), "statement_syntax", 1, 75, "escape"},
		{"star escape", withCondition(`"é" == "\*"`), "statement_syntax", 1, 73, "escape"},
		{"too big", withCondition("context.x < 9223372036854775808"), "statement_syntax", 1, 78, "the number 9223372036854775808 is too big"},
		{"too big after minus", withCondition("1 - 9223372036854775808 < 1"), "statement_syntax", 1, 70, "too big"},
		{"too small", withCondition("-9223372036854775809 < 1"), "statement_syntax", 1, 67, "too big"},
		{"fraction", withCondition("context.input.x <= 5.5"), "statement_syntax", 1, 87, "`.lessThanOrEqual(decimal(\"5.5\"))`"},
		{"fraction alone", withCondition("context.input.x == 5.5"), "statement_syntax", 1, 87, "write `decimal(\"5.5\")`"},
		{"has as function", withCondition("has(context.input.x)"), "statement_syntax", 1, 66, "write `context.input has x`"},
		{"has as function of nothing", withCondition("has()"), "statement_syntax", 1, 66, "write `context.input has name`"},
		{"is with an entity", `permit(principal, action, resource is AgentCore::Gateway::"arn");`, "statement_syntax", 1, 59, "write `resource == AgentCore::Gateway::\"arn\"`"},
		{"guardrails", head + " when guardrails { true };", "statement_syntax", 1, 64, "unexpected token `guardrails`, expected `{`: guardrail conditions are not supported here"},
		{"temporal", head + " when temporal { true };", "statement_syntax", 1, 64, "temporal conditions are not supported here"},
		{"suppressOutput", "suppressOutput" + head[6:] + ";", "statement_syntax", 1, 1, "not supported here"},
		{"one equals sign", withCondition("context.x = 5"), "statement_syntax", 1, 76, "equality is `==`"},
		{"and", withCondition("true and false"), "statement_syntax", 1, 71, "write `&&`"},
		{"or", withCondition("true | false"), "statement_syntax", 1, 71, "write `||`"},
		{"not", withCondition("not(true)"), "statement_syntax", 1, 66, "`not` is not a function: write `!(…)`"},
		{"not in", withCondition("principal not in resource"), "statement_syntax", 1, 76, "write `!(…)`"},
		{"single quotes", withCondition("context.x == 'a'"), "statement_syntax", 1, 79, "double quotes"},
		{"division", withCondition("context.x / 2 == 1"), "statement_syntax", 1, 76, "no division"},
		{"input alone", withCondition("input.x == 1"), "statement_syntax", 1, 66, "write `context.input`"},
		{"bare word", withCondition("true && role"), "statement_syntax", 1, 74, "an expression begins with"},
		{"unknown function", withCondition("foo(1)"), "statement_syntax", 1, 66, "`foo` is not a function"},
		{"unknown method", withCondition("context.foo(1, 2)"), "statement_syntax", 1, 74, "`foo` is not a method"},
		{"method as function", withCondition("lessThan(1)"), "statement_syntax", 1, 66, "is a method"},
		{"arguments", withCondition("[1].contains(1, 2)"), "statement_syntax", 1, 70, "contains expects one argument"},
		{"no arguments", withCondition("[1].isEmpty(1)"), "statement_syntax", 1, 70, "isEmpty expects no arguments"},
		{"duplicate key", withCondition("{a: 1, \"a\": 2} == context"), "statement_syntax", 1, 73, "duplicate key: a"},
		{"duplicate annotation", `@id("x") @id("y") ` + head + ";", "statement_syntax", 1, 11, "duplicate annotation: @id"},
		{"no comma in set", withCondition("[1 2].contains(1)"), "statement_syntax", 1, 69, "`2`, expected `,`"},
		{"no comma in arguments", withCondition("[1].contains(1 2)"), "statement_syntax", 1, 81, "`2`, expected `,`"},
		{"no colon", withCondition("{a 1} == context"), "statement_syntax", 1, 69, "`1`, expected `:`"},
		{"no else", withCondition("if true then false"), "statement_syntax", 1, 85, "`}`, expected `else`"},
		{"index", withCondition("context[1] == 1"), "statement_syntax", 1, 74, "unexpected token `1`"},
		{"like no string", withCondition("\"\" like 1"), "statement_syntax", 1, 74, "expected a string in double quotes"},
		{"annotation value", `@id(1) ` + head + ";", "statement_syntax", 1, 5, "expected a string in double quotes"},
		{"third line", "permit(\n  principal,\n\tactoin,\n  resource is AgentCore::Gateway);", "statement_syntax", 3, 2, "`actoin`, expected `action`"},
		{"template", "permit(principal == ?principal,\naction, resource is AgentCore::Gateway);", "statement_template", 1, 21, "`?principal`"},
		{"template in resource", "permit(principal, action,\nresource in ?resource);      ", "statement_template", 2, 13, "`?resource`"},

		{"bare resource", `permit(principal, action, resource);`, "resource_wildcard", 1, 27, "a wildcard resource was detected. To avoid unexpected behavior changes, please constrain the resource either to a specific `AgentCore::Gateway` resource or to the `AgentCore::Gateway` resource type."},
		{"bare resource after action", `permit(principal, action == AgentCore::Action::"T___t", resource);`, "resource_wildcard", 1, 57, "wildcard"},
		{"tool for any gateway", `permit(principal, action == AgentCore::Action::"T___t", resource is AgentCore::Gateway);`, "action_needs_resource", 1, 19, "a constrained action scope was encountered, please constrain the resource to a specific AgentCore::Gateway resource when creating tool-specific policies"},
		{"target for any gateway", `permit(principal, action in AgentCore::Action::"T", resource is AgentCore::Gateway);`, "action_needs_resource", 1, 19, "constrained action"},
		{"tools for any gateway", `permit(principal, action in [AgentCore::Action::"T"], resource is AgentCore::Gateway);`, "action_needs_resource", 1, 19, "constrained action"},
		{"no tools for any gateway", `permit(principal, action in [], resource is AgentCore::Gateway);`, "action_needs_resource", 1, 19, "constrained action"},
		{"action of another type", `permit(principal, action == Tool::"T___t", resource == AgentCore::Gateway::"` + testGateway + `");`, "action_type", 1, 19, "write AgentCore::Action::\"T___t\""},
		{"resource of another type", `permit(principal, action, resource is AgentCore::Tool);`, "resource_type", 1, 27, "not of type AgentCore::Tool"},
		{"resource of another type, one", `permit(principal, action, resource == Gateway::"x");`, "resource_type", 1, 27, "not of type Gateway"},
		{"resource in", `permit(principal, action, resource in AgentCore::Gateway::"x");`, "resource_in", 1, 27, "in no groups"},
		{"resource is in", `permit(principal, action, resource is AgentCore::Gateway in AgentCore::Gateway::"x");`, "resource_in", 1, 27, "in no groups"},
		{"no ARN", `permit(principal, action, resource == AgentCore::Gateway::"refund-gw");`, "resource_arn", 1, 27, `"refund-gw" is not the ARN of a gateway`},
		{"ARN of an engine", `permit(principal, action, resource == AgentCore::Gateway::"arn:aws:bedrock-agentcore:us-east-1:123456789012:policy-engine/e-a1b2c3d4e5");`, "resource_arn", 1, 27, "not the ARN"},

		{"brackets", withCondition(strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100)), "statement_nesting", 1, 165, "100 brackets"},
		{"mixed brackets", withCondition(strings.Repeat("[({a:", 40) + "true" + strings.Repeat("})]", 40)), "statement_nesting", 1, 231, "100 brackets"},
		{"ifs", withCondition(strings.Repeat("if true then true else ", 101) + "true"), "statement_nesting", 1, 2343, "`if`s"},
		{"signs", withCondition("!!!!!true"), "statement_nesting", 1, 70, "4 signs in a row"},
		{"minus signs", withCondition("1 - -----1 == 2"), "statement_nesting", 1, 74, "4 signs in a row"},
		{"path", withCondition("context" + strings.Repeat(".a", 51)), "statement_nesting", 1, 173, "50 members in one path"},
		{"index path", withCondition("context" + strings.Repeat(`["a"]`, 51)), "statement_nesting", 1, 323, "50 members in one path"},
		{"long has", withCondition("context has a" + strings.Repeat(".a", 4900)), "statement_nesting", 1, 179, "50 members in one path"},
		{"has in has", withCondition("((context has a.b) has a.b)"), "statement_nesting", 1, 85, "a dotted `has` inside the operand of another"},
		{"has in has in has", withCondition(strings.Repeat("(", 60) + "context" + strings.Repeat(" has a.b)", 60)), "statement_nesting", 1, 143, "dotted `has`"},
		{"has in an argument", withCondition("[1].contains(context has a.b) has a.b"), "statement_nesting", 1, 96, "dotted `has`"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseStatement(tt.source)
			refused, ok := errors.AsType[*Error](err)
			if !ok || !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v, want an *Error of kind ErrInvalid", err)
			}
			if refused.Reason != tt.reason || refused.Line != tt.line || refused.Column != tt.column ||
				!strings.Contains(refused.Message, tt.message) {
				t.Errorf("got %s %v\nwant %s line %d, column %d: …%s…", refused.Reason, refused, tt.reason, tt.line, tt.column, tt.message)
			}
			if refused.Field != "definition.cedar.statement" {
				t.Errorf("got field %q", refused.Field)
			}
		})
	}
}

// A statement that parses is refused because of its shape only when cedar-go would take long for it. This pins the
// other half: each word of Cedar's grammar passes.
func TestCheckShapeLeavesTheRestToTheParser(t *testing.T) {
	t.Parallel()
	for _, source := range []string{")]}((", "has", "has a", "has a.", "if , ; if", "!-!-", "a - - - - -", "...[", "\"\"[\"a\"]"} {
		tokens, err := tokenize(source)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkShape(tokens); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestTokenizePositions(t *testing.T) {
	t.Parallel()
	got, err := tokenize("é\t\"ü\" // x\n\r\n a1::b<=2~")
	if err != nil {
		t.Fatal(err)
	}
	want := []token{
		{tokenUnknown, "é", 1, 1},
		{tokenString, `"ü"`, 1, 3},
		{tokenName, "a1", 3, 2},
		{tokenOperator, "::", 3, 4},
		{tokenName, "b", 3, 6},
		{tokenOperator, "<=", 3, 7},
		{tokenInteger, "2", 3, 9},
		{tokenUnknown, "~", 3, 10},
		{tokenEnd, "", 3, 11},
	}
	if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseStatement(f *testing.F) {
	for _, source := range []string{
		`permit(principal, action, resource is AgentCore::Gateway);`,
		`forbid(principal, action, resource);`,
		forTool(`action == AgentCore::Action::"RefundTarget___process_refund"`, `context.input.amount < 500`),
		forTool(`action in [AgentCore::Action::"RefundTarget"]`, `principal.hasTag("a") && principal.getTag("a") like "*x\**"`),
		withCondition(`context.system.now.toTime() <= duration("17h") unless { ip("::1").isLoopback() }`),
		withCondition(`if context has a.b then -1 < 2 else {a: [1, "\u{1F600}"]} == context`),
		withCondition(`has(context.input.x)`), withCondition(`x <= 5.5`), withCondition(`"\q" == 9223372036854775808`),
		withCondition(`(principal is AgentCore::OAuthUser in resource) && !action in []`),
		"@id(\"é\") // c\r\n" + withCondition(`context["a b"].c`) + "\nforbid", "permit(principal == ?principal",
	} {
		f.Add(source)
	}
	gateways := refundGateways()
	f.Fuzz(func(t *testing.T, source string) {
		s, err := ParseStatement(source)
		if err != nil {
			checkRefusal(t, source, err)
			return
		}
		list, err := parsePolicies(source)
		if err != nil || len(list) != 1 {
			t.Fatalf("accepted, but it holds %d statements: %v", len(list), err)
		}
		again, err := ParseStatement(s.Text())
		if err != nil || again.Resource() != s.Resource() || again.Effect() != s.Effect() || s.Text() != source {
			t.Fatalf("parsed again: %+v, %v", again, err)
		}
		reasons := Validate(s, gateways)
		for _, r := range reasons {
			if r == "" || utf8.RuneCountInString(r) > maxReason || strings.Contains(r, "could not be type-checked") {
				t.Errorf("reason %q", r)
			}
		}
		if diff := cmp.Diff(reasons, Validate(again, gateways)); diff != "" || len(reasons) > maxReasons {
			t.Errorf("%d reasons, and then others: %s", len(reasons), diff)
		}
	})
}

func checkRefusal(t *testing.T, source string, err error) {
	t.Helper()
	refused, ok := errors.AsType[*Error](err)
	if !ok || !errors.Is(err, ErrInvalid) || refused.Reason == "" || refused.Message == "" || refused.Field != statementField {
		t.Fatalf("refused with %#v", err)
	}
	if refused.Line == 0 {
		return
	}
	lines := strings.Split(source, "\n")
	if refused.Line > len(lines) || refused.Column < 1 || refused.Column > utf8.RuneCountInString(lines[refused.Line-1])+1 {
		t.Errorf("the position is not in the text: %v", err)
	}
}
