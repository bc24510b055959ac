package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// eachNode gives each of these nodes a user of its own on NATS, and starts them.
func (f *fleet) eachNode(t *testing.T, control *service, names ...string) (nodes []*service) {
	t.Helper()
	args := []string{"nats-config", "--nats-keys", f.keys, "--nodes", ""}
	for i, name := range names {
		if i > 0 {
			args[4] += ","
		}
		args[4] += name
	}
	config, code := f.verdict(t, args...)
	if code != 0 {
		t.Fatal(config)
	}
	f.nats.Reconfigure(t, config)
	for _, name := range names {
		nodes = append(nodes, f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url, "VERDICT_NODE="+name,
			"VERDICT_DECISION_DIR="+t.TempDir(), "VERDICT_DECISION_NATS_KEY="+f.natsKey("node-"+name)))
	}
	return nodes
}

// standings is what Propagation says of each node.
func standings(ctx context.Context, control *service) (map[string]*controlv1.NodePropagation, *controlv1.PropagationResponse, error) {
	got, err := control.controlClient().Propagation(ctx, &controlv1.PropagationRequest{})
	out := map[string]*controlv1.NodePropagation{}
	for _, n := range got.GetNodes() {
		out[n.GetNode()] = n
	}
	return out, got, err
}

func waitFor(t *testing.T, control *service, revision string, most time.Duration, how controlv1.WaitFor) *controlv1.WaitForRevisionResponse {
	t.Helper()
	got, err := control.controlClient().WaitForRevision(deadline(t, most), &controlv1.WaitForRevisionRequest{AwaitedRevision: revision, WaitFor: how})
	must(t, err)
	return got
}

// onStale says what a node does when it cannot prove its state fresh for two seconds.
func (f *fleet) onStale(t *testing.T, control *service, on eventv1.OnStale) string {
	t.Helper()
	done, err := control.controlClient().UpdateAccountSettings(t.Context(), &controlv1.UpdateAccountSettingsRequest{
		Settings: &eventv1.Settings{OnStale: on, StalenessBoundMs: new(uint64(2000))},
	})
	must(t, err)
	return done.GetRevision()
}

