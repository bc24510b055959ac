package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/policy"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	refunds, spare, other := engineID("Refunds"), engineID("Spare"), engineID("Other")
	refund, bare := gatewayID("Refund"), gatewayID("Bare")
	tags := map[string]string{"team": "payments"}
	active := policy.PolicyRef(refunds, policyID("active"))
	settings := policy.Settings{StalenessBound: new(time.Second), OnStale: policy.OnStaleDeny, StrictForbids: new(false), RedactedPaths: new([]string{"/context/input/card"})}
	body := policy.Body{Language: policy.LanguageCedar, Statement: permitAll, Enforcement: policy.EnforcementActive, Validation: policy.FailOnAnyFindings}
	with := func(change func(*policy.Body)) policy.Body { b := body; change(&b); return b }
	target := policy.TargetRef(refund, "target0001")
	attached := func(engine string, mode policy.EngineMode) policy.GatewayDefinition {
		d := gatewayTo("")
		d.PolicyEngine = &policy.EngineAttachment{EngineID: engine, Mode: mode}
		return d
	}

	for name, c := range map[string]struct {
		command policy.Command
		want    []policy.Event
	}{
		"account settings": {
			policy.SetAccountSettings{Settings: settings},
			[]policy.Event{policy.AccountSettingsChanged{Account: alice, Settings: settings}},
		},
		"create engine": {
			policy.CreateEngine{ID: engineID("New"), Name: "New", Definition: policy.EngineDefinition{Description: "d"}, Tags: tags},
			[]policy.Event{
				policy.EngineCreated{ID: engineID("New"), Name: "New", Definition: policy.EngineDefinition{Description: "d"}, Tags: tags},
				policy.Activated{Of: policy.EngineRef(engineID("New"))},
			},
		},
		"create engine named as another account's": {
			createEngine("Other"),
			[]policy.Event{policy.EngineCreated{ID: other, Name: "Other"}, policy.Activated{Of: policy.EngineRef(other)}},
		},
		"update engine": {
			policy.UpdateEngine{ID: spare, Description: new("new"), ExpectedVersion: 2},
			[]policy.Event{
				policy.EngineUpdateRequested{ID: spare, Definition: policy.EngineDefinition{Description: "new"}},
				policy.Activated{Of: policy.EngineRef(spare)},
			},
		},
		"engine settings": {
			policy.SetEngineSettings{ID: spare, Settings: settings},
			[]policy.Event{policy.EngineSettingsChanged{ID: spare, Settings: settings}},
		},
		"delete engine": {
			policy.DeleteEngine{ID: spare},
			[]policy.Event{policy.DeleteRequested{Of: policy.EngineRef(spare)}, policy.Deleted{Of: policy.EngineRef(spare)}},
		},
		"create policy, with defaults": {
			createPolicy(t, "Spare", "fresh", permitAll),
			[]policy.Event{policy.PolicyCreated{EngineID: spare, ID: policyID("fresh"), Name: "fresh", Body: body}},
		},
		"create policy, all given": {
			policy.CreatePolicy{
				EngineID: spare, ID: policyID("fresh"), Name: "fresh", Language: policy.LanguagePolicy, Statement: parse(t, permitRefund),
				Description: "d", Enforcement: policy.EnforcementLogOnly, Validation: policy.IgnoreAllFindings, Tags: tags,
			},
			[]policy.Event{policy.PolicyCreated{EngineID: spare, ID: policyID("fresh"), Name: "fresh", Tags: tags, Body: policy.Body{
				Language: policy.LanguagePolicy, Statement: permitRefund, Resource: refundGateway,
				Description: "d", Enforcement: policy.EnforcementLogOnly, Validation: policy.IgnoreAllFindings,
			}}},
		},
		"update policy, so that it decides no more": {
			policy.UpdatePolicy{EngineID: refunds, ID: policyID("active"), Enforcement: policy.EnforcementLogOnly},
			[]policy.Event{policy.PolicyUpdateRequested{EngineID: refunds, ID: policyID("active"), Body: with(func(b *policy.Body) {
				b.Enforcement = policy.EnforcementLogOnly
			})}, policy.Activated{Of: active}},
		},
		"update policy, the description alone": {
			policy.UpdatePolicy{EngineID: refunds, ID: policyID("active"), Description: new("d"), Validation: policy.IgnoreAllFindings},
			[]policy.Event{policy.PolicyUpdateRequested{EngineID: refunds, ID: policyID("active"), Body: with(func(b *policy.Body) {
				b.Description, b.Validation = "d", policy.IgnoreAllFindings
			})}, policy.Activated{Of: active}},
		},
		"update policy, the statement": {
			policy.UpdatePolicy{EngineID: refunds, ID: policyID("active"), Language: policy.LanguagePolicy, Statement: new(parse(t, permitRefund)), Description: new("d")},
			[]policy.Event{policy.PolicyUpdateRequested{EngineID: refunds, ID: policyID("active"), Body: with(func(b *policy.Body) {
				b.Language, b.Statement, b.Resource, b.Description = policy.LanguagePolicy, permitRefund, refundGateway, "d"
			})}},
		},
		"update policy that could not be created": {
			policy.UpdatePolicy{EngineID: refunds, ID: policyID("failed"), Language: policy.LanguageCedar, Statement: new(parse(t, permitAll))},
			[]policy.Event{policy.PolicyUpdateRequested{EngineID: refunds, ID: policyID("failed"), Body: body}},
		},
		"delete policy": {
			policy.DeletePolicy{EngineID: refunds, ID: policyID("active")},
			[]policy.Event{
				policy.DeleteRequested{Of: policy.PolicyRef(refunds, policyID("active"))},
				policy.Deleted{Of: policy.PolicyRef(refunds, policyID("active"))},
			},
		},
		"delete policy that could not be created": {
			policy.DeletePolicy{EngineID: refunds, ID: policyID("failed")},
			[]policy.Event{
				policy.DeleteRequested{Of: policy.PolicyRef(refunds, policyID("failed"))},
				policy.Deleted{Of: policy.PolicyRef(refunds, policyID("failed"))},
			},
		},
		"create gateway": {
			policy.CreateGateway{ID: gatewayID("New"), Name: "New", Definition: gatewayTo("Spare"), Tags: tags},
			[]policy.Event{
				policy.GatewayCreated{ID: gatewayID("New"), Name: "New", Definition: gatewayTo("Spare"), Tags: tags},
				policy.Activated{Of: policy.GatewayRef(gatewayID("New"))},
			},
		},
		"update gateway detaches when the engine is left out": {
			policy.UpdateGateway{ID: refund, Definition: gatewayTo("")},
			[]policy.Event{policy.GatewayUpdateRequested{ID: refund, Definition: gatewayTo("")}, policy.Activated{Of: policy.GatewayRef(refund)}},
		},
		"attach": {
			policy.AttachEngine{GatewayID: bare, EngineID: spare, Mode: policy.ModeLogOnly},
			[]policy.Event{
				policy.GatewayUpdateRequested{ID: bare, Definition: attached(spare, policy.ModeLogOnly)},
				policy.Activated{Of: policy.GatewayRef(bare)},
			},
		},
		"attach in another mode": {
			policy.AttachEngine{GatewayID: refund, EngineID: refunds, Mode: policy.ModeLogOnly},
			[]policy.Event{
				policy.GatewayUpdateRequested{ID: refund, Definition: attached(refunds, policy.ModeLogOnly)},
				policy.Activated{Of: policy.GatewayRef(refund)},
			},
		},
		"attach what is attached": {policy.AttachEngine{GatewayID: refund, EngineID: refunds, Mode: policy.ModeEnforce}, nil},
		"detach": {
			policy.DetachEngine{GatewayID: refund},
			[]policy.Event{policy.GatewayUpdateRequested{ID: refund, Definition: gatewayTo("")}, policy.Activated{Of: policy.GatewayRef(refund)}},
		},
		"detach nothing": {policy.DetachEngine{GatewayID: bare}, nil},
		"delete gateway": {
			policy.DeleteGateway{ID: bare},
			[]policy.Event{policy.DeleteRequested{Of: policy.GatewayRef(bare)}, policy.Deleted{Of: policy.GatewayRef(bare)}},
		},
		"create target": {
			createTarget("Bare", "target0002", "RefundTarget", "a"),
			[]policy.Event{
				policy.TargetCreated{GatewayID: bare, ID: "target0002", Name: "RefundTarget", Definition: lambda("a")},
				policy.Activated{Of: policy.TargetRef(bare, "target0002")},
			},
		},
		"update target": {
			policy.UpdateTarget{GatewayID: refund, ID: "target0001", Definition: lambda("a"), ExpectedVersion: 2},
			[]policy.Event{
				policy.TargetUpdateRequested{GatewayID: refund, ID: "target0001", Definition: lambda("a")},
				policy.Activated{Of: target},
			},
		},
		"delete target": {
			policy.DeleteTarget{GatewayID: refund, ID: "target0001"},
			[]policy.Event{policy.DeleteRequested{Of: target}, policy.Deleted{Of: target}},
		},
		"add tags": {
			policy.AddTags{Of: policy.PolicyRef(refunds, policyID("creating")), Tags: tags},
			[]policy.Event{policy.TagsChanged{Of: policy.PolicyRef(refunds, policyID("creating")), Tags: tags}},
		},
		"remove tags that are not there": {policy.RemoveTags{Of: policy.EngineRef(spare), Keys: []string{"team"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			got := w.do(alice, c.command)
			wantEvents(t, got, c.want...)
			if err := w.s.Verify(); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestDecideFinish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"creating", "updating"} {
		ref := policy.PolicyRef(engineID("Refunds"), policyID(name))
		wantEvents(t, w.do(alice, w.examined(alice, ref)), policy.Activated{Of: ref})
	}
	w.do(alice, createPolicy(t, "Spare", "unattached", permitAll))
	ref := policy.PolicyRef(engineID("Spare"), policyID("unattached"))
	finish := w.examined(alice, ref)
	if len(finish.Examination.Reasons) == 0 {
		t.Fatal("a policy without tools has passed")
	}
	wantEvents(t, w.do(alice, finish), policy.Failed{Of: ref, Reasons: finish.Examination.Reasons})
	if _, ok := policy.Examine(w.s.Account(alice), ref, region); ok {
		t.Error("it waits still")
	}
	if _, ok := policy.Examine(w.s.Account(alice), policy.PolicyRef("nowhere", "none"), region); ok {
		t.Error("a policy of no engine waits")
	}
}

func TestDecideTagsAreMergedAndTakenAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, ref := range []policy.Ref{policy.EngineRef(engineID("Spare")), policy.GatewayRef(gatewayID("Bare")), policy.PolicyRef(engineID("Refunds"), policyID("active"))} {
		w.do(alice, policy.AddTags{Of: ref, Tags: map[string]string{"a": "1", "b": "2"}})
		wantEvents(t, w.do(alice, policy.AddTags{Of: ref, Tags: map[string]string{"b": "3", "c": ""}}),
			policy.TagsChanged{Of: ref, Tags: map[string]string{"a": "1", "b": "3", "c": ""}})
		wantEvents(t, w.do(alice, policy.AddTags{Of: ref, Tags: map[string]string{"a": "1"}}))
		wantEvents(t, w.do(alice, policy.RemoveTags{Of: ref, Keys: []string{"a", "nothing"}}),
			policy.TagsChanged{Of: ref, Tags: map[string]string{"b": "3", "c": ""}})
		w.do(alice, policy.RemoveTags{Of: ref, Keys: []string{"b", "c"}})
		if tags := w.s.Account(alice).Tags(ref); tags != nil {
			t.Errorf("%v has the tags %v", ref, tags)
		}
	}
	w.do(alice, policy.CreateEngine{ID: engineID("New"), Name: "New", Tags: map[string]string{}})
	if tags := w.s.Account(alice).Tags(policy.EngineRef(engineID("New"))); tags != nil {
		t.Errorf("no tags became %v, which a restored state would not have", tags)
	}
}

func TestCreateLog(t *testing.T) {
	t.Parallel()
	events, err := policy.Decide(policy.Empty(), policy.LogAccount, policy.CreateLog{ID: "x", Region: region}, config())
	if err != nil {
		t.Fatal(err)
	}
	wantEvents(t, events, policy.LogCreated{LogID: "x", Region: region})
	refusal{policy.ErrInvalid, "required", "logId", ""}.check(t, policy.CreateLog{}.Check())
	_, err = policy.Decide(emptyWorld(t).s, policy.LogAccount, policy.CreateLog{ID: "x"}, config())
	refusal{policy.ErrExists, "log_exists", "", "log-1"}.check(t, err)
}

func TestDecideRefuses(t *testing.T) {
	t.Parallel()
	refunds, spare, other := engineID("Refunds"), engineID("Spare"), engineID("Other")
	refund, bare := gatewayID("Refund"), gatewayID("Bare")
	noEngine := refusal{policy.ErrNotFound, "engine_not_found", "policyEngineId", "there is no policy engine"}
	noPolicy := refusal{policy.ErrNotFound, "policy_not_found", "policyId", "there is no policy"}
	noGateway := refusal{policy.ErrNotFound, "gateway_not_found", "gatewayId", "there is no gateway"}
	noTarget := refusal{policy.ErrNotFound, "target_not_found", "targetId", "there is no target"}
	stale := refusal{policy.ErrStale, "version_mismatch", "expectedVersion", "not 9: something has changed since; read it again"}
	taken := refusal{policy.ErrExists, "name_taken", "name", "already: "}
	idTaken := refusal{policy.ErrStale, "id_taken", "", "try again"}
	busy := func(text string) refusal { return refusal{policy.ErrConflict, "busy", "", text} }

	for name, c := range map[string]struct {
		command policy.Command
		want    refusal
	}{
		"SetAccountSettings/version": {policy.SetAccountSettings{ExpectedVersion: 9}, stale},
		"UpdateEngine/missing":       {policy.UpdateEngine{ID: "none"}, noEngine},
		"UpdateEngine/another's":     {policy.UpdateEngine{ID: other}, noEngine},
		"UpdateEngine/version":       {policy.UpdateEngine{ID: spare, ExpectedVersion: 9}, stale},
		"SetEngineSettings/missing":  {policy.SetEngineSettings{ID: "none"}, noEngine},
		"SetEngineSettings/another":  {policy.SetEngineSettings{ID: other}, noEngine},
		"SetEngineSettings/version":  {policy.SetEngineSettings{ID: spare, ExpectedVersion: 9}, stale},
		"DeleteEngine/missing":       {policy.DeleteEngine{}, noEngine},
		"DeleteEngine/another's":     {policy.DeleteEngine{ID: other}, noEngine},
		"DeleteEngine/version":       {policy.DeleteEngine{ID: spare, ExpectedVersion: 9}, stale},
		"DeleteEngine/full": {policy.DeleteEngine{ID: refunds}, refusal{
			policy.ErrConflict, "engine_not_empty", "", "Policy engine still contains 4 policies and cannot be deleted",
		}},
		"CreateEngine/name": {policy.CreateEngine{ID: policy.NewID(policy.KindEngine, "Spare", "abcdefghij"), Name: "Spare"}, taken},

		"CreatePolicy/missing":   {createPolicy(t, "None", "p", permitAll), noEngine},
		"CreatePolicy/another's": {createPolicy(t, "Other", "p", permitAll), noEngine},
		"CreatePolicy/name": {policy.CreatePolicy{
			EngineID: spare, ID: policy.NewID(policy.KindPolicy, "active", "abcdefghij"), Name: "active", // of another engine
			Language: policy.LanguageCedar, Statement: parse(t, permitAll),
		}, taken},
		"UpdatePolicy/no engine":    {policy.UpdatePolicy{EngineID: "none", ID: policyID("active"), Description: new("d")}, noEngine},
		"UpdatePolicy/other engine": {policy.UpdatePolicy{EngineID: spare, ID: policyID("active"), Description: new("d")}, noPolicy},
		"UpdatePolicy/missing":      {policy.UpdatePolicy{EngineID: refunds, ID: "none", Description: new("d")}, noPolicy},
		"UpdatePolicy/version":      {policy.UpdatePolicy{EngineID: refunds, ID: policyID("active"), Description: new("d"), ExpectedVersion: 9}, stale},
		"UpdatePolicy/creating": {
			policy.UpdatePolicy{EngineID: refunds, ID: policyID("creating"), Description: new("d")},
			busy("Policy cannot be updated while its status is CREATING"),
		},
		"UpdatePolicy/updating": {
			policy.UpdatePolicy{EngineID: refunds, ID: policyID("updating"), Description: new("d")},
			busy("Policy cannot be updated while its status is UPDATING"),
		},
		"DeletePolicy/no engine": {policy.DeletePolicy{EngineID: other, ID: policyID("active")}, noEngine},
		"DeletePolicy/missing":   {policy.DeletePolicy{EngineID: refunds, ID: "none"}, noPolicy},
		"DeletePolicy/version":   {policy.DeletePolicy{EngineID: refunds, ID: policyID("active"), ExpectedVersion: 9}, stale},
		"DeletePolicy/creating": {
			policy.DeletePolicy{EngineID: refunds, ID: policyID("creating")},
			busy("Policy cannot be deleted while its status is CREATING"),
		},
		"DeletePolicy/updating": {
			policy.DeletePolicy{EngineID: refunds, ID: policyID("updating")},
			busy("Policy cannot be deleted while its status is UPDATING"),
		},
		"FinishPolicy/no engine": {policy.FinishPolicy{EngineID: "none"}, noEngine},
		"FinishPolicy/missing":   {policy.FinishPolicy{EngineID: refunds, ID: "none"}, noPolicy},
		"FinishPolicy/not examined": {
			policy.FinishPolicy{EngineID: refunds, ID: policyID("creating")},
			refusal{policy.ErrStale, "version_mismatch", "", "has changed since it was examined"},
		},
		"FinishPolicy/other version": {
			policy.FinishPolicy{EngineID: refunds, ID: policyID("creating"), Examination: policy.Examination{Version: 2}},
			refusal{policy.ErrStale, "version_mismatch", "", "has changed since it was examined"},
		},
		"FinishPolicy/active": {
			policy.FinishPolicy{EngineID: refunds, ID: policyID("active"), Examination: policy.Examination{Version: 2}},
			refusal{policy.ErrStale, "version_mismatch", "", "has changed since it was examined"},
		},
		"FinishPolicy/failed": {
			policy.FinishPolicy{EngineID: refunds, ID: policyID("failed"), Examination: policy.Examination{Version: 2}},
			refusal{policy.ErrStale, "version_mismatch", "", "has changed since it was examined"},
		},
		"FinishPolicy/other tools": {
			policy.FinishPolicy{EngineID: refunds, ID: policyID("creating"), Examination: policy.Examination{Version: 1, Basis: policy.Hash{1}}},
			refusal{policy.ErrStale, "tools_changed", "", "have changed since it was examined"},
		},

		"CreateGateway/name": {policy.CreateGateway{ID: policy.NewID(policy.KindGateway, "Bare", "abcdefghij"), Name: "Bare", Definition: gatewayTo("")}, taken},
		"CreateGateway/id":   {policy.CreateGateway{ID: bare, Name: "bARE", Definition: gatewayTo("")}, idTaken},
		"CreateGateway/engine": {
			createGateway("New", "None"), noEngine,
		},
		"CreateGateway/another's engine": {createGateway("New", "Other"), noEngine},
		"UpdateGateway/missing":          {policy.UpdateGateway{ID: "none", Definition: gatewayTo("")}, noGateway},
		"UpdateGateway/version":          {policy.UpdateGateway{ID: bare, Definition: gatewayTo(""), ExpectedVersion: 9}, stale},
		"UpdateGateway/engine":           {policy.UpdateGateway{ID: bare, Definition: gatewayTo("None")}, noEngine},
		"AttachEngine/missing":           {policy.AttachEngine{GatewayID: "none", EngineID: spare, Mode: policy.ModeEnforce}, noGateway},
		"AttachEngine/engine":            {policy.AttachEngine{GatewayID: bare, EngineID: "none", Mode: policy.ModeEnforce}, noEngine},
		"AttachEngine/another's":         {policy.AttachEngine{GatewayID: bare, EngineID: other, Mode: policy.ModeEnforce}, noEngine},
		"AttachEngine/version":           {policy.AttachEngine{GatewayID: bare, EngineID: spare, Mode: policy.ModeEnforce, ExpectedVersion: 9}, stale},
		"DetachEngine/missing":           {policy.DetachEngine{GatewayID: "none"}, noGateway},
		"DetachEngine/version":           {policy.DetachEngine{GatewayID: refund, ExpectedVersion: 9}, stale},
		"DeleteGateway/missing":          {policy.DeleteGateway{ID: "none"}, noGateway},
		"DeleteGateway/version":          {policy.DeleteGateway{ID: bare, ExpectedVersion: 9}, stale},
		"DeleteGateway/full": {policy.DeleteGateway{ID: refund}, refusal{
			policy.ErrConflict, "gateway_not_empty", "", "Gateway still has 1 targets and cannot be deleted",
		}},

		"CreateTarget/missing":    {createTarget("None", "target0002", "T"), noGateway},
		"CreateTarget/name":       {createTarget("Refund", "target0002", "RefundTarget"), taken},
		"CreateTarget/id":         {createTarget("Bare", "target0001", "T"), idTaken}, // of another gateway
		"UpdateTarget/no gateway": {policy.UpdateTarget{GatewayID: "none", ID: "target0001", Definition: lambda()}, noGateway},
		"UpdateTarget/elsewhere":  {policy.UpdateTarget{GatewayID: bare, ID: "target0001", Definition: lambda()}, noTarget},
		"UpdateTarget/version":    {policy.UpdateTarget{GatewayID: refund, ID: "target0001", Definition: lambda(), ExpectedVersion: 9}, stale},
		"DeleteTarget/no gateway": {policy.DeleteTarget{GatewayID: "none", ID: "target0001"}, noGateway},
		"DeleteTarget/missing":    {policy.DeleteTarget{GatewayID: refund, ID: "none"}, noTarget},
		"DeleteTarget/version":    {policy.DeleteTarget{GatewayID: refund, ID: "target0001", ExpectedVersion: 9}, stale},

		"AddTags/missing": {policy.AddTags{Of: policy.EngineRef("none"), Tags: map[string]string{"a": ""}}, refusal{
			policy.ErrNotFound, "engine_not_found", "resourceArn", "there is no engine",
		}},
		"AddTags/another's": {policy.AddTags{Of: policy.EngineRef(other), Tags: map[string]string{"a": ""}}, refusal{
			policy.ErrNotFound, "engine_not_found", "resourceArn", "there is no engine",
		}},
		"AddTags/target": {policy.AddTags{Of: policy.TargetRef(refund, "target0001"), Tags: map[string]string{"a": ""}}, refusal{
			policy.ErrNotFound, "target_not_found", "resourceArn", "there is no target",
		}},
		"AddTags/account": {policy.AddTags{Of: policy.Ref{Kind: policy.KindAccount, ID: alice}, Tags: map[string]string{"a": ""}}, refusal{
			policy.ErrNotFound, "account_not_found", "resourceArn", "there is no account",
		}},
		"RemoveTags/missing": {policy.RemoveTags{Of: policy.PolicyRef(spare, policyID("active")), Keys: []string{"a"}}, refusal{
			policy.ErrNotFound, "policy_not_found", "resourceArn", "there is no policy",
		}},
		"CreateLog in an account": {policy.CreateLog{ID: "x", Region: region}, refusal{policy.ErrInvalid, "account", "", alice}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			events, err := w.decide(alice, c.command, config())
			if len(events) > 0 {
				t.Errorf("events beside the refusal: %v", events)
			}
			c.want.check(t, err)
		})
	}
}

