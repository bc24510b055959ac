//go:build faults

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	agentcore "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// agentCore is AWS's client of AgentCore, as its users make it, for a service that takes requests from this machine as they are.
func agentCore(url string, options ...func(*agentcore.Options)) *agentcore.Client {
	return agentcore.New(agentcore.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: aws.AnonymousCredentials{}}, options...)
}

// once has a client ask once, on a connection of its own: what is to be repeated the test repeats.
func once(o *agentcore.Options) {
	o.RetryMaxAttempts = 1
	o.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// newPatientFleet is a fleet without a ClickHouse, in which control gives a transaction the time that a test holds it.
func newPatientFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{site: newSite(t)}
	f.environ = append(f.environ, "VERDICT_CONTROL_APPEND_TIMEOUT=1m")
	return f
}

// takesWrites starts control and waits until it takes writes: on a busy machine NATS may be slow to answer for the first time.
func (f *fleet) takesWrites(t *testing.T, addr string) *service {
	t.Helper()
	s := f.start(t, "control", addr)
	testenv.Eventually(t, "control that takes writes", func() error {
		_, text := s.get(t, "/readyz")
		return testenv.Contains(text, `"condition":"writes","ok":true`)
	})
	return s
}

// loadTools makes an engine that is attached to a gateway with a tool.
func (f *fleet) loadTools(t *testing.T, c *agentcore.Client) {
	t.Helper()
	ctx := t.Context()
	engine, err := c.CreatePolicyEngine(ctx, &agentcore.CreatePolicyEngineInput{Name: new("RefundEngine")})
	must(t, err)
	gateway, err := c.CreateGateway(ctx, &agentcore.CreateGatewayInput{
		Name: new("refund-gw"), RoleArn: new("arn:aws:iam::000000000000:role/refund"), AuthorizerType: types.AuthorizerTypeNone,
		PolicyEngineConfiguration: &types.GatewayPolicyEngineConfiguration{Arn: engine.PolicyEngineArn, Mode: types.GatewayPolicyEngineModeEnforce},
	})
	must(t, err)
	tool := types.ToolDefinition{Name: new("process_refund"), Description: new("Refunds"), InputSchema: &types.SchemaDefinition{
		Type: types.SchemaTypeObject, Properties: map[string]types.SchemaDefinition{"amount": {Type: types.SchemaTypeInteger}}, Required: []string{"amount"},
	}}
	_, err = c.CreateGatewayTarget(ctx, &agentcore.CreateGatewayTargetInput{
		GatewayIdentifier: gateway.GatewayId, Name: new("RefundTarget"),
		TargetConfiguration: &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberLambda{Value: types.McpLambdaTargetConfiguration{
			LambdaArn:  new("arn:aws:lambda:us-east-1:000000000000:function:refund"),
			ToolSchema: &types.ToolSchemaMemberInlinePayload{Value: []types.ToolDefinition{tool}},
		}}},
		CredentialProviderConfigurations: []types.CredentialProviderConfiguration{{CredentialProviderType: types.CredentialProviderTypeGatewayIamRole}},
	})
	must(t, err)
	f.engine, f.gateway = *engine.PolicyEngineId, *gateway.GatewayArn
}

// refunds is the definition of a policy that permits a tool of loadTools' target.
func (f *fleet) refunds(tool string) types.PolicyDefinition {
	return &types.PolicyDefinitionMemberCedar{Value: types.CedarPolicy{Statement: new(fmt.Sprintf(
		`permit(principal, action == AgentCore::Action::"RefundTarget___%s", resource == AgentCore::Gateway::%q) when { context.input.amount < 1000 };`, tool, f.gateway,
	))}}
}

// waitActive is the SDK's waiter: an error when the policy is not going to be ACTIVE.
func waitActive(ctx context.Context, c *agentcore.Client, engine, id string) error {
	soon := func(o *agentcore.PolicyActiveWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 500*time.Millisecond
	}
	return agentcore.NewPolicyActiveWaiter(c, soon).Wait(ctx, &agentcore.GetPolicyInput{PolicyEngineId: &engine, PolicyId: &id}, time.Minute)
}