// A change is waited for over three nodes: when the wait has ended, each decides by it. One node is stopped: it is named,
// in the end as unknown, since it serves when it is stale; most of the nodes are enough for whoever wants no more. Where nodes deny when they
// are stale, it counts in the end. It goes on, and counts by itself; one that ends in order is no node any more.
func TestPropagation(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	nodes := f.eachNode(t, control, "node-1", "node-2", "node-3")
	first := f.loadExample(t, control)
	const all, quorum = controlv1.WaitFor_WAIT_FOR_ALL, controlv1.WaitFor_WAIT_FOR_QUORUM
	three := func() error {
		if got := waitFor(t, control, first, 2*time.Second, all); !got.GetReached() || got.GetDone() != 3 {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	}
	testenv.Eventually(t, "three nodes", three)
	revision := f.permit(t, control, "more", 5000)
	if got := waitFor(t, control, revision, 20*time.Second, all); !got.GetReached() || got.GetDone() != 3 {
		t.Fatalf("it is %v", got)
	}
	for _, node := range nodes {
		f.wantRefund(t, node, 2000, true, "")
	}

	stopped := nodes[2]
	must(t, stopped.cmd.Process.Signal(syscall.SIGSTOP))
	revision = f.permit(t, control, "most", 9000)
	got := waitFor(t, control, revision, 20*time.Second, quorum)
	if !got.GetReached() {
		t.Fatalf("most nodes: %v", got)
	}
	if got = waitFor(t, control, revision, 2*time.Second, all); got.GetReached() || !slices.Equal(slices.Concat(got.GetLaggards(), got.GetUnknown()), []string{"node-3"}) {
		t.Errorf("a node that has stopped: %v", got)
	}
	testenv.Eventually(t, "it is unknown", func() error {
		got := waitFor(t, control, revision, 2*time.Second, all)
		if !slices.Equal(got.GetUnknown(), []string{"node-3"}) || got.GetReached() || got.GetDone() != 2 {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	must(t, stopped.cmd.Process.Signal(syscall.SIGCONT))
	if got = waitFor(t, control, revision, 20*time.Second, all); !got.GetReached() {
		t.Fatalf("it has gone on: %v", got)
	}

	revision = f.onStale(t, control, eventv1.OnStale_ON_STALE_DENY)
	if got = waitFor(t, control, revision, 20*time.Second, all); !got.GetReached() {
		t.Fatalf("nodes that are to deny: %v", got)
	}
	must(t, stopped.cmd.Process.Signal(syscall.SIGSTOP))
	revision = f.permit(t, control, "everything", 90000)
	if got = waitFor(t, control, revision, 20*time.Second, all); !got.GetReached() || got.GetDone() != 3 {
		t.Errorf("a node that must deny by now: %v", got)
	}
	if is, _, err := standings(t.Context(), control); err != nil || !is["node-3"].GetSilent() || is["node-3"].GetStanding() != controlv1.NodeStanding_NODE_STANDING_BEHIND {
		t.Errorf("it is shown as %v, %v", is["node-3"], err)
	}
	must(t, stopped.cmd.Process.Signal(syscall.SIGCONT))
	nodes[1].end(t)
	testenv.Eventually(t, "who is there", func() error {
		is, _, err := standings(t.Context(), control)
		if err != nil || len(is) != 2 || is["node-3"].GetStanding() != controlv1.NodeStanding_NODE_STANDING_CURRENT || is["node-3"].StalenessMs == nil {
			return fmt.Errorf("they are %v, %w", is, err)
		}
		return nil
	})
}

// A node cannot speak for another one: NATS refuses that. A node of another log is shown as that, and does not count.
func TestPropagationOfStrangers(t *testing.T) {
	t.Parallel()
	f, other := newFleet(t), newSite(t)
	control, elsewhere := f.start(t, "control", anyAddr), other.control(t)
	nodes := f.eachNode(t, control, "node-1", "node-2")
	revision := f.loadExample(t, control)
	testenv.Eventually(t, "two nodes", func() error {
		if got := waitFor(t, control, revision, 2*time.Second, controlv1.WaitFor_WAIT_FOR_ALL); !got.GetReached() || got.GetDone() != 2 {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	forger := f.bare(t, "node-node-2")
	forged, err := proto.Marshal(&decisionv1.NodeReport{Node: "node-1", Boot: make([]byte, 16), LogId: "forged", Position: 1 << 40})
	must(t, err)
	must(t, forger.Publish(stream.NodeSubject("node-1"), forged))
	must(t, forger.Flush())
	if err := forger.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("a report in another node's name: %v", err)
	}

	nodes[1].kill()
	f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+elsewhere.url, "VERDICT_TRUSTED_KEYS="+other.setting(t, "VERDICT_TRUSTED_KEYS"),
		"VERDICT_NODE=node-2", "VERDICT_DECISION_DIR="+t.TempDir(), "VERDICT_DECISION_NATS_KEY="+f.natsKey("node-node-2"))
	testenv.Eventually(t, "a node of another log", func() error {
		is, head, err := standings(t.Context(), control)
		if two := is["node-2"]; err != nil || two.GetStanding() != controlv1.NodeStanding_NODE_STANDING_ANOTHER_LOG || two.GetLogId() == head.GetLogId() {
			return fmt.Errorf("it is %v, %w", two, err)
		}
		if one := is["node-1"]; one.GetStanding() != controlv1.NodeStanding_NODE_STANDING_CURRENT || one.GetRevision() != head.GetRevision() {
			return fmt.Errorf("node-1 is %v", one)
		}
		got := waitFor(t, control, revision, 2*time.Second, controlv1.WaitFor_WAIT_FOR_ALL)
		if got.GetReached() || !slices.Equal(got.GetLaggards(), []string{"node-2"}) {
			return fmt.Errorf("it counts: %v", got)
		}
		return nil
	})
}
