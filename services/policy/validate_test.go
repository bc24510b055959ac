package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// object is the schema of an object from members as "name type" or "name! type" for a required one.
func object(members ...string) *Schema {
	s := &Schema{Type: SchemaObject, Properties: map[string]*Schema{}}
	for _, m := range members {
		name, kind, _ := strings.Cut(m, " ")
		if before, ok := strings.CutSuffix(name, "!"); ok {
			name = before
			s.Required = append(s.Required, name)
		}
		s.Properties[name] = &Schema{Type: SchemaType(kind)}
	}
	return s
}

func gatewayWith(arn, target string, tools ...Tool) GatewayTools {
	return GatewayTools{ARN: arn, Targets: []TargetTools{{Name: target, Tools: tools}}}
}

// refundGateways is the fixture of the acceptance scenarios, with a few members of other types.
func refundGateways() []GatewayTools {
	refund := object("orderId! string", "amount! integer", "reason string", "price! number", "confirmed boolean")
	refund.Properties["lines"] = &Schema{Type: SchemaArray, Items: object("sku! string", "count! integer")}
	refund.Properties["notes"] = &Schema{Type: SchemaArray}
	refund.Properties["labels"] = &Schema{Type: SchemaArray, Items: &Schema{Type: SchemaString}}
	address := object("street! string", "zip string")
	refund.Properties["customer"] = object("id! string")
	refund.Properties["customer"].Properties["address"] = address
	refund.Properties["nothing"] = &Schema{Type: "null"}
	refund.Properties["odd name"] = &Schema{Type: SchemaString}
	refund.Required = append(refund.Required, "undescribed")
	return []GatewayTools{gatewayWith(testGateway, "RefundTarget",
		Tool{Name: "process_refund", InputSchema: refund},
		Tool{Name: "lookup_order", InputSchema: object("orderId! string")},
	)}
}

const refundTool = `action == AgentCore::Action::"RefundTarget___process_refund"`

func validateText(t *testing.T, source string, gateways []GatewayTools) []string {
	t.Helper()
	s, err := ParseStatement(source)
	if err != nil {
		t.Fatalf("%s\n%v", source, err)
	}
	return Validate(s, gateways)
}

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		`permit(principal, action, resource is AgentCore::Gateway);`,
		`forbid(principal, action, resource == AgentCore::Gateway::"` + testGateway + `");`,
		forTool(refundTool, `context.input.amount < 1000`),
		forTool(refundTool, `context.input has reason && context.input.reason == "x"`),
		forTool(refundTool, `context.input.price.lessThan(decimal("5.0"))`),
		forTool(refundTool, `principal.hasTag("role") && principal.getTag("role") == "refund-agent"`),
		forTool(refundTool, `["US", "CA"].contains(context.input.orderId)`),
		forTool(refundTool, `context.input has labels && context.input.labels.containsAny(["a"])`),
		forTool(refundTool, `context.input has notes && !context.input.notes.isEmpty()`),
		forTool(refundTool, `context.input has customer.address.zip && context.input.customer.address.zip like "9*"`),
		forTool(refundTool, `context.input has lines && context.input.lines.contains({sku: "a", count: 1})`),
		forTool(refundTool, `context.input has "odd name" && context.input["odd name"] == "x"`),
		forTool(refundTool, `context.input.undescribed == context.input.undescribed`),
		forTool(refundTool, `context.system.now.toTime() <= duration("17h") && duration("9h") <= context.system.now.toTime()`),
		forTool(refundTool, `context.system.now > datetime("2026-01-01T00:00:00Z")`),
		forTool(refundTool, `principal.id like "*x*"`),
		forTool(refundTool, `context.input == context.input`),
		forTool(`action in AgentCore::Action::"RefundTarget"`, `context.input.orderId == "1"`),
		forTool(`action in AgentCore::Action::"RefundTarget"`, `context.input has amount && context.input.amount > 5`),
		forTool(`action in [AgentCore::Action::"RefundTarget___process_refund", AgentCore::Action::"RefundTarget___lookup_order"]`, `true`),
		`permit(principal == AgentCore::OAuthUser::"u-1", action, resource is AgentCore::Gateway);`,
		`permit(principal is AgentCore::IamEntity, action, resource is AgentCore::Gateway) when { principal.id like "*:4444:*" };`,
		withCondition(`principal is AgentCore::IamEntity && principal.hasTag("never")`),
		`permit(principal is AgentCore::UnauthenticatedUser, action, resource is AgentCore::Gateway) when { principal.id == "anonymous" };`,
		`permit(principal == AgentCore::UnauthenticatedUser::"anonymous", action, resource is AgentCore::Gateway);`,
		withCondition(`principal is AgentCore::UnauthenticatedUser && principal.hasTag("never")`),
		withCondition(`action in AgentCore::Action::"RefundTarget" && context.input.orderId == "1"`),
		withCondition(`action in [AgentCore::Action::"RefundTarget___process_refund"] && context.input.amount > 1`),
		withCondition(`resource == AgentCore::Gateway::"` + testGateway + `"`),
		withCondition(`action in AgentCore::Action::"CallTool" && action is AgentCore::Action`),
	} {
		if reasons := validateText(t, source, refundGateways()); reasons != nil {
			t.Errorf("%s\n%q", source, reasons)
		}
	}
}