// create is one CreatePolicy, during which control is killed.
type create struct {
	*fleet

	control  *service
	owner    *pgx.Conn // of the database
	in       *agentcore.CreatePolicyInput
	answered *agentcore.CreatePolicyOutput // nil when the caller has had no answer
}

func newCreate(t *testing.T, tool string) *create {
	t.Helper()
	c := &create{fleet: newPatientFleet(t)}
	c.control = c.takesWrites(t, anyAddr)
	c.loadTools(t, agentCore(c.control.url))
	c.wantPublished(t)
	var err error
	c.owner, err = pgx.Connect(t.Context(), c.OwnerURL)
	must(t, err)
	t.Cleanup(func() { _ = c.owner.Close(context.Background()) })
	c.in = &agentcore.CreatePolicyInput{
		PolicyEngineId: &c.engine, Name: new("refund_limit"), Definition: c.refunds(tool), ClientToken: new("7c0c2e0a-6a2d-4e0e-9f57-1d0a4ff0a1b2"),
	}
	return c
}

// The events of a policy by their number, and where control is held when it records one.
const (
	creation, verdict = 1, 2
	insert, commit    = "NOT DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"
)

// hold has whoever records this event of a policy wait, in its insert or in its commit, until release.
func (c *create) hold(t *testing.T, event int, at string) {
	t.Helper()
	for _, statement := range []string{
		`CREATE FUNCTION verdict.hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END'`,
		fmt.Sprintf(`CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON verdict.events %s FOR EACH ROW
			WHEN (starts_with(NEW.stream, 'policy/') AND NEW.stream_version = %d) EXECUTE FUNCTION verdict.hold()`, at, event),
		`SELECT pg_advisory_lock(1)`,
	} {
		_, err := c.owner.Exec(t.Context(), statement)
		must(t, err)
	}
}

// held waits until somebody waits.
func (c *create) held(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, "control, where it is held", func() error {
		var waits bool
		err := c.owner.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 0 AND objid = 1
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waits)
		if err == nil && !waits {
			err = fmt.Errorf("it has not come there")
		}
		return err
	})
}

