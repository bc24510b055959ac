package control

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// Promise 3: control is restarted on a log that went back. It takes no write, from the first on, and says why; it answers
// reads, and is ready.
func TestStartsOnRestoredLog(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.history(t)
	b.owner(t, "SET session_replication_role = replica", "DELETE FROM verdict.events WHERE position > 7")
	s, err := New(t.Context(), b.cfg)
	must(t, err)
	_, err = s.log.Append(t.Context(), eventlog.Request{Account: "000000000000", Command: policy.CreateEngine{ID: "X-0123456789", Name: "X"}})
	s.close()
	if !errors.Is(err, eventlog.ErrRefused) {
		t.Errorf("before it serves, a write gives %v", err)
	}
	r := b.start(t)
	_, err = r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "X"})
	wantProblem(t, "a write", err, connect.CodeFailedPrecondition, "log_went_back")
	if got := r.revision(t); got != "7" {
		t.Errorf("a read is answered at %s, want 7", got)
	}
	for _, condition := range []string{"relay", "writes"} {
		testenv.Eventually(t, condition, func() error { return r.ready(true, condition, false) })
	}
	resp, err := http.Get(r.url + "/readyz")
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	if want := "the log ends at position 7, and the stream has position 11"; !strings.Contains(string(data), want) {
		t.Errorf("/readyz does not say that %s: %s", want, data)
	}
}