// What cedar-go alone gets wrong: each of these is valid, or is not, only with what Validate does about it.
func TestValidateMendsCedarGo(t *testing.T) {
	t.Parallel()
	head := strings.TrimSuffix(forTool(refundTool, `true`), " when { true };")
	tests := []struct {
		name, source string
		reason       string // "" when it is valid
	}{
		{"a guard in the clause before", head + ` when { context.input has reason } when { context.input.reason == "x" };`, ""},
		{"a guard before unless", head + ` when { context.input has reason } unless { context.input.reason == "x" };`, ""},
		{"a tag guard before", head + ` when { principal.hasTag("a") } when { principal.getTag("a") == "x" };`, ""},
		{"a guard that comes too late", head + ` when { context.input.reason == "x" } when { context.input has reason };`, "optional attribute `input.reason`"},
		{"a guard in unless guards nothing", head + ` unless { context.input has reason } when { context.input.reason == "x" };`, "optional attribute `input.reason`"},
		{"is in, of another type", withCondition(`principal is AgentCore::Gateway in resource && context.input.nil`), ""},
		{"is in, of a literal", withCondition(`AgentCore::Gateway::"x" is AgentCore::OAuthUser in resource && 1`), ""},
		{"is in, of one type", withCondition(`principal is AgentCore::OAuthUser in principal && principal.getTag("a") == "b"`), "tag `\"a\"` on entity type `AgentCore::OAuthUser`"},
		{"the action on the left", withCondition(`action == AgentCore::Action::"RefundTarget___process_refund" && context.input.amount > 1`), ""},
		{"the action on the right", withCondition(`AgentCore::Action::"RefundTarget___process_refund" == action && context.input.amount > 1`), ""},
		{"another action", withCondition(`AgentCore::Action::"RefundTarget___process_refund" != action || context.input.amount > 1`), ""},
		{"an undeclared type after is", withCondition(`principal is AgentCore::User`), "unrecognized entity type `AgentCore::User` at line 1, column 79"},
		{"an undeclared type in dead code", withCondition(`false && resource is Foo`), "unrecognized entity type `Foo` at line 1, column 87"},
		{"an undeclared type of a literal", withCondition(`principal == User::"x"`), "unrecognized entity type `User` at line 1, column 79"},
		{"the path of a missing member", forTool(refundTool, `context.input has customer && context.input.customer.nme == "x"`), "attribute `input.customer.nme` in context for AgentCore::Action::\"RefundTarget___process_refund\" not found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkReasons(t, validateText(t, tt.source, refundGateways()), tt.reason)
		})
	}
}

