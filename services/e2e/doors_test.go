package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// The access keys of these tests; the secret is the id. Each account's has all roles but those that see other accounts.
const (
	keyOne, keyTwo, keyNode, keyViewer = "one", "two", "node", "viewer"

	callersJSON = `{"accessKeys": [
		{"accessKeyId": "one", "secretAccessKey": "one", "id": "one", "account": "000000000000", "roles": ["viewer", "author", "enforcer", "gateway", "auditor"]},
		{"accessKeyId": "two", "secretAccessKey": "two", "id": "two", "account": "111111111111", "roles": ["viewer", "author", "enforcer", "gateway", "auditor"]},
		{"accessKeyId": "agent", "secretAccessKey": "agent", "id": "agent", "account": "000000000000", "roles": ["agent"]},
		{"accessKeyId": "stranger", "secretAccessKey": "stranger", "id": "agent", "account": "111111111111", "roles": ["agent"]},
		{"accessKeyId": "viewer", "secretAccessKey": "viewer", "id": "viewer", "account": "000000000000", "roles": ["viewer"]},
		{"accessKeyId": "node", "secretAccessKey": "node", "id": "node", "account": "000000000000", "roles": ["node"]}
	]}`
)

// doors are services that know callers by their access keys, and nobody without one.
type doors struct {
	*fleet
	base          map[string]string // the URL of each service, by the package of its procedures
	control, node *service
	known         []string // what makes services know the callers
}

func newDoors(t *testing.T) *doors {
	t.Helper()
	d := &doors{fleet: newFleet(t)}
	dir := t.TempDir()
	callers, credentials := filepath.Join(dir, "callers.json"), filepath.Join(dir, "credentials.json")
	must(t, os.WriteFile(callers, []byte(callersJSON), 0o600))
	must(t, os.WriteFile(credentials, []byte(`{"accessKeyId": "node", "secretAccessKey": "node"}`), 0o600))
	known := []string{"VERDICT_CALLERS=" + callers, "VERDICT_AUDIT_ACCOUNTS=000000000000," + otherAccount}
	control, audit := d.start(t, "control", anyAddr, known...), d.start(t, "audit", anyAddr, known...)
	node := d.start(t, "decision", anyAddr, append(known, "VERDICT_CONTROL_URL="+control.url, "VERDICT_DECISION_CREDENTIALS="+credentials)...)
	for _, s := range []*service{control, audit, node} {
		testenv.Eventually(t, s.url, func() error { return s.ready(t) })
	}
	d.control, d.node, d.known = control, node, known
	d.base = map[string]string{
		"verdict.control.v1": control.url, "verdict.event.v1": control.url, "verdict.audit.v1": audit.url, "verdict.decision.v1": node.url,
	}
	return d
}

// procedures is every procedure of every service, with whether its answer is a stream; and what a node answers to AuthZEN and Envoy.
func procedures() map[string]bool {
	all := map[string]bool{toAuthZEN + "evaluation": false, toAuthZEN + "evaluations": false, toEnvoy + "Check": false}
	for _, file := range []protoreflect.FileDescriptor{
		controlv1.File_verdict_control_v1_control_service_proto, eventv1.File_verdict_event_v1_event_service_proto,
		decisionv1.File_verdict_decision_v1_decision_service_proto, auditv1.File_verdict_audit_v1_audit_service_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				all[string(m.Parent().FullName())+"/"+string(m.Name())] = m.IsStreamingServer()
			}
		}
	}
	return all
}

// call asks as the owner of an access key, as nobody for "", and is the code and the text of the answer.
func (d *doors) call(t *testing.T, key, procedure string, stream bool, body string) (code, text string) {
	t.Helper()
	kind := "application/json"
	if stream {
		kind = "application/connect+json"
		body = string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))) + body
	}
	url := d.base["verdict.decision.v1"] + "/" + procedure // but for those of Verdict's own services
	if service, _, _ := strings.Cut(procedure, "/"); strings.HasPrefix(service, "verdict.") {
		url = d.base[service[:strings.LastIndexByte(service, '.')]] + "/" + procedure
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", kind)
	client := http.DefaultClient
	if key != "" {
		client = &http.Client{Transport: identity.SigningTransport(http.DefaultTransport, key, key, "us-east-1")}
	}
	resp, err := client.Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	answer := struct {
		Code  string
		Error struct{ Code string }
	}{}
	if last := data; len(last) > 0 {
		for stream && resp.StatusCode == http.StatusOK && len(last) > 5 { // frame by frame, up to the last
			size := 5 + int(binary.BigEndian.Uint32(last[1:5]))
			if len(last) <= size {
				last = last[5:]
				break
			}
			last = last[size:]
		}
		must(t, json.Unmarshal(last, &answer))
	}
	return answer.Code + answer.Error.Code, string(bytes.ToValidUTF8(data, nil))
}

