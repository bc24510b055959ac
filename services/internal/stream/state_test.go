package stream

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

func TestHead(t *testing.T) {
	t.Parallel()
	want := Head{LogID: "log", Position: 7, Hash: policy.Hash{1, 2, 3}}
	for _, nonce := range [][]byte{nil, []byte("nonce")} {
		m, err := SealHead(want, nonce, goldenSigner)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := OpenHead(m, nonce, goldenKeys()); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
		for name, other := range map[string][]byte{"none": nil, "another": []byte("nonc2"), "longer": []byte("nonce ")} {
			if slices.Equal(other, nonce) {
				continue
			}
			if _, err := OpenHead(m, other, goldenKeys()); !errors.Is(err, ErrSignature) {
				t.Errorf("for %q, opened with %s: %v", nonce, name, err)
			}
		}
	}
}

func TestOpenHeadRefuses(t *testing.T) {
	t.Parallel()
	nonce := []byte("nonce")
	good, err := SealHead(Head{LogID: "log", Position: 7}, nonce, goldenSigner)
	if err != nil {
		t.Fatal(err)
	}
	data := mustMarshal(t, good)
	for at := range data {
		data[at] ^= 1
		var m eventv1.SignedHead
		if proto.Unmarshal(data, &m) == nil {
			if _, err := OpenHead(&m, nonce, goldenKeys()); !errors.Is(err, ErrSignature) {
				t.Errorf("byte %d: %v", at, err)
			}
		}
		data[at] ^= 1
	}
	inDomain := func(domain string, body []byte) *eventv1.SignedHead {
		return &eventv1.SignedHead{Body: body, KeyId: goldenSigner.KeyID(), Signature: goldenSigner.sign(domain, body)}
	}
	short := mustMarshal(t, &eventv1.Head{Nonce: nonce, Hash: make([]byte, 31)})
	for name, c := range map[string]struct {
		m    *eventv1.SignedHead
		want string
	}{
		"nothing":              {nil, "is not trusted"},
		"signed as an event":   {inDomain(eventDomain, good.GetBody()), "did not sign this"},
		"signed as a state":    {inDomain(stateDomain, good.GetBody()), "did not sign this"},
		"no head":              {inDomain(headDomain, []byte{1}), "head: "},
		"hash of other length": {inDomain(headDomain, short), "hash has 31 bytes"},
	} {
		if _, err := OpenHead(c.m, nonce, goldenKeys()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
	}
}

func TestSealedState(t *testing.T) {
	t.Parallel()
	s := goldenState(t)
	data, manifest, err := SealState(s, goldenSigner)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenState(data, manifest, goldenKeys())
	if err != nil {
		t.Fatal(err)
	}
	again, err := EncodeState(got)
	if err != nil || !slices.Equal(again, data) {
		t.Errorf("it is another state: %v", err)
	}
	for at := 0; at < len(data); at += 7 {
		data[at] ^= 1
		if _, err := OpenState(data, manifest, goldenKeys()); !errors.Is(err, ErrHash) {
			t.Errorf("byte %d: %v", at, err)
		}
		data[at] ^= 1
	}
	for name, other := range map[string][]byte{"nothing": nil, "less": data[:len(data)-1], "more": append(slices.Clone(data), 0)} {
		if _, err := OpenState(other, manifest, goldenKeys()); !errors.Is(err, ErrHash) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A manifest is refused when it is not signed as one, or is about another state than its bytes are.
func TestOpenStateRefusesManifests(t *testing.T) {
	t.Parallel()
	data, good, err := SealState(goldenState(t), goldenSigner)
	if err != nil {
		t.Fatal(err)
	}
	with := func(domain string, change func(*eventv1.StateManifest)) *eventv1.SignedStateManifest {
		var m eventv1.StateManifest
		if err := proto.Unmarshal(good.GetBody(), &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		body := mustMarshal(t, &m)
		return &eventv1.SignedStateManifest{Body: body, KeyId: goldenSigner.KeyID(), Signature: goldenSigner.sign(domain, body)}
	}
	for name, c := range map[string]struct {
		m    *eventv1.SignedStateManifest
		want error
	}{
		"nothing":            {nil, ErrSignature},
		"signed as a head":   {with(headDomain, func(*eventv1.StateManifest) {}), ErrSignature},
		"of another log":     {with(stateDomain, func(m *eventv1.StateManifest) { m.LogId = "other" }), ErrHash},
		"of another place":   {with(stateDomain, func(m *eventv1.StateManifest) { m.Position++ }), ErrHash},
		"of another hash":    {with(stateDomain, func(m *eventv1.StateManifest) { m.Hash[0]++ }), ErrHash},
		"of another size":    {with(stateDomain, func(m *eventv1.StateManifest) { m.Size++ }), ErrHash},
		"of another digest":  {with(stateDomain, func(m *eventv1.StateManifest) { m.Digest[0]++ }), ErrHash},
		"without any digest": {with(stateDomain, func(m *eventv1.StateManifest) { m.Digest = nil }), ErrHash},
	} {
		if _, err := OpenState(data, c.m, goldenKeys()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestDecodeStateRefuses(t *testing.T) {
	t.Parallel()
	data, err := EncodeState(goldenState(t))
	if err != nil {
		t.Fatal(err)
	}
	change := func(m *eventv1.State) *eventv1.ChangeState { return m.GetAccounts()[0].GetChanges()[0] }
	engine := func(m *eventv1.State) *eventv1.EngineState { return m.GetAccounts()[0].GetEngines()[0] }
	for name, c := range map[string]struct {
		spoil func(*eventv1.State)
		want  string
	}{
		"later format":          {func(m *eventv1.State) { m.Format = 2 }, "state has format 2, this version reads 1"},
		"no format":             {func(m *eventv1.State) { m.Format = 0 }, "state has format 0"},
		"no hash":               {func(m *eventv1.State) { m.Hash = nil }, "hash has 0 bytes"},
		"account twice":         {func(m *eventv1.State) { m.Accounts = append(m.Accounts, m.Accounts[0]) }, "stands twice"},
		"account settings":      {func(m *eventv1.State) { m.Accounts[0].Settings = &eventv1.Settings{OnStale: 9} }, "settings.onStale"},
		"engine of nothing":     {func(m *eventv1.State) { *engine(m) = eventv1.EngineState{} }, "status is missing"},
		"engine settings":       {func(m *eventv1.State) { engine(m).Settings = &eventv1.Settings{OnStale: 9} }, "settings.onStale"},
		"engine not defined":    {func(m *eventv1.State) { engine(m).InForce = nil }, "is \"ACTIVE\" with something in force: false"},
		"unknown status":        {func(m *eventv1.State) { engine(m).Lifecycle.Status = 99 }, "status has the unknown value 99"},
		"policy not defined":    {func(m *eventv1.State) { engine(m).Policies[0].InForce = nil }, "with something in force: false"},
		"policy of no language": {func(m *eventv1.State) { engine(m).Policies[0].InForce = &eventv1.PolicyBody{} }, "exactly one of cedar or policy"},
		"candidate of no kind":  {func(m *eventv1.State) { engine(m).Policies[1].Candidate = &eventv1.PolicyBody{} }, "exactly one of cedar or policy"},
		"gateway of later mode": {func(m *eventv1.State) { m.Accounts[0].Gateways[0].InForce.AuthorizerType = 99 }, "authorizerType"},
		"gateway not defined":   {func(m *eventv1.State) { m.Accounts[0].Gateways[0].InForce = nil }, "with something in force: false"},
		"target not defined":    {func(m *eventv1.State) { m.Accounts[0].Gateways[0].Targets[0].InForce = nil }, "with something in force: false"},
		"change twice": {func(m *eventv1.State) {
			m.Accounts[0].Changes = append(m.Accounts[0].Changes, m.Accounts[0].Changes...)
		}, "change c1b2c3d4e5: is there already"},
		"change of a later kind": {func(m *eventv1.State) { change(m).Proposed.Events[0].Type = "policy.renamed" }, "policy.renamed version 1"},
		"change of a change": {func(m *eventv1.State) {
			change(m).Proposed.Events[0] = carrying("change/x", "change.approved", 1).Events[0]
		}, "change.approved version 1"},
		"change of the log":      {func(m *eventv1.State) { change(m).Proposed.Events[0] = carrying("log/x", "log.created", 1).Events[0] }, "proposes log.created"},
		"change on nothing":      {func(m *eventv1.State) { change(m).Proposed.Basis[0].Stream = "" }, `basis: stream ""`},
		"target that is nothing": {func(m *eventv1.State) { m.Accounts[0].Gateways[0].Targets[0] = &eventv1.TargetState{} }, "status is missing"},
	} {
		var m eventv1.State
		if err := proto.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		c.spoil(&m)
		if _, err := DecodeState(mustMarshal(t, &m)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
	}
	if _, err := DecodeState(data[:len(data)-1]); err == nil {
		t.Error("a part of a state was decoded")
	}
}

// A state in the middle of a command never gets out.
func TestEncodeStateRefusesHalves(t *testing.T) {
	t.Parallel()
	s := goldenState(t)
	r := s.Next(goldenAccount, policy.EngineCreated{ID: "x", Name: "x"}, 0)
	half, err := s.Apply(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := SealState(half, goldenSigner); err == nil || !strings.Contains(err.Error(), "in the middle of a command") {
		t.Errorf("%v", err)
	}
}

// Any bytes are refused, or are a state with which everything can be done that is done with states, and nobody falls over.
func FuzzDecodeState(f *testing.F) {
	records, _ := goldenRecords(f)
	s := policy.Empty()
	for _, r := range records {
		if s.Whole {
			data, err := EncodeState(s)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
		s, _ = s.Apply(r)
	}
	config := policy.Config{Region: "us-east-1", Limits: policy.DefaultLimits()}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := DecodeState(data)
		if err != nil {
			return
		}
		_ = s.Verify()
		stored, err := EncodeState(s)
		if err != nil {
			t.Fatal(err)
		}
		restored, err := DecodeState(stored)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := EncodeState(restored); err != nil || !slices.Equal(again, stored) {
			t.Fatalf("the state is another one when restored: %v", err)
		}
		for a := range s.Accounts() {
			for _, c := range commandsFor(a) {
				_, _ = policy.Decide(s, a.ID, c, config)
			}
		}
	})
}

// commandsFor are commands about everything in an account.
func commandsFor(a *policy.Account) []policy.Command {
	var commands []policy.Command
	for ref := range a.Pending() {
		e, _ := policy.Examine(a, ref, "us-east-1")
		commands = append(commands, policy.FinishPolicy{EngineID: ref.Parent, ID: ref.ID, Examination: e})
	}
	for c := range a.ChangesAfter("") {
		commands = append(commands, policy.ApproveChange{ID: c.ID}, policy.RejectChange{ID: c.ID})
		_ = a.Outdated(c)
	}
	statement, _ := policy.ParseStatement("permit(principal, action, resource is AgentCore::Gateway);")
	for e := range a.EnginesAfter("") {
		commands = append(commands, policy.UpdateEngine{ID: e.ID}, policy.DeleteEngine{ID: e.ID}, policy.CreatePolicy{EngineID: e.ID, Statement: statement})
		for p := range e.PoliciesAfter("") {
			commands = append(commands, policy.UpdatePolicy{EngineID: e.ID, ID: p.ID, Statement: &statement}, policy.DeletePolicy{EngineID: e.ID, ID: p.ID},
				policy.ProposeChange{ID: "0123456789", Command: policy.DeletePolicy{EngineID: e.ID, ID: p.ID}},
				policy.FinishPolicy{EngineID: e.ID, ID: p.ID, Examination: policy.Examination{Version: p.Version}})
		}
		for g := range a.GatewaysAfter("") {
			commands = append(commands, policy.AttachEngine{GatewayID: g.ID, EngineID: e.ID, Mode: policy.ModeEnforce})
		}
	}
	for g := range a.GatewaysAfter("") {
		commands = append(commands, policy.DetachEngine{GatewayID: g.ID}, policy.DeleteGateway{ID: g.ID},
			policy.CreateTarget{GatewayID: g.ID, Definition: goldenLambda()}, policy.RemoveTags{Of: policy.GatewayRef(g.ID), Keys: []string{"a"}})
		for t := range g.TargetsAfter("") {
			commands = append(commands, policy.UpdateTarget{GatewayID: g.ID, ID: t.ID, Definition: goldenLambda()}, policy.DeleteTarget{GatewayID: g.ID, ID: t.ID})
		}
	}
	return commands
}
