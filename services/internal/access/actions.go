package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/verdict-io/verdict/services/internal/identity"
)

// roles are all there are.
var roles = identity.Roles()

// Groups of actions.
const (
	read    = "read"    // what is in the account
	write   = "write"   // changes of it
	weaken  = "weaken"  // of what is enforced
	decide  = "decide"  // whether a tool may be called
	invoke  = "invoke"  // tools, through a gateway
	audit   = "audit"   // of what was decided
	operate = "operate" // what belongs to no account
	follow  = "follow"  // the log, of all accounts
)

// Weaken is the action of a change that weakens what is enforced. Whoever makes such a change must be allowed this as well as
// the procedure.
const Weaken = "WeakenEnforcement"

// Invoke is the action of whoever calls a gateway that takes signed requests (AWS_IAM). Whether a tool runs is for policies to say.
const Invoke = "InvokeGateway"

// actions is every procedure of every service, that of Envoy's authorization (Check) among them, and every operation of AgentCore's API
// that control offers, and the group that it is in. What both have is one action; so is what AuthZEN has (Authorize, BatchAuthorize).
var actions = map[string]string{
	"CreatePolicyEngine": write, "GetPolicyEngine": read, "ListPolicyEngines": read, "UpdatePolicyEngine": write,
	"DeletePolicyEngine": write, "UpdatePolicyEngineSettings": write,
	"CreatePolicy": write, "GetPolicy": read, "ListPolicies": read, "UpdatePolicy": write, "DeletePolicy": write,
	"CreateGateway": write, "GetGateway": read, "ListGateways": read, "UpdateGateway": write, "DeleteGateway": write,
	"AttachPolicyEngine": write, "DetachPolicyEngine": write,
	"CreateGatewayTarget": write, "GetGatewayTarget": read, "ListGatewayTargets": read, "UpdateGatewayTarget": write,
	"DeleteGatewayTarget": write,
	"TagResource":         write, "UntagResource": write, "ListTagsForResource": read,
	"GetAccountSettings": read, "UpdateAccountSettings": write,
	Weaken: weaken, "ProposeChange": weaken, "ApproveChange": weaken, "RejectChange": weaken, "GetChange": read, "ListChanges": read,
	"WaitForRevision": read, "Propagation": operate,

	"GetPolicyEngineSummary": read, "ListPolicyEngineSummaries": read, "GetPolicySummary": read, "ListPolicySummaries": read,
	"StartPolicyGeneration": write, "GetPolicyGeneration": read, "ListPolicyGenerations": read, "ListPolicyGenerationAssets": read,
	"GetPolicyGenerationSummary": read, "ListPolicyGenerationSummaries": read,
	"SynchronizeGatewayTargets": write,
	"PutResourcePolicy":         write, "GetResourcePolicy": read, "DeleteResourcePolicy": write,

	"Authorize": decide, "BatchAuthorize": decide, "ListPermittedActions": decide, "Check": decide,
	Invoke:  invoke,
	"Query": audit, "GetDecision": audit, "Tail": audit, "Completeness": operate,
	"ReadEvents": follow, "Head": follow, "ReadState": follow,
}

// Changes reports whether an action changes something, so that the same request sent twice is not the same as once.
func (*Rules) Changes(action string) bool {
	return actions[action] == write || actions[action] == weaken
}

// schema is what rules are checked against, so that a misspelled role or action is found before it is missed.
func schema() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "namespace Verdict {\nentity Role enum [%s];\n", quoted(roles))
	b.WriteString("entity Caller in [Role] { id: String, account: String, method: String };\nentity Account;\n")
	fmt.Fprintf(&b, "action %s;\n", quoted([]string{read, write, weaken, decide, invoke, audit, operate, follow}))
	for _, name := range slices.Sorted(maps.Keys(actions)) {
		fmt.Fprintf(&b, "action %q in [%q] appliesTo { principal: [Caller], resource: [Account], context: { sourceAddress?: ipaddr } };\n",
			name, actions[name])
	}
	b.WriteString("}\n")
	return []byte(b.String())
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(out, ", ")
}
