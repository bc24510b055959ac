package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

const account = "000000000000"

// newApp is an App over a log of its own, whose clock the test may break before anything happens.
func newApp(t *testing.T, now func() time.Time) *App {
	t.Helper()
	signer, keys := testenv.NewKeys(t)
	db := testenv.NewDatabase(t, func(ctx context.Context, owner string) error {
		_, err := eventlog.Migrate(ctx, owner, "", nil)
		return err
	})
	log, err := eventlog.Open(t.Context(), eventlog.Config{
		PostgresURL: db.URL, Signer: signer, Keys: keys, Logger: testenv.Logger(t), Now: now,
		Policy: policy.Config{Region: "us-east-1", Limits: policy.DefaultLimits()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return New(log, "us-east-1", testenv.Logger(t), prometheus.NewRegistry())
}

// create makes an engine with one policy.
func create(t *testing.T, a *App) policy.Ref {
	t.Helper()
	call := Call{Caller: identity.Caller{Account: account}}
	engine, err := a.Create(t.Context(), call, func(suffix string) policy.Command {
		return policy.CreateEngine{ID: "E-" + suffix, Name: "E"}
	})
	if err != nil {
		t.Fatal(err)
	}
	statement, err := policy.ParseStatement("permit(principal, action, resource is AgentCore::Gateway);")
	if err != nil {
		t.Fatal(err)
	}
	made, err := a.Create(t.Context(), call, func(suffix string) policy.Command {
		return policy.CreatePolicy{EngineID: engine.Ref.ID, ID: "p-" + suffix, Name: "p", Language: policy.LanguageCedar, Statement: statement}
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.Ref
}

// ends waits until the policy has failed, as it does without a tool, and gives the reasons.
func ends(t *testing.T, a *App, ref policy.Ref) []string {
	t.Helper()
	var reasons []string
	testenv.Eventually(t, "the end of the examination", func() error {
		all, _, err := a.Account(t.Context(), account)
		if err != nil {
			return err
		}
		p := all.Engine(ref.Parent).Policy(ref.ID)
		if reasons = p.Reasons; p.Status != policy.CreateFailed {
			return fmt.Errorf("it is %s", p.Status)
		}
		return nil
	})
	return reasons
}

// work runs the worker until the test ends.
func work(t *testing.T, a *App) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Work(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the worker ended with %v", err)
		}
	})
}

// An examination that panics fails its policy with a reason, and the worker goes on.
func TestExaminationPanics(t *testing.T) {
	t.Parallel()
	a := newApp(t, nil)
	a.examineWith = func(*policy.Account, policy.Ref, string) (policy.Examination, bool) { panic("the checker broke") }
	work(t, a)
	if got := ends(t, a, create(t, a)); len(got) != 1 || !strings.Contains(got[0], "an error in this service") {
		t.Errorf("its reasons are %q", got)
	}
}

// A verdict that could not be recorded is tried again, though nothing else happens.
func TestVerdictNotRecorded(t *testing.T) {
	t.Parallel()
	var broken atomic.Int32
	a := newApp(t, func() time.Time {
		if broken.Add(-1) >= 0 {
			panic("the clock broke")
		}
		return time.Now()
	})
	ref := create(t, a)
	broken.Store(1)
	work(t, a)
	ends(t, a, ref)
	if broken.Load() >= 0 {
		t.Error("nothing broke")
	}
}
