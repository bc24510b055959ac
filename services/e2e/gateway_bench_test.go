package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	aws_control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/verdict-io/verdict/services/internal/testenv"
)

// BenchmarkGateway compares a tools/call with calling its function directly, and with a bare server of the MCP SDK that calls it: through a
// gateway that decides itself, and through one that asks a node; decision log on, a token checked with every call. Beside the time of a
// call by one of eight clients it tells the CPU that a call costs each process.
func BenchmarkGateway(b *testing.B) {
	f, around := newFleet(b), newSurroundings(b)
	addrs := freeAddrs(b, 2)
	control := f.start(b, "control", anyAddr, "VERDICT_GATEWAY_URL=http://"+addrs[0])
	f.start(b, "audit", anyAddr)
	node := f.start(b, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	embedded := f.gatewayProcess(b, addrs[0], control, around, "embedded")
	remote := f.gatewayProcess(b, addrs[1], control, around, node.url)
	q := newQuickstart(b, control, around)
	q.setUp(b)
	q.manyTools(b, 1000)
	token := around.token(b, "")
	path := strings.TrimPrefix(*q.gateway.GatewayUrl, "http://"+addrs[0])
	for _, g := range []*service{embedded, remote} {
		testenv.Eventually(b, "tools are listed", func() error {
			if _, body := rpc(b, g.url+path, token, "tools/list", "{}"); strings.Count(body, `"name"`) < 1000 {
				return fmt.Errorf("%w: %.200s", errNotListed, body)
			}
			return nil
		})
	}
	bare := newBareMCP(b, around)
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + refundParams(500) + `}`
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for _, c := range []struct {
		name, url, body string
		processes       []*service
	}{
		{"call/function", around.lambda + "/2015-03-31/functions/refund/invocations", `{"amount":500}`, nil},
		{"call/bare SDK", bare, strings.ReplaceAll(call, "RefundTarget___", ""), nil},
		{"call/embedded", embedded.url + path, call, []*service{embedded}},
		{"call/remote", remote.url + path, call, []*service{remote, node}},
		{"list 1000/embedded", embedded.url + path, list, []*service{embedded}},
		{"list 1000/remote", remote.url + path, list, []*service{remote, node}},
	} {
		b.Run(c.name, func(b *testing.B) { measure(b, c.url, token, c.body, c.processes) })
	}
}

// clients are how many call at once.
const clients = 8

// measure has clients send a request b.N times.
func measure(b *testing.B, url, token, body string, processes []*service) {
	b.Helper()
	before := make([]time.Duration, len(processes))
	for i, p := range processes {
		before[i] = cpu(b, p)
	}
	var mu sync.Mutex
	var took []time.Duration
	b.SetParallelism(max(1, clients/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		var mine []time.Duration
		for pb.Next() {
			began := time.Now()
			if err := post(url, token, body); err != nil {
				b.Error(err)
				return
			}
			mine = append(mine, time.Since(began))
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, mine...)
	})
	slices.Sort(took)
	for _, percent := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*percent/100].Nanoseconds())/1000, fmt.Sprintf("µs-p%d", percent))
	}
	for i, p := range processes {
		b.ReportMetric(float64((cpu(b, p)-before[i]).Microseconds())/float64(len(took)), []string{"µs-cpu-gateway", "µs-cpu-node"}[i])
	}
}

var errAnswer = errors.New("not the answer that is measured")

// post sends the request once.
func post(url, token, body string) error {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := busy.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || strings.Contains(string(text), `"error"`)) {
		err = fmt.Errorf("%w: %d %.300s", errAnswer, resp.StatusCode, text)
	}
	return err
}

// busy keeps as many connections as there are clients.
var busy = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}

// cpu is what a process has used, in ticks of a hundredth of a second.
func cpu(b *testing.B, s *service) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	must(b, err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, which proc_pid_stat(5) counts from 1 as 14 and 15
		n, err := strconv.ParseInt(field, 10, 64)
		must(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// manyTools adds a target with tools that everybody may call.
func (q *quickstart) manyTools(b *testing.B, n int) {
	b.Helper()
	tools := make([]types.ToolDefinition, n)
	for i := range tools {
		tools[i] = types.ToolDefinition{
			Name: aws.String(fmt.Sprintf("tool_%04d", i)), Description: aws.String("One of many"), InputSchema: &types.SchemaDefinition{
				Type: types.SchemaTypeObject, Properties: map[string]types.SchemaDefinition{"amount": {Type: types.SchemaTypeInteger}},
			},
		}
	}
	_, err := q.aws.CreateGatewayTarget(b.Context(), &aws_control.CreateGatewayTargetInput{
		GatewayIdentifier: q.gateway.GatewayId, Name: aws.String("Many"),
		CredentialProviderConfigurations: []types.CredentialProviderConfiguration{{CredentialProviderType: types.CredentialProviderTypeGatewayIamRole}},
		TargetConfiguration: &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberLambda{Value: types.McpLambdaTargetConfiguration{
			LambdaArn:  aws.String("arn:aws:lambda:us-east-1:000000000000:function:refund"),
			ToolSchema: &types.ToolSchemaMemberInlinePayload{Value: tools},
		}}},
	})
	must(b, err)
	_, err = q.aws.CreatePolicy(b.Context(), &aws_control.CreatePolicyInput{
		PolicyEngineId: &q.engine, Name: aws.String("many"), ValidationMode: types.PolicyValidationModeIgnoreAllFindings,
		Definition: &types.PolicyDefinitionMemberCedar{Value: types.CedarPolicy{Statement: aws.String(
			`permit(principal, action in AgentCore::Action::"Many", resource == AgentCore::Gateway::"` + *q.gateway.GatewayArn + `");`,
		)}},
	})
	must(b, err)
}

// newBareMCP is a server of the SDK with the refund tool, which calls the function, and nothing else.
func newBareMCP(b *testing.B, around *surroundings) string {
	b.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "bare", Version: "1"}, nil)
	server.AddTool(&mcp.Tool{Name: "process_refund", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(_ context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			resp, err := http.Post(around.lambda+"/2015-03-31/functions/refund/invocations", "application/json", strings.NewReader(string(req.Params.Arguments)))
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(text)}}}, err
		})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	s := httptest.NewServer(handler)
	b.Cleanup(s.Close)
	return s.URL
}
