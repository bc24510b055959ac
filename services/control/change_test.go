package control

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/control/internal/connectapi"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
)

const (
	forbidStatement = `forbid(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::"%s") when { context.input.amount > 1000 };`
	firstToken      = "11111111-1111-1111-1111-111111111111"
	secondToken     = "22222222-2222-2222-2222-222222222222"
)

// The people of these tests.
var (
	author = person("arthur", "author")
	ann    = person("ann", "author", "enforcer")
	ben    = person("ben", "enforcer")
	cat    = person("cat", "admin")
)

func person(id string, roles ...string) identity.Caller {
	return identity.Caller{Account: identity.DefaultAccount, ID: id, Roles: roles, Method: "sigv4", SourceAddress: "10.0.0.7"}
}

// as is the service as somebody sees it: what the edge has found out about a request is replaced.
func (r *replica) as(t *testing.T, who identity.Caller, opts ...connect.ClientOption) *replica {
	t.Helper()
	callers, err := identity.NewLoopback("")
	must(t, err)
	edge := rpc.New(rpc.Config{Callers: callers, Access: r.service.proc.Access, Errors: failures})
	mux := http.NewServeMux()
	mux.Handle(controlv1connect.NewControlServiceHandler(connectapi.NewControl(r.service.app, r.service.fleet), edge.HandlerOptions()...))
	server := httptest.NewServer(edge.Handler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mux.ServeHTTP(w, req.WithContext(identity.NewContext(req.Context(), who)))
	})))
	t.Cleanup(server.Close)
	return &replica{ControlServiceClient: controlv1connect.NewControlServiceClient(server.Client(), server.URL, opts...), service: r.service}
}

// guarded is refund with a forbid.
type guarded struct {
	refund

	forbid string
}

func (r *replica) guarded(t *testing.T) guarded {
	t.Helper()
	f := r.refund(t)
	made, err := r.CreatePolicy(t.Context(), &controlv1.CreatePolicyRequest{
		PolicyEngineId: f.engine, Name: "never", Definition: cedar(fmt.Sprintf(forbidStatement, f.arn)),
	})
	must(t, err)
	p := r.settled(t, f.engine, made.GetPolicy().GetPolicyId())
	if p.GetStatus() != eventv1.Status_STATUS_ACTIVE {
		t.Fatalf("the forbid is %v", p)
	}
	return guarded{f, p.GetPolicyId()}
}

func (r *replica) secondPerson(t *testing.T) {
	t.Helper()
	set, err := r.UpdateAccountSettings(t.Context(), &controlv1.UpdateAccountSettingsRequest{Settings: &eventv1.Settings{}, SecondPerson: new(true)})
	must(t, err)
	again, err := r.UpdateAccountSettings(t.Context(), &controlv1.UpdateAccountSettingsRequest{Settings: &eventv1.Settings{}})
	must(t, err)
	got, err := r.GetAccountSettings(t.Context(), &controlv1.GetAccountSettingsRequest{})
	must(t, err)
	if !set.GetSecondPerson() || !again.GetSecondPerson() || !got.GetSecondPerson() {
		t.Fatalf("a second person: %v, left alone: %v, read: %v", set, again, got)
	}
}