// checkReasons checks that there is exactly one reason, or none for "".
func checkReasons(t *testing.T, reasons []string, want string) {
	t.Helper()
	if want == "" && len(reasons) == 0 {
		return
	}
	if len(reasons) != 1 || want == "" || !strings.Contains(reasons[0], want) {
		t.Errorf("got %q\nwant %q", reasons, want)
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, source, reason string }{
		{"13 tag without guard", forTool(refundTool, `principal.getTag("username") == "x"`), "unable to guarantee safety of access to tag `\"username\"` on entity type `AgentCore::OAuthUser`; test it first: `principal.hasTag(\"username\") && …`"},
		{"14 optional without guard", forTool(refundTool, `context.input.reason == "x"`), "unable to guarantee safety of access to optional attribute `input.reason` in context for AgentCore::Action::\"RefundTarget___process_refund\"; test it first: `context.input has reason && …`"},
		{"15 two underscores", forTool(`action == AgentCore::Action::"RefundTarget__process_refund"`, `true`), "unrecognized action `AgentCore::Action::\"RefundTarget__process_refund\"` at line 1, column 53: did you mean `RefundTarget___process_refund`?"},
		{"15 other target", forTool(`action == AgentCore::Action::"RefundTool__process_refund"`, `true`), "unrecognized action `AgentCore::Action::\"RefundTool__process_refund\"` at line 1, column 53: did you mean"},
		{"22 decimal with <", forTool(refundTool, `context.input.price < 5`), "unexpected type: expected datetime, or duration, or Long but saw decimal; compare decimals with .lessThan(decimal(\"5.0\"))"},
		{"decimal and integer", forTool(refundTool, `context.input.price == 5`), "the types Long and decimal are not compatible; a JSON number is a decimal"},
		{"typo in a member", forTool(refundTool, `context.input.amonut < 5`), "attribute `input.amonut` in context for AgentCore::Action::\"RefundTarget___process_refund\" not found: did you mean `amount`?"},
		{"no input", forTool(refundTool, `context.amount < 5`), "attribute `amount` in context for AgentCore::Action::\"RefundTarget___process_refund\" not found: did you mean `context.input.amount`?"},
		{"no now", forTool(refundTool, `context.system.noww == context.system.now`), "attribute `system.noww` in context for AgentCore::Action::\"RefundTarget___process_refund\" not found: did you mean `now`?"},
		{"member of a tag", forTool(refundTool, `principal.role == "x"`), "attribute `role` on entity type `AgentCore::OAuthUser` not found; claims are tags"},
		{"context as a whole", forTool(refundTool, `context == {input: {}, system: {now: context.system.now}}`), "are not compatible"},
		{"in for a set", forTool(refundTool, `context.input.orderId in resource`), "expected an entity but saw String; `in` is for entities"},
		{"no items", forTool(refundTool, `context.input has notes && context.input.notes.contains("a")`), "the types String and unknown are not compatible; the tool's schema does not say the type"},
		{"of a type that Cedar has not", forTool(refundTool, `context.input has nothing && context.input.nothing == 1`), "the types Long and unknown are not compatible"},
		{"not described", forTool(refundTool, `context.input.undescribed like "a"`), "expected String but saw unknown"},
		{"no Bool", forTool(refundTool, `context.input.amount`), "unexpected type: expected Bool but saw Long"},
		{"literal of decimal", forTool(refundTool, `context.input.price.lessThan(decimal("x"))`), "failed to parse as a decimal value"},
		{"constructor of no literal", forTool(refundTool, `context.input.price == decimal(context.input.orderId)`), "extension constructors may not be called with non-literal expressions"},

		{"group with ==", forTool(`action == AgentCore::Action::"RefundTarget"`, `true`), "unable to find an applicable action given the policy scope constraints: AgentCore::Action::\"RefundTarget\" is a target, not a tool; write `action in AgentCore::Action::\"RefundTarget\"`"},
		{"member of one tool of a group", forTool(`action in AgentCore::Action::"RefundTarget"`, `context.input.amount > 5`), "attribute `input.amount` in context for AgentCore::Action::\"RefundTarget___lookup_order\" not found; name only tools that have it, or test it first with `has`"},
		{"built-in group", forTool(`action in AgentCore::Action::"Mcp"`, `true`), `invalid action ID "Mcp" at line 1, column 53`},
		{"unknown tool", forTool(`action == AgentCore::Action::"UnknownTool"`, `true`), `invalid action ID "UnknownTool"`},
		{"no such target", forTool(`action == AgentCore::Action::"Elsewhere___get_policy"`, `true`), "Target 'Elsewhere' does not exist in gateway 'refund-gw-a1b2c3d4e5'. Available targets: RefundTarget"},
		{"no such tool", forTool(`action == AgentCore::Action::"RefundTarget___drop_all_tables"`, `true`), "Available actions: RefundTarget, RefundTarget___lookup_order, RefundTarget___process_refund"},
		{"no namespace", forTool(`action == Action::"RefundTarget___process_refund"`, `true`), "did you mean `AgentCore::Action::\"RefundTarget___process_refund\"`?"},
		{"no such action in a condition", withCondition(`action == AgentCore::Action::"RefundTarget___process_refnd"`), "at line 1, column 76: did you mean `RefundTarget___process_refund`?"},
		{"empty set", forTool(`action in []`, `true`), "empty set literals are forbidden in policies"},
		{"empty set in a condition", forTool(refundTool, `[].contains(1)`), "empty set literals are forbidden in policies"},

		{"principal type", `permit(principal is AgentCore::OAuthUsr, action, resource is AgentCore::Gateway);`, "unrecognized entity type `AgentCore::OAuthUsr` at line 1, column 21: did you mean `AgentCore::OAuthUser`?"},
		{"principal without namespace", `permit(principal == OAuthUser::"x", action, resource is AgentCore::Gateway);`, "unrecognized entity type `OAuthUser` at line 1, column 21: did you mean `AgentCore::OAuthUser`?"},
		{"principal is the gateway", `permit(principal is AgentCore::Gateway, action, resource is AgentCore::Gateway);`, "unable to find an applicable action given the policy scope constraints: the principal of a tool call is an AgentCore::OAuthUser or an AgentCore::IamEntity or an AgentCore::UnauthenticatedUser, never an AgentCore::Gateway"},
		{"principal is in another", `permit(principal is AgentCore::OAuthUser in AgentCore::IamEntity::"x", action, resource is AgentCore::Gateway);`, "unable to find an applicable action given the policy scope constraints"},
		{"other gateway", strings.Replace(forTool(refundTool, `true`), "refund-gw", "other-gw", 1), "unrecognized gateway `arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/other-gw-a1b2c3d4e5`"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkReasons(t, validateText(t, tt.source, refundGateways()), tt.reason)
		})
	}
}