// release lets go what was held, whose caller is gone, and waits for its end.
func (c *create) release(t *testing.T) {
	t.Helper()
	_, err := c.owner.Exec(t.Context(), "SELECT pg_advisory_unlock_all()")
	must(t, err)
	testenv.Eventually(t, "the end of the killed control's transactions", func() error {
		var n int
		err := c.owner.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'verdict-control'`).Scan(&n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d connections", n)
		}
		return err
	})
}

// send makes the request; the kill takes its answer away.
func (c *create) send(t *testing.T, url string) (end func()) {
	t.Helper()
	var err error
	var sending sync.WaitGroup
	sending.Go(func() { _, err = agentCore(url, once).CreatePolicy(t.Context(), c.in) })
	return func() {
		t.Helper()
		sending.Wait()
		if err == nil {
			t.Error("the caller was answered")
		}
	}
}

// answer makes the request, and has its answer.
func (c *create) answer(t *testing.T) {
	t.Helper()
	var err error
	c.answered, err = agentCore(c.control.url, once).CreatePolicy(t.Context(), c.in)
	must(t, err)
}

// recording kills control while the database records the creation.
func recording(at string) func(*testing.T, *create) {
	return func(t *testing.T, c *create) {
		c.hold(t, creation, at)
		end := c.send(t, c.control.url)
		c.held(t)
		c.control.kill()
		end()
		c.release(t)
	}
}

// answering kills control when the answer is on its way.
func answering(t *testing.T, c *create) {
	c.hold(t, verdict, insert)
	sent, gone := make(chan string, 1), make(chan struct{})
	proxy := testenv.NewProxy(t, strings.TrimPrefix(c.control.url, "http://"), func(io.Writer) io.Writer { return lostAnswer{sent, gone} })
	drop := sync.OnceFunc(func() { close(gone) })
	t.Cleanup(drop)
	end := c.send(t, "http://"+proxy.Addr())
	if answer := <-sent; !strings.HasPrefix(answer, "HTTP/1.1 202 ") {
		t.Errorf("the answer is %s", answer)
	}
	c.control.kill()
	drop()
	end()
	c.release(t)
}

// lostAnswer keeps an answer from its reader, and then drops it.
type lostAnswer struct {
	sent chan<- string
	gone <-chan struct{}
}

func (a lostAnswer) Write(data []byte) (int, error) {
	a.sent <- string(data)
	<-a.gone
	return 0, io.ErrClosedPipe
}

// finishing kills control while the database records the worker's verdict.
func finishing(at string) func(*testing.T, *create) {
	return func(t *testing.T, c *create) {
		c.hold(t, verdict, at)
		c.answer(t)
		c.held(t)
		c.control.kill()
		c.release(t)
	}
}

// publishing kills control when all is recorded, and nothing of it could be published.
func publishing(t *testing.T, c *create) {
	published, _ := c.fsck(t)
	c.nats.Stop()
	c.answer(t)
	must(t, waitActive(t.Context(), agentCore(c.control.url), c.engine, *c.answered.PolicyId))
	c.control.kill()
	c.nats.Start(t)
	if stream, log := c.fsck(t); stream != published || log != published+2 {
		t.Errorf("%d events are published, and %d recorded; want %d and two more", stream, log, published)
	}
}

var goodLog = regexp.MustCompile(`(?s)^log \S+: (\d+) events.*stream: (?:1 to (\d+) are the log's|there is none, or it is empty)`)

// fsck wants the log and the stream to be good, and is how far they go.
func (f *fleet) fsck(t *testing.T) (stream, log int) {
	t.Helper()
	out, code := f.verdict(t, "fsck")
	found := goodLog.FindStringSubmatch(out)
	if code != 0 || found == nil {
		t.Fatalf("fsck exits %d: %s", code, out)
	}
	log, _ = strconv.Atoi(found[1])
	stream, _ = strconv.Atoi(found[2])
	return stream, log
}

// wantPublished waits until fsck finds all of the log on the stream.
func (f *fleet) wantPublished(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, "the publication", func() error {
		if stream, log := f.fsck(t); stream != log {
			return fmt.Errorf("%d of %d events", stream, log)
		}
		return nil
	})
}

// events are the types of what the log holds of policies, and the ids of these.
func (c *create) events(t *testing.T) (kinds, ids []string) {
	t.Helper()
	rows, err := c.owner.Query(t.Context(), "SELECT stream, body FROM verdict.events WHERE starts_with(stream, 'policy/') ORDER BY position")
	must(t, err)
	var id string
	var data []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &data}, func() error {
		var body eventv1.EventBody
		err := proto.Unmarshal(data, &body)
		kinds, ids = append(kinds, strings.TrimPrefix(body.GetType(), "policy.")), append(ids, strings.TrimPrefix(id, "policy/"))
		return err
	})
	must(t, err)
	return kinds, slices.Compact(ids)
}

// TestKilledDuringCreate kills control at each step of a CreatePolicy. Whatever was recorded then, the same request again is
// answered with the one policy that it makes, and this policy is examined and published.
func TestKilledDuringCreate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		kill   func(*testing.T, *create)
		tool   string
		stored []string // after the kill
		ends   types.PolicyStatus
	}{
		{"insert of the creation", recording(insert), "process_refund", nil, types.PolicyStatusActive},
		{"commit of the creation", recording(commit), "process_refund", []string{"created"}, types.PolicyStatusActive},
		{"answer", answering, "process_refund", []string{"created"}, types.PolicyStatusActive},
		{"insert of the verdict", finishing(insert), "process_refund", []string{"created"}, types.PolicyStatusActive},
		{"insert of a bad verdict", finishing(insert), "no_such_tool", []string{"created"}, types.PolicyStatusCreateFailed},
		{"commit of the verdict", finishing(commit), "process_refund", []string{"created", "activated"}, types.PolicyStatusActive},
		{"commit of a bad verdict", finishing(commit), "no_such_tool", []string{"created", "failed"}, types.PolicyStatusCreateFailed},
		{"publication", publishing, "process_refund", []string{"created", "activated"}, types.PolicyStatusActive},
	}
	table := make([]string, len(tests))
	t.Cleanup(func() {
		t.Logf("| killed at | answered | in the log | published | the same request again | then | in the log |\n|---|---|---|---|---|---|---|\n%s", strings.Join(table, "\n"))
	})
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCreate(t, test.tool)
			test.kill(t, c)
			stored, ids := c.events(t)
			if !slices.Equal(stored, test.stored) {
				t.Errorf("the log holds %q, want %q", stored, test.stored)
			}
			stream, log := c.fsck(t)
			c.control = c.takesWrites(t, c.control.url)
			again := c.again(t, ids)
			ended := c.wantEnd(t, *again.PolicyId, test.ends)
			final, _ := c.events(t)
			table[i] = fmt.Sprintf("| %s | %v | %s | %d of %d | %s %s | %s | %s |", test.name, c.answered != nil, list(stored), stream, log, again.Status, *again.PolicyId, ended, list(final))
		})
	}
}

