package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	agentcore "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
)

// reply is an answer as it came.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any // of text; nil when it is no JSON object
}

// send makes a request as curl would, from this machine and with no credentials.
func (r *replica) send(t *testing.T, method, path, body string) reply {
	t.Helper()
	return r.sendAs(t, "", method, path, body)
}

// sendAs signs with a key; "" signs nothing. The path is sent as it is written.
func (r *replica) sendAs(t *testing.T, key, method, path, body string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	must(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		hash := sha256.Sum256([]byte(body))
		credentials := aws.Credentials{AccessKeyID: key, SecretAccessKey: key + "-secret"}
		must(t, v4.NewSigner().SignHTTP(t.Context(), credentials, req, hex.EncodeToString(hash[:]), "bedrock-agentcore", "us-east-1", time.Now()))
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	out := reply{status: resp.StatusCode, header: resp.Header, text: string(data)}
	_ = json.Unmarshal(data, &out.body) // what is none shows in the tests
	return out
}

// wantHeaders wants what every answer has.
func (a reply) wantHeaders(t *testing.T, what string) {
	t.Helper()
	if id := a.header.Get("X-Amzn-Requestid"); id == "" || id != a.header.Get("X-Request-Id") {
		t.Errorf("%s: the request id is %q", what, id)
	}
	if typ := a.header.Get("Content-Type"); (a.text != "") != (typ == "application/json") {
		t.Errorf("%s: the content type of %q is %q", what, a.text, typ)
	}
}

// refusal is an error of AgentCore, as it is on the wire.
type refusal struct{ code, reason, field, says string }

const (
	cannotParse = "CannotParse"
	notValid    = "FieldValidationFailed"
)

// wantRefusal wants that error and nothing beside it: code in header and body, and for what is invalid a reason and the member.
func (a reply) wantRefusal(t *testing.T, what string, want refusal) {
	t.Helper()
	a.wantHeaders(t, what)
	message, _ := a.body["message"].(string)
	expected := map[string]any{"__type": want.code, "message": message}
	if want.reason != "" {
		expected["reason"] = want.reason
	}
	if want.field != "" {
		expected["fieldList"] = []any{map[string]any{"name": want.field, "message": message}}
	}
	if a.status != statuses[want.code] || a.header.Get("X-Amzn-Errortype") != want.code || !strings.Contains(message, want.says) || !reflect.DeepEqual(a.body, expected) {
		t.Errorf("%s: status %d, %s, %.500s; want %+v", what, a.status, a.header.Get("X-Amzn-Errortype"), a.text, want)
	}
}

// shopPaths writes ids into a path or body: {engine}, {policy}, {gateway}, {target}, ARNs as they are, and escaped as {engine-arn%}.
func (s shop) shopPaths(policy string) *strings.Replacer {
	policyARN := s.engineARN + "/policy/" + policy
	return strings.NewReplacer("{engine}", s.engine, "{policy}", policy, "{gateway}", s.gateway, "{target}", s.target,
		"{engine-arn}", s.engineARN, "{gateway-arn}", s.gatewayARN, "{policy-arn}", policyARN,
		"{engine-arn%}", url.PathEscape(s.engineARN), "{gateway-arn%}", url.PathEscape(s.gatewayARN), "{policy-arn%}", url.PathEscape(policyARN))
}

// stocked is a shop with one policy that is active.
func (r *replica) stocked(t *testing.T) (shop, *strings.Replacer) {
	t.Helper()
	s := r.shop(t, "admin")
	made, err := s.create(t, "refund_cap", refunds(smallRefunds))
	must(t, err)
	_, err = s.settled(t, *made.PolicyId)
	must(t, err)
	return s, s.shopPaths(*made.PolicyId)
}

// The members that an answer always has.
var (
	engineMembers        = words("policyEngineId name policyEngineArn status statusReasons createdAt updatedAt")
	policyMembers        = words("policyId name policyEngineId policyArn status statusReasons createdAt updatedAt definition enforcementMode")
	engineSummaryMembers = words("policyEngineId name policyEngineArn status createdAt updatedAt")
	policySummaryMembers = words("policyId name policyEngineId policyArn status createdAt updatedAt enforcementMode")
	gatewayMembers       = words("gatewayId gatewayArn gatewayUrl name status createdAt updatedAt authorizerType")
	targetMembers        = words("targetId gatewayArn name status createdAt updatedAt targetConfiguration credentialProviderConfigurations")
)

func words(text string) []string { return strings.Fields(text) }

const (
	lambdaJSON = `{"name":"T2","targetConfiguration":{"mcp":{"lambda":{"lambdaArn":"arn:aws:lambda:us-east-1:123456789012:function:f","toolSchema":{"inlinePayload":[{"name":"t","description":"d","inputSchema":{"type":"object"}}]}}}},"credentialProviderConfigurations":[{"credentialProviderType":"GATEWAY_IAM_ROLE"}]}`
	everything = `"definition":{"cedar":{"statement":"permit(principal, action, resource is AgentCore::Gateway);"}}`
)

// exchanges are requests in an order in which each goes well, the status of its answer, and the members that are there whatever
// was asked. {made} is the id that the last create gave.
var exchanges = []struct {
	operation, method, path, body string
	status                        int
	members                       []string
}{
	{"CreatePolicyEngine", "POST", "/policy-engines", `{"name":"E2","description":"d","tags":{"a b":"c d"}}`, 202, append(words("description"), engineMembers...)},
	{"GetPolicyEngine", "GET", "/policy-engines/{made}", "", 200, append(words("description"), engineMembers...)},
	{"UpdatePolicyEngine", "PATCH", "/policy-engines/{made}", `{"description":{}}`, 202, engineMembers},
	{"DeletePolicyEngine", "DELETE", "/policy-engines/{made}", "", 202, engineMembers},
	{"ListPolicyEngines", "GET", "/policy-engines", "", 200, words("policyEngines")},
	{"GetPolicyEngineSummary", "GET", "/policy-engine-summaries/{engine}", "", 200, engineSummaryMembers},
	{"ListPolicyEngineSummaries", "GET", "/policy-engine-summaries", "", 200, words("policyEngines")},
	{"CreatePolicy", "POST", "/policy-engines/{engine}/policies", `{"name":"p2","description":"d",` + everything + `}`, 202, append(words("description"), policyMembers...)},
	{"GetPolicy", "GET", "/policy-engines/{engine}/policies/{policy}", "", 200, policyMembers},
	{"UpdatePolicy", "PATCH", "/policy-engines/{engine}/policies/{policy}", `{"enforcementMode":"LOG_ONLY"}`, 202, policyMembers},
	{"ListPolicies", "GET", "/policy-engines/{engine}/policies?targetResourceScope={gateway-arn}", "", 200, words("policies")},
	{"GetPolicySummary", "GET", "/policy-engines/{engine}/policy-summaries/{policy}", "", 200, policySummaryMembers},
	{"ListPolicySummaries", "GET", "/policy-engines/{engine}/policy-summaries", "", 200, words("policies")},
	{"DeletePolicy", "DELETE", "/policy-engines/{engine}/policies/{policy}", "", 202, policyMembers},
	{"ListPolicyGenerations", "GET", "/policy-engines/{engine}/policy-generations", "", 200, words("policyGenerations")},
	{"ListPolicyGenerationSummaries", "GET", "/policy-engines/{engine}/policy-generation-summaries", "", 200, words("policyGenerations")},
	{"TagResource", "POST", "/tags/{gateway-arn%}", `{"tags":{"a b":"c d","e/f":"","g":"h"}}`, 204, nil},
	{"UntagResource", "DELETE", "/tags/{gateway-arn%}?tagKeys=e%2Ff&tagKeys=g", "", 204, nil},
	{"ListTagsForResource", "GET", "/tags/{gateway-arn%}", "", 200, words("tags")},
	{"CreateGateway", "POST", "/gateways/", `{"name":"G2","authorizerType":"NONE","description":"d"}`, 202, append(words("description"), gatewayMembers...)},
	{"UpdateGateway", "PUT", "/gateways/{made}/", `{"name":"G2","authorizerType":"AWS_IAM"}`, 202, gatewayMembers},
	{"DeleteGateway", "DELETE", "/gateways/{made}/", "", 202, words("gatewayId status")},
	{"GetGateway", "GET", "/gateways/{gateway}/", "", 200, append(words("roleArn policyEngineConfiguration"), gatewayMembers...)},
	{"ListGateways", "GET", "/gateways/", "", 200, words("items")},
	{"CreateGatewayTarget", "POST", "/gateways/{gateway}/targets/", lambdaJSON, 202, targetMembers},
	{"UpdateGatewayTarget", "PUT", "/gateways/{gateway}/targets/{made}/", lambdaJSON, 202, targetMembers},
	{"DeleteGatewayTarget", "DELETE", "/gateways/{gateway}/targets/{made}/", "", 202, words("targetId gatewayArn status")},
	{"GetGatewayTarget", "GET", "/gateways/{gateway}/targets/{target}/", "", 200, targetMembers},
	{"ListGatewayTargets", "GET", "/gateways/{gateway}/targets/", "", 200, words("items")},
	{"SynchronizeGatewayTargets", "PUT", "/gateways/{gateway}/synchronizeTargets", `{"targetIdList":["{target}"]}`, 202, words("targets")},
}

// Every operation on the wire: the status, the members by name, the times, the headers. The other form of a path, with or without
// a slash at its end, is another way to ask for the same.
func TestRawAnswers(t *testing.T) {
	t.Parallel()
	for _, slash := range []bool{false, true} {
		t.Run(fmt.Sprintf("the other slash is %v", slash), func(t *testing.T) {
			t.Parallel()
			r := newBench(t).withKeys(t).start(t)
			_, ids := r.stocked(t)
			made := ""
			for _, e := range exchanges {
				path := strings.ReplaceAll(ids.Replace(e.path), "{made}", made)
				if slash {
					path = otherSlash(path)
				}
				got := r.send(t, e.method, path, ids.Replace(e.body))
				if id := got.created(e.operation); id != "" {
					made = id
				}
				got.wantAnswer(t, e.operation, e.status, e.members)
			}
		})
	}
}

// otherSlash is the path with a slash at its end where it has none, and without where it has one.
func otherSlash(path string) string {
	path, query, _ := strings.Cut(path, "?")
	if trimmed, had := strings.CutSuffix(path, "/"); had {
		path = trimmed
	} else {
		path += "/"
	}
	if query == "" {
		return path
	}
	return path + "?" + query
}

// created is the id of what a request made.
func (a reply) created(operation string) string {
	member := map[string]string{"CreatePolicyEngine": "policyEngineId", "CreateGateway": "gatewayId", "CreateGatewayTarget": "targetId"}[operation]
	id, _ := a.body[member].(string)
	return id
}

func (a reply) wantAnswer(t *testing.T, operation string, status int, members []string) {
	t.Helper()
	a.wantHeaders(t, operation)
	if a.status != status || (a.text == "") != (status == http.StatusNoContent) || a.header.Get("X-Verdict-Revision") == "" || a.header.Get("X-Amzn-Errortype") != "" {
		t.Errorf("%s: status %d, want %d; %v\n%s", operation, a.status, status, a.header, a.text)
		return
	}
	for _, name := range members {
		if _, ok := a.body[name]; !ok {
			t.Errorf("%s: there is no %s in %s", operation, name, a.text)
		}
	}
	method, _ := reflect.TypeFor[*agentcore.Client]().MethodByName(operation)
	for _, wrong := range unlikeModel("", a.body, method.Type.Out(0).Elem()) {
		t.Errorf("%s: %s in %s", operation, wrong, a.text)
	}
}

var isoTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// unlikeModel finds what the SDK's model does not have: members of other names, null, times that are no text as of RFC 3339.
// Of unions it knows nothing.
func unlikeModel(at string, value any, model reflect.Type) []string {
	for model.Kind() == reflect.Pointer {
		model = model.Elem()
	}
	switch v := value.(type) {
	case nil:
		return []string{at + " is null"}
	case []any:
		var wrong []string
		for _, item := range v {
			wrong = append(wrong, unlikeModel(at+"[]", item, model.Elem())...)
		}
		return wrong
	case map[string]any:
		if model.Kind() != reflect.Struct {
			return nil
		}
		var wrong []string
		for name, member := range v {
			field, ok := model.FieldByName(string(unicode.ToUpper(rune(name[0]))) + name[1:])
			if !ok {
				wrong = append(wrong, "no "+at+"."+name+" in the model")
				continue
			}
			wrong = append(wrong, unlikeModel(at+"."+name, member, field.Type)...)
		}
		return wrong
	case string:
		if model == reflect.TypeFor[time.Time]() && !isoTime.MatchString(v) {
			return []string{at + " is no time"}
		}
	}
	return nil
}

// What the SDK takes apart is looked at as text: unions, and what the values of tags and queries have in them.
func TestRawValues(t *testing.T) {
	t.Parallel()
	r := newBench(t).withKeys(t).start(t)
	s, ids := r.stocked(t)
	got := r.send(t, "GET", ids.Replace("/policy-engines/{engine}/policies/{policy}"), "")
	statement := strings.ReplaceAll(refunds(smallRefunds), "$G", `AgentCore::Gateway::"`+s.gatewayARN+`"`)
	if want := map[string]any{"cedar": map[string]any{"statement": statement}}; !reflect.DeepEqual(got.body["definition"], want) {
		t.Errorf("the definition is %v", got.body["definition"])
	}
	if reasons, ok := got.body["statusReasons"].([]any); !ok || len(reasons) != 0 {
		t.Errorf("the reasons of a policy that is well are %v", got.body["statusReasons"])
	}
	gateway := r.send(t, "GET", ids.Replace("/gateways/{gateway}/"), "")
	if want := map[string]any{"arn": s.engineARN, "mode": "ENFORCE"}; !reflect.DeepEqual(gateway.body["policyEngineConfiguration"], want) || gateway.body["gatewayUrl"] != "http://127.0.0.1:7404/gateways/"+s.gateway+"/mcp" {
		t.Errorf("the gateway is %s", gateway.text)
	}
	target := r.send(t, "GET", ids.Replace("/gateways/{gateway}/targets/{target}/"), "")
	if !strings.Contains(target.text, `"amount":{`) || !strings.Contains(target.text, `"type":"integer"`) || !strings.Contains(target.text, `"credentialProviderConfigurations":[{"credentialProviderType":"GATEWAY_IAM_ROLE"}]`) {
		t.Errorf("the target is %s", target.text)
	}
	// An ARN with all its signs escaped, with as few as a path needs, and in lower case.
	escaped := strings.ReplaceAll(url.PathEscape(s.engineARN), ":", "%3A")
	for _, arn := range []string{escaped, strings.ReplaceAll(s.engineARN, "/", "%2F"), strings.ToLower(escaped[:30]) + escaped[30:]} {
		r.send(t, "POST", "/tags/"+arn, `{"tags":{"team a":"b  c","+":"=","k":"v"}}`)
		left := r.send(t, "DELETE", "/tags/"+arn+"?tagKeys=team%20a&tagKeys=nope", "")
		if all := r.send(t, "GET", "/tags/"+arn, ""); left.status != http.StatusNoContent || all.text != `{"tags":{"+":"=","k":"v"}}` {
			t.Errorf("%s: %d, %s", arn, left.status, all.text)
		}
	}
	if untagged := r.send(t, "GET", ids.Replace("/tags/{policy-arn%}"), ""); untagged.text != `{"tags":{}}` {
		t.Errorf("what was never tagged has %s", untagged.text)
	}
}

// Whatever is wrong with a request gets AgentCore's error for it, and nothing is stored.
func TestRawRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t).withKeys(t)
	b.cfg.MaxBody = 6 << 20
	r := b.start(t)
	_, ids := r.stocked(t)
	before := r.send(t, "GET", "/policy-engines", "").header.Get("X-Verdict-Revision")
	tests := map[string]map[string]bad{"JSON": badJSON, "values": badValues, "refused members": refusedMembers, "places": badPlaces}
	for group, cases := range tests {
		for what, test := range cases {
			t.Run(group+"/"+what, func(t *testing.T) {
				r.send(t, test.method, ids.Replace(test.path), ids.Replace(test.body)).wantRefusal(t, what, test.want)
				if after := r.send(t, "GET", "/policy-engines", "").header.Get("X-Verdict-Revision"); after != before {
					t.Errorf("the log went from %s to %s", before, after)
				}
			})
		}
	}
}

