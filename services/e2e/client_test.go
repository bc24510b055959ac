package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/client"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// answers are what the workers of a gateway were told, each in the order in which it asked.
type answers struct {
	mu   sync.Mutex
	of   map[int][]told // by worker
	all  atomic.Int64
	lost atomic.Int64
}

type told struct {
	amount   int
	proceed  bool
	revision uint64
}

// work asks until ctx ends.
func (a *answers) work(ctx context.Context, t *testing.T, f *fleet, nodes *client.Client, worker int) {
	t.Helper()
	for i := worker; ctx.Err() == nil; i++ {
		amount := 500 + 1500*(i%2)
		call, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		got, err := nodes.Authorize(call, f.refundRequest(float64(amount), ""))
		cancel()
		if err != nil {
			a.lost.Add(1)
			t.Errorf("a refund of %d: %v", amount, err)
			return
		}
		a.add(worker, amount, got)
	}
}

func (a *answers) add(worker, amount int, m *decisionv1.AuthorizeResponse) {
	revision, _ := strconv.ParseUint(m.GetRevision(), 10, 64)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of[worker] = append(a.of[worker], told{amount, m.GetProceed(), revision})
	a.all.Add(1)
}

// more waits for some answers, or for a call that failed.
func (a *answers) more(t *testing.T, when string) {
	t.Helper()
	from := a.all.Load()
	testenv.Eventually(t, "answers "+when, func() error {
		if n := a.all.Load() - from; n < 200 && a.lost.Load() == 0 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// wantRight wants every answer to be that of the policies at its revision, and no worker to have gone back: below tightened refunds of less
// than 1000 are allowed, from there on none.
func (a *answers) wantRight(t *testing.T, tightened uint64) {
	t.Helper()
	var before, after int
	for worker, list := range a.of {
		for i, got := range list {
			want := got.amount == 500 && got.revision < tightened
			if got.proceed != want || i > 0 && got.revision < list[i-1].revision {
				t.Errorf("worker %d, number %d: %+v behind %+v; the policy that denies is in force from %d", worker, i, got, list[max(0, i-1)], tightened)
			}
			if got.revision < tightened {
				before++
			} else {
				after++
			}
		}
	}
	if before < 200 || after < 200 {
		t.Errorf("%d answers from before the change and %d from after it prove little", before, after)
	}
}

// A gateway asks two nodes through the client while one after the other is killed with -9, started again and told of a policy that it
// missed: no call fails, no answer is another than that of the policies at its revision, and nobody goes back in time.
func TestClientOverKilledNodes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	dirs := []string{t.TempDir(), t.TempDir()}
	start := func(i int, addr string) *service {
		return f.start(t, "decision", addr, "VERDICT_CONTROL_URL="+control.url, fmt.Sprintf("VERDICT_NODE=node-%d", i), "VERDICT_DECISION_DIR="+dirs[i])
	}
	nodes := []*service{start(0, anyAddr), start(1, anyAddr)}
	revision := f.loadExample(t, control)
	for _, node := range nodes {
		f.wantRefund(t, node, 500, true, revision)
	}
	gateway, err := client.New(client.Config{Nodes: []string{nodes[0].url, nodes[1].url}, AttemptTimeout: 10 * time.Second})
	must(t, err)
	seen := &answers{of: map[int][]told{}}
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for worker := range 6 {
		workers.Go(func() { seen.work(ctx, t, f, gateway, worker) })
	}
	defer workers.Wait()
	defer stop()

	seen.more(t, "of two nodes")
	nodes[0].kill()
	seen.more(t, "of the other one")
	tightened := f.forbidAll(t, control)
	seen.more(t, "with the new policy, or not yet")
	nodes[0] = start(0, nodes[0].url)
	testenv.Eventually(t, "requests at the node that is back", func() error { return nodes[0].answered(t, 50) })
	nodes[1].kill()
	seen.more(t, "of the node that is back")
	stop()
	workers.Wait()
	seen.wantRight(t, tightened)
}

// forbidAll makes a policy that denies every refund, and returns the first revision at which it decides.
func (f *fleet) forbidAll(t *testing.T, control *service) uint64 {
	t.Helper()
	statement := fmt.Sprintf(`forbid(principal, action, resource == AgentCore::Gateway::%q);`, f.gateway)
	made, err := control.controlClient().CreatePolicy(t.Context(), &controlv1.CreatePolicyRequest{
		PolicyEngineId: f.engine, Name: "none", ValidationMode: eventv1.ValidationMode_VALIDATION_MODE_IGNORE_ALL_FINDINGS,
		Definition: &eventv1.PolicyDefinition{Definition: &eventv1.PolicyDefinition_Cedar{Cedar: &eventv1.CedarPolicy{Statement: statement}}},
	})
	must(t, err)
	var active string
	testenv.Eventually(t, "the policy that denies", func() error {
		now, err := control.controlClient().GetPolicy(t.Context(), &controlv1.GetPolicyRequest{PolicyEngineId: f.engine, PolicyId: made.GetPolicy().GetPolicyId()})
		if active = now.GetPolicy().GetActiveRevision(); err == nil && active == "" {
			err = fmt.Errorf("%v %v", now.GetPolicy().GetStatus(), now.GetPolicy().GetStatusReasons())
		}
		return err
	})
	position, err := strconv.ParseUint(active, 10, 64)
	must(t, err)
	return position
}

var authorized = regexp.MustCompile(`verdict_rpc_requests_total\{code="ok",procedure="[^"]*/Authorize"\} (\d+)`)

// answered is nil when a node has answered as many questions.
func (s *service) answered(t *testing.T, least int) error {
	t.Helper()
	_, text := s.get(t, "/metrics")
	n := 0
	if found := authorized.FindStringSubmatch(text); found != nil {
		n, _ = strconv.Atoi(found[1])
	}
	if n < least {
		return fmt.Errorf("%d", n)
	}
	return nil
}