// weakening is each request that can weaken enforcement, by itself and as it is proposed.
func (g guarded) weakening() []*controlv1.ProposeChangeRequest {
	lax := &eventv1.Settings{StrictForbids: new(false)}
	return []*controlv1.ProposeChangeRequest{
		{Request: &controlv1.ProposeChangeRequest_UpdatePolicy{UpdatePolicy: &controlv1.UpdatePolicyRequest{
			PolicyEngineId: g.engine, PolicyId: g.forbid, EnforcementMode: eventv1.EnforcementMode_ENFORCEMENT_MODE_LOG_ONLY,
		}}},
		{Request: &controlv1.ProposeChangeRequest_DeletePolicy{DeletePolicy: &controlv1.DeletePolicyRequest{PolicyEngineId: g.engine, PolicyId: g.forbid}}},
		{Request: &controlv1.ProposeChangeRequest_UpdateGateway{UpdateGateway: &controlv1.UpdateGatewayRequest{
			GatewayId: g.gateway, Definition: &eventv1.GatewayDefinition{AuthorizerType: eventv1.AuthorizerType_AUTHORIZER_TYPE_NONE},
		}}},
		{Request: &controlv1.ProposeChangeRequest_AttachPolicyEngine{AttachPolicyEngine: &controlv1.AttachPolicyEngineRequest{
			GatewayId: g.gateway, PolicyEngineId: g.engine, Mode: eventv1.EngineMode_ENGINE_MODE_LOG_ONLY,
		}}},
		{Request: &controlv1.ProposeChangeRequest_DetachPolicyEngine{DetachPolicyEngine: &controlv1.DetachPolicyEngineRequest{GatewayId: g.gateway}}},
		{Request: &controlv1.ProposeChangeRequest_UpdatePolicyEngineSettings{
			UpdatePolicyEngineSettings: &controlv1.UpdatePolicyEngineSettingsRequest{PolicyEngineId: g.engine, Settings: lax},
		}},
		{Request: &controlv1.ProposeChangeRequest_UpdateAccountSettings{UpdateAccountSettings: &controlv1.UpdateAccountSettingsRequest{Settings: lax}}},
	}
}

// directly sends what a proposal holds.
func (r *replica) directly(t *testing.T, req *controlv1.ProposeChangeRequest) error {
	t.Helper()
	var err error
	switch c := req.GetRequest().(type) {
	case *controlv1.ProposeChangeRequest_UpdatePolicy:
		_, err = r.UpdatePolicy(t.Context(), c.UpdatePolicy)
	case *controlv1.ProposeChangeRequest_DeletePolicy:
		_, err = r.DeletePolicy(t.Context(), c.DeletePolicy)
	case *controlv1.ProposeChangeRequest_UpdateGateway:
		_, err = r.UpdateGateway(t.Context(), c.UpdateGateway)
	case *controlv1.ProposeChangeRequest_AttachPolicyEngine:
		_, err = r.AttachPolicyEngine(t.Context(), c.AttachPolicyEngine)
	case *controlv1.ProposeChangeRequest_DetachPolicyEngine:
		_, err = r.DetachPolicyEngine(t.Context(), c.DetachPolicyEngine)
	case *controlv1.ProposeChangeRequest_UpdatePolicyEngineSettings:
		_, err = r.UpdatePolicyEngineSettings(t.Context(), c.UpdatePolicyEngineSettings)
	case *controlv1.ProposeChangeRequest_UpdateAccountSettings:
		_, err = r.UpdateAccountSettings(t.Context(), c.UpdateAccountSettings)
	default:
		t.Fatalf("%T is not sent", c)
	}
	return err
}

// An author does all but weaken enforcement. Whatever is refused leaves nothing behind. With a second person it is refused to
// enforcers too, and can be proposed.
func TestWeakening(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	g := r.as(t, author).guarded(t)
	r.as(t, author).secondPerson(t)
	_, err := r.as(t, author).UpdatePolicyEngineSettings(t.Context(), &controlv1.UpdatePolicyEngineSettingsRequest{PolicyEngineId: g.engine, Settings: &eventv1.Settings{OnStale: eventv1.OnStale_ON_STALE_DENY}})
	must(t, err)
	all := g.weakening()
	if have := (&controlv1.ProposeChangeRequest{}).ProtoReflect().Descriptor().Oneofs().ByName("request").Fields().Len(); have != len(all) {
		t.Fatalf("there are %d requests that can be proposed, and %d are tried", have, len(all))
	}
	before := r.revision(t)
	for _, req := range all {
		what := fmt.Sprintf("%T", req.GetRequest())
		wantProblem(t, what+" by an author", r.as(t, author).directly(t, req), connect.CodePermissionDenied, "weakens_enforcement")
		for _, who := range []identity.Caller{ann, ben, cat} {
			wantProblem(t, what, r.as(t, who).directly(t, req), connect.CodeFailedPrecondition, "approval_required")
		}
		_, err := r.as(t, author).ProposeChange(t.Context(), req)
		wantProblem(t, what+" proposed by an author", err, connect.CodePermissionDenied, "weakens_enforcement")
	}
	if after := r.revision(t); after != before {
		t.Errorf("what was refused has brought the log from %s to %s", before, after)
	}
	for _, req := range all {
		proposed, err := r.as(t, ann).ProposeChange(t.Context(), req)
		must(t, err)
		if c := proposed.GetChange(); c.GetWeakens() == "" || len(c.GetSteps()) == 0 || c.GetProposer().GetId() != "ann" || c.GetStale() {
			t.Errorf("%T: %v", req.GetRequest(), c)
		}
	}
	listed, err := r.as(t, author).ListChanges(t.Context(), &controlv1.ListChangesRequest{PageSize: 4})
	must(t, err)
	rest, err := r.as(t, author).ListChanges(t.Context(), &controlv1.ListChangesRequest{PageToken: listed.GetNextPageToken()})
	must(t, err)
	if len(listed.GetChanges()) != 4 || len(rest.GetChanges()) != len(all)-4 || rest.GetNextPageToken() != "" {
		t.Errorf("pages of %d and %d changes", len(listed.GetChanges()), len(rest.GetChanges()))
	}
}

