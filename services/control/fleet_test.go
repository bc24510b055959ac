package control

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// nodes reports for nodes, as they do themselves.
type nodes struct {
	*replica
	conn *nats.Conn
}

// fleet is a replica that hears nodes, and has heard them for long enough.
func (b *bench) fleet(t *testing.T) *nodes {
	t.Helper()
	n := &nodes{replica: b.start(t), conn: b.nats.Connect(t)}
	testenv.Eventually(t, "control listens", func() error {
		got, err := n.Propagation(t.Context(), &controlv1.PropagationRequest{})
		must(t, err)
		if got.GetListeningMs() < 3000 {
			return fmt.Errorf("for %d ms", got.GetListeningMs())
		}
		return nil
	})
	return n
}

// at is the report of a node that is at the head, changed.
func (n *nodes) at(t *testing.T, node string, change func(*decisionv1.NodeReport)) *decisionv1.NodeReport {
	t.Helper()
	head := n.service.log.Known()
	m := &decisionv1.NodeReport{Node: node, Boot: []byte(node), LogId: head.LogID, Position: head.Position, Hash: head.Hash[:]}
	if change != nil {
		change(m)
	}
	return m
}

// say publishes reports, and waits until control has heard what came last.
func (n *nodes) say(t *testing.T, reports ...*decisionv1.NodeReport) {
	t.Helper()
	for _, m := range reports {
		n.publish(t, stream.NodeSubject(m.GetNode()), m)
	}
	must(t, n.conn.Flush())
	last := reports[len(reports)-1]
	testenv.Eventually(t, "control hears "+last.GetNode(), func() error {
		is := n.standing(t, last.GetNode())
		if is == nil || is.GetLogId() != last.GetLogId() || last.GetLogId() != "" && is.GetRevision() != strconv.FormatUint(last.GetPosition(), 10) {
			return fmt.Errorf("it is %v", is)
		}
		return nil
	})
}

func (n *nodes) publish(t *testing.T, subject string, m *decisionv1.NodeReport) {
	t.Helper()
	data, err := proto.Marshal(m)
	must(t, err)
	must(t, n.conn.Publish(subject, data))
}

// standing is what Propagation says of a node; nil when it is not known.
func (n *nodes) standing(t *testing.T, node string) *controlv1.NodePropagation {
	t.Helper()
	got, err := n.Propagation(t.Context(), &controlv1.PropagationRequest{})
	must(t, err)
	for _, p := range got.GetNodes() {
		if p.GetNode() == node {
			return p
		}
	}
	return nil
}

// wait waits for a revision, shortly.
func (n *nodes) wait(t *testing.T, revision string, how controlv1.WaitFor) *controlv1.WaitForRevisionResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	got, err := n.WaitForRevision(ctx, &controlv1.WaitForRevisionRequest{AwaitedRevision: revision, WaitFor: how})
	must(t, err)
	return got
}

// keep reports again and again, as nodes that live do, until the test ends.
func (n *nodes) keep(t *testing.T, reports ...*decisionv1.NodeReport) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, m := range reports {
				data, _ := proto.Marshal(m)
				_ = n.conn.Publish(stream.NodeSubject(m.GetNode()), data)
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
}

func (n *nodes) engine(t *testing.T, name string) (id, revision string) {
	t.Helper()
	made, err := n.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: name})
	must(t, err)
	return made.GetPolicyEngine().GetPolicyEngineId(), made.GetRevision()
}

const all, quorum = controlv1.WaitFor_WAIT_FOR_ALL, controlv1.WaitFor_WAIT_FOR_QUORUM

func wantProgress(t *testing.T, got *controlv1.WaitForRevisionResponse, reached bool, laggards, unknown string) {
	t.Helper()
	if got.GetReached() != reached || strings.Join(got.GetLaggards(), " ") != laggards || strings.Join(got.GetUnknown(), " ") != unknown {
		t.Errorf("it is %v, want reached=%v, laggards %q, unknown %q", got, reached, laggards, unknown)
	}
}

