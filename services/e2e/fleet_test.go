package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/audit/v1/auditv1connect"
	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// fleet is a site with a ClickHouse, and with the addresses that its services keep when they start anew.
type fleet struct {
	*site

	clickhouse testenv.ClickHouse
	dir        string // of the node
	gateway    string // ARN, once the example is loaded
	engine     string // id
	revision   string // that holds the example
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{site: newSite(t), dir: t.TempDir()}
	f.clickhouse = testenv.NewClickHouse(t, func(ctx context.Context, owner string) error {
		// The development server ends when a client dies at the wrong moment, as clients of other tests do, and is started again.
		testenv.Eventually(t, "migrating ClickHouse", func() error {
			out, err := exec.CommandContext(ctx, filepath.Join(bin, "verdict"), "migrate", "--clickhouse-url", owner).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		return nil
	})
	f.environ = append(f.environ, "VERDICT_CLICKHOUSE_URL="+f.clickhouse.URL, "VERDICT_CLICKHOUSE_SECRET="+f.clickhouse.SecretFile,
		"VERDICT_AUDIT_LOG_LEVEL=error", "VERDICT_DECISION_LOG_LEVEL=error", "VERDICT_NODE=node-1", "VERDICT_DECISION_DIR="+f.dir)
	return f
}

// service is a running binary.
type service struct {
	cmd  *exec.Cmd
	url  string
	log  *bytes.Buffer // complete once the process has ended
	done chan struct{} // closed when the process has ended
	told bool          // to end

	client *http.Client // nil is the default one
}

// http is what asks the service.
func (s *service) http() *http.Client { return cmp.Or(s.client, http.DefaultClient) }

// start starts a service; one that is started anew keeps its address, since others know it.
func (f *fleet) start(t testing.TB, name, addr string, environ ...string) *service {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addr")
	s := &service{log: &bytes.Buffer{}, done: make(chan struct{})}
	s.cmd = exec.Command(filepath.Join(bin, name), "--addr", strings.TrimPrefix(addr, "http://"), "--addr-file", file)
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = slices.Concat(f.environ, environ), s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(s.done); _ = s.cmd.Wait() }()
	t.Cleanup(func() {
		select {
		case <-s.done:
			if !s.told {
				t.Errorf("%s ended by itself: %v", name, s.cmd.ProcessState)
			}
		default:
		}
		if name == "audit" { // its connections end in order, since the development ClickHouse may not outlive others
			_ = s.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-s.done:
			case <-time.After(5 * time.Second):
			}
		}
		s.kill()
		if strings.Contains(s.log.String(), "DATA RACE") || t.Failed() {
			t.Errorf("%s printed:\n%s", name, s.log)
		}
	})
	testenv.Eventually(t, "the start of "+name, func() error {
		select {
		case <-s.done:
			t.Fatalf("%s ended: %s", name, s.log)
		default:
		}
		data, err := os.ReadFile(file)
		s.url = "http://" + string(data)
		return err
	})
	return s
}

const anyAddr = "127.0.0.1:0"

// kill is kill -9.
func (s *service) kill() {
	s.told = true
	_ = s.cmd.Process.Kill()
	<-s.done
}

// end is SIGTERM, and the exit status.
func (s *service) end(t testing.TB) int {
	t.Helper()
	s.told = true
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.done
	return s.cmd.ProcessState.ExitCode()
}

// ready is nil when the service says so.
func (s *service) ready(t testing.TB) error {
	t.Helper()
	status, text := s.get(t, "/readyz")
	if status != http.StatusOK {
		return errors.New(text)
	}
	return nil
}

// get is the status and the body of an answer, 0 when there is none.
func (s *service) get(t testing.TB, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.http().Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, _ = body.ReadFrom(resp.Body)
	return resp.StatusCode, body.String()
}

func (s *service) controlClient() controlv1connect.ControlServiceClient {
	return controlv1connect.NewControlServiceClient(s.http(), s.url)
}

func (s *service) decisionClient() decisionv1connect.DecisionServiceClient {
	return decisionv1connect.NewDecisionServiceClient(s.http(), s.url)
}

func (s *service) auditClient() auditv1connect.AuditServiceClient {
	return auditv1connect.NewAuditServiceClient(s.http(), s.url)
}

// loadExample makes the refund example, with a limit of 1000, and returns the revision that has it.
func (f *fleet) loadExample(t testing.TB, control *service) string {
	t.Helper()
	c, ctx := control.controlClient(), t.Context()
	engine, err := c.CreatePolicyEngine(ctx, &controlv1.CreatePolicyEngineRequest{Name: "RefundEngine"})
	must(t, err)
	f.engine = engine.GetPolicyEngine().GetPolicyEngineId()
	gateway, err := c.CreateGateway(ctx, &controlv1.CreateGatewayRequest{Name: "refund-gw", Definition: &eventv1.GatewayDefinition{
		AuthorizerType: eventv1.AuthorizerType_AUTHORIZER_TYPE_NONE,
		PolicyEngineConfiguration: &eventv1.GatewayPolicyEngineConfiguration{
			PolicyEngineId: f.engine, Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE,
		},
	}})
	must(t, err)
	f.gateway = gateway.GetGateway().GetGatewayArn()
	integer, text := &eventv1.Schema{Type: eventv1.SchemaType_SCHEMA_TYPE_INTEGER}, &eventv1.Schema{Type: eventv1.SchemaType_SCHEMA_TYPE_STRING}
	_, err = c.CreateGatewayTarget(ctx, &controlv1.CreateGatewayTargetRequest{
		GatewayId: gateway.GetGateway().GetGatewayId(), Name: "RefundTarget", Definition: lambda(&eventv1.Tool{
			Name: "process_refund", Description: "Refunds", InputSchema: &eventv1.Schema{
				Type:       eventv1.SchemaType_SCHEMA_TYPE_OBJECT,
				Properties: map[string]*eventv1.Schema{"orderId": text, "amount": integer}, Required: []string{"orderId", "amount"},
			},
		}),
	})
	must(t, err)
	f.revision = f.permit(t, control, "refund_limit", 1000)
	return f.revision
}