// Without a second person an enforcer does what an author may not.
func TestEnforcersWeaken(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	g := r.guarded(t)
	for _, req := range []*controlv1.ProposeChangeRequest{g.weakening()[0], g.weakening()[5], g.weakening()[4]} {
		wantProblem(t, fmt.Sprintf("%T", req.GetRequest()), r.as(t, author).directly(t, req), connect.CodePermissionDenied, "weakens_enforcement")
		must(t, r.as(t, ben).directly(t, req))
	}
}

// The life of a change: proposed, looked at, refused to those who may not approve it, approved once.
func TestSecondPerson(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.start(t)
	g := r.guarded(t)
	r.secondPerson(t)
	req := g.weakening()[3]
	req.Description, req.ClientToken = "it blocks everybody", firstToken
	proposed, err := r.as(t, ann).ProposeChange(t.Context(), req)
	must(t, err)
	id := proposed.GetChange().GetChangeId()
	again, err := r.as(t, ann).ProposeChange(t.Context(), req)
	must(t, err)
	if again.String() != proposed.String() {
		t.Errorf("the same request again: %v, want %v", again, proposed)
	}
	got, err := r.as(t, author).GetChange(t.Context(), &controlv1.GetChangeRequest{ChangeId: id})
	must(t, err)
	if c := got.GetChange(); c.String() != proposed.GetChange().String() || !strings.Contains(c.GetWeakens(), "lower the mode of engine "+g.engine) ||
		c.GetDescription() != req.GetDescription() || c.GetSteps()[0].GetThing().GetStream() != "gateway/"+g.gateway ||
		c.GetSteps()[0].GetGateway().GetPolicyEngineConfiguration().GetMode() != eventv1.EngineMode_ENGINE_MODE_LOG_ONLY {
		t.Errorf("it is shown as %v", c)
	}
	if mode := r.mode(t, g); mode != eventv1.EngineMode_ENGINE_MODE_ENFORCE {
		t.Fatalf("proposed, and the mode is %v", mode)
	}
	stranger := ben
	stranger.Account = "111111111111"
	for what, c := range map[string]struct {
		who    identity.Caller
		code   connect.Code
		reason string
	}{
		"the proposer":       {ann, connect.CodePermissionDenied, "same_person"},
		"an author":          {author, connect.CodePermissionDenied, "weakens_enforcement"},
		"of another account": {stranger, connect.CodeNotFound, "change_not_found"},
	} {
		_, err := r.as(t, c.who).ApproveChange(t.Context(), &controlv1.ApproveChangeRequest{ChangeId: id})
		wantProblem(t, what, err, c.code, c.reason)
	}
	_, err = r.as(t, stranger).GetChange(t.Context(), &controlv1.GetChangeRequest{ChangeId: id})
	wantProblem(t, "seen by another account", err, connect.CodeNotFound, "change_not_found")

	must(t, r.stop()) // whoever starts next has it from the log
	r = b.start(t)
	approve := &controlv1.ApproveChangeRequest{ChangeId: id, ClientToken: secondToken}
	approved, err := r.as(t, ben).ApproveChange(t.Context(), approve)
	must(t, err)
	if mode := r.mode(t, g); mode != eventv1.EngineMode_ENGINE_MODE_LOG_ONLY || len(approved.GetSteps()) != 2 || approved.GetSteps()[0].GetType() != "gateway.update_requested" {
		t.Errorf("approved with %v, and the mode is %v", approved, mode)
	}
	same, err := r.as(t, ben).ApproveChange(t.Context(), approve)
	must(t, err)
	if same.GetRevision() != approved.GetRevision() || len(same.GetSteps()) != 2 {
		t.Errorf("the same request again: %v, want %v", same, approved)
	}
	_, err = r.GetChange(t.Context(), &controlv1.GetChangeRequest{ChangeId: id})
	wantProblem(t, "once approved", err, connect.CodeNotFound, "change_not_found")
	r.wantActors(t, b.keys, approved.GetRevision())
}

