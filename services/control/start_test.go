package control

import (
	"testing"

	"connectrpc.com/connect"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// Promise 3 at the start: before the stream has been seen, nobody knows whether the log went back, so there are no writes, and
// on an empty database no log is begun either. Afterwards NATS may go away again.
func TestStartWithoutNATS(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.nats.Stop()
	r := b.start(t)
	_, err := r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "E"})
	wantProblem(t, "a write before the stream was seen", err, connect.CodeUnavailable, "stream_not_seen")
	if got := r.revision(t); got != "0" {
		t.Errorf("the log was begun: it is at %s", got)
	}
	if err := r.ready(true, "writes", false); err != nil {
		t.Error(err)
	}
	b.nats.Start(t)
	testenv.Eventually(t, "a write", func() error {
		_, err := r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "E"})
		return err
	})
	b.nats.Stop()
	if _, err := r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "F"}); err != nil {
		t.Errorf("a write with NATS away again: %v", err)
	}
}

// An operator may decide otherwise.
func TestWritesWithoutNATS(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.nats.Stop()
	b.cfg.WritesWithoutNATS = true
	if _, err := b.start(t).CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "E"}); err != nil {
		t.Error(err)
	}
	b.nats.Start(t) // for the end of the test
}

// The log belongs to a region: another one would make other ARNs of the same ids.
func TestAnotherRegion(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	must(t, b.start(t).stop())
	b.cfg.Region = "eu-west-1"
	if _, err := New(t.Context(), b.cfg); err == nil {
		t.Error("control started for another region than the log's")
	}
}

// A policy can be demoted when the tools that it was written for are gone; it cannot be promoted.
func TestDemotionNeedsNoTools(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	f := r.refund(t)
	created, err := r.CreatePolicy(t.Context(), f.policy("refund_limit"))
	must(t, err)
	id := created.GetPolicy().GetPolicyId()
	r.settled(t, f.engine, id)
	targets, err := r.ListGatewayTargets(t.Context(), &controlv1.ListGatewayTargetsRequest{GatewayId: f.gateway})
	must(t, err)
	_, err = r.DeleteGatewayTarget(t.Context(), &controlv1.DeleteGatewayTargetRequest{GatewayId: f.gateway, TargetId: targets.GetTargets()[0].GetTargetId()})
	must(t, err)
	set := func(mode eventv1.EnforcementMode) *controlv1.Policy {
		_, err := r.UpdatePolicy(t.Context(), &controlv1.UpdatePolicyRequest{PolicyEngineId: f.engine, PolicyId: id, EnforcementMode: mode})
		must(t, err)
		return r.settled(t, f.engine, id)
	}
	if p := set(eventv1.EnforcementMode_ENFORCEMENT_MODE_LOG_ONLY); p.GetStatus() != eventv1.Status_STATUS_ACTIVE || p.GetInForce().GetEnforcementMode() != eventv1.EnforcementMode_ENFORCEMENT_MODE_LOG_ONLY {
		t.Errorf("after the demotion: %v", p)
	}
	if p := set(eventv1.EnforcementMode_ENFORCEMENT_MODE_ACTIVE); p.GetStatus() != eventv1.Status_STATUS_UPDATE_FAILED || p.GetInForce().GetEnforcementMode() != eventv1.EnforcementMode_ENFORCEMENT_MODE_LOG_ONLY {
		t.Errorf("after the promotion: %v", p)
	}
}