// What is wrong with the account is wrong whatever is asked for.
func TestDecideRefusesAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for account, reason := range map[string]string{policy.LogAccount: "account", "": "pattern", "11111111111": "pattern", "111111111111\n": "pattern", "a/b": "pattern"} {
		_, err := policy.Decide(w.s, account, createEngine("X"), config())
		if e, ok := errors.AsType[*policy.Error](err); !ok || e.Reason != reason {
			t.Errorf("%q: %v", account, err)
		}
	}
}

func TestDeleteEngineThatIsAttached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(alice, policy.AttachEngine{GatewayID: gatewayID("Bare"), EngineID: engineID("Spare"), Mode: policy.ModeLogOnly})
	_, err := w.decide(alice, policy.DeleteEngine{ID: engineID("Spare")}, config())
	refusal{policy.ErrConflict, "engine_attached", "", "Policy engine is attached to gateway bare-0123456789 and cannot be deleted"}.check(t, err)
	w.do(alice, policy.DetachEngine{GatewayID: gatewayID("Bare")})
	w.do(alice, policy.DeleteEngine{ID: engineID("Spare")})
	w.do(alice, createEngine("Spare")) // the name is free again
}

// Engines, gateways and targets are never left CREATING by Decide, but an earlier event may have done so.
func TestDecideWaitsForWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.record(alice, policy.EngineCreated{ID: engineID("Half"), Name: "Half"})
	w.record(alice, policy.GatewayCreated{ID: gatewayID("Half"), Name: "Half", Definition: gatewayTo("")})
	w.record(alice, policy.TargetCreated{GatewayID: gatewayID("Bare"), ID: "target0009", Name: "Half", Definition: lambda()})
	for text, c := range map[string]policy.Command{
		"Policy engine cannot be updated": policy.UpdateEngine{ID: engineID("Half")},
		"Policy engine cannot be deleted": policy.DeleteEngine{ID: engineID("Half")},
		"Gateway cannot be updated":       policy.AttachEngine{GatewayID: gatewayID("Half"), EngineID: engineID("Spare"), Mode: policy.ModeEnforce},
		"Gateway cannot be deleted":       policy.DeleteGateway{ID: gatewayID("Half")},
		"Target cannot be updated":        policy.UpdateTarget{GatewayID: gatewayID("Bare"), ID: "target0009", Definition: lambda()},
		"Target cannot be deleted":        policy.DeleteTarget{GatewayID: gatewayID("Bare"), ID: "target0009"},
	} {
		_, err := w.decide(alice, c, config())
		refusal{policy.ErrConflict, "busy", "", text + " while its status is CREATING"}.check(t, err)
	}
}