// bad is a request and how it is refused.
type bad struct {
	method, path, body string
	want               refusal
}

func badEngine(body, reason, field, says string) bad {
	return bad{"POST", "/policy-engines", body, refusal{"ValidationException", reason, field, says}}
}

func badPolicy(body, reason, field, says string) bad {
	return bad{"POST", "/policy-engines/{engine}/policies", body, refusal{"ValidationException", reason, field, says}}
}

// nested is an object in an object in an object….
func nested(depth int) string { return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth) }

// nestedSchema is a target whose tool takes an object in an object in an object….
func nestedSchema(depth int) string {
	const leaf = `{"type":"object"}`
	schema := strings.Repeat(`{"type":"object","properties":{"a":`, depth) + leaf + strings.Repeat("}}", depth)
	return strings.Replace(lambdaJSON, leaf, schema, 1)
}

var badJSON = map[string]bad{
	"no JSON":               badEngine(`{"name":`, cannotParse, "", "JSON"),
	"not even close":        badEngine(`name=E`, cannotParse, "", "JSON"),
	"a list":                badEngine(`[]`, notValid, "", "body"),
	"a text":                badEngine(`"E"`, notValid, "", "body"),
	"null":                  badEngine(`null`, notValid, "name", "required"),
	"nothing":               badEngine(``, notValid, "name", "required"),
	"trailing garbage":      badEngine(`{"name":"E"} x`, cannotParse, "", "JSON"),
	"two objects":           badEngine(`{"name":"E"}{"name":"F"}`, cannotParse, "", "JSON"),
	"a member twice":        badEngine(`{"name":"E","name":"F"}`, cannotParse, "", "duplicate"),
	"a tag twice":           badEngine(`{"name":"E","tags":{"a":"b","a":"c"}}`, cannotParse, "", "duplicate"),
	"not UTF-8":             badEngine("{\"name\":\"E\xff\"}", cannotParse, "", "UTF-8"),
	"an unknown member":     badEngine(`{"name":"E","colour":"red"}`, notValid, "colour", "colour"),
	"a member in capitals":  badEngine(`{"Name":"E"}`, notValid, "Name", "Name"),
	"unknown, deeper":       badPolicy(`{"name":"p","definition":{"cedar":{"statement":"s","colour":1}}}`, notValid, "definition.cedar.colour", "colour"),
	"a wrong type":          badEngine(`{"name":7}`, notValid, "name", "number"),
	"a wrong type, deeper":  badEngine(`{"name":"E","tags":{"a":[]}}`, notValid, "tags.a", "an array"),
	"null where needed":     badEngine(`{"name":null}`, notValid, "name", "required"),
	"over 6 MB":             badEngine(`{"name":"`+strings.Repeat("x", 6<<20)+`"}`, cannotParse, "", "6291456"),
	"far over 6 MB":         badEngine(`{"name":"`+strings.Repeat("x", 7<<20)+`"}`, cannotParse, "", "6291456"),
	"nested 10,000 deep":    badEngine(nested(10_001), notValid, "a", "no member a"),
	"tools 10,000 deep":     {"POST", "/gateways/{gateway}/targets/", nestedSchema(10_000), refusal{"ValidationException", cannotParse, "", "depth"}},
	"tools 4,000 deep":      {"POST", "/gateways/{gateway}/targets/", nestedSchema(4_000), refusal{"ValidationException", notValid, "targetConfiguration.mcp.lambda.toolSchema.inlinePayload[0].inputSchema" + strings.Repeat(".properties.a", 32), "32 deep"}},
	"an update, no JSON":    {"PATCH", "/policy-engines/{engine}", `{`, refusal{"ValidationException", cannotParse, "", "JSON"}},
	"a bare description":    {"PATCH", "/policy-engines/{engine}", `{"description":"d"}`, refusal{"ValidationException", notValid, "description", "a string"}},
	"tags, no JSON":         {"POST", "/tags/{engine-arn%}", `{`, refusal{"ValidationException", cannotParse, "", "JSON"}},
	"a target list, a text": {"PUT", "/gateways/{gateway}/synchronizeTargets", `{"targetIdList":"x"}`, refusal{"ValidationException", notValid, "targetIdList", "a string"}},
}

