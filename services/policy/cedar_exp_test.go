package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

// refundSchema is the whole schema of refundGateways as Cedar text, in the form that AgentCore generates.
const refundSchema = `namespace AgentCore {
	entity OAuthUser { id: String } tags String;
	entity IamEntity { id: String };
	entity UnauthenticatedUser { id: String };
	entity Gateway;
	type System = { now: __cedar::datetime };
	action "Mcp";
	action "Http";
	action "CallTool" in ["Mcp"];
	action "InvokeAgent" in ["Http"];
	action "InvokeLLM" in ["Http"];
	action "UnknownTool" in ["CallTool"] appliesTo {
		principal: [OAuthUser, IamEntity, UnauthenticatedUser], resource: [Gateway], context: { input: {}, system: System }
	};
	action "RefundTarget" in ["CallTool"];
	action "RefundTarget___lookup_order" in ["RefundTarget"] appliesTo {
		principal: [OAuthUser, IamEntity, UnauthenticatedUser], resource: [Gateway], context: { input: { orderId: String }, system: System }
	};
	action "RefundTarget___process_refund" in ["RefundTarget"] appliesTo {
		principal: [OAuthUser, IamEntity, UnauthenticatedUser], resource: [Gateway], context: {
			input: {
				orderId: String, amount: Long, reason?: String, price: __cedar::decimal, confirmed?: Bool,
				lines?: Set<{ sku: String, count: Long }>, labels?: Set<String>,
				customer?: { id: String, address?: { street: String, zip?: String } },
				"odd name"?: String
			},
			system: System
		}
	};
}`

// Where nothing of cedar-go needs mending, Validate judges exactly as its validator does with the whole schema: the
// schema that is built from tools is the one above, leaving out what a statement cannot see changes nothing, and
// checking one action for many changes nothing.
func TestValidateAgreesWithCedarGo(t *testing.T) {
	t.Parallel()
	var parsed schema.Schema
	if err := parsed.UnmarshalCedar([]byte(refundSchema)); err != nil {
		t.Fatal(err)
	}
	resolved, err := parsed.Resolve()
	if err != nil {
		t.Fatal(err)
	}
	validator := validate.New(resolved)
	gateways := refundGateways()
	input := gateways[0].Targets[0].Tools[0].InputSchema
	input.Required = slices.DeleteFunc(input.Required, func(name string) bool { return name == "undescribed" })
	delete(input.Properties, "notes")
	delete(input.Properties, "nothing") // none of these is a type that Cedar has

	random := statementMaker{rand.New(rand.NewPCG(1, 2))}
	valid, checked := 0, 1500
	for range checked {
		source := random.statement()
		s, err := ParseStatement(source)
		if err != nil {
			t.Fatalf("%s\n%v", source, err)
		}
		reasons, want := Validate(s, gateways), validator.Policy("", s.parsed)
		if (len(reasons) == 0) != (want == nil) {
			t.Errorf("%s\ngot      %q\ncedar-go %v", source, reasons, want)
		}
		if want == nil {
			valid++
		}
	}
	if valid < checked/10 || valid > checked*9/10 {
		t.Errorf("%d of %d statements are valid: they test little", valid, checked)
	}
}

