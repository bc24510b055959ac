package app

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// An examination that panics fails its policy with a reason, and the worker goes on.
func TestExaminationPanics(t *testing.T) {
	t.Parallel()
	signer, keys := testenv.NewKeys(t)
	db := testenv.NewDatabase(t, func(ctx context.Context, owner string) error {
		_, err := eventlog.Migrate(ctx, owner, "")
		return err
	})
	log, err := eventlog.Open(t.Context(), eventlog.Config{
		PostgresURL: db.URL, Signer: signer, Keys: keys, Logger: testenv.Logger(t),
		Policy: policy.Config{Region: "us-east-1", Limits: policy.DefaultLimits()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	a := New(log, "us-east-1", testenv.Logger(t), prometheus.NewRegistry())
	a.examineWith = func(*policy.Account, policy.Ref, string) (policy.Examination, bool) { panic("the checker broke") }
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Work(ctx) }()

	call := Call{Caller: identity.Caller{Account: "000000000000"}}
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
	testenv.Eventually(t, "the end of the examination", func() error {
		account, _, err := a.Account(t.Context(), call.Caller.Account)
		if err != nil {
			return err
		}
		p := account.Engine(engine.Ref.ID).Policy(made.Ref.ID)
		if p.Status != policy.CreateFailed || len(p.Reasons) != 1 {
			return fmt.Errorf("it is %s for %q", p.Status, p.Reasons)
		}
		return nil
	})
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the worker ended with %v", err)
	}
}