func TestValidateSaysOnceWhatIsWrongWithManyTools(t *testing.T) {
	t.Parallel()
	gateways := manyTools(100)
	reasons := validateText(t, withCondition(`context.input.amount > 5`), gateways)
	checkReasons(t, reasons, "attribute `input.amount` in context for AgentCore::Action::\"T___tool_0001\" and 49 more "+
		"(T___tool_0003, T___tool_0005, T___tool_0007, T___tool_0009, T___tool_0011 and 44 more) and any tool that is added later not found")
	reasons = validateText(t, withCondition(`principal is AgentCore::OAuthUser && context.input has amount && context.input.amount > "5"`), gateways)
	checkReasons(t, reasons, "expected datetime, or duration, or Long but saw String (for AgentCore::Action::\"T___tool_0000\" and 49 more (")
	reasons = validateText(t, withCondition(`principal.id > 5`), gateways)
	checkReasons(t, reasons, "expected datetime, or duration, or Long but saw String")
	if strings.Contains(reasons[0], "(for ") {
		t.Errorf("names tools although it is true of all: %q", reasons)
	}
	reasons = validateText(t, withCondition(`action == AgentCore::Action::"T___tool_0000" || context.input.id == 1`), gateways)
	if len(reasons) != 2 || !strings.Contains(reasons[0], "types Long and String") || !strings.Contains(reasons[1],
		`AgentCore::Action::"UnknownTool" (any tool that is added later) not found`) {
		t.Errorf("got %q", reasons)
	}
}

