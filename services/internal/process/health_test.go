package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func readyz(t *testing.T, h *Health) (int, []Status) {
	t.Helper()
	w := httptest.NewRecorder()
	h.serveReady(w, httptest.NewRequest(http.MethodGet, "/readyz", nil), true)
	var statuses []Status
	for line := range bytes.Lines(w.Body.Bytes()) {
		var s Status
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		statuses = append(statuses, s)
	}
	return w.Code, statuses
}

func TestReadyIsEveryRequiredCondition(t *testing.T) {
	t.Parallel()
	names := []struct {
		name     string
		required bool
	}{{"database", true}, {"relay", false}, {"follower", true}}
	for broken := -1; broken < len(names); broken++ {
		h := newHealth()
		want := []Status{{Condition: "serving", OK: true, Required: true}}
		status := http.StatusOK
		for i, n := range names {
			s := Status{Condition: n.name, OK: true, Required: n.required}
			var err error
			if i == broken {
				err = errors.New("it broke")
				s.OK, s.Detail = false, "it broke"
				if n.required {
					status = http.StatusServiceUnavailable
				}
			}
			h.Register(n.name, n.required, func(context.Context) error { return err })
			want = append(want, s)
		}
		gotStatus, got := readyz(t, h)
		if diff := cmp.Diff(want, got); diff != "" || gotStatus != status {
			t.Errorf("condition %d broken: status %d, want %d %s", broken, gotStatus, status, diff)
		}
	}
}

func TestDrainingIsUnready(t *testing.T) {
	t.Parallel()
	h := newHealth()
	h.Register("database", true, func(context.Context) error { return nil })
	h.Drain()
	status, got := readyz(t, h)
	want := []Status{
		{Condition: "serving", OK: false, Required: true, Detail: "shutting down"},
		{Condition: "database", OK: true, Required: true},
	}
	if diff := cmp.Diff(want, got); diff != "" || status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", status, diff)
	}
}

func TestChecksAreBoundedAndSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth()
		release := make(chan struct{})
		var runs atomic.Int32
		h.Register("slow", true, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		h.Register("slow but sure", true, func(context.Context) error {
			time.Sleep(900 * time.Millisecond)
			return nil
		})
		h.Register("hangs", true, func(context.Context) error {
			runs.Add(1)
			<-release
			return nil
		})
		h.Register("panics", true, func(context.Context) error { panic("oh") })
		for range 3 {
			start := time.Now()
			_, got := readyz(t, h)
			if took := time.Since(start); took > 1100*time.Millisecond {
				t.Errorf("took %s", took)
			}
			want := []Status{
				{Condition: "serving", OK: true, Required: true},
				{Condition: "slow", Required: true, Detail: "no answer within 1s"},
				{Condition: "slow but sure", OK: true, Required: true},
				{Condition: "hangs", Required: true, Detail: "no answer within 1s"},
				{Condition: "panics", Required: true, Detail: "the check panicked: oh"},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		if runs.Load() != 1 {
			t.Errorf("the check that hangs runs %d times", runs.Load())
		}
		close(release)
		synctest.Wait()
		if _, got := readyz(t, h); !got[3].OK {
			t.Errorf("the check that hung is still held against it: %+v", got[3])
		}
	})
}

func TestWhoStopsWaitingGetsNoAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth()
		h.Register("slow", true, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("gone"))
		if got, ready := h.Check(ctx); ready || got[1].Detail != "not waited for: gone" {
			t.Errorf("%+v", got)
		}
		time.Sleep(checkTimeout) // of the bubble: the check ends too
	})
}

func TestConditionsAreMetrics(t *testing.T) {
	t.Parallel()
	h := newHealth()
	h.Register("relay", false, func(context.Context) error { return errors.New("stopped") })
	want := `# HELP verdict_condition 1 while the condition of /readyz holds, else 0.
# TYPE verdict_condition gauge
verdict_condition{condition="relay",required="false"} 0
verdict_condition{condition="serving",required="true"} 1
`
	if err := testutil.CollectAndCompare(h, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestConditionsMustDiffer(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"twice", "serving"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("condition %s registered", name)
				}
			}()
			h := newHealth()
			h.Register("twice", true, nil)
			h.Register(name, true, nil)
		}()
	}
}
