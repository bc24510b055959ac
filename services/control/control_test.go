package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/event/v1/eventv1connect"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// bench is a database, a NATS and keys, on which a test runs as many replicas as it wants.
type bench struct {
	testenv.Database
	nats *testenv.NATS
	cfg  Config
	keys stream.Keyring
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{nats: testenv.NewNATS(t)}
	b.Database = testenv.NewDatabase(t, func(ctx context.Context, owner string) error {
		_, err := Migrate(ctx, owner, "", nil)
		return err
	})
	var files testenv.KeyFiles
	files, b.keys = testenv.NewKeyFiles(t)
	b.cfg = Config{
		Common:      process.Common{Addr: "127.0.0.1:0", LogLevel: "error", Region: "us-east-1"},
		PostgresURL: b.URL, NATSURL: b.nats.URL(), SigningKey: files.Signing, TrustedKeys: files.Trusted,
		AppendTimeout: 2 * time.Second, StreamReplicas: 1, StreamMaxBytes: 1 << 28, StreamKeep: 1000, MaxBody: 1 << 20, GatewayURL: "http://127.0.0.1:7404", Throttle: "off",
	}
	return b
}

// replica is a running control.
type replica struct {
	controlv1connect.ControlServiceClient
	events  eventv1connect.EventServiceClient
	url     string
	service *Service
	stop    func() error // ends it in order and returns what Run returned
}

func (b *bench) start(t testing.TB) *replica {
	t.Helper()
	s, err := New(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var ended error
	stopped := false
	stop := func() error {
		if !stopped {
			stopped = true
			cancel()
			ended = <-done
		}
		return ended
	}
	t.Cleanup(func() { _ = stop() })
	url := "http://" + s.Addr()
	return &replica{
		ControlServiceClient: controlv1connect.NewControlServiceClient(http.DefaultClient, url),
		events:               eventv1connect.NewEventServiceClient(http.DefaultClient, url),
		url:                  url, service: s, stop: stop,
	}
}

// refund is the example: a gateway with a refund tool, an engine attached to it, and a policy.
type refund struct {
	engine, gateway, arn string
}

const refundStatement = `permit(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::"%s") when { context.input.amount < 1000 };`

func (r *replica) refund(t *testing.T) refund {
	t.Helper()
	engine, err := r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "RefundEngine"})
	must(t, err)
	gateway, err := r.CreateGateway(t.Context(), &controlv1.CreateGatewayRequest{
		Name: "Refund-GW", Definition: &eventv1.GatewayDefinition{AuthorizerType: eventv1.AuthorizerType_AUTHORIZER_TYPE_NONE},
	})
	must(t, err)
	_, err = r.CreateGatewayTarget(t.Context(), &controlv1.CreateGatewayTargetRequest{
		GatewayId: gateway.GetGateway().GetGatewayId(), Name: "RefundTarget", Definition: refundTarget(),
	})
	must(t, err)
	_, err = r.AttachPolicyEngine(t.Context(), &controlv1.AttachPolicyEngineRequest{
		GatewayId: gateway.GetGateway().GetGatewayId(), PolicyEngineId: engine.GetPolicyEngine().GetPolicyEngineId(),
		Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE,
	})
	must(t, err)
	return refund{engine.GetPolicyEngine().GetPolicyEngineId(), gateway.GetGateway().GetGatewayId(), gateway.GetGateway().GetGatewayArn()}
}

func refundTarget() *eventv1.TargetDefinition {
	lambda := &eventv1.LambdaTargetConfiguration{
		LambdaArn: "arn:aws:lambda:us-east-1:000000000000:function:refund",
		ToolSchema: &eventv1.ToolSchema{InlinePayload: []*eventv1.Tool{{
			Name: "process_refund", Description: "Process a customer refund",
			InputSchema: &eventv1.Schema{
				Type: eventv1.SchemaType_SCHEMA_TYPE_OBJECT, Required: []string{"amount"},
				Properties: map[string]*eventv1.Schema{"amount": {Type: eventv1.SchemaType_SCHEMA_TYPE_INTEGER}},
			},
		}}},
	}
	mcp := &eventv1.McpTargetConfiguration{Configuration: &eventv1.McpTargetConfiguration_Lambda{Lambda: lambda}}
	return &eventv1.TargetDefinition{
		TargetConfiguration: &eventv1.TargetConfiguration{Configuration: &eventv1.TargetConfiguration_Mcp{Mcp: mcp}},
	}
}