func TestFinishIsStaleWhenToolsChange(t *testing.T) {
	t.Parallel()
	byType, byGateway := policyID("byType"), policyID("byGateway")
	for name, c := range map[string]struct {
		change policy.Command
		stale  []string
	}{
		"target updated":     {policy.UpdateTarget{GatewayID: gatewayID("Refund"), ID: "target0001", Definition: lambda("a")}, []string{byType, byGateway}},
		"target deleted":     {policy.DeleteTarget{GatewayID: gatewayID("Refund"), ID: "target0001"}, []string{byType, byGateway}},
		"target created":     {createTarget("Refund", "target0002", "More"), []string{byType, byGateway}},
		"engine detached":    {policy.DetachEngine{GatewayID: gatewayID("Refund")}, []string{byType}},
		"engine attached":    {policy.AttachEngine{GatewayID: gatewayID("Bare"), EngineID: engineID("Refunds"), Mode: policy.ModeEnforce}, []string{byType}},
		"mode of attachment": {policy.AttachEngine{GatewayID: gatewayID("Refund"), EngineID: engineID("Refunds"), Mode: policy.ModeLogOnly}, nil},
		"target elsewhere":   {createTarget("Bare", "target0002", "More"), nil},
		"another policy":     {createPolicy(t, "Refunds", "more", permitAll), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.do(alice, createPolicy(t, "Refunds", "byType", permitAll))
			w.do(alice, createPolicy(t, "Refunds", "byGateway", permitRefund))
			finish := map[string]policy.Command{}
			for _, id := range []string{byType, byGateway} {
				finish[id] = w.examined(alice, policy.PolicyRef(engineID("Refunds"), id))
			}
			w.do(alice, c.change)
			for _, id := range c.stale {
				_, err := w.decide(alice, finish[id], config())
				refusal{policy.ErrStale, "tools_changed", "", "have changed since"}.check(t, err)
				delete(finish, id)
			}
			for _, command := range finish {
				w.do(alice, command)
			}
		})
	}
}

func TestFinishIsStaleWhenThePolicyChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := policy.PolicyRef(engineID("Refunds"), policyID("creating"))
	finish := w.examined(alice, ref)
	w.do(alice, policy.AddTags{Of: ref, Tags: map[string]string{"a": "b"}})
	_, err := w.decide(alice, finish, config())
	refusal{policy.ErrStale, "version_mismatch", "", "has changed"}.check(t, err)
	w.do(alice, w.examined(alice, ref))
	_, err = w.decide(alice, finish, config())
	refusal{policy.ErrStale, "version_mismatch", "", "has changed"}.check(t, err)
}

// What begins to decide is examined, even when nothing else about it changes.
func TestPromotionIsExamined(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := policy.PolicyRef(engineID("Refunds"), policyID("active"))
	w.do(alice, policy.UpdatePolicy{EngineID: ref.Parent, ID: ref.ID, Enforcement: policy.EnforcementLogOnly})
	if events := w.do(alice, policy.UpdatePolicy{EngineID: ref.Parent, ID: ref.ID, Enforcement: policy.EnforcementActive}); len(events) != 1 {
		t.Errorf("promoted without an examination: %v", events)
	}
	wantEvents(t, w.do(alice, w.examined(alice, ref)), policy.Activated{Of: ref})
}