// A revision is waited for until all nodes have it, or most; those that have not are named; and it is no node that counts which has
// another log, another event at its position, a position that the log does not have, or nothing.
func TestWaitForRevision(t *testing.T) {
	t.Parallel()
	n := newBench(t).fleet(t)
	_, before := n.engine(t, "E1")
	wantProgress(t, n.wait(t, before, all), false, "", "") // nobody is known
	was := n.at(t, "c", nil)
	_, revision := n.engine(t, "E2")
	n.say(t, n.at(t, "a", nil), n.at(t, "b", nil), was)
	n.keep(t, n.at(t, "a", nil), n.at(t, "b", nil))
	if got := n.wait(t, before, all); !got.GetReached() || got.GetDone() != 3 || got.GetNodes() != 3 || got.GetRevision() != revision {
		t.Errorf("an earlier revision: %v", got)
	}
	wantProgress(t, n.wait(t, revision, all), false, "c", "")
	wantProgress(t, n.wait(t, revision, quorum), true, "c", "")
	n.say(t, n.at(t, "c", nil))
	wantProgress(t, n.wait(t, revision, all), true, "", "")
	for name, tt := range map[string]struct {
		change func(*decisionv1.NodeReport)
		is     controlv1.NodeStanding
	}{
		"another log":   {func(m *decisionv1.NodeReport) { m.LogId = "another" }, controlv1.NodeStanding_NODE_STANDING_ANOTHER_LOG},
		"another hash":  {func(m *decisionv1.NodeReport) { m.Hash = make([]byte, 32) }, controlv1.NodeStanding_NODE_STANDING_ANOTHER_HISTORY},
		"no hash":       {func(m *decisionv1.NodeReport) { m.Hash = nil }, controlv1.NodeStanding_NODE_STANDING_ANOTHER_HISTORY},
		"ahead":         {func(m *decisionv1.NodeReport) { m.Position++ }, controlv1.NodeStanding_NODE_STANDING_AHEAD},
		"without state": {func(m *decisionv1.NodeReport) { m.LogId, m.Position, m.Hash = "", 0, nil }, controlv1.NodeStanding_NODE_STANDING_NO_STATE},
	} {
		n.say(t, n.at(t, "c", tt.change))
		if is := n.standing(t, "c"); is.GetStanding() != tt.is || is.GetSilent() {
			t.Errorf("%s: %v", name, is)
		}
		wantProgress(t, n.wait(t, revision, all), false, "c", "")
	}
	n.publish(t, stream.NodeSubject("c"), &decisionv1.NodeReport{Node: "c", Boot: []byte("c"), Ended: true})
	testenv.Eventually(t, "a node that ended is none", func() error {
		if is := n.standing(t, "c"); is != nil {
			return fmt.Errorf("it is %v", is)
		}
		return nil
	})
	wantProgress(t, n.wait(t, revision, all), true, "", "")
	for _, bad := range []string{"", "x", "01", "-1"} {
		_, err := n.WaitForRevision(t.Context(), &controlv1.WaitForRevisionRequest{AwaitedRevision: bad})
		wantProblem(t, "revision "+bad, err, connect.CodeInvalidArgument, "revision")
	}
	_, err := n.WaitForRevision(t.Context(), &controlv1.WaitForRevisionRequest{AwaitedRevision: "1000000"})
	wantProblem(t, "a revision that is to come", err, connect.CodeOutOfRange, "beyond_the_head")
	_, err = n.WaitForRevision(t.Context(), &controlv1.WaitForRevisionRequest{AwaitedRevision: revision, WaitFor: 7})
	wantProblem(t, "an unknown way to wait", err, connect.CodeInvalidArgument, "enum")
}

// settings are what an account or an engine may say about stale nodes.
func settings(deny bool, bound time.Duration) *eventv1.Settings {
	s := &eventv1.Settings{OnStale: eventv1.OnStale_ON_STALE_SERVE, StalenessBoundMs: new(uint64(bound.Milliseconds()))}
	if deny {
		s.OnStale = eventv1.OnStale_ON_STALE_DENY
	}
	return s
}

func (n *nodes) account(t *testing.T, s *eventv1.Settings) {
	t.Helper()
	_, err := n.UpdateAccountSettings(t.Context(), &controlv1.UpdateAccountSettingsRequest{Settings: s})
	must(t, err)
}