func (r *replica) mode(t *testing.T, g guarded) eventv1.EngineMode {
	t.Helper()
	got, err := r.GetGateway(t.Context(), &controlv1.GetGatewayRequest{GatewayId: g.gateway})
	must(t, err)
	return got.GetGateway().GetDefinition().GetPolicyEngineConfiguration().GetMode()
}

// wantActors wants the actor in every event: whoever sent the request, on all of its events; the approver on those that
// somebody else has proposed; the service itself where it ends what was begun. Nothing is there twice.
func (r *replica) wantActors(t *testing.T, keys stream.Keyring, last string) {
	t.Helper()
	by := map[string]string{}
	events := r.read(t, &eventv1.ReadEventsRequest{})
	for _, ev := range events {
		e, err := stream.Open(ev, keys)
		must(t, err)
		a := e.Cause.Actor
		if a.Account != e.Account || a.ID == "" || a.Method == "" || (a.Method == "internal") == (a.SourceAddress != "") {
			t.Errorf("%d %s is by %+v of %s", e.Position, e.Event.Type(), a, e.Account)
		}
		if prev := by[e.Event.Type()]; !strings.HasSuffix(prev, a.ID) {
			by[e.Event.Type()] = strings.TrimSpace(prev + " " + a.ID)
		}
	}
	if fmt.Sprint(len(events)) != last {
		t.Errorf("there are %d events, and the last revision is %s", len(events), last)
	}
	for typ, want := range map[string]string{
		"log.created": "verdict", "engine.created": "loopback", "policy.created": "loopback", "policy.activated": "verdict",
		"change.proposed": "ann", "change.approved": "ben", "gateway.update_requested": "loopback ben", "gateway.activated": "loopback ben",
	} {
		if by[typ] != want {
			t.Errorf("%s is by %q, want %q", typ, by[typ], want)
		}
	}
}