var badValues = map[string]bad{
	"a name of 51":           badEngine(`{"name":"`+strings.Repeat("n", 51)+`"}`, notValid, "name", "51"),
	"a name with a hyphen":   badEngine(`{"name":"refund-engine"}`, notValid, "name", "[A-Za-z][A-Za-z0-9_]*"),
	"a short client token":   badEngine(`{"name":"E","clientToken":"short"}`, notValid, "clientToken", "33 to 256"),
	"51 tags":                badEngine(`{"name":"E","tags":{`+manyTags(51)+`}}`, notValid, "tags", "50"),
	"a long description":     badEngine(`{"name":"E","description":"`+strings.Repeat("d", 4097)+`"}`, notValid, "description", "4096"),
	"no definition":          badPolicy(`{"name":"p"}`, notValid, "definition", "definition"),
	"an empty definition":    badPolicy(`{"name":"p","definition":{}}`, notValid, "definition", "exactly one"),
	"both definitions":       badPolicy(`{"name":"p","definition":{"cedar":{"statement":"s"},"policy":{"statement":"s"}}}`, notValid, "definition", "exactly one"),
	"34 characters":          badPolicy(`{"name":"p","definition":{"cedar":{"statement":"permit(principal,action,resource);"}}}`, notValid, "definition.cedar.statement", "34"),
	"two statements":         badPolicy(`{"name":"p",`+strings.Replace(everything, `;"`, `; permit(principal, action, resource is AgentCore::Gateway);"`, 1)+`}`, notValid, "definition.cedar.statement", "exactly one statement"),
	"an unknown mode":        badPolicy(`{"name":"p","enforcementMode":"MONITOR",`+everything+`}`, notValid, "enforcementMode", "LOG_ONLY"),
	"an unknown validation":  badPolicy(`{"name":"p","validationMode":"NONE",`+everything+`}`, notValid, "validationMode", "IGNORE_ALL_FINDINGS"),
	"an update of nothing":   {"PATCH", "/policy-engines/{engine}/policies/{policy}", `{}`, refusal{"ValidationException", notValid, "", "nothing to change"}},
	"no authorizer type":     {"POST", "/gateways/", `{"name":"g"}`, refusal{"ValidationException", notValid, "authorizerType", "required"}},
	"JWT without rules":      {"POST", "/gateways/", `{"name":"g","authorizerType":"CUSTOM_JWT"}`, refusal{"ValidationException", notValid, "authorizerConfiguration.customJWTAuthorizer", "required"}},
	"an engine mode":         {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"{engine-arn}","mode":"MONITOR"}}`, refusal{"ValidationException", notValid, "policyEngineConfiguration.mode", "LOG_ONLY"}},
	"an ARN of a gateway":    {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"{gateway-arn}","mode":"ENFORCE"}}`, refusal{"ValidationException", notValid, "policyEngineConfiguration.arn", "policy engine"}},
	"a renamed gateway":      {"PUT", "/gateways/{gateway}/", `{"name":"other","authorizerType":"NONE"}`, refusal{"ValidationException", notValid, "name", "cannot be changed"}},
	"a nameless update":      {"PUT", "/gateways/{gateway}/", `{"authorizerType":"NONE"}`, refusal{"ValidationException", notValid, "name", "required"}},
	"a reserved target":      {"POST", "/gateways/{gateway}/targets/", strings.Replace(lambdaJSON, "T2", "CallTool", 1), refusal{"ValidationException", notValid, "name", "CallTool"}},
	"a target of nothing":    {"POST", "/gateways/{gateway}/targets/", `{"name":"T2"}`, refusal{"ValidationException", notValid, "targetConfiguration", "exactly one"}},
	"a type in capitals":     {"POST", "/gateways/{gateway}/targets/", strings.Replace(lambdaJSON, `"object"`, `"OBJECT"`, 1), refusal{"ValidationException", notValid, "targetConfiguration.mcp.lambda.toolSchema.inlinePayload[0].inputSchema.type", "object"}},
	"an enum in a schema":    {"POST", "/gateways/{gateway}/targets/", strings.Replace(lambdaJSON, `"object"`, `"object","enum":[]`, 1), refusal{"ValidationException", notValid, "targetConfiguration.mcp.lambda.toolSchema.inlinePayload.0.inputSchema.enum", "enum"}},
	"two targets at once":    {"PUT", "/gateways/{gateway}/synchronizeTargets", `{"targetIdList":["{target}","{target}"]}`, refusal{"ValidationException", notValid, "targetIdList", "1 entry"}},
	"no tags":                {"POST", "/tags/{engine-arn%}", `{}`, refusal{"ValidationException", notValid, "tags", "required"}},
	"no tag keys":            {"DELETE", "/tags/{engine-arn%}", ``, refusal{"ValidationException", notValid, "tagKeys", "required"}},
	"a made-up token":        {"GET", "/policy-engines?nextToken=bm9wZQ", "", refusal{"ValidationException", notValid, "nextToken", "nextToken"}},
	"no page at all":         {"GET", "/policy-engines?maxResults=0", "", refusal{"ValidationException", notValid, "maxResults", "1 to 100"}},
	"a page of 101":          {"GET", "/policy-engines/{engine}/policies?maxResults=101", "", refusal{"ValidationException", notValid, "maxResults", "1 to 100"}},
	"a page of 1001":         {"GET", "/gateways/?maxResults=1001", "", refusal{"ValidationException", notValid, "maxResults", "1 to 1000"}},
	"a page of ten":          {"GET", "/gateways/?maxResults=ten", "", refusal{"ValidationException", notValid, "maxResults", "1 to 1000"}},
	"a generation of length": {"POST", "/policy-engines/{engine}/policy-generations", `{"name":"g"}`, refusal{"ValidationException", notValid, "content", "Verdict"}},
}

