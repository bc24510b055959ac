//go:build faults

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	agentcore "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
)

// replicas are two controls on one database, as AWS's SDK sees them.
type replicas struct {
	*fleet

	clients []*agentcore.Client
}

// race has n writers ask at the same time, of which every other one asks the same replica.
func (r *replicas) race(n int, ask func(i int, c *agentcore.Client)) {
	begin := make(chan struct{})
	var writing sync.WaitGroup
	for i := range n {
		writing.Go(func() {
			<-begin
			ask(i, r.clients[i%len(r.clients)])
		})
	}
	close(begin)
	writing.Wait()
}

// contest has 200 writers make something under one of 20 names. It wants each name to be taken once, and everybody else to be told
// so; it is the ids by the names.
func (r *replicas) contest(t *testing.T, what string, create func(i int, c *agentcore.Client, name string) (id *string, err error)) map[string]string {
	t.Helper()
	const writers, names = 200, 20
	var mu sync.Mutex // guards what follows
	made, conflicts := map[string]string{}, 0
	r.race(writers, func(i int, c *agentcore.Client) {
		name := fmt.Sprintf("%s%d", what, i/2%names) // the writers of a name are on both replicas
		id, err := create(i, c, name)
		mu.Lock()
		defer mu.Unlock()
		if _, taken := errors.AsType[*types.ConflictException](err); taken {
			conflicts++
			return
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if before, twice := made[name]; twice {
			t.Errorf("%s was made twice: %s and %s", name, before, *id)
		}
		made[name] = *id
	})
	t.Logf("%s: %d writers of %d names on %d replicas: %d made, %d conflicts", what, writers, names, len(r.clients), len(made), conflicts)
	if len(made) != names || conflicts != writers-names {
		t.Errorf("%s: %d made and %d conflicts, want %d and %d", what, len(made), conflicts, names, writers-names)
	}
	return made
}

// repeat has 50 writers make the same request with the same client token. It wants all to be told of the same thing.
func (r *replicas) repeat(t *testing.T, what string, create func(c *agentcore.Client) (id *string, err error)) string {
	t.Helper()
	const writers = 50
	var mu sync.Mutex // guards ids
	ids := map[string]int{}
	r.race(writers, func(_ int, c *agentcore.Client) {
		id, err := create(c)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		ids[*id]++
	})
	t.Logf("%s: %d requests with one client token on %d replicas made %v", what, writers, len(r.clients), ids)
	if len(ids) != 1 {
		t.Errorf("%s: one request made %v", what, ids)
	}
	for id := range ids {
		return id
	}
	return ""
}

// engines are the ids by the names, as one replica lists them.
func engines(t *testing.T, c *agentcore.Client) map[string]string {
	t.Helper()
	all := map[string]string{}
	pages := agentcore.NewListPolicyEnginesPaginator(c, &agentcore.ListPolicyEnginesInput{MaxResults: new(int32(7))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		must(t, err)
		for _, e := range page.PolicyEngines {
			all[*e.Name] = *e.PolicyEngineId
		}
	}
	return all
}

// policies are the ids by the names of all engines' policies, as one replica lists them.
func policies(t *testing.T, c *agentcore.Client) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, engine := range engines(t, c) {
		pages := agentcore.NewListPoliciesPaginator(c, &agentcore.ListPoliciesInput{PolicyEngineId: &engine, MaxResults: new(int32(7))})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			must(t, err)
			for _, p := range page.Policies {
				all[*p.Name] = *p.PolicyId
			}
		}
	}
	return all
}

// Two replicas, and 200 writers who want the same names: each name is taken once, in whichever engine, everybody else hears of a
// conflict, and a request that is made many times at once is carried out once. Both replicas know the same afterwards.
func TestWritersOfTheSameNames(t *testing.T) {
	t.Parallel()
	r := &replicas{fleet: newPatientFleet(t)}
	for range 2 {
		r.clients = append(r.clients, agentCore(r.takesWrites(t, anyAddr).url))
	}
	ctx := t.Context()
	r.loadTools(t, r.clients[0])
	wantEngines := r.contest(t, "Engine", func(_ int, c *agentcore.Client, name string) (*string, error) {
		out, err := c.CreatePolicyEngine(ctx, &agentcore.CreatePolicyEngineInput{Name: &name})
		if err != nil {
			return nil, err
		}
		return out.PolicyEngineId, nil
	})
	wantEngines["Repeated"] = r.repeat(t, "Repeated", func(c *agentcore.Client) (*string, error) {
		out, err := c.CreatePolicyEngine(ctx, &agentcore.CreatePolicyEngineInput{Name: new("Repeated"), ClientToken: new("2f0a2f0e-5f0e-4f0f-9a5e-0d4b7c3f9a11")})
		if err != nil {
			return nil, err
		}
		return out.PolicyEngineId, nil
	})
	in := slices.Sorted(maps.Values(wantEngines))
	wantPolicies := r.contest(t, "policy", func(i int, c *agentcore.Client, name string) (*string, error) {
		return r.createPolicy(ctx, c, &agentcore.CreatePolicyInput{PolicyEngineId: &in[i%len(in)], Name: &name})
	})
	wantPolicies["repeated"] = r.repeat(t, "repeated", func(c *agentcore.Client) (*string, error) {
		return r.createPolicy(ctx, c, &agentcore.CreatePolicyInput{PolicyEngineId: &r.engine, Name: new("repeated"), ClientToken: new("3f0a2f0e-5f0e-4f0f-9a5e-0d4b7c3f9a11")})
	})
	wantEngines["RefundEngine"] = r.engine
	for _, c := range r.clients {
		if got := engines(t, c); !maps.Equal(got, wantEngines) {
			t.Errorf("the engines are %v, want %v", got, wantEngines)
		}
		if got := policies(t, c); !maps.Equal(got, wantPolicies) {
			t.Errorf("the policies are %v, want %v", got, wantPolicies)
		}
	}
	r.wantPublished(t)
}

// createPolicy makes a policy that permits refunds.
func (r *replicas) createPolicy(ctx context.Context, c *agentcore.Client, in *agentcore.CreatePolicyInput) (*string, error) {
	in.Definition = r.refunds("process_refund")
	out, err := c.CreatePolicy(ctx, in)
	if err != nil {
		return nil, err
	}
	return out.PolicyId, nil
}