// step is a request that the owner of a thing makes, and before that a stranger.
type step struct {
	procedure, body  string
	stranger, owner  string // codes; "" is success
	learns, variable string // from the owner's answer: what the expression finds, as a variable of later bodies
}

const toControl, toDecision, toAudit, toLog = "verdict.control.v1.ControlService/", "verdict.decision.v1.DecisionService/", "verdict.audit.v1.AuditService/", "verdict.event.v1.EventService/"

const toAuthZEN, toEnvoy = "access/v1/", "envoy.service.auth.v3.Authorization/"

const (
	none   = "not_found"
	denied = "permission_denied"

	aTarget = `{"targetConfiguration":{"mcp":{"lambda":{"lambdaArn":"arn:aws:lambda:us-east-1:123456789012:function:f","toolSchema":{"inlinePayload":[
		{"name":"t","description":"$secret","inputSchema":{"type":"SCHEMA_TYPE_OBJECT","properties":{"a":{"type":"SCHEMA_TYPE_STRING"}}}}]}}}}}`
	aList = `{"principal":{"type":"AgentCore::OAuthUser","id":"u"},"resource":{"type":"AgentCore::Gateway","id":"$arn"},"explain":true}`
	aCall = `{"principal":{"type":"AgentCore::OAuthUser","id":"u"},"action":{"type":"AgentCore::Action","id":"T___t"},"resource":{"type":"AgentCore::Gateway","id":"$arn"},"context":{"input":{"a":"$secret"}}}`

	anEvaluation = `"subject":{"type":"OAuthUser","id":"u"},"action":{"name":"T___t","properties":{"a":"$secret"}},"resource":{"type":"Gateway","id":"$arn"}`
	aCheck       = `{"attributes":{"contextExtensions":{"verdict.gateway":"$arn","verdict.principal_id":"u"},"request":{"http":{"headers":{"content-type":"application/json"},"body":"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"T___t\",\"arguments\":{\"a\":\"$secret\"}}}"}}}}`
)

