package awsapi

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/schemas"
	"github.com/aws/smithy-go"
	smithytraits "github.com/aws/smithy-go/traits"
)

// shape is a Go type of this package with the shape of the SDK's model that it stands for.
type shape struct {
	value any
	model *smithy.Schema
}

// inputs are the requests that have a body, by operation.
var inputs = map[string]shape{
	"CreatePolicyEngine":        {createPolicyEngineInput{}, schemas.CreatePolicyEngineRequest},
	"UpdatePolicyEngine":        {updatePolicyEngineInput{}, schemas.UpdatePolicyEngineRequest},
	"CreatePolicy":              {createPolicyInput{}, schemas.CreatePolicyRequest},
	"UpdatePolicy":              {updatePolicyInput{}, schemas.UpdatePolicyRequest},
	"CreateGateway":             {createGatewayInput{}, schemas.CreateGatewayRequest},
	"UpdateGateway":             {updateGatewayInput{}, schemas.UpdateGatewayRequest},
	"CreateGatewayTarget":       {createGatewayTargetInput{}, schemas.CreateGatewayTargetRequest},
	"UpdateGatewayTarget":       {updateGatewayTargetInput{}, schemas.UpdateGatewayTargetRequest},
	"SynchronizeGatewayTargets": {synchronizeInput{}, schemas.SynchronizeGatewayTargetsRequest},
	"TagResource":               {tagResourceInput{}, schemas.TagResourceRequest},
}

// outputs are the answers that have a body, by operation.
var outputs = map[string]shape{
	"CreatePolicyEngine":        {policyEngine{}, schemas.CreatePolicyEngineResponse},
	"GetPolicyEngine":           {policyEngine{}, schemas.GetPolicyEngineResponse},
	"UpdatePolicyEngine":        {policyEngine{}, schemas.UpdatePolicyEngineResponse},
	"DeletePolicyEngine":        {policyEngine{}, schemas.DeletePolicyEngineResponse},
	"ListPolicyEngines":         {policyEngines[policyEngine]{}, schemas.ListPolicyEnginesResponse},
	"GetPolicyEngineSummary":    {policyEngineSummary{}, schemas.GetPolicyEngineSummaryResponse},
	"ListPolicyEngineSummaries": {policyEngines[policyEngineSummary]{}, schemas.ListPolicyEngineSummariesResponse},
	"CreatePolicy":              {policyDetail{}, schemas.CreatePolicyResponse},
	"GetPolicy":                 {policyDetail{}, schemas.GetPolicyResponse},
	"UpdatePolicy":              {policyDetail{}, schemas.UpdatePolicyResponse},
	"DeletePolicy":              {policyDetail{}, schemas.DeletePolicyResponse},
	"ListPolicies":              {policies[policyDetail]{}, schemas.ListPoliciesResponse},
	"GetPolicySummary":          {policySummary{}, schemas.GetPolicySummaryResponse},
	"ListPolicySummaries":       {policies[policySummary]{}, schemas.ListPolicySummariesResponse},
	"ListTagsForResource":       {tags{}, schemas.ListTagsForResourceResponse},
	"CreateGateway":             {gatewayDetail{}, schemas.CreateGatewayResponse},
	"GetGateway":                {gatewayDetail{}, schemas.GetGatewayResponse},
	"UpdateGateway":             {gatewayDetail{}, schemas.UpdateGatewayResponse},
	"DeleteGateway":             {deletedGateway{}, schemas.DeleteGatewayResponse},
	"ListGateways":              {items[gatewaySummary]{}, schemas.ListGatewaysResponse},
	"CreateGatewayTarget":       {targetDetail{}, schemas.CreateGatewayTargetResponse},
	"GetGatewayTarget":          {targetDetail{}, schemas.GetGatewayTargetResponse},
	"UpdateGatewayTarget":       {targetDetail{}, schemas.UpdateGatewayTargetResponse},
	"DeleteGatewayTarget":       {deletedTarget{}, schemas.DeleteGatewayTargetResponse},
	"ListGatewayTargets":        {items[targetSummary]{}, schemas.ListGatewayTargetsResponse},
	"SynchronizeGatewayTargets": {synchronized{}, schemas.SynchronizeGatewayTargetsResponse},
}

// never are members of answers that Verdict has nothing to say about.
var never = []string{
	"encryptionKeyArn", "kmsKeyArn", "customTransformConfiguration", "interceptorConfigurations", "wafConfiguration", "webAclArn",
	"workloadIdentityDetails", "authorizationData", "certificateConfigurations", "lastSynchronizedAt", "metadataConfiguration",
	"privateEndpoint", "privateEndpointManagedResources", "listingMode", "resourcePriority",
}

