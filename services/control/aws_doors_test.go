package control

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/internal/identity"
)

// awsCallers are access keys whose secret is the id.
const awsCallers = `{"accessKeys": [
	{"accessKeyId": "owner", "secretAccessKey": "owner", "id": "owner", "account": "111111111111", "roles": ["author", "enforcer"]},
	{"accessKeyId": "viewer", "secretAccessKey": "viewer", "id": "viewer", "account": "111111111111", "roles": ["viewer"]},
	{"accessKeyId": "stranger", "secretAccessKey": "stranger", "id": "stranger", "account": "222222222222", "roles": ["author", "enforcer"]}
]}`

// awsStep is a request to an operation of the AWS API: who is refused before its owner makes it, and how.
type awsStep struct {
	operation, query, body string
	stranger, viewer       int    // statuses
	learns, variable       string // from the owner's answer: what the expression finds, as a variable of later requests
}

const (
	theirTarget   = `{"name":"T","description":"$secret","targetConfiguration":{"mcp":{"lambda":{"lambdaArn":"arn:aws:lambda:us-east-1:111111111111:function:f","toolSchema":{"inlinePayload":[{"name":"t","description":"$secret","inputSchema":{"type":"object","properties":{"a":{"type":"integer"}}}}]}}}},"credentialProviderConfigurations":[{"credentialProviderType":"GATEWAY_IAM_ROLE"}]}`
	theirGateway  = `{"name":"gw","description":"$secret","authorizerType":"NONE","roleArn":"arn:aws:iam::111111111111:role/r","policyEngineConfiguration":{"arn":"$engineArn","mode":"ENFORCE"}}`
	openGateway   = `{"name":"gw","description":"$secret","authorizerType":"NONE","roleArn":"arn:aws:iam::111111111111:role/r"}`
	theirPolicy   = `{"name":"P","description":"$secret","definition":{"cedar":{"statement":"permit(principal, action == AgentCore::Action::\"T___t\", resource == AgentCore::Gateway::\"$gatewayArn\") when { context.input has a };"}}}`
	nobodys       = http.StatusNotFound
	notTheirRole  = http.StatusForbidden
	fine          = http.StatusOK
	notInThisCase = 0
)

var awsSteps = []awsStep{
	{"CreatePolicyEngine", "", `{"name":"E","description":"$secret"}`, notInThisCase, notTheirRole, `"policyEngineId":"([^"]+)"`, "{policyEngineId}"},
	{"GetPolicyEngine", "", "", nobodys, fine, `"policyEngineArn":"([^"]+)"`, "$engineArn"},
	{"GetPolicyEngineSummary", "", "", nobodys, fine, "", ""},
	{"ListPolicyEngines", "", "", fine, fine, "", ""},
	{"ListPolicyEngineSummaries", "", "", fine, fine, "", ""},
	{"UpdatePolicyEngine", "", `{"description":{"optionalValue":"$secret 2"}}`, nobodys, notTheirRole, "", ""},
	{"CreateGateway", "", theirGateway, nobodys, notTheirRole, `"gatewayId":"([^"]+)"`, "{gatewayIdentifier}"},
	{"GetGateway", "", "", nobodys, fine, `"gatewayArn":"([^"]+)"`, "$gatewayArn"},
	{"ListGateways", "", "", fine, fine, "", ""},
	{"UpdateGateway", "", theirGateway, nobodys, notTheirRole, "", ""},
	{"CreateGatewayTarget", "", theirTarget, nobodys, notTheirRole, `"targetId":"([^"]+)"`, "{targetId}"},
	{"GetGatewayTarget", "", "", nobodys, fine, "", ""},
	{"ListGatewayTargets", "", "", nobodys, fine, "", ""},
	{"UpdateGatewayTarget", "", theirTarget, nobodys, notTheirRole, "", ""},
	{"SynchronizeGatewayTargets", "", `{"targetIdList":["{targetId}"]}`, nobodys, notTheirRole, "", ""},
	{"CreatePolicy", "", theirPolicy, nobodys, notTheirRole, `"policyId":"([^"]+)"`, "{policyId}"},
	{"GetPolicy", "", "", nobodys, fine, "", ""},
	{"GetPolicySummary", "", "", nobodys, fine, "", ""},
	{"ListPolicies", "", "", nobodys, fine, "", ""},
	{"ListPolicySummaries", "", "", nobodys, fine, "", ""},
	{"StartPolicyGeneration", "", `{}`, http.StatusBadRequest, notTheirRole, "", ""},
	{"GetPolicyGeneration", "", "", nobodys, nobodys, "", ""},
	{"GetPolicyGenerationSummary", "", "", nobodys, nobodys, "", ""},
	{"ListPolicyGenerationAssets", "", "", nobodys, nobodys, "", ""},
	{"ListPolicyGenerations", "", "", nobodys, fine, "", ""},
	{"ListPolicyGenerationSummaries", "", "", nobodys, fine, "", ""},
	{"PutResourcePolicy", "", `{}`, http.StatusBadRequest, notTheirRole, "", ""},
	{"GetResourcePolicy", "", "", nobodys, nobodys, "", ""},
	{"DeleteResourcePolicy", "", "", nobodys, notTheirRole, "", ""},
	{"TagResource", "", `{"tags":{"k":"$secret"}}`, nobodys, notTheirRole, "", ""},
	{"ListTagsForResource", "", "", nobodys, fine, "", ""},
	{"UntagResource", "?tagKeys=k", "", nobodys, notTheirRole, "", ""},
	{"UpdatePolicy", "", `{"description":{"optionalValue":"$secret 2"}}`, nobodys, notTheirRole, "", ""},
	{"DeletePolicy", "", "", nobodys, notTheirRole, "", ""},
	{"DeleteGatewayTarget", "", "", nobodys, notTheirRole, "", ""},
	{"UpdateGateway", "", openGateway, nobodys, notTheirRole, "", ""},
	{"DeleteGateway", "", "", nobodys, notTheirRole, "", ""},
	{"DeletePolicyEngine", "", "", nobodys, notTheirRole, "", ""},
}