// manyTools is a gateway with n tools, of which every other one has an amount.
func manyTools(n int) []GatewayTools {
	tools := make([]Tool, n)
	for i := range tools {
		schema := object("id! string", fmt.Sprintf("own_%d string", i))
		if i%2 == 0 {
			schema.Properties["amount"] = &Schema{Type: SchemaInteger}
			schema.Required = append(schema.Required, "amount")
		}
		tools[i] = Tool{Name: fmt.Sprintf("tool_%04d", i), InputSchema: schema}
	}
	return []GatewayTools{gatewayWith(testGateway, "T", tools...)}
}

// The same arguments give the same reasons in the same order, although cedar-go goes over maps.
func TestValidateIsDeterministic(t *testing.T) {
	t.Parallel()
	s, err := ParseStatement(withCondition(`context.input.a == 1 && context.input.b == 1 && context.input.c == 1 && principal.d == resource.e`))
	if err != nil {
		t.Fatal(err)
	}
	first := Validate(s, refundGateways())
	if len(first) != 7 { // three names of the context, one of a gateway, and one of each type of principal
		t.Errorf("got %q", first)
	}
	for range 20 {
		if again := Validate(s, refundGateways()); !slices.Equal(again, first) {
			t.Fatalf("got %q\nand then %q", first, again)
		}
	}
}

func TestValidateChoosesGateways(t *testing.T) {
	t.Parallel()
	other := strings.Replace(testGateway, "refund-gw", "other-gw", 1)
	gateways := append(refundGateways(), gatewayWith(other, "RefundTarget",
		Tool{Name: "process_refund", InputSchema: object("amount! string")}))
	empty := gatewayWith(strings.Replace(testGateway, "refund-gw", "empty-gw", 1), "Later")
	onOther := strings.Replace(forTool(refundTool, `context.input.amount == "5"`), testGateway, other, 1)
	tests := []struct {
		name, source string
		gateways     []GatewayTools
		reason       string
	}{
		{"named", forTool(refundTool, `context.input.amount == 5`), gateways, ""},
		{"the other named", onOther, gateways, ""},
		{"two definitions of one tool", withCondition(`action == AgentCore::Action::"RefundTarget___process_refund" && context.input.amount > 5`), gateways, "expected datetime, or duration, or Long but saw String"},
		{"none", withCondition(`true`), nil, "there are no tools: policies are checked against the tools of the gateways"},
		{"none with tools", withCondition(`true`), []GatewayTools{empty}, "there are no tools"},
		{"named has none", strings.Replace(forTool(refundTool, `true`), testGateway, empty.ARN, 1), []GatewayTools{empty}, "has no tools: policies are checked against the tools of their gateway; create a target"},
		{"target without tools", forTool(`action in AgentCore::Action::"Later"`, `true`), []GatewayTools{{ARN: testGateway, Targets: append(empty.Targets, refundGateways()[0].Targets...)}}, "target `Later` has no tools"},
		{"required here, optional there", withCondition(`context.input has x && (action == AgentCore::Action::"A___t" || context.input.x == 1)`), []GatewayTools{gatewayWith(testGateway, "A", Tool{Name: "t", InputSchema: object("x! integer")}, Tool{Name: "u", InputSchema: object("x integer")})}, ""},
		{"required here, optional there, unguarded", strings.Replace(forTool(`action in AgentCore::Action::"A"`, `context.input.x == 1`), "is AgentCore::OAuthUser", "is AgentCore::IamEntity", 1), []GatewayTools{gatewayWith(testGateway, "A", Tool{Name: "t", InputSchema: object("x! integer")}, Tool{Name: "u", InputSchema: object("x integer")})}, "optional attribute `input.x` in context for AgentCore::Action::\"A___u\"; test it first"},
		{"tool without schema", withCondition(`context.input has x`), []GatewayTools{gatewayWith(testGateway, "T", Tool{Name: "t"})}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkReasons(t, validateText(t, tt.source, tt.gateways), tt.reason)
		})
	}
	if reasons := Validate(Statement{}, gateways); len(reasons) != 1 {
		t.Errorf("the zero Statement: %q", reasons)
	}
}