func cedar(statement string) *eventv1.PolicyDefinition {
	return &eventv1.PolicyDefinition{Definition: &eventv1.PolicyDefinition_Cedar{Cedar: &eventv1.CedarPolicy{Statement: statement}}}
}

func (f refund) policy(name string) *controlv1.CreatePolicyRequest {
	return &controlv1.CreatePolicyRequest{PolicyEngineId: f.engine, Name: name, Definition: cedar(fmt.Sprintf(refundStatement, f.arn))}
}

// settled waits until the worker has finished a policy.
func (r *replica) settled(t *testing.T, engine, id string) *controlv1.Policy {
	t.Helper()
	var p *controlv1.Policy
	testenv.Eventually(t, "the policy's examination", func() error {
		got, err := r.GetPolicy(t.Context(), &controlv1.GetPolicyRequest{PolicyEngineId: engine, PolicyId: id})
		must(t, err)
		p = got.GetPolicy()
		if s := p.GetStatus(); s == eventv1.Status_STATUS_CREATING || s == eventv1.Status_STATUS_UPDATING {
			return fmt.Errorf("it is %v", s)
		}
		return nil
	})
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The whole life of everything, through the API.
func TestLife(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	f := r.refund(t)
	created, err := r.CreatePolicy(t.Context(), f.policy("refund_limit"))
	must(t, err)
	p := created.GetPolicy()
	if p.GetStatus() != eventv1.Status_STATUS_CREATING || p.GetInForce() != nil || p.GetCandidate() == nil {
		t.Errorf("a new policy is %v", p)
	}
	p = r.settled(t, f.engine, p.GetPolicyId())
	if p.GetStatus() != eventv1.Status_STATUS_ACTIVE || p.GetInForce() == nil || p.GetCandidate() != nil || p.GetActiveRevision() == "" {
		t.Fatalf("after its examination it is %v", p)
	}
	inForce := p.GetInForce()

	// Demote: the definition stays.
	_, err = r.UpdatePolicy(t.Context(), &controlv1.UpdatePolicyRequest{PolicyEngineId: f.engine, PolicyId: p.GetPolicyId(), EnforcementMode: eventv1.EnforcementMode_ENFORCEMENT_MODE_LOG_ONLY})
	must(t, err)
	p = r.settled(t, f.engine, p.GetPolicyId())
	if p.GetInForce().GetEnforcementMode() != eventv1.EnforcementMode_ENFORCEMENT_MODE_LOG_ONLY || p.GetInForce().GetDefinition().String() != inForce.GetDefinition().String() {
		t.Errorf("after demotion: %v", p)
	}

	// An update that does not fit the tools fails, and what was in force stays.
	typo := strings.ReplaceAll(fmt.Sprintf(refundStatement, f.arn), "amount", "amonut")
	_, err = r.UpdatePolicy(t.Context(), &controlv1.UpdatePolicyRequest{PolicyEngineId: f.engine, PolicyId: p.GetPolicyId(), Definition: cedar(typo)})
	must(t, err)
	failed := r.settled(t, f.engine, p.GetPolicyId())
	if failed.GetStatus() != eventv1.Status_STATUS_UPDATE_FAILED || len(failed.GetStatusReasons()) == 0 || failed.GetInForce().String() != p.GetInForce().String() {
		t.Errorf("after a failed update: %v", failed)
	}

	// A create that does not fit fails, with a reason.
	bad := f.policy("typo")
	bad.Definition = cedar(strings.ReplaceAll(fmt.Sprintf(refundStatement, f.arn), "RefundTarget___", "RefundTarget__"))
	got, err := r.CreatePolicy(t.Context(), bad)
	must(t, err)
	misnamed := r.settled(t, f.engine, got.GetPolicy().GetPolicyId())
	if misnamed.GetStatus() != eventv1.Status_STATUS_CREATE_FAILED || !strings.Contains(strings.Join(misnamed.GetStatusReasons(), "\n"), "RefundTarget___process_refund") {
		t.Errorf("a policy for an unknown action: %v", misnamed)
	}
	r.cleanUp(t, f, p.GetPolicyId(), misnamed.GetPolicyId())
}

// An engine says how many of its policies every request of their gateways is decided by; what is not in force is not counted.
func TestUnindexedPolicies(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	f := r.refund(t)
	count := func() uint32 {
		got, err := r.GetPolicyEngine(t.Context(), &controlv1.GetPolicyEngineRequest{PolicyEngineId: f.engine})
		must(t, err)
		list, err := r.ListPolicyEngines(t.Context(), &controlv1.ListPolicyEnginesRequest{})
		must(t, err)
		if len(list.GetPolicyEngines()) != 1 || list.GetPolicyEngines()[0].GetUnindexedPolicies() != got.GetPolicyEngine().GetUnindexedPolicies() {
			t.Errorf("listed: %v, got: %v", list, got)
		}
		return got.GetPolicyEngine().GetUnindexedPolicies()
	}
	wantCount := func(when string, want uint32) {
		t.Helper()
		if got := count(); got != want {
			t.Errorf("%s: %d unindexed, want %d", when, got, want)
		}
	}
	wantCount("no policy", 0)
	made, err := r.CreatePolicy(t.Context(), f.policy("refund_limit"))
	must(t, err)
	r.settled(t, f.engine, made.GetPolicy().GetPolicyId())
	wantCount("one that names its tool", 0)
	wide := f.policy("wide")
	wide.Definition = cedar(fmt.Sprintf(`forbid(principal, action, resource == AgentCore::Gateway::"%s") unless { principal is AgentCore::OAuthUser };`, f.arn))
	made, err = r.CreatePolicy(t.Context(), wide)
	must(t, err)
	p := r.settled(t, f.engine, made.GetPolicy().GetPolicyId())
	if p.GetInForce() == nil {
		t.Fatalf("the wide policy is %v", p)
	}
	wantCount("one that names nothing", 1)
	_, err = r.UpdatePolicy(t.Context(), &controlv1.UpdatePolicyRequest{PolicyEngineId: f.engine, PolicyId: p.GetPolicyId(), Definition: f.policy("").GetDefinition()})
	must(t, err)
	r.settled(t, f.engine, p.GetPolicyId())
	wantCount("mended", 0)
}

// cleanUp deletes everything in the order in which that is possible, and tries the other orders.
func (r *replica) cleanUp(t *testing.T, f refund, policies ...string) {
	t.Helper()
	_, err := r.DeletePolicyEngine(t.Context(), &controlv1.DeletePolicyEngineRequest{PolicyEngineId: f.engine})
	wantProblem(t, "an engine with policies", err, connect.CodeFailedPrecondition, "engine_not_empty")
	for _, id := range policies {
		gone, err := r.DeletePolicy(t.Context(), &controlv1.DeletePolicyRequest{PolicyEngineId: f.engine, PolicyId: id})
		must(t, err)
		if gone.GetPolicy().GetStatus() != eventv1.Status_STATUS_DELETING {
			t.Errorf("a deleted policy is %v", gone)
		}
		_, err = r.GetPolicy(t.Context(), &controlv1.GetPolicyRequest{PolicyEngineId: f.engine, PolicyId: id})
		wantProblem(t, "a deleted policy", err, connect.CodeNotFound, "policy_not_found")
	}
	_, err = r.DeletePolicyEngine(t.Context(), &controlv1.DeletePolicyEngineRequest{PolicyEngineId: f.engine})
	wantProblem(t, "an attached engine", err, connect.CodeFailedPrecondition, "engine_attached")
	_, err = r.DeleteGateway(t.Context(), &controlv1.DeleteGatewayRequest{GatewayId: f.gateway})
	wantProblem(t, "a gateway with targets", err, connect.CodeFailedPrecondition, "gateway_not_empty")
	_, err = r.DetachPolicyEngine(t.Context(), &controlv1.DetachPolicyEngineRequest{GatewayId: f.gateway})
	must(t, err)
	_, err = r.DeletePolicyEngine(t.Context(), &controlv1.DeletePolicyEngineRequest{PolicyEngineId: f.engine})
	must(t, err)
	targets, err := r.ListGatewayTargets(t.Context(), &controlv1.ListGatewayTargetsRequest{GatewayId: f.gateway})
	must(t, err)
	for _, target := range targets.GetTargets() {
		_, err := r.DeleteGatewayTarget(t.Context(), &controlv1.DeleteGatewayTargetRequest{GatewayId: f.gateway, TargetId: target.GetTargetId()})
		must(t, err)
	}
	_, err = r.DeleteGateway(t.Context(), &controlv1.DeleteGatewayRequest{GatewayId: f.gateway})
	must(t, err)
	left, err := r.ListGateways(t.Context(), &controlv1.ListGatewaysRequest{})
	must(t, err)
	if len(left.GetGateways()) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// wantProblem wants an error of a handler: its code, its Problem, and a text.
func wantProblem(t *testing.T, what string, err error, code connect.Code, reason string) *controlv1.Problem {
	t.Helper()
	refused, ok := errors.AsType[*connect.Error](err)
	if !ok || refused.Code() != code || refused.Message() == "" {
		t.Errorf("%s: %v, want %v", what, err, code)
		return &controlv1.Problem{}
	}
	for _, d := range refused.Details() {
		if v, err := d.Value(); err == nil {
			p := v.(*controlv1.Problem)
			if p.GetCode() != reason {
				t.Errorf("%s: problem %v, want code %s", what, p, reason)
			}
			return p
		}
	}
	t.Errorf("%s: no Problem in %v", what, err)
	return &controlv1.Problem{}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	f := r.refund(t)
	before := r.revision(t)
	ctx := t.Context()
	policyWith := func(statement string) func() error {
		return func() error {
			req := f.policy("p")
			req.Definition = cedar(statement)
			_, err := r.CreatePolicy(ctx, req)
			return err
		}
	}
	good := fmt.Sprintf(refundStatement, f.arn)
	tests := map[string]struct {
		do     func() error
		code   connect.Code
		reason string
		says   string
		line   uint32
	}{
		"unknown engine": {func() error {
			_, err := r.GetPolicyEngine(ctx, &controlv1.GetPolicyEngineRequest{PolicyEngineId: "Nope-0123456789"})
			return err
		}, connect.CodeNotFound, "engine_not_found", "Nope-0123456789", 0},
		"policy in an unknown engine": {func() error {
			req := f.policy("p")
			req.PolicyEngineId = "Nope-0123456789"
			_, err := r.CreatePolicy(ctx, req)
			return err
		}, connect.CodeNotFound, "engine_not_found", "Nope-0123456789", 0},
		"unknown gateway": {func() error {
			_, err := r.GetGateway(ctx, &controlv1.GetGatewayRequest{GatewayId: "nope-0123456789"})
			return err
		}, connect.CodeNotFound, "gateway_not_found", "nope-0123456789", 0},
		"unknown target": {func() error {
			_, err := r.GetGatewayTarget(ctx, &controlv1.GetGatewayTargetRequest{GatewayId: f.gateway, TargetId: "0123456789"})
			return err
		}, connect.CodeNotFound, "target_not_found", "0123456789", 0},
		"attaching an unknown engine": {func() error {
			_, err := r.AttachPolicyEngine(ctx, &controlv1.AttachPolicyEngineRequest{GatewayId: f.gateway, PolicyEngineId: "Nope-0123456789", Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE})
			return err
		}, connect.CodeNotFound, "engine_not_found", "Nope", 0},
		"name against its pattern": {func() error {
			_, err := r.CreatePolicyEngine(ctx, &controlv1.CreatePolicyEngineRequest{Name: "refund-engine"})
			return err
		}, connect.CodeInvalidArgument, "pattern", "[A-Za-z][A-Za-z0-9_]*", 0},
		"duplicate name": {func() error {
			_, err := r.CreatePolicyEngine(ctx, &controlv1.CreatePolicyEngineRequest{Name: "RefundEngine"})
			return err
		}, connect.CodeAlreadyExists, "name_taken", f.engine, 0},
		"does not parse":        {policyWith("permit(principal, action,\n resource ===);                "), connect.CodeInvalidArgument, "statement_syntax", "line 2", 2},
		"two statements":        {policyWith(good + "\n" + good), connect.CodeInvalidArgument, "statement_count", "", 2},
		"over 10,000":           {policyWith(good + strings.Repeat(" ", 10_000)), connect.CodeInvalidArgument, "statement_length", "10000", 0},
		"event over 512 KiB":    {func() error { return r.largeTarget(ctx, f, 600<<10) }, connect.CodeInvalidArgument, "too_large", "524288", 0},
		"a reserved target":     {func() error { return r.target(ctx, f, "CallTool") }, connect.CodeInvalidArgument, "reserved", "CallTool", 0},
		"a foreign ARN":         {func() error { return r.tag(ctx, strings.ReplaceAll(f.arn, "000000000000", "111111111111")) }, connect.CodeNotFound, "resource_not_found", "", 0},
		"not an ARN":            {func() error { return r.tag(ctx, "gateway") }, connect.CodeInvalidArgument, "pattern", "arn:aws:bedrock-agentcore", 0},
		"a short client token":  {func() error { return r.token(ctx, "short") }, connect.CodeInvalidArgument, "client_token", "33 to 256", 0},
		"a page token, made up": {func() error { return r.page(ctx, "bm9wZQ") }, connect.CodeInvalidArgument, "page_token", "", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.do()
			p := wantProblem(t, name, err, test.code, test.reason)
			if err == nil || !strings.Contains(err.Error(), test.says) || p.GetLine() != test.line || (test.line > 0) != (p.GetColumn() > 0) {
				t.Errorf("got %v with %v, want a text with %q and line %d", err, p, test.says, test.line)
			}
		})
	}
	if after := r.revision(t); after != before {
		t.Errorf("bad input moved the log from %s to %s", before, after)
	}
}

func (r *replica) revision(t *testing.T) string {
	t.Helper()
	got, err := r.GetAccountSettings(t.Context(), &controlv1.GetAccountSettingsRequest{})
	must(t, err)
	return got.GetRevision()
}

func (r *replica) largeTarget(ctx context.Context, f refund, size int) error {
	d := refundTarget()
	tool := d.GetTargetConfiguration().GetMcp().GetLambda().GetToolSchema().GetInlinePayload()[0]
	tool.Description = strings.Repeat("x", size)
	_, err := r.CreateGatewayTarget(ctx, &controlv1.CreateGatewayTargetRequest{GatewayId: f.gateway, Name: "Large", Definition: d})
	return err
}

func (r *replica) target(ctx context.Context, f refund, name string) error {
	_, err := r.CreateGatewayTarget(ctx, &controlv1.CreateGatewayTargetRequest{GatewayId: f.gateway, Name: name, Definition: refundTarget()})
	return err
}

func (r *replica) tag(ctx context.Context, arn string) error {
	_, err := r.TagResource(ctx, &controlv1.TagResourceRequest{ResourceArn: arn, Tags: map[string]string{"a": "b"}})
	return err
}

func (r *replica) token(ctx context.Context, token string) error {
	_, err := r.CreatePolicyEngine(ctx, &controlv1.CreatePolicyEngineRequest{Name: "E", ClientToken: token})
	return err
}

func (r *replica) page(ctx context.Context, token string) error {
	_, err := r.ListPolicyEngines(ctx, &controlv1.ListPolicyEnginesRequest{PageToken: token})
	return err
}

// What Connect itself refuses, before any handler.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	tests := map[string]struct {
		body, code, says string
	}{
		"unknown field":      {`{"name":"E","colour":"red"}`, "invalid_argument", "colour"},
		"unknown in a child": {`{"name":"E","definition":{"colour":"red"}}`, "invalid_argument", "colour"},
		"not JSON":           {`{"name":`, "invalid_argument", ""},
		"a list":             {`[]`, "invalid_argument", ""},
		"trailing":           {`{"name":"E"} {}`, "invalid_argument", ""},
		"deep":               {`{"definition":` + strings.Repeat(`{"a":`, 10_000), "invalid_argument", ""},
		"over the limit":     {`{"name":"` + strings.Repeat("x", 1<<20) + `"}`, "resource_exhausted", "1048576"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, err := http.Post(r.url+"/verdict.control.v1.ControlService/CreatePolicyEngine", "application/json", strings.NewReader(test.body))
			must(t, err)
			defer resp.Body.Close()
			data, err := io.ReadAll(resp.Body)
			must(t, err)
			var answer struct{ Code, Message string }
			if err := json.Unmarshal(data, &answer); err != nil || answer.Code != test.code || !strings.Contains(answer.Message, test.says) {
				t.Errorf("status %d: %s, want %s that says %q", resp.StatusCode, data, test.code, test.says)
			}
		})
	}
	if got := r.revision(t); got != "1" {
		t.Errorf("the log is at %s", got)
	}
}