func manyTags(n int) string {
	var tags []string
	for i := range n {
		tags = append(tags, fmt.Sprintf(`"k%d":"v"`, i))
	}
	return strings.Join(tags, ",")
}

// refusedMembers are those that Verdict would have to ignore, with something in them that AgentCore takes.
var refusedMembers = map[string]bad{
	"encryptionKeyArn":          badEngine(`{"name":"E","encryptionKeyArn":"arn:aws:kms:us-east-1:123456789012:key/1"}`, notValid, "encryptionKeyArn", "encryptionKeyArn"),
	"policyGeneration":          badPolicy(`{"name":"p","definition":{"policyGeneration":{"policyGenerationId":"g","policyGenerationAssetId":"a"}}}`, notValid, "definition.policyGeneration", "policyGeneration"),
	"kmsKeyArn":                 badGateway(`"kmsKeyArn":"arn:aws:kms:us-east-1:123456789012:key/1"`, "kmsKeyArn"),
	"interceptors":              badGateway(`"interceptorConfigurations":[]`, "interceptorConfigurations"),
	"AUTHENTICATE_ONLY":         {"POST", "/gateways/", `{"name":"g","authorizerType":"AUTHENTICATE_ONLY"}`, refusal{"ValidationException", notValid, "authorizerType", "AUTHENTICATE_ONLY"}},
	"JWT privateEndpoint":       badJWT("privateEndpoint"),
	"JWT endpoint overrides":    badJWT("privateEndpointOverrides"),
	"JWT workloads":             badJWT("allowedWorkloadConfiguration"),
	"wafConfiguration":          {"PUT", "/gateways/{gateway}/", `{"name":"refund-gw","authorizerType":"NONE","wafConfiguration":{}}`, refusal{"ValidationException", notValid, "wafConfiguration", "wafConfiguration"}},
	"customTransform":           {"PUT", "/gateways/{gateway}/", `{"name":"refund-gw","authorizerType":"NONE","customTransformConfiguration":{}}`, refusal{"ValidationException", notValid, "customTransformConfiguration", "customTransformConfiguration"}},
	"metadataConfiguration":     badTarget(`"name"`, `"metadataConfiguration":{},"name"`, "metadataConfiguration"),
	"privateEndpoint":           badTarget(`"name"`, `"privateEndpoint":{},"name"`, "privateEndpoint"),
	"certificateConfigurations": badTarget(`"name"`, `"certificateConfigurations":[],"name"`, "certificateConfigurations"),
	"toolSchema.s3":             badTarget(`"inlinePayload":`, `"s3":{"uri":"s3://b/k"},"inlinePayload":`, "targetConfiguration.mcp.lambda.toolSchema.s3"),
	"openApiSchema":             badTarget(`"lambda":`, `"openApiSchema":{},"lambda":`, "targetConfiguration.mcp.openApiSchema"),
	"smithyModel":               badTarget(`"lambda":`, `"smithyModel":{},"lambda":`, "targetConfiguration.mcp.smithyModel"),
	"mcpServer":                 badTarget(`"lambda":`, `"mcpServer":{},"lambda":`, "targetConfiguration.mcp.mcpServer"),
	"apiGateway":                badTarget(`"lambda":`, `"apiGateway":{},"lambda":`, "targetConfiguration.mcp.apiGateway"),
	"connector":                 badTarget(`"lambda":`, `"connector":{},"lambda":`, "targetConfiguration.mcp.connector"),
	"http":                      badTarget(`"mcp":`, `"http":{},"mcp":`, "targetConfiguration.http"),
	"inference":                 badTarget(`"mcp":`, `"inference":{},"mcp":`, "targetConfiguration.inference"),
	"OAUTH":                     {"POST", "/gateways/{gateway}/targets/", strings.Replace(lambdaJSON, "GATEWAY_IAM_ROLE", "OAUTH", 1), refusal{"ValidationException", notValid, "credentialProviderConfigurations", "OAUTH"}},
	"credentialProvider":        badTarget(`"GATEWAY_IAM_ROLE"`, `"GATEWAY_IAM_ROLE","credentialProvider":{}`, "credentialProviderConfigurations.0.credentialProvider"),
}