// awsOperation is a line of the table of operations.
type awsOperation struct {
	name, method, path string
	status             int
}

func awsOperations(t *testing.T) map[string]awsOperation {
	t.Helper()
	table, err := os.ReadFile("internal/awsapi/operations.txt")
	must(t, err)
	out := map[string]awsOperation{}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		status, err := strconv.Atoi(f[3])
		must(t, err)
		out[f[0]] = awsOperation{f[0], f[1], f[2], status}
	}
	return out
}

// awsDoors is a control that knows callers by their access keys.
type awsDoors struct {
	*replica
	variables map[string]string
}

const awsSecret = "a text of the owner"

// call asks as the owner of an access key, as nobody for "".
func (d *awsDoors) call(t *testing.T, key string, op awsOperation, query, body string) (status int, class, text string) {
	t.Helper()
	path := op.path
	for name, value := range d.variables {
		path, body = strings.ReplaceAll(path, name, value), strings.ReplaceAll(body, name, value)
	}
	path = regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(path, "x-0123456789")
	req, err := http.NewRequestWithContext(t.Context(), op.method, d.url+path+query, strings.NewReader(body))
	must(t, err)
	client := http.DefaultClient
	if key != "" {
		client = &http.Client{Transport: identity.SigningTransport(http.DefaultTransport, key, key, "us-east-1")}
	}
	resp, err := client.Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Header.Get("X-Amzn-Errortype"), string(data)
}

// refused asks and wants a status that is an error of AWS's form, or fine with nothing of the owner's in it.
func (d *awsDoors) refused(t *testing.T, key string, op awsOperation, s awsStep, want int) {
	t.Helper()
	status, class, text := d.call(t, key, op, s.query, s.body)
	if status != want || (want == fine) != (class == "") || key != "viewer" && strings.Contains(text, awsSecret) {
		t.Errorf("%s as %q: %d %s %s, want %d", op.name, key, status, class, text, want)
	}
}

// Every operation that is offered is refused to nobody, to strangers and to the wrong role, in AWS's form and without a word of
// what is there, and then does what its owner wants. All others are refused to everybody.
func TestAWSDoors(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.Callers = filepath.Join(t.TempDir(), "callers.json")
	must(t, os.WriteFile(b.cfg.Callers, []byte(awsCallers), 0o600))
	d := &awsDoors{b.start(t), map[string]string{"$secret": awsSecret}}
	operations, offered := awsOperations(t), map[string]bool{}
	for _, s := range awsSteps {
		op := operations[s.operation]
		offered[s.operation] = true
		d.refused(t, "", op, s, http.StatusUnauthorized)
		if s.stranger != notInThisCase {
			d.refused(t, "stranger", op, s, s.stranger)
		}
		d.refused(t, "viewer", op, s, s.viewer)
		status, class, text := d.call(t, "owner", op, s.query, s.body)
		if want := ownersStatus(op, s); status != want {
			t.Fatalf("%s: %d %s %s, want %d", op.name, status, class, text, want)
		}
		if s.learns != "" {
			found := regexp.MustCompile(s.learns).FindStringSubmatch(text)
			if found == nil {
				t.Fatalf("%s: no %s in %s", op.name, s.learns, text)
			}
			d.variables[s.variable] = found[1]
			if s.variable == "$engineArn" {
				d.variables["{resourceArn}"] = strings.NewReplacer("/", "%2F", ":", "%3A").Replace(found[1])
			}
		}
	}
	for name, op := range operations {
		if offered[name] {
			continue
		}
		d.refused(t, "", op, awsStep{}, http.StatusUnauthorized)
		if status, class, text := d.call(t, "owner", op, "", "{}"); status != http.StatusBadRequest || class != "ValidationException" || !strings.Contains(text, "does not offer "+name) {
			t.Errorf("%s: %d %s %s", name, status, class, text)
		}
	}
	t.Logf("%d operations, %d of them offered", len(operations), len(offered))
}

// ownersStatus is the model's status, but for what Verdict does not have.
func ownersStatus(op awsOperation, s awsStep) int {
	switch s.operation {
	case "StartPolicyGeneration", "PutResourcePolicy":
		return http.StatusBadRequest
	case "GetPolicyGeneration", "GetPolicyGenerationSummary", "ListPolicyGenerationAssets", "GetResourcePolicy", "DeleteResourcePolicy":
		return http.StatusNotFound
	}
	return op.status
}