// Every member that the model has in a body is a member here, and no other is: of requests, so that none is unknown by mistake;
// of answers but for those that are never there.
func TestMembersAreTheModels(t *testing.T) {
	for name, in := range inputs {
		compare(t, name, reflect.TypeOf(in.value), in.model, nil)
	}
	for name, out := range outputs {
		compare(t, name, reflect.TypeOf(out.value), out.model, never)
	}
	for name := range offered {
		if _, body := outputs[name]; !body && !slices.Contains([]string{
			"TagResource", "UntagResource", // no body
			"StartPolicyGeneration", "GetPolicyGeneration", "GetPolicyGenerationSummary", "ListPolicyGenerationAssets", // always refused
			"ListPolicyGenerations", "ListPolicyGenerationSummaries", // always empty
			"PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy",
		}, name) {
			t.Errorf("the answer of %s is in no table", name)
		}
	}
}

// compare walks a Go type and a model shape side by side. absent may be missing in Go.
func compare(t *testing.T, at string, typ reflect.Type, model *smithy.Schema, absent []string) {
	t.Helper()
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == reflect.TypeFor[Refused](), typ == reflect.TypeFor[struct{}](), at == "": // not looked into
		return
	case typ.Kind() == reflect.Slice:
		compare(t, at+"[]", typ.Elem(), model.ListMember(), absent)
		return
	case typ.Kind() == reflect.Map:
		compare(t, at+"{}", typ.Elem(), model.MapValue(), absent)
		return
	case typ.Kind() != reflect.Struct:
		return
	case strings.Count(at, "properties")+strings.Count(at, "items") > 1: // a schema in a schema
		return
	}
	ours := fieldsOf(typ)
	for name, member := range model.Members() {
		if inPath(member) {
			continue
		}
		f, ok := ours[name]
		if !ok {
			if !slices.Contains(absent, name) {
				t.Errorf("%s: the model has %s", at, name)
			}
			continue
		}
		compare(t, at+"."+name, f.Type, member, absent)
		delete(ours, name)
	}
	for name, f := range ours {
		if f.Type != reflect.TypeFor[Refused]() || absent == nil { // what requests refuse may be absent from answers' models
			t.Errorf("%s: the model has no %s", at, name)
		}
	}
}

// inPath reports whether a member is not in the body.
func inPath(member *smithy.Schema) bool {
	_, label := smithy.SchemaTrait[*smithytraits.HTTPLabel](member)
	_, query := smithy.SchemaTrait[*smithytraits.HTTPQuery](member)
	return label || query
}

// fieldsOf are the members of a struct by their names in JSON, those of embedded structs among them.
func fieldsOf(typ reflect.Type) map[string]reflect.StructField {
	out := map[string]reflect.StructField{}
	for f := range typ.Fields() {
		if f.Anonymous {
			maps.Copy(out, fieldsOf(f.Type))
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out[name] = f
	}
	return out
}

// members are the leaves below a type by path, with what is done about each.
func members(at string, typ reflect.Type, inherited string, out map[string]string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[optional]() || strings.HasSuffix(at, ".items") {
		out[at] = inherited
		return
	}
	for name, f := range fieldsOf(typ) {
		path := strings.TrimPrefix(at+"."+name, ".")
		does := f.Tag.Get("verdict")
		if does == "" {
			does = inherited
		}
		if f.Type == reflect.TypeFor[Refused]() {
			out[path] = "refused"
			continue
		}
		members(path, f.Type, does, out)
	}
}

var does = map[string]string{
	"": "acted on", "stored": "stored and returned", "gateway": "acted on by the MCP gateway", "refused": "**refused**",
}

// membersTable is the table of services/docs/aws.md.
func membersTable() string {
	var b strings.Builder
	for _, group := range []struct {
		title      string
		operations []string
	}{
		{"Policy engines", []string{"CreatePolicyEngine", "UpdatePolicyEngine"}},
		{"Policies", []string{"CreatePolicy", "UpdatePolicy"}},
		{"Gateways", []string{"CreateGateway", "UpdateGateway"}},
		{"Gateway targets", []string{"CreateGatewayTarget", "UpdateGatewayTarget", "SynchronizeGatewayTargets"}},
		{"Tags", []string{"TagResource"}},
	} {
		all := map[string]string{}
		for _, name := range group.operations {
			members("", reflect.TypeOf(inputs[name].value), "", all)
		}
		fmt.Fprintf(&b, "\n| %s | |\n|---|---|\n", group.title)
		for _, path := range slices.Sorted(maps.Keys(all)) {
			fmt.Fprintf(&b, "| `%s` | %s |\n", path, does[all[path]])
		}
	}
	return b.String() + "\n"
}

// The page for users lists every member of every request as it is dealt with. VERDICT_UPDATE=1 writes the list.
func TestMembersAreDocumented(t *testing.T) {
	const page, begin, end = "../../../docs/aws.md", "<!-- members -->\n", "<!-- end of members -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	listed, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no %s", page, begin)
	}
	want := membersTable()
	if listed == want {
		return
	}
	if os.Getenv("VERDICT_UPDATE") == "" {
		t.Fatalf("%s does not list the members as they are: VERDICT_UPDATE=1 go test ./control/internal/awsapi", page)
	}
	if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
