//go:build faults

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	aws_control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/verdict-io/verdict/services/internal/example"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// callsVariable is how many calls the crowd of TestTargetsRunWhatIsAllowed makes; 5,000 when it is not set.
const callsVariable = "VERDICT_E2E_CALLS"

func toolCalls(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv(callsVariable)
	if text == "" {
		return 5_000
	}
	n, err := strconv.ParseInt(text, 10, 64)
	must(t, err)
	return n
}

// tools is a crowd of agents, each with a token of its own, and what the function behind the tool saw of them.
type tools struct {
	*quickstart

	client  *http.Client
	ran     sync.Map // request id → amount, of what the function ran
	twice   atomic.Int64
	allowed atomic.Int64 // answers with a result
	denied  atomic.Int64 // answers with -32002
	failed  atomic.Int64 // no answer, while the gateway was away
}

func newTools(t *testing.T, f *fleet, control *service, around *surroundings) *tools {
	t.Helper()
	x := &tools{quickstart: newQuickstart(t, control, around), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	around.functions.Register("refund", func(ctx context.Context, event json.RawMessage, client map[string]string) (any, error) {
		if _, again := x.ran.LoadOrStore(client["bedrockAgentCoreAwsRequestId"], string(event)); again {
			x.twice.Add(1)
		}
		return example.ProcessRefund(ctx, event, client)
	})
	x.setUp(t)
	return x
}

// call makes one call as the owner of a token; false when there was no answer.
func (x *tools) call(t *testing.T, token string, amount int64) bool {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, *x.gateway.GatewayUrl,
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+refundParams(int(amount))+`}`))
	if err != nil {
		t.Error(err)
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := x.client.Do(req)
	if err != nil {
		x.failed.Add(1)
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch text := string(body); {
	case err != nil:
		x.failed.Add(1)
		return false
	case strings.Contains(text, `"isError":false`):
		x.allowed.Add(1)
	case strings.Contains(text, `"code":-32002`) && !strings.Contains(text, "Policy evaluation failed"):
		x.denied.Add(1)
	case resp.StatusCode == http.StatusNotFound: // it has just started, and has not heard of the gateway
		return false
	default:
		t.Errorf("a refund of %d: %d %s", amount, resp.StatusCode, text)
	}
	return true
}

// crowd has callers call until there are n answers, with amounts on both sides of every limit.
func (x *tools) crowd(t *testing.T, callers int, n int64) {
	t.Helper()
	var made atomic.Int64
	var calling sync.WaitGroup
	for i := range callers {
		token := x.around.token(t, fmt.Sprintf(`{"sub":"user-%d"}`, i))
		calling.Go(func() {
			again := time.NewTicker(5 * time.Millisecond) // so that a gateway that is away does not cost the others their CPU
			defer again.Stop()
			for k := made.Add(1); k <= n; {
				if x.call(t, token, k%2000) {
					k = made.Add(1)
					continue
				}
				<-again.C
			}
		})
	}
	calling.Wait()
}

// change has the limit of refunds go up and down until stop, and is how often it did.
func (x *tools) change(t *testing.T) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; changes++ {
			limit := 500 + changes%3*500
			_, err := x.aws.UpdatePolicy(ctx, &aws_control.UpdatePolicyInput{
				PolicyEngineId: &x.engine, PolicyId: &x.policy, Definition: &types.PolicyDefinitionMemberCedar{Value: types.CedarPolicy{Statement: aws.String(
					`permit(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::"` +
						*x.gateway.GatewayArn + `") when { context.input.amount < ` + strconv.Itoa(limit) + ` };`,
				)}},
			})
			conflict := (*types.ConflictException)(nil) // the change before is still being examined
			if err != nil && !errors.As(err, &conflict) && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	return func() int { cancel(); <-done; return changes }
}

// awaitTool waits until the gateway lists the tool.
func (x *tools) awaitTool(t *testing.T) {
	t.Helper()
	token := x.around.token(t, "")
	testenv.Eventually(t, "the tool is listed", func() error {
		status, body := rpc(t, *x.gateway.GatewayUrl, token, "tools/list", "{}")
		if status != http.StatusOK || !strings.Contains(body, `"name":"RefundTarget___process_refund"`) {
			return fmt.Errorf("%w: %d %s", errNotListed, status, body)
		}
		return nil
	})
}

// counted waits until the table has n decisions or more, and is how many of them allow.
func (f *fleet) counted(t *testing.T, audit *service, n int64) (total, allow int64) {
	t.Helper()
	testenv.Within(t, 2*time.Minute, "the decisions in the table", func() error {
		rows, err := f.sql(t.Context(), audit, "SELECT toInt64(count()), toInt64(countIf(decision = 'ALLOW')) FROM decisions")
		if err != nil {
			return err
		}
		total, allow = number(t, rows[0][0]), number(t, rows[0][1])
		if total < n {
			return fmt.Errorf("%d of %d: %w", total, n, errNotYet)
		}
		return nil
	})
	return total, allow
}

func number(t *testing.T, v any) int64 {
	t.Helper()
	n, err := strconv.ParseInt(fmt.Sprint(v), 10, 64)
	must(t, err)
	return n
}

// A target runs exactly what the table says was allowed: once for each ALLOW, never otherwise, while policies change under fifty callers.
func TestTargetsRunWhatIsAllowed(t *testing.T) {
	f, around := newFleet(t), newSurroundings(t)
	addr := freeAddrs(t, 1)[0]
	control, audit := f.start(t, "control", anyAddr, "VERDICT_GATEWAY_URL=http://"+addr), f.start(t, "audit", anyAddr)
	f.gatewayProcess(t, addr, control, around, "embedded")
	x := newTools(t, f, control, around)
	x.awaitTool(t)
	n, began := toolCalls(t), time.Now()
	stop := x.change(t)
	x.crowd(t, 50, n)
	changes := stop()
	took := time.Since(began)
	total, allow := f.counted(t, audit, n)
	ran := int64(around.functions.Calls("refund"))
	t.Logf("%d calls by 50 callers in %v with %d changes of the policy: %d results, %d denials; the function ran %d times; the table has %d decisions, %d ALLOW",
		n, took.Round(time.Millisecond), changes, x.allowed.Load(), x.denied.Load(), ran, total, allow)
	if total != n || ran != allow || x.allowed.Load() != allow || x.denied.Load() != n-allow || x.twice.Load() > 0 || changes == 0 {
		t.Errorf("the counts differ; %d ran twice", x.twice.Load())
	}
}

// A gateway that is killed in the middle has called nothing that is not in the table as allowed, and nothing twice; what it had been allowed
// and did not call, its callers got no answer for.
func TestKilledGatewayCallsNothingUnrecorded(t *testing.T) {
	f, around := newFleet(t), newSurroundings(t)
	addr, dir := freeAddrs(t, 1)[0], t.TempDir()
	control, audit := f.start(t, "control", anyAddr, "VERDICT_GATEWAY_URL=http://"+addr), f.start(t, "audit", anyAddr)
	start := func() *service {
		return f.start(t, "gateway", addr, "VERDICT_CONTROL_URL="+control.url, "VERDICT_GATEWAY_DIR="+dir, "VERDICT_GATEWAY_EGRESS_LOOPBACK=true",
			"VERDICT_GATEWAY_LAMBDA_ENDPOINT="+around.lambda, "VERDICT_NODE=gateway-1", "VERDICT_GATEWAY_NATS_KEY="+f.natsKey("gateway"), "VERDICT_GATEWAY_LOG_LEVEL=error")
	}
	g := start()
	x := newTools(t, f, control, around)
	x.awaitTool(t)
	const n = 3000
	crowd := make(chan struct{})
	go func() { defer close(crowd); x.crowd(t, 20, n) }()
	for _, after := range []int64{n / 4, n / 2} {
		testenv.Within(t, time.Minute, "calls", func() error {
			if got := x.allowed.Load() + x.denied.Load(); got < after {
				return fmt.Errorf("%d: %w", got, errNotYet)
			}
			return nil
		})
		g.kill()
		g = start()
	}
	<-crowd
	f.counted(t, audit, x.allowed.Load()+x.denied.Load())
	rows, err := f.sql(t.Context(), audit, "SELECT request_id FROM decisions WHERE decision = 'ALLOW' LIMIT 10000")
	must(t, err)
	allowed := map[string]bool{}
	for _, row := range rows {
		allowed[fmt.Sprint(row[0])] = true
	}
	ran := 0
	x.ran.Range(func(id, event any) bool {
		if ran++; !allowed[id.(string)] {
			t.Errorf("%v ran, with %v, and the table does not allow it", id, event)
		}
		return true
	})
	lost := int64(len(rows)) - int64(ran)
	t.Logf("%d ALLOW, %d ran, %d calls without an answer", len(rows), ran, x.failed.Load())
	if x.twice.Load() > 0 || lost < 0 || lost > x.failed.Load() {
		t.Errorf("%d ran twice, %d were allowed and not run", x.twice.Load(), lost)
	}
}