// The same create a second time, on another replica and when the thing has long gone on, gets the first answer.
func TestClientToken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one, two := b.start(t), b.start(t)
	f := one.refund(t)
	req := f.policy("refund_limit")
	req.ClientToken = strings.Repeat("t", 36)
	first, err := one.CreatePolicy(t.Context(), req)
	must(t, err)
	one.settled(t, f.engine, first.GetPolicy().GetPolicyId())
	again, err := two.CreatePolicy(t.Context(), req)
	must(t, err)
	if again.String() != first.String() {
		t.Errorf("the second answer\n%v\nis not the first\n%v", again, first)
	}
	req.Description = "another"
	_, err = two.CreatePolicy(t.Context(), req)
	wantProblem(t, "the token with another request", err, connect.CodeInvalidArgument, "idempotent_parameter_mismatch")
}

// A write on one replica is read on another at once.
func TestReadsCatchUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one, two := b.start(t), b.start(t)
	for i := range 50 {
		made, err := one.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: fmt.Sprintf("E%d", i)})
		must(t, err)
		got, err := two.GetPolicyEngine(t.Context(), &controlv1.GetPolicyEngineRequest{PolicyEngineId: made.GetPolicyEngine().GetPolicyEngineId()})
		if err != nil {
			t.Fatalf("created at %s and not found at %v", made.GetRevision(), err)
		}
		if got.GetRevision() < made.GetRevision() && len(got.GetRevision()) <= len(made.GetRevision()) {
			t.Fatalf("read at %s after a write at %s", got.GetRevision(), made.GetRevision())
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	for i := range 23 {
		_, err := r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: fmt.Sprintf("E%d", i)})
		must(t, err)
	}
	var sizes []int
	seen := map[string]bool{}
	for token := ""; ; {
		page, err := r.ListPolicyEngines(t.Context(), &controlv1.ListPolicyEnginesRequest{PageSize: 10, PageToken: token})
		must(t, err)
		sizes = append(sizes, len(page.GetPolicyEngines()))
		for _, e := range page.GetPolicyEngines() {
			seen[e.GetName()] = true
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
		_, err = r.ListGateways(t.Context(), &controlv1.ListGatewaysRequest{PageToken: token})
		wantProblem(t, "a token of another list", err, connect.CodeInvalidArgument, "page_token")
	}
	if fmt.Sprint(sizes) != "[10 10 3]" || len(seen) != 23 {
		t.Errorf("pages of %v with %d engines", sizes, len(seen))
	}
}