// A node that fell silent before a revision counts once it must deny, by the settings that it may have: after its bound, and never if
// the account or one of its engines lets it serve, or let it at any time since its last report. Each case has a fleet of one.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	const short, long = 100 * time.Millisecond, 5 * time.Second
	for name, tt := range map[string]struct {
		before, after func(t *testing.T, n *nodes, engine string)
		counts        bool
	}{
		"it serves": {before: func(*testing.T, *nodes, string) {}},
		"it denies": {before: func(t *testing.T, n *nodes, _ string) { t.Helper(); n.account(t, settings(true, long)) }, counts: true},
		"an engine serves": {before: func(t *testing.T, n *nodes, engine string) {
			t.Helper()
			n.account(t, settings(true, short))
			_, err := n.UpdatePolicyEngineSettings(t.Context(), &controlv1.UpdatePolicyEngineSettingsRequest{PolicyEngineId: engine, Settings: settings(false, short)})
			must(t, err)
		}},
		"it did not hear that it must deny": {
			before: func(*testing.T, *nodes, string) {},
			after:  func(t *testing.T, n *nodes, _ string) { t.Helper(); n.account(t, settings(true, short)) },
		},
		"it may have heard that it serves, for a moment": {
			before: func(t *testing.T, n *nodes, _ string) { t.Helper(); n.account(t, settings(true, short)) },
			after: func(t *testing.T, n *nodes, _ string) {
				t.Helper()
				n.account(t, settings(false, short))
				n.account(t, settings(true, short))
			},
		},
		"the engine that let it serve is deleted": {
			before: func(t *testing.T, n *nodes, engine string) {
				t.Helper()
				n.account(t, settings(true, short))
				_, err := n.UpdatePolicyEngineSettings(t.Context(), &controlv1.UpdatePolicyEngineSettingsRequest{PolicyEngineId: engine, Settings: settings(false, short)})
				must(t, err)
			},
			after: func(t *testing.T, n *nodes, engine string) {
				t.Helper()
				_, err := n.DeletePolicyEngine(t.Context(), &controlv1.DeletePolicyEngineRequest{PolicyEngineId: engine})
				must(t, err)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newBench(t).fleet(t)
			engine, _ := n.engine(t, "E")
			tt.before(t, n, engine)
			n.say(t, n.at(t, "a", nil))
			said := time.Now()
			_, revision := n.engine(t, "F")
			if tt.after != nil {
				tt.after(t, n, engine)
			}
			if got := n.wait(t, revision, all); got.GetReached() || !slices.Equal(slices.Concat(got.GetLaggards(), got.GetUnknown()), []string{"a"}) {
				t.Errorf("it is %v", got)
			}
			unknown := func() error {
				got := n.wait(t, revision, all)
				if !slices.Equal(got.GetUnknown(), []string{"a"}) || len(got.GetLaggards()) > 0 {
					return fmt.Errorf("it is %v", got)
				}
				return nil
			}
			if !tt.counts {
				testenv.Eventually(t, "it is unknown", unknown)
				return
			}
			testenv.Eventually(t, "it counts", func() error {
				got := n.wait(t, revision, all)
				if len(got.GetUnknown()) > 0 {
					t.Fatalf("it is unknown: %v", got)
				}
				if !got.GetReached() {
					return fmt.Errorf("it is %v", got)
				}
				return nil
			})
			if d := time.Since(said); d < long {
				t.Errorf("it counts after %v", d)
			}
			if is := n.standing(t, "a"); !is.GetSilent() || is.GetStanding() != controlv1.NodeStanding_NODE_STANDING_BEHIND {
				t.Errorf("it is shown as %v", is)
			}
		})
	}
}

// What is no report, or speaks for a node that it does not come from, changes nothing and is counted. How long nodes take is a metric.
func TestReportsRefused(t *testing.T) {
	t.Parallel()
	n := newBench(t).fleet(t)
	n.say(t, n.at(t, "a", nil))
	head := n.standing(t, "a").GetRevision()
	n.publish(t, stream.NodeSubject("b"), n.at(t, "a", func(m *decisionv1.NodeReport) { m.Position = 0 }))
	must(t, n.conn.Publish(stream.NodeSubject("a"), []byte("junk")))
	must(t, n.conn.Publish(stream.NodeSubject("a"), nil))
	must(t, n.conn.Publish(stream.NodeSubject("a"), make([]byte, 8<<10)))
	n.publish(t, stream.NodeSubject("a"), &decisionv1.NodeReport{Node: "a", Boot: []byte("another"), Ended: true})
	n.engine(t, "E")
	n.say(t, n.at(t, "a", nil))
	testenv.Eventually(t, "the metrics", func() error {
		return testenv.Contains(n.metrics(t), `verdict_fleet_refused_total{cause="junk"} 2`, `verdict_fleet_refused_total{cause="name"} 2`,
			"verdict_fleet_applied_seconds_count 1\n", "verdict_fleet_nodes 1\n")
	})
	if is := n.standing(t, "b"); is != nil {
		t.Errorf("b is %v", is)
	}
	if is := n.standing(t, "a"); is.GetRevision() == head || is.GetStanding() != controlv1.NodeStanding_NODE_STANDING_CURRENT {
		t.Errorf("a is %v", is)
	}
}