// A change can be taken back, and is thrown away; one that has become stale says so, and can only be thrown away.
func TestRejectChange(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	g := r.guarded(t)
	proposed, err := r.as(t, ann).ProposeChange(t.Context(), g.weakening()[4])
	must(t, err)
	id := proposed.GetChange().GetChangeId()
	_, err = r.TagResource(t.Context(), &controlv1.TagResourceRequest{ResourceArn: g.arn, Tags: map[string]string{"a": "b"}})
	must(t, err)
	got, err := r.GetChange(t.Context(), &controlv1.GetChangeRequest{ChangeId: id})
	must(t, err)
	if !got.GetChange().GetStale() {
		t.Errorf("not stale: %v", got)
	}
	_, err = r.as(t, ben).ApproveChange(t.Context(), &controlv1.ApproveChangeRequest{ChangeId: id})
	wantProblem(t, "a stale change", err, connect.CodeAborted, "stale_change")
	_, err = r.as(t, author).RejectChange(t.Context(), &controlv1.RejectChangeRequest{ChangeId: id})
	wantProblem(t, "rejected by an author", err, connect.CodePermissionDenied, "weakens_enforcement")
	rejected, err := r.as(t, ann).RejectChange(t.Context(), &controlv1.RejectChangeRequest{ChangeId: id, Reason: "never mind"})
	must(t, err)
	if rejected.GetChange().GetChangeId() != id || !rejected.GetChange().GetStale() {
		t.Errorf("rejected: %v", rejected)
	}
	_, err = r.as(t, ann).RejectChange(t.Context(), &controlv1.RejectChangeRequest{ChangeId: id})
	wantProblem(t, "rejected twice", err, connect.CodeNotFound, "change_not_found")
	wantProblem(t, "a bad token", func() error {
		_, err := r.as(t, ben).ApproveChange(t.Context(), &controlv1.ApproveChangeRequest{ChangeId: id, ClientToken: "short"})
		return err
	}(), connect.CodeInvalidArgument, "client_token")
	_, err = r.as(t, ann).ProposeChange(t.Context(), &controlv1.ProposeChangeRequest{})
	wantProblem(t, "nothing proposed", err, connect.CodeInvalidArgument, "union")
	harmless := &controlv1.TagResourceRequest{ResourceArn: g.arn, Tags: map[string]string{"a": "c"}}
	_, err = r.as(t, author).TagResource(t.Context(), harmless)
	must(t, err)
	_, err = r.as(t, ann).ProposeChange(t.Context(), &controlv1.ProposeChangeRequest{Request: &controlv1.ProposeChangeRequest_AttachPolicyEngine{
		AttachPolicyEngine: &controlv1.AttachPolicyEngineRequest{GatewayId: g.gateway, PolicyEngineId: g.engine, Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE},
	}})
	wantProblem(t, "nothing weakened", err, connect.CodeFailedPrecondition, "weakens_nothing")
}

// Two approve at once, on two replicas: one has done it.
func TestApprovedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r, other := b.start(t), b.start(t)
	g := r.guarded(t)
	proposed, err := r.as(t, ann).ProposeChange(t.Context(), g.weakening()[4])
	must(t, err)
	id := proposed.GetChange().GetChangeId()
	errs := make([]error, 6)
	var group sync.WaitGroup
	for i := range errs {
		who, where := []identity.Caller{ben, cat}[i%2], []*replica{r, other}[i/3]
		client := where.as(t, who)
		group.Go(func() {
			_, errs[i] = client.ApproveChange(t.Context(), &controlv1.ApproveChangeRequest{ChangeId: id})
		})
	}
	group.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
			continue
		}
		wantProblem(t, "approved by another", err, connect.CodeNotFound, "change_not_found")
	}
	if done != 1 {
		t.Errorf("it was approved %d times", done)
	}
}

// The worker activates what was approved, though that weakens enforcement and the account wants a second person.
func TestApprovedIsActivated(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	g := r.guarded(t)
	r.secondPerson(t)
	softer := strings.ReplaceAll(fmt.Sprintf(forbidStatement, g.arn), "1000", "5000")
	proposed, err := r.as(t, ann).ProposeChange(t.Context(), &controlv1.ProposeChangeRequest{Request: &controlv1.ProposeChangeRequest_UpdatePolicy{
		UpdatePolicy: &controlv1.UpdatePolicyRequest{PolicyEngineId: g.engine, PolicyId: g.forbid, Definition: cedar(softer)},
	}})
	must(t, err)
	if p := r.settled(t, g.engine, g.forbid); p.GetStatus() != eventv1.Status_STATUS_ACTIVE || p.GetInForce().GetDefinition().GetCedar().GetStatement() == softer {
		t.Errorf("proposed, it is %v", p)
	}
	_, err = r.as(t, ben).ApproveChange(t.Context(), &controlv1.ApproveChangeRequest{ChangeId: proposed.GetChange().GetChangeId()})
	must(t, err)
	if p := r.settled(t, g.engine, g.forbid); p.GetStatus() != eventv1.Status_STATUS_ACTIVE || p.GetInForce().GetDefinition().GetCedar().GetStatement() != softer {
		t.Errorf("approved, it is %v", p)
	}
}