func TestSettingsAndTags(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	f := r.refund(t)
	ctx := t.Context()
	settings := &eventv1.Settings{
		StalenessBoundMs: new(uint64(5000)), OnStale: eventv1.OnStale_ON_STALE_DENY, StrictForbids: new(false),
		RedactedPaths: &eventv1.RedactedPaths{Paths: []string{"/context/input/ssn"}},
	}
	engine, err := r.UpdatePolicyEngineSettings(ctx, &controlv1.UpdatePolicyEngineSettingsRequest{PolicyEngineId: f.engine, Settings: settings})
	must(t, err)
	if engine.GetPolicyEngine().GetSettings().String() != settings.String() {
		t.Errorf("engine settings %v, want %v", engine.GetPolicyEngine().GetSettings(), settings)
	}
	_, err = r.UpdateAccountSettings(ctx, &controlv1.UpdateAccountSettingsRequest{Settings: settings})
	must(t, err)
	got, err := r.GetAccountSettings(ctx, &controlv1.GetAccountSettingsRequest{})
	must(t, err)
	if got.GetSettings().String() != settings.String() {
		t.Errorf("account settings %v, want %v", got.GetSettings(), settings)
	}
	settings.StalenessBoundMs = new(uint64(1))
	_, err = r.UpdateAccountSettings(ctx, &controlv1.UpdateAccountSettingsRequest{Settings: settings})
	wantProblem(t, "a bound of 1 ms", err, connect.CodeInvalidArgument, "range")

	_, err = r.TagResource(ctx, &controlv1.TagResourceRequest{ResourceArn: f.arn, Tags: map[string]string{"team": "a", "stage": "b"}})
	must(t, err)
	left, err := r.UntagResource(ctx, &controlv1.UntagResourceRequest{ResourceArn: f.arn, TagKeys: []string{"team", "unknown"}})
	must(t, err)
	if fmt.Sprint(left.GetTags()) != "map[stage:b]" {
		t.Errorf("left over: %v", left.GetTags())
	}
}

