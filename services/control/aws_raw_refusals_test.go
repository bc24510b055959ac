package control

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

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
func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
}

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
	"a tag that is null":     badEngine(`{"name":"E2","tags":{"k":null}}`, notValid, "tags", "null"),
	"an empty token":         badEngine(`{"name":"E2","clientToken":""}`, notValid, "clientToken", "empty"),
	"no authorizer":          {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","authorizerConfiguration":{}}`, refusal{"ValidationException", notValid, "authorizerConfiguration", "customJWTAuthorizer"}},
	"no protocol":            {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","protocolConfiguration":{}}`, refusal{"ValidationException", notValid, "protocolConfiguration", "mcp"}},
	"a short policy":         badPolicy(`{"name":"p","definition":{"policy":{"statement":"permit(principal,action,resource);"}}}`, notValid, "definition.policy.statement", "35"),
	"an engine mode":         {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"{engine-arn}","mode":"MONITOR"}}`, refusal{"ValidationException", notValid, "policyEngineConfiguration.mode", "LOG_ONLY"}},
	"an ARN of a gateway":    {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"{gateway-arn}","mode":"ENFORCE"}}`, refusal{"ValidationException", notValid, "policyEngineConfiguration.arn", "policy engine"}},
	"a renamed gateway":      {"PUT", "/gateways/{gateway}/", `{"name":"other","authorizerType":"NONE"}`, refusal{"ValidationException", notValid, "name", "cannot be changed"}},
	"a nameless update":      {"PUT", "/gateways/{gateway}/", `{"authorizerType":"NONE"}`, refusal{"ValidationException", notValid, "name", "required"}},
	"a reserved target":      {"POST", "/gateways/{gateway}/targets/", strings.Replace(lambdaJSON, "T2", "CallTool", 1), refusal{"ValidationException", notValid, "name", "CallTool"}},
	"a target of nothing":    {"POST", "/gateways/{gateway}/targets/", `{"name":"T2"}`, refusal{"ValidationException", notValid, "targetConfiguration", "exactly one"}},
	"a target of 600 KB":     {"POST", "/gateways/{gateway}/targets/", strings.Replace(lambdaJSON, `"description":"d"`, `"description":"`+strings.Repeat("d", 600<<10)+`"`, 1), refusal{"ValidationException", notValid, "", "524288"}},
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
	"an engine of no gateway": {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"{engine-arn}x","mode":"ENFORCE"}}`, refusal{"ValidationException", notValid, "policyEngineConfiguration.arn", "must match"}},
	"a stranger's engine":     {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"` + strangersEngine + `","mode":"ENFORCE"}}`, refusal{"ResourceNotFoundException", "", "", strangersEngine}},
	"an engine elsewhere":     {"POST", "/gateways/", `{"name":"g","authorizerType":"NONE","policyEngineConfiguration":{"arn":"` + elsewhere + `","mode":"ENFORCE"}}`, refusal{"ResourceNotFoundException", "", "", elsewhere}},
	"a stranger's tags":       {"GET", "/tags/" + url.PathEscape(strangersEngine), "", refusal{"ResourceNotFoundException", "", "", strangersEngine}},
	"tagging a stranger":      {"POST", "/tags/" + url.PathEscape(strangersEngine), `{"tags":{"a":"b"}}`, refusal{"ResourceNotFoundException", "", "", strangersEngine}},
	"untagging elsewhere":     {"DELETE", "/tags/" + url.PathEscape(elsewhere) + "?tagKeys=a", "", refusal{"ResourceNotFoundException", "", "", elsewhere}},
	"tags of no ARN":          {"GET", "/tags/gateway", "", refusal{"ValidationException", notValid, "resourceArn", "arn:aws:bedrock-agentcore"}},
	"no resource policy":      {"GET", "/resourcepolicy/{engine-arn%}", "", refusal{"ResourceNotFoundException", "", "", "resource policy"}},
	"a misspelled parameter":  {"GET", "/policy-engines?maxResult=5", "", refusal{"ValidationException", notValid, "maxResult", "ListPolicyEngines"}},
	"a parameter of another":  {"GET", "/policy-engines/{engine}?maxResults=5", "", refusal{"ValidationException", notValid, "maxResults", "GetPolicyEngine"}},
	"a parameter twice":       {"GET", "/gateways/?maxResults=5&maxResults=6", "", refusal{"ValidationException", notValid, "maxResults", "2 times"}},
	"a query that is none":    {"GET", "/policy-engines?nextToken=%zz", "", refusal{"ValidationException", notValid, "", "query"}},
	"a body that has no use":  {"DELETE", "/policy-engines/{engine}", `{"expectedVersion":3}`, refusal{"ValidationException", notValid, "", "no body"}},
	"the engine, by dots":     {"DELETE", "/policy-engines/{engine}/policies/..", "", refusal{"ValidationException", notValid, "", "segment"}},
	"the gateway, by dots":    {"DELETE", "/gateways/{gateway}/targets/../", "", refusal{"ValidationException", notValid, "", "segment"}},
	"an empty segment":        {"DELETE", "/policy-engines//{engine}", "", refusal{"ValidationException", notValid, "", "segment"}},
	"escaped dots are an id":  {"DELETE", "/policy-engines/{engine}/policies/%2e%2e", "", refusal{"ResourceNotFoundException", "", "", ".."}},
	"an operation of another": {"GET", "/harnesses", "", refusal{"ValidationException", notValid, "", "ListHarnesses"}},
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
