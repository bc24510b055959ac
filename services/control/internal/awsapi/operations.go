package awsapi

import (
	_ "embed" // for the table of operations
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

// operation is one operation of the service.
type operation struct {
	name, method string
	path         string   // a pattern of http.ServeMux
	status       int      // of an answer that is no error
	query        []string // names of its parameters
	offered      bool     // whether Verdict does anything about it
	handle       func(*API, *request) (answer, error)
}

// table holds all operations of the service with method, path and status, sorted: those of the SDK's version that go.mod names.
//
//go:embed operations.txt
var table string

// operations are all operations of the service.
var operations = parse(table)

func parse(table string) []*operation {
	var out []*operation
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		op := &operation{name: f[0], method: f[1], path: f[2], handle: notOffered}
		op.status, _ = strconv.Atoi(f[3])
		if h, ok := offered[op.name]; ok {
			op.offered, op.handle = true, h
		}
		op.query = queryOf(op.name)
		out = append(out, op)
	}
	return out
}

// queryOf are the parameters of an operation that is offered.
func queryOf(name string) []string {
	switch {
	case name == "UntagResource":
		return []string{"tagKeys"}
	case name == "ListPolicies", name == "ListPolicySummaries":
		return []string{"maxResults", "nextToken", "targetResourceScope"}
	case name != "ListTagsForResource" && strings.HasPrefix(name, "List"):
		return []string{"maxResults", "nextToken"}
	}
	return nil
}

// offered are the operations that Verdict has an answer of its own to.
var offered = map[string]func(*API, *request) (answer, error){
	"CreatePolicyEngine": (*API).createPolicyEngine, "GetPolicyEngine": get((*API).findEngine, (*API).policyEngine), "ListPolicyEngines": (*API).listPolicyEngines,
	"UpdatePolicyEngine": (*API).updatePolicyEngine, "DeletePolicyEngine": (*API).deletePolicyEngine,
	"GetPolicyEngineSummary": get((*API).findEngine, (*API).policyEngineSummary), "ListPolicyEngineSummaries": (*API).listPolicyEngineSummaries,

	"CreatePolicy": (*API).createPolicy, "GetPolicy": get((*API).findPolicy, (*API).policyDetail), "ListPolicies": (*API).listPolicies,
	"UpdatePolicy": (*API).updatePolicy, "DeletePolicy": (*API).deletePolicy,
	"GetPolicySummary": get((*API).findPolicy, (*API).policySummary), "ListPolicySummaries": (*API).listPolicySummaries,

	"StartPolicyGeneration": (*API).startPolicyGeneration,
	"GetPolicyGeneration":   (*API).getPolicyGeneration, "GetPolicyGenerationSummary": (*API).getPolicyGeneration,
	"ListPolicyGenerations": (*API).listPolicyGenerations, "ListPolicyGenerationSummaries": (*API).listPolicyGenerations,
	"ListPolicyGenerationAssets": (*API).getPolicyGeneration,

	"TagResource": (*API).tagResource, "UntagResource": (*API).untagResource, "ListTagsForResource": (*API).listTagsForResource,
	"PutResourcePolicy": (*API).putResourcePolicy, "GetResourcePolicy": (*API).noResourcePolicy, "DeleteResourcePolicy": (*API).noResourcePolicy,

	"CreateGateway": (*API).createGateway, "GetGateway": get((*API).findGateway, (*API).gatewayDetail), "ListGateways": (*API).listGateways,
	"UpdateGateway": (*API).updateGateway, "DeleteGateway": (*API).deleteGateway,
	"CreateGatewayTarget": (*API).createGatewayTarget, "GetGatewayTarget": get((*API).findTarget, (*API).targetDetail), "ListGatewayTargets": (*API).listGatewayTargets,
	"UpdateGatewayTarget": (*API).updateGatewayTarget, "DeleteGatewayTarget": (*API).deleteGatewayTarget,
	"SynchronizeGatewayTargets": (*API).synchronizeGatewayTargets,
}

func notOffered(_ *API, r *request) (answer, error) {
	return answer{}, refuse("", "Verdict does not offer %s; it offers engines, policies, gateways with their targets, and tags", r.op.name)
}

// refuse is the refusal of what Verdict does not act on.
func refuse(field, format string, args ...any) error {
	out := rpc.Errorf(connect.CodeInvalidArgument, "not_offered", format, args...)
	out.Field = field
	return out
}