func TestValidateBoundsReasons(t *testing.T) {
	t.Parallel()
	var actions []string
	for i := range 150 {
		actions = append(actions, fmt.Sprintf(`AgentCore::Action::"Nope%d___x"`, i))
	}
	reasons := validateText(t, forTool(`action in [`+strings.Join(actions, ", ")+`]`, `true`), refundGateways())
	if len(reasons) != maxReasons || reasons[99] != "and 51 more reasons" {
		t.Errorf("got %d reasons, the last %q", len(reasons), reasons[len(reasons)-1])
	}
	wide := object()
	for i := range 500 {
		wide.Properties[fmt.Sprintf("member_%d", i)] = &Schema{Type: SchemaString}
	}
	reasons = validateText(t, withCondition(`action in AgentCore::Action::"T" && context.input == 1`),
		[]GatewayTools{gatewayWith(testGateway, "T", Tool{Name: "t", InputSchema: wide})})
	if len(reasons) != 1 || utf8.RuneCountInString(reasons[0]) != maxReason || !strings.HasSuffix(reasons[0], "…") {
		t.Errorf("got %d reasons, %q", len(reasons), reasons)
	}
}

// Statements for which cedar-go's type-checker would take minutes, or far longer than that. They are refused, or
// checked after all; a Validate that does neither does not come back.
func TestValidateIsBounded(t *testing.T) {
	t.Parallel()
	deep := object("a string")
	for range 50 {
		outer := object()
		outer.Properties["a"] = deep
		deep = outer
	}
	gateways := []GatewayTools{gatewayWith(testGateway, "T", Tool{Name: "t", InputSchema: deep})}
	path := "context.input" + strings.Repeat(".a", 45)
	guards := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("context.input has a%d", i))
		}
		return strings.Join(all, " || ")
	}
	nested := "context.input"
	for range 40 {
		nested = "(if " + nested + ".a.a == 1 then context.input else context.input)"
	}
	tools := manyTools(1000)
	var actions []string
	for i := range 250 {
		actions = append(actions, fmt.Sprintf(`AgentCore::Action::"T___tool_%04d"`, i))
	}
	set := "[" + strings.Join(actions, ",") + "]"
	tests := []struct {
		name, condition string
		gateways        []GatewayTools
		reason          string
	}{
		{"optional members one after the other", path + ` == "x"`, gateways, "too complex"},
		{"many of them", strings.TrimSuffix(strings.Repeat("context.input"+strings.Repeat(".a", 16)+" == 1 || ", 100), "|| "), gateways, "too complex"},
		{"members of an expression", nested + ".a.a == 1", gateways, "too complex"},
		{"guards", guards(101), gateways, "tests 101 different things with `has` and `hasTag`, and at most 100 are supported"},
		{"few guards", guards(100), gateways, ""},
		{"one guard often", strings.TrimSuffix(strings.Repeat("context.input has a || ", 300), "|| "), gateways, ""},
		{"tags in tags", strings.Repeat("principal.getTag(", 99) + `"a"` + strings.Repeat(")", 99) + " == \"b\" || action == action", tools, "too complex"},
		{"the action in many", "action in " + set, tools, ""},
		{"an action in many", `AgentCore::Action::"T" in ` + set + ` && action == action`, tools, "too complex to be checked against 1001 different tools"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkReasons(t, validateText(t, withCondition(tt.condition), tt.gateways), tt.reason)
		})
	}
	t.Run("many mistakes for many tools", func(t *testing.T) {
		t.Parallel()
		wrong := strings.TrimSuffix(strings.Repeat("true + ", 800), "+ ")
		reasons := validateText(t, withCondition(`resource == resource && action == action && `+wrong+` == 1`), manyTools(400))
		if len(reasons) != 2 || !strings.HasPrefix(reasons[0], "unexpected type: expected Long but saw Bool (for ") ||
			reasons[1] != "there are more tools, for which the statement was not checked" {
			t.Errorf("got %q", reasons)
		}
	})
}

