package decision_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/verdict-io/verdict/services/decision"
)

func TestUnkeyedPoliciesAreAMetric(t *testing.T) {
	s := newSite(t)
	registry := prometheus.NewRegistry()
	node := decision.NewNode(s.journal, registry)
	node.Follow(s.follower)
	node.Publish(s.state, nil)
	s.permit("everybody", `permit(principal, action, resource == AgentCore::Gateway::"`+gateway+`") when { context.system.now > datetime("2026-01-01") };`)
	node.Publish(s.state, []string{account})
	const want = `
		# HELP verdict_decision_engines Policy engines, by how many of their policies are unkeyed.
		# TYPE verdict_decision_engines gauge
		verdict_decision_engines{unkeyed="0"} 0
		verdict_decision_engines{unkeyed="1-9"} 1
		verdict_decision_engines{unkeyed="10-99"} 0
		verdict_decision_engines{unkeyed="100-999"} 0
		verdict_decision_engines{unkeyed="1000+"} 0
		# HELP verdict_decision_unkeyed_policies Policies that name no tool, target or principal and begin with no test of a tag, so that every request of their gateways is decided by them.
		# TYPE verdict_decision_unkeyed_policies gauge
		verdict_decision_unkeyed_policies 1
	`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "verdict_decision_engines", "verdict_decision_unkeyed_policies"); err != nil {
		t.Error(err)
	}
}