// permit makes a policy that permits refunds below a limit, and waits until it decides.
func (f *fleet) permit(t testing.TB, control *service, name string, limit int) string {
	t.Helper()
	statement := fmt.Sprintf(`permit(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::%q)
		when { context.input.amount < %d };`, f.gateway, limit)
	made, err := control.controlClient().CreatePolicy(t.Context(), &controlv1.CreatePolicyRequest{
		PolicyEngineId: f.engine, Name: name,
		Definition: &eventv1.PolicyDefinition{Definition: &eventv1.PolicyDefinition_Cedar{Cedar: &eventv1.CedarPolicy{Statement: statement}}},
	})
	must(t, err)
	var revision string
	testenv.Eventually(t, name+" active", func() error {
		now, err := control.controlClient().GetPolicy(t.Context(), &controlv1.GetPolicyRequest{
			PolicyEngineId: f.engine, PolicyId: made.GetPolicy().GetPolicyId(),
		})
		revision = now.GetRevision()
		if err == nil && now.GetPolicy().GetStatus() != eventv1.Status_STATUS_ACTIVE {
			err = fmt.Errorf("%v %v", now.GetPolicy().GetStatus(), now.GetPolicy().GetStatusReasons())
		}
		return err
	})
	return revision
}

func lambda(tools ...*eventv1.Tool) *eventv1.TargetDefinition {
	return &eventv1.TargetDefinition{TargetConfiguration: &eventv1.TargetConfiguration{
		Configuration: &eventv1.TargetConfiguration_Mcp{Mcp: &eventv1.McpTargetConfiguration{
			Configuration: &eventv1.McpTargetConfiguration_Lambda{Lambda: &eventv1.LambdaTargetConfiguration{
				LambdaArn: "arn:aws:lambda:us-east-1:000000000000:function:refund", ToolSchema: &eventv1.ToolSchema{InlinePayload: tools},
			}},
		}},
	}}
}

// refund asks a node about a refund.
func (f *fleet) refund(ctx context.Context, node *service, amount float64, revision string) (*decisionv1.AuthorizeResponse, error) {
	return node.decisionClient().Authorize(ctx, f.refundRequest(amount, revision))
}

func (f *fleet) refundRequest(amount float64, revision string) *decisionv1.AuthorizeRequest {
	return &decisionv1.AuthorizeRequest{
		Principal: &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "refund-agent"}},
		Action:    &decisionv1.Entity{Type: "AgentCore::Action", Id: "RefundTarget___process_refund"},
		Resource:  &decisionv1.Entity{Type: "AgentCore::Gateway", Id: f.gateway},
		Context: &structpb.Struct{Fields: map[string]*structpb.Value{"input": structpb.NewStructValue(&structpb.Struct{
			Fields: map[string]*structpb.Value{"orderId": structpb.NewStringValue("1"), "amount": structpb.NewNumberValue(amount)},
		})}},
		AtLeastRevision: revision,
	}
}

// wantRefund wants a refund to be allowed or not.
func (f *fleet) wantRefund(t testing.TB, node *service, amount float64, allowed bool, revision string) *decisionv1.AuthorizeResponse {
	t.Helper()
	got, err := f.refund(t.Context(), node, amount, revision)
	must(t, err)
	if got.GetProceed() != allowed || (got.GetDecision() == decisionv1.Decision_DECISION_ALLOW) != allowed {
		t.Fatalf("a refund of %v: %v", amount, got)
	}
	return got
}

// sql runs a query and returns its rows.
func (f *fleet) sql(ctx context.Context, audit *service, text string) ([][]any, error) {
	stream, err := audit.auditClient().Query(ctx, &auditv1.QueryRequest{Sql: text})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var rows [][]any
	for stream.Receive() {
		for _, row := range stream.Msg().GetRows() {
			rows = append(rows, row.AsSlice())
		}
	}
	return rows, stream.Err()
}

// wantRows waits until SQL finds every one of these decisions, each once, and nothing else.
func (f *fleet) wantRows(t testing.TB, audit *service, ids []string) {
	t.Helper()
	want := slices.Sorted(slices.Values(ids))
	testenv.Within(t, time.Minute, "the rows", func() error {
		rows, err := f.sql(t.Context(), audit, "SELECT decision_id FROM decisions ORDER BY decision_id")
		if err != nil {
			return err
		}
		got := make([]string, len(rows))
		for i, row := range rows {
			got[i], _ = row[0].(string)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("%d rows, %d decisions", len(got), len(want))
		}
		return nil
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