// A statement about one tool costs the same however many tools there are; one about all is checked once for all that
// it cannot tell apart.
func TestValidateDoesNotGrowWithTools(t *testing.T) {
	source := forTool(`action == AgentCore::Action::"T___tool_0002"`, `context.input.amount < 5 && principal.hasTag("a")`)
	s, err := ParseStatement(source)
	if err != nil {
		t.Fatal(err)
	}
	allocs := func(tools int) float64 {
		gateways := manyTools(tools)
		return testing.AllocsPerRun(20, func() {
			if reasons := Validate(s, gateways); reasons != nil {
				t.Error(reasons)
			}
		})
	}
	if few, many := allocs(10), allocs(1000); many > few+5 {
		t.Errorf("%v allocations with 10 tools, %v with 1,000", few, many)
	}
	all, err := ParseStatement(withCondition(`context.input has amount && context.input.amount < 5`))
	if err != nil {
		t.Fatal(err)
	}
	v := validation{statement: all, scope: scopeOf(all.parsed), survey: surveyOf(all.parsed), catalog: catalog{manyTools(1000)}}
	groups, _ := v.group(v.catalog.selected(v.scope.action))
	if len(groups) != 2 { // with an amount and without, which is how any future tool is seen too
		t.Errorf("1,000 tools make %d groups", len(groups))
	}
}

func BenchmarkValidate(b *testing.B) {
	for _, bench := range []struct{ name, source string }{
		{"one", forTool(`action == AgentCore::Action::"T___tool_0002"`, `context.input.amount < 5`)},
		{"all", withCondition(`context.input has amount && context.input.amount < 5`)},
		{"all, by action", withCondition(`action == AgentCore::Action::"T___tool_0002" && context.input.amount < 5`)},
	} {
		s, err := ParseStatement(bench.source)
		if err != nil {
			b.Fatal(err)
		}
		gateways := manyTools(1000)
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Validate(s, gateways)
			}
		})
	}
}

// The insurance policies of the AgentCore documentation.
func TestValidateInsurance(t *testing.T) {
	t.Parallel()
	calculate := object("coverageType! string", "coverageAmount! number", "riskFactors object")
	gateways := []GatewayTools{gatewayWith(testGateway, "InsuranceAPI",
		Tool{Name: "get_policy", InputSchema: object("policyId! string")},
		Tool{Name: "file_claim", InputSchema: object("policyId! string", "claimType! string", "amount! number", "description string")},
		Tool{Name: "update_coverage", InputSchema: object("policyId! string", "coverageType! string", "newLimit! number")},
		Tool{Name: "get_claim_status", InputSchema: object("claimId! string")},
		Tool{Name: "calculate_premium", InputSchema: calculate},
	)}
	tool := func(name string) string { return `action == AgentCore::Action::"InsuranceAPI___` + name + `"` }
	forbid := func(s string) string { return "forbid" + strings.TrimPrefix(s, "permit") }
	unless := func(s string) string { return strings.Replace(s, " when {", " unless {", 1) }
	role := func(r string) string { return `(principal.hasTag("role") && principal.getTag("role") == "` + r + `")` }
	in := func(member string, values ...string) string {
		return `["` + strings.Join(values, `", "`) + `"].contains(context.input.` + member + `)`
	}
	for name, source := range map[string]string{
		"P1": forTool(`action in [AgentCore::Action::"InsuranceAPI___get_policy", AgentCore::Action::"InsuranceAPI___get_claim_status"]`, "true"),
		"P2": forTool(tool("file_claim"), `principal.hasTag("scope") && principal.getTag("scope") like "*insurance:claim*"`),
		"P3": forbid(unless(forTool(tool("update_coverage"), role("senior-adjuster")+" || "+role("manager")))),
		"P4": forTool(tool("file_claim"), in("claimType", "health", "property", "auto")),
		"P5": forbid(unless(forTool(tool("file_claim"), `context.input has description`))),
		"P6": forTool(tool("update_coverage"), `principal.hasTag("username") && principal.getTag("username") == "Clare"`),
		"P7": forTool(tool("calculate_premium"), `context.input.coverageType like "*auto*"`),
		"P8": forTool(tool("update_coverage"), in("coverageType", "liability", "collision")+` && context.input has newLimit`),
	} {
		if reasons := validateText(t, source, gateways); reasons != nil {
			t.Errorf("%s: %q", name, reasons)
		}
	}
}

