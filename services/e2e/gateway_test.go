package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	aws_control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/verdict-io/verdict/services/internal/example"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// surroundings are an issuer of tokens and functions, at one address each.
type surroundings struct {
	issuer    string
	lambda    string
	functions *example.Functions
}

func newSurroundings(t testing.TB) *surroundings {
	t.Helper()
	s := &surroundings{functions: example.NewFunctions()}
	s.functions.Register("refund", example.ProcessRefund)
	lambda := httptest.NewServer(s.functions)
	t.Cleanup(lambda.Close)
	s.lambda = lambda.URL
	server := httptest.NewUnstartedServer(nil)
	s.issuer = "http://" + server.Listener.Addr().String()
	issuer, err := example.NewIssuer(example.IssuerConfig{URL: s.issuer, Clients: []example.Client{{ID: "agent", Secret: "secret"}}})
	must(t, err)
	server.Config.Handler = issuer
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// token is one with more claims.
func (s *surroundings) token(t testing.TB, claims string) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"agent"}, "client_secret": {"secret"}}
	if claims != "" {
		form.Set("claims", claims)
	}
	resp, err := http.PostForm(s.issuer+"/token", form)
	must(t, err)
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"` //nolint:tagliatelle // OAuth calls it so
	}
	must(t, json.NewDecoder(resp.Body).Decode(&answer))
	return answer.AccessToken
}

// gatewayProcess starts the MCP gateway, which decides itself, or asks the nodes behind commas.
func (f *fleet) gatewayProcess(t testing.TB, addr string, control *service, around *surroundings, decision string) *service {
	t.Helper()
	g := f.start(t, "gateway", addr, "VERDICT_CONTROL_URL="+control.url, "VERDICT_GATEWAY_DECISION="+decision, "VERDICT_GATEWAY_DIR="+t.TempDir(),
		"VERDICT_GATEWAY_EGRESS_LOOPBACK=true", "VERDICT_GATEWAY_LAMBDA_ENDPOINT="+around.lambda, "VERDICT_NODE=gateway-1",
		"VERDICT_GATEWAY_NATS_KEY="+f.natsKey("gateway"), "VERDICT_GATEWAY_LOG_LEVEL=error")
	testenv.Eventually(t, "the gateway is ready", func() error { return g.ready(t) })
	return g
}

