package control

import (
	"io"
	"net/http"
	"testing"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// What an operator's alarms rest on is there, and moves.
func TestMetrics(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	f := r.refund(t)
	created, err := r.CreatePolicy(t.Context(), f.policy("refund_limit"))
	must(t, err)
	r.settled(t, f.engine, created.GetPolicy().GetPolicyId())
	_, err = r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "RefundEngine"})
	if err == nil {
		t.Error("a name was taken twice")
	}
	testenv.Eventually(t, "the metrics", func() error { return r.hasMetrics(t) })
}

func (r *replica) hasMetrics(t *testing.T) error {
	t.Helper()
	return testenv.Contains(r.metrics(t),
		"verdict_log_position 11\n", "verdict_relay_position 11\n", "verdict_relay_stopped 0\n", "verdict_relay_leads 1\n",
		"verdict_log_writes_refused 0\n", `verdict_log_commands_total{result="refused"} 1`+"\n",
		`verdict_worker_examined_total{result="activated"} 1`+"\n", `verdict_condition{`, "go_goroutines", "verdict_rpc_requests_total")
}

// metrics is what /metrics answers.
func (r *replica) metrics(t *testing.T) string {
	t.Helper()
	resp, err := http.Get(r.url + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(data)
}