// Published policies that are not valid Cedar, or not for their tools: what is said about them.
func TestPublishedMistakes(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		forTool(refundTool, `has(context.input.reason)`):                                                              "line 1, column 225: unexpected token `has`, expected a value: `has` stands between a record and a name; write `context.input has reason`",
		`permit(principal, action, resource is AgentCore::Gateway::"` + testGateway + `");`:                           "line 1, column 59: unexpected token `\"arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/refun…`: `is` takes a type; to name one entity write `resource == AgentCore::Gateway::\"" + testGateway + "\"`",
		forTool(refundTool, `context.input.price <= 5.5`):                                                             "line 1, column 250: unexpected token `5`, expected a name: Cedar has no fractions as literals; write `.lessThanOrEqual(decimal(\"5.5\"))`",
		forTool(refundTool, `context.input.amount < 9223372036854775808`):                                             "line 1, column 248: the number 9223372036854775808 is too big: integers are -9223372036854775808 to 9223372036854775807",
		forTool(refundTool, `context.input.orderId in ["US"]`):                                                        "unexpected type: expected a set of entities, or an entity but saw Set<String>; `in` is for entities: to look for a value in a set write `[\"a\", \"b\"].contains(…)`",
		forTool(`action == AgentCore::Action::"RefundTool__process_refund"`, `context.input.amount < 500`):            "unrecognized action `AgentCore::Action::\"RefundTool__process_refund\"` at line 1, column 53: did you mean `RefundTarget___process_refund`?",
		"forbid(principal, action, resource);":                                                                        "line 1, column 27: a wildcard resource was detected.",
		strings.Replace(withCondition(`context.input.amount < 500`), "resource is AgentCore::Gateway", "resource", 1): "a wildcard resource was detected.",
	} {
		var said []string
		if s, err := ParseStatement(source); err != nil {
			said = []string{err.Error()}
		} else {
			said = Validate(s, refundGateways())
		}
		if !slices.ContainsFunc(said, func(r string) bool { return strings.Contains(r, want) }) {
			t.Errorf("%s\ngot  %q\nwant %q", source, said, want)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"RefundTarget", "RefundTarget___lookup_order", "RefundTarget___process_refund", "id", "amount", "amounts"}
	for name, want := range map[string]string{
		"refundtarget": "RefundTarget", "RefundTarget__process_refund": "RefundTarget___process_refund",
		"RefundTarget___proces_refunds": "RefundTarget___process_refund", "amonut": "amount", "amoun": "amount", "ids": "id",
		"x": "", "reason": "", "RefundTarget___delete_everything": "", "": "", "___": "",
	} {
		if got, ok := nearest(name, names); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %t, want %q", name, got, ok, want)
		}
	}
}
