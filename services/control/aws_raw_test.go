package control

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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

	"github.com/verdict-io/verdict/services/internal/testenv"
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
		sign(t, req, key, body)
	}
	return do(t, req)
}

// sign signs as an SDK does that signs no number of the attempt, as boto3 does not.
func sign(t *testing.T, req *http.Request, key, body string) {
	t.Helper()
	hash := sha256.Sum256([]byte(body))
	credentials := aws.Credentials{AccessKeyID: key, SecretAccessKey: key + "-secret"}
	must(t, v4.NewSigner().SignHTTP(t.Context(), credentials, req, hex.EncodeToString(hash[:]), "bedrock-agentcore", "us-east-1", time.Now()))
}

func do(t *testing.T, req *http.Request) reply {
	t.Helper()
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
	if _, there := got.body["description"]; there || strings.Contains(got.text, "null") {
		t.Errorf("the engine is %s", got.text)
	}
}

// What was throttled was not carried out, so that the same signed request may come again: a second attempt of boto3 within the
// same second is one. What was carried out may not.
func TestRawThrottled(t *testing.T) {
	t.Parallel()
	b := newBench(t).withKeys(t)
	b.cfg.Throttle = "aws"
	r := b.start(t)
	const body = `{"name":"Again"}`
	r.sendAs(t, "admin", "POST", "/policy-engines", `{"name":"First"}`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/policy-engines", nil)
	must(t, err)
	sign(t, req, "admin", body)
	again := func() reply {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		return do(t, req)
	}
	testenv.Eventually(t, "a second engine", func() error {
		got := again()
		if got.status == statuses["UnauthorizedException"] {
			t.Fatalf("the attempt was taken for a repeat: %s", got.text)
		}
		if got.status == statuses["ThrottlingException"] {
			got.wantRefusal(t, "an early request", refusal{"ThrottlingException", "", "", "CreatePolicyEngine"})
			return errors.New(got.text)
		}
		got.wantAnswer(t, "CreatePolicyEngine", http.StatusAccepted, engineMembers)
		return nil
	})
	testenv.Eventually(t, "a repeat", func() error {
		if got := again(); got.status != statuses["UnauthorizedException"] {
			return fmt.Errorf("%d %s", got.status, got.text)
		}
		return nil
	})
}
