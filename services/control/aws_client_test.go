package control

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	agentcore "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// awsAccount is whose things these tests make; strangers are in another one.
const (
	awsAccount      = "123456789012"
	strangerAccount = "222222222222"
)

// withKeys lets callers sign with one of the access keys admin, author, viewer (all of awsAccount) and stranger; the secret is
// the id with "-secret" behind it. Who signs nothing is on this machine, and in awsAccount too.
func (b *bench) withKeys(t *testing.T) *bench {
	t.Helper()
	key := func(id, account, role string) map[string]any {
		return map[string]any{"accessKeyId": id, "secretAccessKey": id + "-secret", "account": account, "id": id, "roles": []string{role}}
	}
	data, err := json.Marshal(map[string]any{"accessKeys": []any{
		key("admin", awsAccount, "admin"), key("author", awsAccount, "author"), key("viewer", awsAccount, "viewer"), key("stranger", strangerAccount, "admin"),
	}})
	must(t, err)
	b.cfg.Callers, b.cfg.LoopbackAccount = filepath.Join(t.TempDir(), "callers.json"), awsAccount
	must(t, os.WriteFile(b.cfg.Callers, data, 0o600))
	return b
}

// sdk is the SDK's client as its users make it: with an endpoint and an access key, and all else as it comes.
func (r *replica) sdk(key string, options ...func(*agentcore.Options)) *agentcore.Client {
	return agentcore.New(agentcore.Options{
		Region: "us-east-1", BaseEndpoint: &r.url,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key, SecretAccessKey: key + "-secret"}, nil
		}),
	}, options...)
}

// statuses are the HTTP statuses of AgentCore's errors.
var statuses = map[string]int{
	"ValidationException": 400, "UnauthorizedException": 401, "ServiceQuotaExceededException": 402, "AccessDeniedException": 403,
	"ResourceNotFoundException": 404, "ConflictException": 409, "ThrottlingException": 429, "InternalServerException": 500,
}

// wantCode wants an error of AgentCore, with its status and a text in which all of says can be found.
func wantCode(t *testing.T, what string, err error, code string, says ...string) {
	t.Helper()
	refused, ok := errors.AsType[smithy.APIError](err)
	resp, also := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || !also || refused.ErrorCode() != code || resp.HTTPStatusCode() != statuses[code] {
		t.Errorf("%s: %v, want %s with status %d", what, err, code, statuses[code])
		return
	}
	for _, text := range says {
		if !strings.Contains(refused.ErrorMessage(), text) {
			t.Errorf("%s: the message %q does not say %q", what, refused.ErrorMessage(), text)
		}
	}
}

// wantInvalid wants a ValidationException for one member; "" is none.
func wantInvalid(t *testing.T, what string, err error, reason types.ValidationExceptionReason, field string, says ...string) {
	t.Helper()
	wantCode(t, what, err, "ValidationException", says...)
	invalid, ok := errors.AsType[*types.ValidationException](err)
	if !ok {
		return
	}
	var fields []string
	for _, f := range invalid.FieldList {
		if f.Message == nil || *f.Message == "" {
			t.Errorf("%s: the field %s has no message", what, aws.ToString(f.Name))
		}
		fields = append(fields, aws.ToString(f.Name))
	}
	if got := strings.Join(fields, " "); invalid.Reason != reason || got != field {
		t.Errorf("%s: reason %s and fields %q, want %s and %q; the message is %q", what, invalid.Reason, got, reason, field, invalid.ErrorMessage())
	}
}

// lambdaTarget is the example's target, with a tool for each kind of argument.
func lambdaTarget() types.TargetConfiguration {
	text, number := types.SchemaDefinition{Type: types.SchemaTypeString}, types.SchemaDefinition{Type: types.SchemaTypeNumber}
	object := func(required []string, properties map[string]types.SchemaDefinition) *types.SchemaDefinition {
		return &types.SchemaDefinition{Type: types.SchemaTypeObject, Required: required, Properties: properties}
	}
	tools := []types.ToolDefinition{
		{Name: new("process_refund"), Description: new("Process a customer refund"), InputSchema: object([]string{"orderId", "amount"},
			map[string]types.SchemaDefinition{"orderId": text, "amount": {Type: types.SchemaTypeInteger, Description: new("in dollars")}, "reason": text})},
		{Name: new("lookup_order"), Description: new("Find an order"), InputSchema: object([]string{"orderId"}, map[string]types.SchemaDefinition{"orderId": text})},
		{Name: new("quote"), Description: new("Name a price"), InputSchema: object([]string{"price"}, map[string]types.SchemaDefinition{"price": number})},
	}
	return &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberLambda{Value: types.McpLambdaTargetConfiguration{
		LambdaArn:  new("arn:aws:lambda:us-east-1:" + awsAccount + ":function:refund"),
		ToolSchema: &types.ToolSchemaMemberInlinePayload{Value: tools},
	}}}
}

const gatewayRole = "arn:aws:iam::" + awsAccount + ":role/gateway"

func cedarDefinition(statement string) types.PolicyDefinition {
	return &types.PolicyDefinitionMemberCedar{Value: types.CedarPolicy{Statement: &statement}}
}

const (
	soon = 10 * time.Millisecond // after which a waiter looks again, which would else be seconds
	most = 30 * time.Second      // that it goes on
)

func soonActive(o *agentcore.PolicyActiveWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }

func soonDeleted(o *agentcore.PolicyDeletedWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }

func soonEngine(o *agentcore.PolicyEngineActiveWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }

func soonNoEngine(o *agentcore.PolicyEngineDeletedWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }

// wantSame wants two outputs to hold the same. What the SDK measured on the way is not in their JSON.
func wantSame(t *testing.T, what string, one, other any) {
	t.Helper()
	first, err := json.Marshal(one)
	must(t, err)
	second, err := json.Marshal(other)
	must(t, err)
	if string(first) != string(second) {
		t.Errorf("%s:\n%s, and then\n%s", what, first, second)
	}
}