// /readyz: each required condition turns it off, and a stopped relay does not.
func TestReadiness(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault     func(t *testing.T, b *bench)
		condition string
		ready     bool
	}{
		"the database is away": {func(t *testing.T, b *bench) {
			b.exec(t, "ALTER DATABASE "+b.name(t)+" ALLOW_CONNECTIONS false", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+b.name(t)+"'")
			t.Cleanup(func() { b.exec(t, "ALTER DATABASE "+b.name(t)+" ALLOW_CONNECTIONS true") })
		}, "database", false},
		"a migration is missing": {func(t *testing.T, b *bench) {
			b.owner(t, "DELETE FROM verdict.goose_db_version WHERE version_id > 0")
		}, "migrations", false},
		"the log went back": {func(t *testing.T, b *bench) {
			b.owner(t, "SET session_replication_role = replica", "DELETE FROM verdict.events WHERE position > 2")
		}, "state_at_head", false},
		"NATS is away": {func(_ *testing.T, b *bench) { b.nats.Stop() }, "relay", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			r := b.start(t)
			_, err := r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "E"})
			must(t, err)
			testenv.Eventually(t, "ready before", func() error { return r.ready(true, "relay", true) })
			test.fault(t, b)
			testenv.Eventually(t, "afterwards", func() error { return r.ready(test.ready, test.condition, false) })
		})
	}
}