// cedar-go's type-checker panics on a set as a literal, which a statement in text cannot hold; should a text ever make
// it panic, the statement is not valid and nothing else happens.
func TestValidateSurvivesThePanicOfTheTypeChecker(t *testing.T) {
	t.Parallel()
	var p cedar.Policy
	err := p.UnmarshalJSON([]byte(`{"effect": "permit", "principal": {"op": "All"}, "action": {"op": "All"}, "resource": {"op": "All"},
		"conditions": [{"kind": "when", "body": {"isEmpty": {"arg": {"Value": [1]}}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	reasons := Validate(Statement{parsed: (*cedarPolicy)(p.AST())}, refundGateways())
	checkReasons(t, reasons, "the statement could not be type-checked")
}

// statementMaker makes statements of one clause that parse and are about half well-typed. It leaves out what
// Validate mends: more clauses, `is … in`, types that are not declared, comparisons of the variable action.
type statementMaker struct{ *rand.Rand }

func (m statementMaker) pick(of ...string) string { return of[m.IntN(len(of))] }

func (m statementMaker) statement() string {
	head := m.pick("principal", "principal is AgentCore::OAuthUser", "principal is AgentCore::OAuthUser",
		"principal is AgentCore::IamEntity", "principal is AgentCore::UnauthenticatedUser", `principal == AgentCore::OAuthUser::"u"`, `principal in AgentCore::OAuthUser::"u"`) + ", "
	head += m.pick("action", `action in AgentCore::Action::"RefundTarget"`, `action == AgentCore::Action::"RefundTarget___lookup_order"`,
		`action in [AgentCore::Action::"RefundTarget___lookup_order", AgentCore::Action::"RefundTarget"]`,
		`action == AgentCore::Action::"RefundTarget___process_refund"`, `action == AgentCore::Action::"RefundTarget___process_refund"`)
	return fmt.Sprintf(`%s(%s, resource == AgentCore::Gateway::"%s") %s { %s };`,
		m.pick("permit", "forbid"), head, testGateway, m.pick("when", "unless"), m.boolean(2+m.IntN(2)))
}

func (m statementMaker) boolean(depth int) string {
	if depth == 0 || m.IntN(4) == 0 {
		return m.test()
	}
	b := func() string { return m.boolean(depth - 1) }
	switch m.IntN(8) {
	case 0, 1, 2:
		return b() + " && " + b()
	case 3:
		return "(" + b() + " || " + b() + ")"
	case 4:
		return "!(" + b() + ")"
	case 5:
		return "(if " + b() + " then " + b() + " else " + b() + ")"
	default:
		return m.guarded()
	}
}

// guarded is a test of an optional member or tag behind a guard for it, or for another one.
func (m statementMaker) guarded() string {
	guard, test := m.IntN(5), m.IntN(5)
	if m.IntN(4) > 0 {
		test = guard
	}
	return []string{
		"context.input has reason", `principal.hasTag("role")`, "context.input has customer.address.zip",
		`context.input has "odd name"`, `context.input has amount`,
	}[guard] + " && " + []string{
		`context.input.reason == "x"`, `principal.getTag("role") like "a*"`, `context.input.customer.address.zip != "9"`,
		`context.input["odd name"] == principal.id`, `context.input.amount > 1`,
	}[test]
}

func (m statementMaker) test() string {
	switch m.IntN(9) {
	case 0:
		return m.pick("true", "false", "context.input.confirmed", "principal is AgentCore::OAuthUser", "resource is AgentCore::OAuthUser",
			`principal == AgentCore::IamEntity::"i"`, `principal == AgentCore::UnauthenticatedUser::"anonymous"`, "context.input has labels", "context.input has lines", "principal has id", "principal has role",
			"principal in resource", "context.input == context.input", "context has session", `AgentCore::Action::"RefundTarget" in AgentCore::Action::"Mcp"`)
	case 1:
		return m.value() + m.pick(" == ", " != ") + m.value()
	case 2:
		return m.value() + m.pick(" < ", " <= ", " > ", " >= ") + m.value()
	case 3:
		return m.value() + m.pick(".lessThan(", ".greaterThanOrEqual(") + m.value() + ")"
	case 4:
		return m.value() + ` like "a*"`
	case 5:
		return "[" + m.value() + ", " + m.value() + "].contains(" + m.value() + ")"
	case 6:
		return m.pick("context.input.labels", "context.input.lines", "[1, 2]") + m.pick(".isEmpty()", ".containsAll([1])", `.containsAny(["a"])`,
			".contains({sku: \"a\", count: 1})")
	case 7:
		return strings.Replace("X == X", "X", m.value(), 2)
	default:
		return `context.input.orderId == "1"`
	}
}

func (m statementMaker) value() string {
	return m.pick("context.input.orderId", "context.input.orderId", "context.input.amount", "context.input.price", "context.input.nothing",
		"context.input.customer.id", "context.input.customer", "context.system.now", "principal.id", "principal.role", "1", "-1 + 2",
		`"a"`, `decimal("1.5")`, `decimal("x")`, `datetime("2026-01-01")`, `duration("1h")`, "context.system.now.toTime()", "context.input",
		`{id: "a"}`, "{}", "principal", "resource", "true", `ip("::1")`, `principal.getTag("role")`, "[]", `(if true then 1 else 2)`)
}