// rpc posts a JSON-RPC message as the script of seed 000 does, and is the status and the body of the answer.
func rpc(t testing.TB, gatewayURL, token, method, params string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, gatewayURL,
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`))
	must(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

func refundParams(amount int) string {
	return fmt.Sprintf(`{"name":"RefundTarget___process_refund","arguments":{"amount":%d}}`, amount)
}

// The quickstart of seed 000, with AWS's SDK for what its scripts do with boto3, and raw POSTs where they have them: once with a gateway
// that decides itself, once with one that asks a node.
func TestQuickstartOfTheSeeds(t *testing.T) {
	t.Parallel()
	for _, decision := range []string{"embedded", "by a node"} {
		t.Run(decision, func(t *testing.T) {
			t.Parallel()
			f, around := newFleet(t), newSurroundings(t)
			addr := freeAddrs(t, 1)[0]
			control, audit := f.start(t, "control", anyAddr, "VERDICT_GATEWAY_URL=http://"+addr), f.start(t, "audit", anyAddr)
			who := decision
			if decision != "embedded" {
				node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
				who = node.url
			}
			g := f.gatewayProcess(t, addr, control, around, who)
			q := newQuickstart(t, control, around)
			q.setUp(t)
			q.use(t, f, audit)
			q.cleanUp(t)
			if code := g.end(t); code != 0 {
				t.Errorf("the gateway exits %d: %s", code, g.log)
			}
		})
	}
}

// quickstart is what the scripts of seed 000 make, and their configuration.
type quickstart struct {
	aws            *aws_control.Client
	around         *surroundings
	gateway        *aws_control.GetGatewayOutput
	target         string
	engine, policy string
	engineARN      string
}

func newQuickstart(t testing.TB, control *service, around *surroundings) *quickstart {
	t.Helper()
	return &quickstart{around: around, aws: aws_control.New(aws_control.Options{
		Region: "us-east-1", BaseEndpoint: &control.url, Credentials: aws.AnonymousCredentials{},
	})}
}

// setUp is setup_policy.py.
func (q *quickstart) setUp(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	made, err := q.aws.CreateGateway(ctx, &aws_control.CreateGatewayInput{
		Name: aws.String("TestGateway"), RoleArn: aws.String("arn:aws:iam::000000000000:role/gateway"), ProtocolType: types.GatewayProtocolTypeMcp,
		AuthorizerType: types.AuthorizerTypeCustomJwt, AuthorizerConfiguration: &types.AuthorizerConfigurationMemberCustomJWTAuthorizer{
			Value: types.CustomJWTAuthorizerConfiguration{
				DiscoveryUrl: aws.String(q.around.issuer + "/.well-known/openid-configuration"), AllowedClients: []string{"agent"},
			},
		},
	})
	must(t, err)
	q.read(t, *made.GatewayId)
	target, err := q.aws.CreateGatewayTarget(ctx, &aws_control.CreateGatewayTargetInput{
		GatewayIdentifier: made.GatewayId, Name: aws.String("RefundTarget"),
		CredentialProviderConfigurations: []types.CredentialProviderConfiguration{{CredentialProviderType: types.CredentialProviderTypeGatewayIamRole}},
		TargetConfiguration: &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberLambda{Value: types.McpLambdaTargetConfiguration{
			LambdaArn: aws.String("arn:aws:lambda:us-east-1:000000000000:function:refund"),
			ToolSchema: &types.ToolSchemaMemberInlinePayload{Value: []types.ToolDefinition{{
				Name: aws.String("process_refund"), Description: aws.String("Process a customer refund"), InputSchema: &types.SchemaDefinition{
					Type:       types.SchemaTypeObject,
					Properties: map[string]types.SchemaDefinition{"amount": {Type: types.SchemaTypeInteger, Description: aws.String("Refund amount in dollars")}},
					Required:   []string{"amount"},
				},
			}}},
		}}},
	})
	must(t, err)
	q.target = *target.TargetId
	engine, err := q.aws.CreatePolicyEngine(ctx, &aws_control.CreatePolicyEngineInput{Name: aws.String("RefundPolicyEngine")})
	must(t, err)
	q.engine, q.engineARN = *engine.PolicyEngineId, *engine.PolicyEngineArn
	policy, err := q.aws.CreatePolicy(ctx, &aws_control.CreatePolicyInput{
		PolicyEngineId: engine.PolicyEngineId, Name: aws.String("refund_limit_policy"), Description: aws.String("Allow refunds under $1000"),
		Definition: &types.PolicyDefinitionMemberCedar{Value: types.CedarPolicy{Statement: aws.String(
			`permit(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::"` +
				*q.gateway.GatewayArn + `") when { context.input.amount < 1000 };`,
		)}},
	})
	must(t, err)
	q.policy = *policy.PolicyId
	q.attach(t, &types.GatewayPolicyEngineConfiguration{Arn: engine.PolicyEngineArn, Mode: types.GatewayPolicyEngineModeEnforce})
}

func (q *quickstart) read(t testing.TB, id string) {
	t.Helper()
	got, err := q.aws.GetGateway(t.Context(), &aws_control.GetGatewayInput{GatewayIdentifier: &id})
	must(t, err)
	q.gateway = got
}

// attach attaches an engine to the gateway, or takes it away.
func (q *quickstart) attach(t testing.TB, engine *types.GatewayPolicyEngineConfiguration) {
	t.Helper()
	_, err := q.aws.UpdateGateway(t.Context(), &aws_control.UpdateGatewayInput{
		GatewayIdentifier: q.gateway.GatewayId, Name: q.gateway.Name, RoleArn: q.gateway.RoleArn, ProtocolType: q.gateway.ProtocolType,
		AuthorizerType: q.gateway.AuthorizerType, AuthorizerConfiguration: q.gateway.AuthorizerConfiguration, PolicyEngineConfiguration: engine,
	})
	must(t, err)
}

var errNotListed = errors.New("the tool is not listed")

