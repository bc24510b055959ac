package control

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
)

// Promise 5: every answer names its revision, that of a write is beyond all before, and that of a read is not older than what
// any replica has answered. Each method is called, on two replicas in turn.
func TestRevisions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one, other := b.start(t), b.start(t)
	turns := &inTurn{hosts: []string{strings.TrimPrefix(one.url, "http://"), strings.TrimPrefix(other.url, "http://")}}
	seen := &revisions{t: t, called: map[string]bool{}}
	checked := connect.WithInterceptors(connect.UnaryInterceptorFunc(seen.check))
	r := &replica{ControlServiceClient: controlv1connect.NewControlServiceClient(&http.Client{Transport: turns}, "http://localhost", checked)}
	f := r.refund(t)
	created, err := r.CreatePolicy(t.Context(), f.policy("refund_limit"))
	must(t, err)
	id := created.GetPolicy().GetPolicyId()
	r.settled(t, f.engine, id)
	targets, err := r.ListGatewayTargets(t.Context(), &controlv1.ListGatewayTargetsRequest{GatewayId: f.gateway})
	must(t, err)
	target := targets.GetTargets()[0].GetTargetId()
	r.readAll(t, f, target)
	r.decideAll(t, f, other.as(t, ben, checked))
	r.changeAll(t, f, id, target)
	r.settled(t, f.engine, id)
	r.cleanUp(t, f, id)
	methods := controlv1.File_verdict_control_v1_control_service_proto.Services().ByName("ControlService").Methods()
	for i := range methods.Len() {
		if name := string(methods.Get(i).Name()); !seen.called[name] {
			t.Errorf("%s was not called", name)
		}
	}
}

// readAll calls the methods that only read.
func (r *replica) readAll(t *testing.T, f refund, target string) {
	t.Helper()
	ctx := t.Context()
	_, err1 := r.GetPolicyEngine(ctx, &controlv1.GetPolicyEngineRequest{PolicyEngineId: f.engine})
	_, err2 := r.ListPolicyEngines(ctx, &controlv1.ListPolicyEnginesRequest{})
	_, err3 := r.ListPolicies(ctx, &controlv1.ListPoliciesRequest{PolicyEngineId: f.engine})
	_, err4 := r.GetGateway(ctx, &controlv1.GetGatewayRequest{GatewayId: f.gateway})
	_, err5 := r.GetGatewayTarget(ctx, &controlv1.GetGatewayTargetRequest{GatewayId: f.gateway, TargetId: target})
	_, err6 := r.ListTagsForResource(ctx, &controlv1.ListTagsForResourceRequest{ResourceArn: f.arn})
	_, err7 := r.GetAccountSettings(ctx, &controlv1.GetAccountSettingsRequest{})
	_, err8 := r.Propagation(ctx, &controlv1.PropagationRequest{})
	short, cancel := context.WithTimeout(ctx, 2*time.Second) // there is no node
	defer cancel()
	_, err9 := r.WaitForRevision(short, &controlv1.WaitForRevisionRequest{AwaitedRevision: "1"})
	must(t, errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9))
}

// decideAll calls the methods of changes; somebody else approves.
func (r *replica) decideAll(t *testing.T, f refund, somebody *replica) {
	t.Helper()
	ctx := t.Context()
	propose := &controlv1.ProposeChangeRequest{Request: &controlv1.ProposeChangeRequest_DetachPolicyEngine{
		DetachPolicyEngine: &controlv1.DetachPolicyEngineRequest{GatewayId: f.gateway},
	}}
	first, err := r.ProposeChange(ctx, propose)
	must(t, err)
	second, err := r.ProposeChange(ctx, propose)
	must(t, err)
	_, err1 := r.GetChange(ctx, &controlv1.GetChangeRequest{ChangeId: first.GetChange().GetChangeId()})
	_, err2 := r.ListChanges(ctx, &controlv1.ListChangesRequest{})
	_, err3 := r.RejectChange(ctx, &controlv1.RejectChangeRequest{ChangeId: first.GetChange().GetChangeId()})
	_, err4 := somebody.ApproveChange(ctx, &controlv1.ApproveChangeRequest{ChangeId: second.GetChange().GetChangeId()})
	_, err5 := r.AttachPolicyEngine(ctx, &controlv1.AttachPolicyEngineRequest{GatewayId: f.gateway, PolicyEngineId: f.engine, Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE})
	must(t, errors.Join(err1, err2, err3, err4, err5))
}

// changeAll calls the methods that change what is there.
func (r *replica) changeAll(t *testing.T, f refund, id, target string) {
	t.Helper()
	ctx, settings := t.Context(), &eventv1.Settings{StrictForbids: new(false)}
	gateway := &eventv1.GatewayDefinition{
		Description: "d", AuthorizerType: eventv1.AuthorizerType_AUTHORIZER_TYPE_NONE,
		PolicyEngineConfiguration: &eventv1.GatewayPolicyEngineConfiguration{PolicyEngineId: f.engine, Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE},
	}
	_, err1 := r.UpdatePolicyEngine(ctx, &controlv1.UpdatePolicyEngineRequest{PolicyEngineId: f.engine, Description: new("d")})
	_, err2 := r.UpdatePolicyEngineSettings(ctx, &controlv1.UpdatePolicyEngineSettingsRequest{PolicyEngineId: f.engine, Settings: settings})
	_, err3 := r.UpdateGateway(ctx, &controlv1.UpdateGatewayRequest{GatewayId: f.gateway, Definition: gateway})
	_, err4 := r.UpdateGatewayTarget(ctx, &controlv1.UpdateGatewayTargetRequest{GatewayId: f.gateway, TargetId: target, Definition: refundTarget()})
	_, err5 := r.TagResource(ctx, &controlv1.TagResourceRequest{ResourceArn: f.arn, Tags: map[string]string{"a": "b"}})
	_, err6 := r.UntagResource(ctx, &controlv1.UntagResourceRequest{ResourceArn: f.arn, TagKeys: []string{"a"}})
	_, err7 := r.UpdateAccountSettings(ctx, &controlv1.UpdateAccountSettingsRequest{Settings: settings})
	_, err8 := r.UpdatePolicy(ctx, &controlv1.UpdatePolicyRequest{PolicyEngineId: f.engine, PolicyId: id, Description: new("d")})
	must(t, errors.Join(err1, err2, err3, err4, err5, err6, err7, err8))
}

// inTurn sends one request after the other to another host.
type inTurn struct {
	hosts []string
	n     int
}

func (c *inTurn) RoundTrip(req *http.Request) (*http.Response, error) {
	c.n++
	req = req.Clone(req.Context())
	req.URL.Host = c.hosts[c.n%len(c.hosts)]
	return http.DefaultTransport.RoundTrip(req)
}

// revisions checks the answers to one request after the other.
type revisions struct {
	t      *testing.T
	newest uint64
	called map[string]bool
}

func (r *revisions) check(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		resp, err := next(ctx, req)
		if err != nil {
			return nil, err
		}
		method := path.Base(req.Spec().Procedure)
		r.called[method] = true
		m := resp.Any().(proto.Message).ProtoReflect()
		revision, err := strconv.ParseUint(m.Get(m.Descriptor().Fields().ByName("revision")).String(), 10, 64)
		reads := method == "Propagation" || method == "WaitForRevision" || strings.HasPrefix(method, "Get") || strings.HasPrefix(method, "List")
		if err != nil || revision < r.newest || (revision == r.newest && !reads) {
			r.t.Errorf("%s answers revision %d, %v, after %d", method, revision, err, r.newest)
		}
		r.newest = max(r.newest, revision)
		return resp, nil
	}
}