var steps = []step{
	{toControl + "CreatePolicyEngine", `{"name":"E","definition":{"description":"$secret"}}`, "", "", `"policyEngineId":"([^"]+)"`, "$engine"},
	{toControl + "GetPolicyEngine", `{"policyEngineId":"$engine"}`, none, "", "", ""},
	{toControl + "ListPolicyEngines", `{}`, "", "", "", ""},
	{toControl + "UpdatePolicyEngine", `{"policyEngineId":"$engine","description":"$secret"}`, none, "", "", ""},
	{toControl + "UpdatePolicyEngineSettings", `{"policyEngineId":"$engine","settings":{}}`, none, "", "", ""},
	{toControl + "CreateGateway", `{"name":"g","definition":{"description":"$secret","authorizerType":"AUTHORIZER_TYPE_NONE"}}`, "", "", `"gatewayId":"([^"]+)"`, "$gateway"},
	{toControl + "GetGateway", `{"gatewayId":"$gateway"}`, none, "", `"gatewayArn":"([^"]+)"`, "$arn"},
	{toControl + "CreateGateway", `{"name":"h","definition":{"authorizerType":"AUTHORIZER_TYPE_NONE","policyEngineConfiguration":{"policyEngineId":"$engine","mode":"ENGINE_MODE_ENFORCE"}}}`, none, "", "", ""},
	{toControl + "ListGateways", `{}`, "", "", "", ""},
	{toControl + "UpdateGateway", `{"gatewayId":"$gateway","definition":{"description":"$secret","authorizerType":"AUTHORIZER_TYPE_NONE"}}`, none, "", "", ""},
	{toControl + "AttachPolicyEngine", `{"gatewayId":"$gateway","policyEngineId":"$engine","mode":"ENGINE_MODE_ENFORCE"}`, none, "", "", ""},
	{toControl + "CreateGatewayTarget", `{"gatewayId":"$gateway","name":"T","definition":` + aTarget + `}`, none, "", `"targetId":"([^"]+)"`, "$target"},
	{toControl + "GetGatewayTarget", `{"gatewayId":"$gateway","targetId":"$target"}`, none, "", "", ""},
	{toControl + "ListGatewayTargets", `{"gatewayId":"$gateway"}`, none, "", "", ""},
	{toControl + "UpdateGatewayTarget", `{"gatewayId":"$gateway","targetId":"$target","definition":` + aTarget + `}`, none, "", "", ""},
	{toControl + "CreatePolicy", `{"policyEngineId":"$engine","name":"p","description":"$secret","definition":{"cedar":{"statement":"forbid(principal, action, resource == AgentCore::Gateway::\"$arn\");"}}}`, none, "", `"policyId":"([^"]+)"`, "$policy"},
	{toControl + "GetPolicy", `{"policyEngineId":"$engine","policyId":"$policy"}`, none, "", "", ""},
	{toControl + "ListPolicies", `{"policyEngineId":"$engine"}`, none, "", "", ""},
	{toControl + "TagResource", `{"resourceArn":"$arn","tags":{"a":"$secret"}}`, none, "", "", ""},
	{toControl + "ListTagsForResource", `{"resourceArn":"$arn"}`, none, "", "", ""},
	{toControl + "UntagResource", `{"resourceArn":"$arn","tagKeys":["a"]}`, none, "", "", ""},
	{toControl + "GetAccountSettings", `{}`, "", "", `"revision":"([0-9]+)"`, "$revision"},
	{toControl + "WaitForRevision", `{"awaitedRevision":"$revision"}`, "", "", "", ""},
	{toControl + "Propagation", `{}`, denied, denied, "", ""},

	{toDecision + "Authorize", aCall, none, "", `"decisionId":"([^"]+)"`, "$decision"},
	{toDecision + "BatchAuthorize", `{"requests":[` + aCall + `]}`, none, "", "", ""},
	{toDecision + "ListPermittedActions", aList, none, "", "", ""},
	{toAuthZEN + "evaluation", `{` + anEvaluation + `}`, "gateway_not_found", "", `"id":"([a-z2-7]{39})"`, "$evaluated"},
	{toAuthZEN + "evaluations", `{"evaluations":[{` + anEvaluation + `}]}`, "", "", `"context":{"id":"([a-z2-7]{39})"`, "$first"},
	{toEnvoy + "Check", aCheck, "", "", `"key":"x-verdict-decision-id","value":"([a-z2-7]{39})"`, "$checked"},
	{toAudit + "GetDecision", `{"decisionId":"$decision"}`, none, "", "", ""},
	{toAudit + "Query", `{"sql":"SELECT * FROM decisions"}`, "", "", "", ""},
	{toAudit + "Tail", `{}`, "unimplemented", "unimplemented", "", ""},
	{toAudit + "Completeness", `{}`, denied, denied, "", ""},
	{toLog + "Head", `{}`, denied, denied, "", ""},
	{toLog + "ReadEvents", `{}`, denied, denied, "", ""},
	{toLog + "ReadState", `{}`, denied, denied, "", ""},

	{toControl + "UpdateAccountSettings", `{"settings":{},"secondPerson":true}`, "", "", "", ""},
	{toControl + "ProposeChange", `{"description":"$secret","detachPolicyEngine":{"gatewayId":"$gateway"}}`, none, "", `"changeId":"([^"]+)"`, "$change"},
	{toControl + "GetChange", `{"changeId":"$change"}`, none, "", "", ""},
	{toControl + "ListChanges", `{}`, "", "", "", ""},
	{toControl + "ApproveChange", `{"changeId":"$change"}`, none, denied, "", ""}, // by the same person
	{toControl + "RejectChange", `{"changeId":"$change"}`, none, "", "", ""},
	{toControl + "UpdatePolicy", `{"policyEngineId":"$engine","policyId":"$policy","description":"$secret"}`, none, "", "", ""},
	{toControl + "DetachPolicyEngine", `{"gatewayId":"$gateway"}`, none, "failed_precondition", "", ""},
	{toControl + "DeletePolicy", `{"policyEngineId":"$engine","policyId":"$policy"}`, none, "failed_precondition", "", ""},
	{toControl + "DeleteGatewayTarget", `{"gatewayId":"$gateway","targetId":"$target"}`, none, "", "", ""},
	{toControl + "DeleteGateway", `{"gatewayId":"$gateway"}`, none, "", "", ""},
	{toControl + "DeletePolicyEngine", `{"policyEngineId":"$engine"}`, none, "failed_precondition", "", ""}, // it has a policy
}

