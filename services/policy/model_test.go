package policy_test

import (
	"slices"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/verdict-io/verdict/services/policy"
)

func TestActionGroups(t *testing.T) {
	for id, want := range map[string][]string{
		"RefundTarget___process_refund": {"RefundTarget", "CallTool", "Mcp"},
		"RefundTarget":                  {"CallTool", "Mcp"},
		"CallTool":                      {"Mcp"},
		"UnknownTool":                   {"CallTool", "Mcp"},
		"Mcp":                           nil,
		"Mcp___tool":                    {"Mcp"},
		"InvokeLLM___tool":              {"InvokeLLM", "Http"},
	} {
		if got := policy.ActionGroups(id); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", id, got, want)
		}
	}
	target, tool, ok := policy.SplitAction(policy.ActionID("Refund-Target", "a___b"))
	if target != "Refund-Target" || tool != "a___b" || !ok {
		t.Errorf("got %q, %q, %v", target, tool, ok)
	}
	if _, _, ok := policy.SplitAction("RefundTarget"); ok {
		t.Error("a target was taken for a tool")
	}
}

func TestCompile(t *testing.T) {
	p, _ := parse(t, `forbid(principal, action, resource is AgentCore::Gateway) when { context.input.a == 1 };`).Compile()
	set := cedar.NewPolicySet()
	set.Add("p", p)
	r := cedar.Request{Resource: cedar.NewEntityUID(policy.TypeGateway, "g"), Context: cedar.NewRecord(cedar.RecordMap{
		"input": cedar.NewRecord(cedar.RecordMap{"a": cedar.Long(1)}),
	})}
	if _, diagnostic := cedar.Authorize(set, nil, r); len(diagnostic.Reasons) != 1 || p.Effect() != cedar.Forbid {
		t.Errorf("got %+v", diagnostic)
	}
	if p, _ := (policy.Statement{}).Compile(); p != nil {
		t.Error("no statement was compiled")
	}
}