func list(words []string) string {
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// again makes the request a second time, and wants the answer to be the first, about the policy that is in the log.
func (c *create) again(t *testing.T, stored []string) *agentcore.CreatePolicyOutput {
	t.Helper()
	again, err := agentCore(c.control.url, once).CreatePolicy(t.Context(), c.in)
	must(t, err)
	if len(stored) > 1 || len(stored) == 1 && stored[0] != *again.PolicyId || again.Status != types.PolicyStatusCreating {
		t.Errorf("the log had the policies %q, and the same request is answered with %s, %s", stored, *again.PolicyId, again.Status)
	}
	if first := c.answered; first != nil && (*first.PolicyId != *again.PolicyId || !first.CreatedAt.Equal(*again.CreatedAt) || !first.UpdatedAt.Equal(*again.UpdatedAt)) {
		t.Errorf("the first answer is %+v, the second %+v", first, again)
	}
	return again
}

// wantEnd wants the policy to be the only one, made once and examined once, as the SDK, the log and the stream have it. It is the
// status that the policy ended in.
func (c *create) wantEnd(t *testing.T, id string, status types.PolicyStatus) types.PolicyStatus {
	t.Helper()
	client := agentCore(c.control.url)
	wantWaiter := map[types.PolicyStatus]string{types.PolicyStatusActive: "<nil>", types.PolicyStatusCreateFailed: "waiter state transitioned to Failure"}[status]
	if err := waitActive(t.Context(), client, c.engine, id); fmt.Sprint(err) != wantWaiter {
		t.Errorf("the waiter ends with %v, want %s", err, wantWaiter)
	}
	got, err := client.GetPolicy(t.Context(), &agentcore.GetPolicyInput{PolicyEngineId: &c.engine, PolicyId: &id})
	must(t, err)
	if got.Status != status || (len(got.StatusReasons) == 0) != (status == types.PolicyStatusActive) {
		t.Errorf("the policy is %s %q, want %s", got.Status, got.StatusReasons, status)
	}
	all, err := client.ListPolicies(t.Context(), &agentcore.ListPoliciesInput{PolicyEngineId: &c.engine})
	must(t, err)
	if len(all.Policies) != 1 || *all.Policies[0].PolicyId != id || all.Policies[0].Status != status {
		t.Errorf("the list is %+v", all.Policies)
	}
	last := map[types.PolicyStatus]string{types.PolicyStatusActive: "activated", types.PolicyStatusCreateFailed: "failed"}[status]
	if kinds, ids := c.events(t); !slices.Equal(kinds, []string{"created", last}) || !slices.Equal(ids, []string{id}) {
		t.Errorf("the log holds %q of %q", kinds, ids)
	}
	c.wantPublished(t)
	return got.Status
}