// ready is nil when /readyz answers so, and the condition is so.
func (r *replica) ready(want bool, condition string, ok bool) error {
	resp, err := http.Get(r.url + "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if (resp.StatusCode == http.StatusOK) != want {
		return fmt.Errorf("status %d: %s", resp.StatusCode, data)
	}
	for line := range bytes.Lines(data) {
		var c process.Status
		if err := json.Unmarshal(line, &c); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if c.Condition == condition && c.OK == ok && (ok || c.Detail != "") {
			return nil
		}
	}
	return fmt.Errorf("no line with %s %v in %s", condition, ok, data)
}

func (b *bench) name(t *testing.T) string {
	t.Helper()
	c, err := pgx.ParseConfig(b.URL)
	must(t, err)
	return c.Database
}

// exec runs statements on the server, not in the bench's database.
func (b *bench) exec(t *testing.T, statements ...string) {
	t.Helper()
	run(t, os.Getenv(testenv.PostgresVariable), statements)
}

// owner runs statements in the bench's database as its owner.
func (b *bench) owner(t *testing.T, statements ...string) {
	t.Helper()
	run(t, b.OwnerURL, statements)
}

func run(t *testing.T, url string, statements []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	must(t, err)
	defer conn.Close(ctx)
	for _, s := range statements {
		_, err := conn.Exec(ctx, s)
		must(t, err)
	}
}