// use is test_policy.py, and what an auditor sees of it.
func (q *quickstart) use(t *testing.T, f *fleet, audit *service) {
	t.Helper()
	at, token := *q.gateway.GatewayUrl, q.around.token(t, "")
	testenv.Eventually(t, "the policy decides", func() error { // until then there is no such gateway, no such tool, or no permit
		status, body := rpc(t, at, token, "tools/list", "{}")
		if status != http.StatusOK || !strings.Contains(body, `"name":"RefundTarget___process_refund"`) {
			return fmt.Errorf("%w: %d %s", errNotListed, status, body)
		}
		return nil
	})
	var ids []string
	for _, c := range []struct {
		amount int
		want   string
	}{
		{500, `{"jsonrpc":"2.0","id":1,"result":{"isError":false,`},
		{500, `"content":[{"type":"text","text":"{\"status\":\"success\",\"message\":\"Refund of $500 processed successfully\",\"amount\":500}"}]`},
		{2000, `"error":{"code":-32002,"message":"Tool Execution Denied: Tool call not allowed due to policy enforcement [No policy applies to the request (denied by default).]"`},
	} {
		status, body := rpc(t, at, token, "tools/call", refundParams(c.amount))
		t.Logf("POST %s\n%s\n%d\n%s", at, refundParams(c.amount), status, body)
		if status != http.StatusOK || !strings.Contains(body, c.want) {
			t.Errorf("refund of %d: %d %s", c.amount, status, body)
		}
		ids = append(ids, decisionIn(t, body))
	}
	if got := q.around.functions.Calls("refund"); got != 2 {
		t.Errorf("the function was called %d times", got)
	}
	if status, body := rpc(t, at, "", "tools/call", refundParams(500)); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d %s", status, body)
	}
	f.wantRows(t, audit, ids)
	rows, err := f.sql(t.Context(), audit, "SELECT decision, JSONExtractInt(context_json, 'input', 'amount'), principal_id FROM decisions ORDER BY seq")
	must(t, err)
	if got := fmt.Sprint(rows); got != "[[ALLOW 500 agent] [ALLOW 500 agent] [DENY 2000 agent]]" {
		t.Errorf("the table holds %s", got)
	}
}

// decisionIn is the id of the decision that an answer names.
func decisionIn(t testing.TB, body string) string {
	t.Helper()
	var answer struct {
		Result struct {
			Meta map[string]struct {
				ID string `json:"id"`
			} `json:"_meta"` //nolint:tagliatelle // MCP calls it so
		} `json:"result"`
		Error struct {
			Data struct {
				ID string `json:"id"`
			} `json:"data"`
		} `json:"error"`
	}
	must(t, json.Unmarshal([]byte(body), &answer))
	if id := answer.Result.Meta["io.verdict/decision"].ID; id != "" {
		return id
	}
	return answer.Error.Data.ID
}

// cleanUp is cleanup_policy.py: the engine with its policies, then the gateway with its target.
func (q *quickstart) cleanUp(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	_, err := q.aws.DeletePolicy(ctx, &aws_control.DeletePolicyInput{PolicyEngineId: &q.engine, PolicyId: &q.policy})
	must(t, err)
	if _, err := q.aws.DeletePolicyEngine(ctx, &aws_control.DeletePolicyEngineInput{PolicyEngineId: &q.engine}); err == nil {
		t.Error("an engine that is attached was deleted")
	}
	q.attach(t, nil)
	_, err = q.aws.DeletePolicyEngine(ctx, &aws_control.DeletePolicyEngineInput{PolicyEngineId: &q.engine})
	must(t, err)
	_, err = q.aws.DeleteGatewayTarget(ctx, &aws_control.DeleteGatewayTargetInput{GatewayIdentifier: q.gateway.GatewayId, TargetId: &q.target})
	must(t, err)
	_, err = q.aws.DeleteGateway(ctx, &aws_control.DeleteGatewayInput{GatewayIdentifier: q.gateway.GatewayId})
	must(t, err)
	testenv.Eventually(t, "the gateway is gone", func() error {
		if status, body := rpc(t, *q.gateway.GatewayUrl, "", "ping", "{}"); status != http.StatusNotFound {
			return fmt.Errorf("%w: %d %s", errNotYet, status, body)
		}
		return nil
	})
}