// Promise 8 and the accounts of section 3, on every procedure that the descriptors have: what belongs to one account is not found by
// another, and its texts are in no answer to it. A procedure that has no step fails the test. Nobody without credentials gets
// anything at all.
func TestEveryDoor(t *testing.T) {
	t.Parallel()
	d := newDoors(t)
	const secret = "only-the-owner-knows"
	values := []string{"$secret", secret}
	left := procedures()
	for _, s := range steps {
		stream, there := procedures()[s.procedure]
		if !there {
			t.Errorf("there is no %s", s.procedure)
			continue
		}
		delete(left, s.procedure)
		body := strings.NewReplacer(values...).Replace(s.body)
		foreign := strings.ReplaceAll(body, secret, "a text of the stranger")
		if code, text := d.call(t, "", s.procedure, stream, body); code != "unauthenticated" {
			t.Errorf("%s for nobody: %q %s", s.procedure, code, text)
		}
		code, text := d.call(t, keyTwo, s.procedure, stream, foreign)
		if code != s.stranger || strings.Contains(text, secret) {
			t.Errorf("%s for a stranger: %q, want %q: %s", s.procedure, code, s.stranger, text)
		}
		for i := 2; i < len(values); i += 2 {
			if strings.Contains(text, values[i+1]) && !strings.Contains(body, values[i+1]) {
				t.Errorf("%s tells a stranger of %s", s.procedure, values[i])
			}
		}
		var found []string
		testenv.Eventually(t, s.procedure+" for the owner", func() error { // a node and the table hear of things a moment later
			if code, text = d.call(t, keyOne, s.procedure, stream, body); code == s.owner || code != none {
				return nil
			}
			return io.EOF
		})
		if code != s.owner {
			t.Errorf("%s for the owner: %q, want %q: %s", s.procedure, code, s.owner, text)
		}
		if s.learns != "" {
			if found = regexp.MustCompile(s.learns).FindStringSubmatch(text); found == nil {
				t.Fatalf("%s answers %s", s.procedure, text)
			}
			values = append(values, s.variable, found[1])
		}
	}
	for procedure := range left {
		t.Errorf("%s has no step: what does another account see of it?", procedure)
	}
	d.wantRoles(t)
}

// wantRoles wants roles to count at every service, and those of a node to open the log.
func (d *doors) wantRoles(t *testing.T) {
	t.Helper()
	for _, tt := range []struct{ key, procedure, body, code string }{
		{keyViewer, toControl + "ListGateways", `{}`, ""},
		{keyViewer, toControl + "CreatePolicyEngine", `{"name":"X"}`, denied},
		{keyViewer, toDecision + "Authorize", `{}`, denied},
		{keyViewer, toAuthZEN + "evaluation", `{}`, "access"},
		{keyViewer, toAuthZEN + "evaluations", `{}`, "access"},
		{keyViewer, toEnvoy + "Check", `{}`, denied},
		{keyViewer, toAudit + "GetDecision", `{"decisionId":"x"}`, denied},
		{keyNode, toLog + "Head", `{}`, ""},
		{keyNode, toControl + "ListGateways", `{}`, denied},
		{"unheard", toControl + "ListGateways", `{}`, "unauthenticated"},
	} {
		if code, text := d.call(t, tt.key, tt.procedure, false, tt.body); code != tt.code {
			t.Errorf("%s as %s: %q, want %q: %s", tt.procedure, tt.key, code, tt.code, text)
		}
	}
}

// What was signed once is carried out once: whoever saw a request that changes something cannot send it again. One that reads may
// be repeated.
func TestRepeatedChange(t *testing.T) {
	t.Parallel()
	d := newDoors(t)
	for _, tt := range []struct {
		procedure, body string
		second          int
	}{
		{toControl + "CreatePolicyEngine", `{"name":"E"}`, http.StatusUnauthorized},
		{toControl + "ListPolicyEngines", `{}`, http.StatusOK},
	} {
		var sent *http.Request
		record := roundTripper(func(r *http.Request) (*http.Response, error) {
			sent = r
			return http.DefaultTransport.RoundTrip(r)
		})
		again := roundTripper(func(*http.Request) (*http.Response, error) {
			body, err := sent.GetBody()
			must(t, err)
			repeated := sent.Clone(t.Context())
			repeated.Body = body
			return http.DefaultTransport.RoundTrip(repeated)
		})
		for i, want := range []int{http.StatusOK, tt.second} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.base["verdict.control.v1"]+"/"+tt.procedure, strings.NewReader(tt.body))
			must(t, err)
			req.Header.Set("Content-Type", "application/json")
			transport := identity.SigningTransport(record, keyOne, keyOne, "us-east-1")
			if i == 1 {
				transport = again
			}
			resp, err := transport.RoundTrip(req)
			must(t, err)
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s, time %d: %s, want %d", tt.procedure, i+1, resp.Status, want)
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