// EventService: the whole log, the signed head, the signed state, and that they agree.
func TestEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.start(t)
	f := r.refund(t)
	created, err := r.CreatePolicy(t.Context(), f.policy("refund_limit"))
	must(t, err)
	r.settled(t, f.engine, created.GetPolicy().GetPolicyId())

	folded := policy.Empty()
	for _, ev := range r.read(t, &eventv1.ReadEventsRequest{}) {
		recorded, err := stream.Open(ev, b.keys)
		must(t, err)
		folded, err = folded.Apply(recorded)
		must(t, err)
	}
	must(t, folded.Verify())
	nonce := []byte("nonce")
	signed, err := r.events.Head(t.Context(), &eventv1.HeadRequest{Nonce: nonce})
	must(t, err)
	head, err := stream.OpenHead(signed.GetHead(), nonce, b.keys)
	must(t, err)
	if head.Position != folded.Position || head.Hash != folded.Hash || head.LogID != folded.LogID {
		t.Errorf("the head is %+v, the events end at %d", head, folded.Position)
	}
	state := r.state(t, b.keys)
	one, err := stream.EncodeState(state)
	must(t, err)
	other, err := stream.EncodeState(folded)
	must(t, err)
	if !bytes.Equal(one, other) {
		t.Error("the signed state is not what the events amount to")
	}
	if got := r.read(t, &eventv1.ReadEventsRequest{AfterPosition: 1, Limit: 1}); len(got) != 2 {
		t.Errorf("a limit of 1 gave %d events, want the whole command of 2", len(got))
	}
	wantProblem(t, "beyond the head", r.readError(t, &eventv1.ReadEventsRequest{AfterPosition: 1000}), connect.CodeOutOfRange, "beyond_the_head")
	wantProblem(t, "another log", r.readError(t, &eventv1.ReadEventsRequest{LogId: "x"}), connect.CodeFailedPrecondition, "another_log")
}