func badGateway(member, field string) bad {
	return bad{"POST", "/gateways/", `{"name":"g","authorizerType":"NONE",` + member + `}`, refusal{"ValidationException", notValid, field, field}}
}

func badJWT(member string) bad {
	field := "authorizerConfiguration.customJWTAuthorizer." + member
	body := `{"name":"g","authorizerType":"CUSTOM_JWT","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://example.com/.well-known/openid-configuration","` + member + `":{}}}}`
	return bad{"POST", "/gateways/", body, refusal{"ValidationException", notValid, field, member}}
}

func badTarget(old, with, field string) bad {
	return bad{"POST", "/gateways/{gateway}/targets/", strings.Replace(lambdaJSON, old, with, 1), refusal{"ValidationException", notValid, field, field[strings.LastIndexByte(field, '.')+1:]}}
}

const (
	strangersEngine = "arn:aws:bedrock-agentcore:us-east-1:222222222222:policy-engine/RefundEngine-0123456789"
	elsewhere       = "arn:aws:bedrock-agentcore:eu-west-1:123456789012:policy-engine/RefundEngine-0123456789"
)

var badPlaces = map[string]bad{
	"no such engine":          {"GET", "/policy-engines/Nope-0123456789", "", refusal{"ResourceNotFoundException", "", "", "Nope-0123456789"}},
	"no such policy":          {"GET", "/policy-engines/{engine}/policies/nope-0123456789", "", refusal{"ResourceNotFoundException", "", "", "nope-0123456789"}},
	"a policy of no engine":   {"POST", "/policy-engines/Nope-0123456789/policies", `{"name":"p",` + everything + `}`, refusal{"ResourceNotFoundException", "", "", "Nope-0123456789"}},
	"no such summary":         {"GET", "/policy-engine-summaries/Nope-0123456789", "", refusal{"ResourceNotFoundException", "", "", "Nope-0123456789"}},
	"no such gateway":         {"DELETE", "/gateways/nope-0123456789/", "", refusal{"ResourceNotFoundException", "", "", "nope-0123456789"}},
	"no such target":          {"GET", "/gateways/{gateway}/targets/0123456789/", "", refusal{"ResourceNotFoundException", "", "", "0123456789"}},
	"an update of no target":  {"PUT", "/gateways/{gateway}/targets/0123456789/", lambdaJSON, refusal{"ResourceNotFoundException", "", "", "0123456789"}},
	"no such generation":      {"GET", "/policy-engines/{engine}/policy-generations/g-0123456789", "", refusal{"ResourceNotFoundException", "", "", "g-0123456789"}},
	"an id with a slash":      {"GET", "/policy-engines/a%2Fb", "", refusal{"ResourceNotFoundException", "", "", "a/b"}},
	"an engine of no gateway": {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"{engine-arn}x","mode":"ENFORCE"}}`, refusal{"ValidationException", notValid, "policyEngineConfiguration.arn", "arn:aws:bedrock-agentcore"}},
	"a stranger's engine":     {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"` + strangersEngine + `","mode":"ENFORCE"}}`, refusal{"ResourceNotFoundException", "", "", strangersEngine}},
	"an engine elsewhere":     {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"` + elsewhere + `","mode":"ENFORCE"}}`, refusal{"ResourceNotFoundException", "", "", elsewhere}},
	"a stranger's tags":       {"GET", "/tags/" + url.PathEscape(strangersEngine), "", refusal{"ResourceNotFoundException", "", "", strangersEngine}},
	"tagging a stranger":      {"POST", "/tags/" + url.PathEscape(strangersEngine), `{"tags":{"a":"b"}}`, refusal{"ResourceNotFoundException", "", "", strangersEngine}},
	"untagging elsewhere":     {"DELETE", "/tags/" + url.PathEscape(elsewhere) + "?tagKeys=a", "", refusal{"ResourceNotFoundException", "", "", elsewhere}},
	"tags of no ARN":          {"GET", "/tags/gateway", "", refusal{"ValidationException", notValid, "resourceArn", "arn:aws:bedrock-agentcore"}},
	"no resource policy":      {"GET", "/resourcepolicy/{engine-arn%}", "", refusal{"ResourceNotFoundException", "", "", "resource policy"}},
	"an operation of another": {"GET", "/harnesses", "", refusal{"ValidationException", notValid, "", "ListHarnesses"}},
}

// Things of another account are not there, by whatever name one asks for them, and neither are its pages.
func TestRawStrangers(t *testing.T) {
	t.Parallel()
	r := newBench(t).withKeys(t).start(t)
	_, ids := r.stocked(t)
	before := r.send(t, "GET", "/policy-engines", "").header.Get("X-Verdict-Revision")
	for _, e := range exchanges {
		if !strings.Contains(e.path, "{") || strings.Contains(e.path, "{made}") {
			continue
		}
		got := r.sendAs(t, "stranger", e.method, ids.Replace(e.path), ids.Replace(e.body))
		if got.status != http.StatusNotFound || got.body["__type"] != "ResourceNotFoundException" {
			t.Errorf("a stranger's %s: %d %s", e.operation, got.status, got.text)
		}
	}
	for _, path := range []string{"/policy-engines", "/policy-engine-summaries", "/gateways/"} {
		if got := r.sendAs(t, "stranger", "GET", path, ""); got.status != http.StatusOK || !strings.Contains(got.text, ":[]") {
			t.Errorf("a stranger's %s: %d %s", path, got.status, got.text)
		}
	}
	if after := r.send(t, "GET", "/policy-engines", "").header.Get("X-Verdict-Revision"); after != before {
		t.Errorf("a stranger moved the log from %s to %s", before, after)
	}
}

// Who asks is found out before what is asked is looked at; both are refused in AgentCore's form.
func TestRawCallers(t *testing.T) {
	t.Parallel()
	r := newBench(t).withKeys(t).start(t)
	const made = `{"name":"E"}`
	r.sendAs(t, "nobody", "POST", "/policy-engines", made).wantRefusal(t, "an unknown key", refusal{"UnauthorizedException", "", "", "signature"})
	r.sendAs(t, "nobody", "GET", "/harnesses", "").wantRefusal(t, "an unknown key for what is not offered", refusal{"UnauthorizedException", "", "", "signature"})
	r.sendAs(t, "viewer", "POST", "/policy-engines", made).wantRefusal(t, "a viewer's engine", refusal{"AccessDeniedException", "", "", "CreatePolicyEngine"})
	r.sendAs(t, "viewer", "POST", "/policy-engines", `{`).wantRefusal(t, "a viewer's body is not looked at", refusal{"AccessDeniedException", "", "", "CreatePolicyEngine"})
	r.sendAs(t, "admin", "POST", "/policy-engines", `{"name":"`+strings.Repeat("x", 2<<20)+`"}`).wantRefusal(t, "a signed body that is too large", refusal{"ValidationException", cannotParse, "", "bytes"})
	if got := r.sendAs(t, "viewer", "GET", "/policy-engines", ""); got.text != `{"policyEngines":[]}` {
		t.Errorf("a viewer sees %d %s", got.status, got.text)
	}
}

// What is no operation at all has an error that a program can read, too.
func TestRawNoOperation(t *testing.T) {
	t.Parallel()
	r := newBench(t).withKeys(t).start(t)
	for what, test := range map[string]struct {
		method, path string
		status       int
	}{
		"an unknown path":         {"GET", "/policies", 404},
		"a wrong method":          {"PUT", "/policy-engines", 405},
		"an ARN in many segments": {"GET", "/tags/" + strangersEngine, 404},
	} {
		got := r.send(t, test.method, test.path, "")
		if message, _ := got.body["message"].(string); got.status != test.status || message == "" || got.body["code"] == "" || got.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %v %s", what, got.status, got.header, got.text)
		}
	}
}

// 23 policies in pages of 10, and a page token is good for its list alone: not for another, another engine's or another account's.
func TestRawPages(t *testing.T) {
	t.Parallel()
	r := newBench(t).withKeys(t).start(t)
	s := r.shop(t, "admin")
	r.fill(t, s.engine, refundsOf(s), 23)
	other, err := s.CreatePolicyEngine(t.Context(), &agentcore.CreatePolicyEngineInput{Name: new("Other")})
	must(t, err)
	path, token := "/policy-engines/"+s.engine+"/policies", ""
	var sizes []int
	var tokens []string
	for {
		got := r.send(t, "GET", path+"?maxResults=10&nextToken="+url.QueryEscape(token), "")
		policies, _ := got.body["policies"].([]any)
		sizes = append(sizes, len(policies))
		if token, _ = got.body["nextToken"].(string); token == "" {
			if _, there := got.body["nextToken"]; there {
				t.Errorf("the last page has a token: %s", got.text)
			}
			break
		}
		tokens = append(tokens, token)
	}
	if fmt.Sprint(sizes) != "[10 10 3]" || len(slices.Compact(tokens)) != 2 {
		t.Fatalf("pages of %v with tokens %q", sizes, tokens)
	}
	if usual, _ := r.send(t, "GET", path, "").body["policies"].([]any); len(usual) != 10 {
		t.Errorf("a page has %d policies when nobody says how many", len(usual))
	}
	use := "nextToken=" + url.QueryEscape(tokens[0])
	for what, elsewhere := range map[string]string{
		"another list": "/policy-engines?" + use, "another engine": "/policy-engines/" + *other.PolicyEngineId + "/policies?" + use,
		"another filter": path + "?targetResourceScope=" + url.QueryEscape(s.gatewayARN) + "&" + use, "gateways": "/gateways/?" + use,
	} {
		r.send(t, "GET", elsewhere, "").wantRefusal(t, "a token for "+what, refusal{"ValidationException", notValid, "nextToken", "nextToken"})
	}
	same := r.shop(t, "stranger")
	stranger := r.sendAs(t, "stranger", "GET", "/policy-engines/"+same.engine+"/policies?"+use, "")
	stranger.wantRefusal(t, "a token for another account", refusal{"ValidationException", notValid, "nextToken", "nextToken"})
}

func refundsOf(s shop) string {
	definition, _ := s.cedar(refunds(smallRefunds)).(*types.PolicyDefinitionMemberCedar)
	return *definition.Value.Statement
}

// null is a member that is not there, as in all of AWS; a request with every null is the one without.
func TestRawNull(t *testing.T) {
	t.Parallel()
	r := newBench(t).withKeys(t).start(t)
	got := r.send(t, "POST", "/policy-engines", `{"name":"E","description":null,"clientToken":null,"tags":null,"encryptionKeyArn":null}`)
	got.wantAnswer(t, "CreatePolicyEngine", 202, engineMembers)
	if _, there := got.body["description"]; there || bytes.Contains([]byte(got.text), []byte("null")) {
		t.Errorf("the engine is %s", got.text)
	}
}
