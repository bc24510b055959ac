package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

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
		PostgresURL: db.URL, Signer: signer, Keys: keys, Logger: testenv.Logger(t), Now: now, AppendTimeout: 30 * time.Second,
		Policy: policy.Config{Region: "us-east-1", Limits: policy.DefaultLimits()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return New(log, "us-east-1", func(identity.Caller) bool { return true }, testenv.Logger(t), prometheus.NewRegistry())
}

// create makes an engine with one policy, both of this name.
func create(t *testing.T, a *App, name string) policy.Ref {
	t.Helper()
	call := Call{Caller: identity.Caller{Account: account}}
	engine, err := a.Create(t.Context(), call, func(suffix string) policy.Command {
		return policy.CreateEngine{ID: name + "-" + suffix, Name: name}
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := a.Create(t.Context(), call, func(suffix string) policy.Command {
		return policy.CreatePolicy{EngineID: engine.Ref.ID, ID: name + "-" + suffix, Name: name, Language: policy.LanguageCedar, Statement: statement(t)}
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.Ref
}

func statement(t *testing.T) policy.Statement {
	t.Helper()
	s, err := policy.ParseStatement("permit(principal, action, resource is AgentCore::Gateway);")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ends waits until the policy has failed, as it does without a tool, and gives the reasons.
func ends(t *testing.T, a *App, ref policy.Ref, status policy.Status) []string {
	t.Helper()
	var reasons []string
	testenv.Eventually(t, "the end of the examination", func() error {
		all, _, err := a.Account(identity.NewContext(t.Context(), identity.Caller{Account: account}))
		if err != nil {
			return err
		}
		p := all.Engine(ref.Parent).Policy(ref.ID)
		if reasons = p.Reasons; p.Status != status {
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

// wantGivenUp wants the reasons of a policy to say that it was given up, or that it was examined.
func wantGivenUp(t *testing.T, reasons []string, want bool) {
	t.Helper()
	if got := len(reasons) == 1 && strings.Contains(reasons[0], "in 3 attempts, because of an error in this service"); got != want {
		t.Errorf("given up: %v, want %v: the reasons are %q", got, want, reasons)
	}
}

// An examination that panics three times fails its policy with a reason, and the worker goes on.
func TestExaminationPanics(t *testing.T) {
	t.Parallel()
	a := newApp(t, nil)
	a.pause = time.Millisecond
	var examined atomic.Int32
	a.examineWith = func(*policy.Account, policy.Ref, string) (policy.Examination, bool) {
		examined.Add(1)
		panic("the checker broke")
	}
	work(t, a)
	wantGivenUp(t, ends(t, a, create(t, a, "p"), policy.CreateFailed), true)
	if n := examined.Load(); n != attempts {
		t.Errorf("it was examined %d times", n)
	}
}

// A verdict that the log refuses is tried again, though nothing else happens; after three the policy is given up, however often
// that is refused.
func TestVerdictRefused(t *testing.T) {
	t.Parallel()
	for refusals, givenUp := range map[int32]bool{1: false, 2: false, 3: true, 6: true} {
		t.Run(fmt.Sprint(refusals), func(t *testing.T) {
			t.Parallel()
			var broken atomic.Int32
			a := newApp(t, func() time.Time {
				if broken.Add(-1) >= 0 {
					panic("the clock broke")
				}
				return time.Now()
			})
			a.pause = time.Millisecond
			ref := create(t, a, "p")
			broken.Store(refusals)
			work(t, a)
			wantGivenUp(t, ends(t, a, ref, policy.CreateFailed), givenUp)
		})
	}
}

// A policy that cannot be finished keeps no other from it, and is not tried again at every event.
func TestFailureDelaysNobody(t *testing.T) {
	t.Parallel()
	a := newApp(t, nil)
	a.pause = time.Hour
	var broken policy.Ref
	var examined atomic.Int32
	a.examineWith = func(account *policy.Account, ref policy.Ref, region string) (policy.Examination, bool) {
		if ref == broken {
			examined.Add(1)
			panic("the checker broke")
		}
		return policy.Examine(account, ref, region)
	}
	broken = create(t, a, "broken")
	work(t, a)
	testenv.Eventually(t, "the first examination", func() error {
		if examined.Load() == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	for _, name := range []string{"a", "b"} {
		wantGivenUp(t, ends(t, a, create(t, a, name), policy.CreateFailed), false)
	}
	if n := examined.Load(); n != 1 {
		t.Errorf("it was examined %d times", n)
	}
}

// While the log takes nothing, nothing is an attempt; also when it goes away between two transactions of one append.
func TestLogAwayIsNoAttempt(t *testing.T) {
	t.Parallel()
	var a *App
	var left atomic.Int32 // verdicts until the log goes away
	a = newApp(t, func() time.Time {
		if left.Add(-1) == 0 {
			a.log.Refuse(errors.New("the test says so"))
		}
		return time.Now()
	})
	a.pause = time.Millisecond
	const policies = 20
	var examined atomic.Int32
	a.examineWith = func(account *policy.Account, ref policy.Ref, region string) (policy.Examination, bool) {
		e, ok := policy.Examine(account, ref, region)
		if examined.Add(1) <= policies {
			e.Reasons = []string{strings.Repeat("x", 500<<10)} // so that a transaction does not take all
		}
		return e, ok
	}
	var refs []policy.Ref
	for i := range policies {
		refs = append(refs, create(t, a, fmt.Sprintf("p%d", i)))
	}
	left.Store(1)
	work(t, a)
	testenv.Eventually(t, "examinations", func() error {
		if n := examined.Load(); n < 100 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	a.log.Refuse(nil)
	for _, ref := range refs {
		ends(t, a, ref, policy.CreateFailed)
	}
	if n := testutil.ToFloat64(a.examined.WithLabelValues("error")); n != 0 {
		t.Errorf("%v attempts", n)
	}
}

// What failed with one version of a policy does not count for the next, also when another replica has finished the first.
func TestAttemptsAreOfAVersion(t *testing.T) {
	t.Parallel()
	a := newApp(t, nil)
	a.pause = time.Hour
	examining, finished := make(chan struct{}), make(chan struct{})
	var once sync.Once
	a.examineWith = func(account *policy.Account, ref policy.Ref, region string) (policy.Examination, bool) {
		once.Do(func() {
			close(examining)
			<-finished
			panic("the checker broke")
		})
		return policy.Examine(account, ref, region)
	}
	ref := create(t, a, "p")
	work(t, a)
	<-examining
	all, _, err := a.Account(identity.NewContext(t.Context(), identity.Caller{Account: account}))
	if err != nil {
		t.Fatal(err)
	}
	call := Call{Caller: identity.Caller{Account: account}}
	e, _ := policy.Examine(all, ref, "us-east-1")
	for _, command := range []policy.Command{
		policy.FinishPolicy{EngineID: ref.Parent, ID: ref.ID, Examination: e},
		policy.UpdatePolicy{EngineID: ref.Parent, ID: ref.ID, Language: policy.LanguageCedar, Statement: new(statement(t))},
	} {
		if _, err := a.Change(t.Context(), call, command); err != nil {
			t.Fatal(err)
		}
	}
	close(finished)
	ends(t, a, ref, policy.UpdateFailed)
}