// A policy that cannot be examined fails; it does not wait for ever.
func TestUnexaminable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := policy.PolicyRef(engineID("Refunds"), policyID("creating"))
	e, ok := policy.Unexaminable(w.s.Account(alice), ref, region, 3)
	if !ok {
		t.Fatal("it does not wait")
	}
	wantEvents(t, w.do(alice, policy.FinishPolicy{EngineID: ref.Parent, ID: ref.ID, Examination: e}), policy.Failed{Of: ref, Reasons: e.Reasons})
	if _, ok := policy.Unexaminable(w.s.Account(alice), ref, region, 3); ok {
		t.Error("it waits still")
	}
}

// A policy without end of findings must still fit into an event, or it would wait for ever.
func TestExamineBoundsItsReasons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := lambda()
	tools := &d.Configuration.Lambda.Tools
	for i := range 300 {
		tool := tools.Inline[0]
		tool.Name = fmt.Sprintf("tool%d", i)
		tool.InputSchema = lambda(fmt.Sprintf("member%d", i)).Configuration.Lambda.Tools.Inline[0].InputSchema
		tools.Inline = append(tools.Inline, tool)
	}
	w.do(alice, policy.UpdateTarget{GatewayID: gatewayID("Refund"), ID: "target0001", Definition: d})
	w.do(alice, createPolicy(t, "Refunds", "long", `permit(principal, action, resource is AgentCore::Gateway) when { context.input == {"`+strings.Repeat("😀", 4_000)+`": 1} };`))
	finish := w.examined(alice, policy.PolicyRef(engineID("Refunds"), policyID("long")))
	size := 0
	for _, r := range finish.Examination.Reasons {
		size += len(r)
	}
	if size == 0 || size > 128<<10 {
		t.Errorf("%d reasons of %d bytes", len(finish.Examination.Reasons), size)
	}
}