func (r *replica) read(t *testing.T, req *eventv1.ReadEventsRequest) []*eventv1.PolicyEvent {
	t.Helper()
	pages, err := r.events.ReadEvents(t.Context(), req)
	must(t, err)
	defer pages.Close()
	var events []*eventv1.PolicyEvent
	for pages.Receive() {
		events = append(events, pages.Msg().GetEvents()...)
	}
	must(t, pages.Err())
	return events
}

func (r *replica) readError(t *testing.T, req *eventv1.ReadEventsRequest) error {
	t.Helper()
	pages, err := r.events.ReadEvents(t.Context(), req)
	must(t, err)
	defer pages.Close()
	for pages.Receive() {
	}
	return pages.Err()
}

func (r *replica) state(t *testing.T, keys stream.Keyring) *policy.State {
	t.Helper()
	parts, err := r.events.ReadState(t.Context(), &eventv1.ReadStateRequest{})
	must(t, err)
	defer parts.Close()
	var manifest *eventv1.SignedStateManifest
	var data []byte
	for parts.Receive() {
		if m := parts.Msg().GetManifest(); m != nil {
			manifest = m
		}
		data = append(data, parts.Msg().GetChunk()...)
	}
	must(t, parts.Err())
	s, err := stream.OpenState(data, manifest, keys)
	must(t, err)
	return s
}

// A policy that a crash left CREATING is finished by whoever starts next.
func TestWorkerAfterCrash(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.start(t)
	f := r.refund(t)
	must(t, r.stop())
	// The crash: the create is committed, and nobody has examined it.
	s, err := New(t.Context(), b.cfg)
	must(t, err)
	statement, err := policy.ParseStatement(fmt.Sprintf(refundStatement, f.arn))
	must(t, err)
	appendOne(t, s, policy.CreatePolicy{EngineID: f.engine, ID: "left-0123456789", Name: "left", Language: policy.LanguageCedar, Statement: statement})
	s.close()
	if p := b.start(t).settled(t, f.engine, "left-0123456789"); p.GetStatus() != eventv1.Status_STATUS_ACTIVE {
		t.Errorf("it is %v", p)
	}
}

// A second replica on the same stream, key files that do not fit, an address off loopback: refused with what to do.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other, _ := testenv.NewKeyFiles(t)
	tests := map[string]struct {
		change func(*Config)
		says   string
	}{
		"no such key":           {func(c *Config) { c.SigningKey = filepath.Join(t.TempDir(), "none") }, "signing key"},
		"a key nobody trusts":   {func(c *Config) { c.TrustedKeys = other.Trusted }, "not among them"},
		"as the owner":          {func(c *Config) { c.PostgresURL = b.OwnerURL }, "can rewrite the log"},
		"an empty database":     {func(c *Config) { c.PostgresURL = os.Getenv(testenv.PostgresVariable) }, "verdict migrate"},
		"off loopback":          {func(c *Config) { c.Addr = "0.0.0.0:0" }, "loopback"},
		"an account of letters": {func(c *Config) { c.LoopbackAccount = "abc" }, "12 digits"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := b.cfg
			test.change(&cfg)
			s, err := New(t.Context(), cfg)
			if err == nil {
				err = s.Listen()
				s.close()
			}
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("started with %v, want a text with %q", err, test.says)
			}
		})
	}
}
