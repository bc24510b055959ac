package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/policy"
)

func TestPartsAndBack(t *testing.T) {
	t.Parallel()
	for _, s := range []*policy.State{policy.Empty(), emptyWorld(t).s, newWorld(t).s} {
		again, err := policy.Restore(s.Parts())
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Verify(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(s.Parts(), again.Parts()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// What is restored goes on as what it was taken from: the indexes are the same.
func TestRestoredStateGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	restored, err := policy.Restore(w.s.Parts())
	if err != nil {
		t.Fatal(err)
	}
	was, is := w.s.Account(alice), restored.Account(alice)
	for range was.Pending() {
		w.work(alice)
	}
	w2 := &world{t: t, s: restored}
	w2.work(alice)
	if diff := cmp.Diff(w.s.Parts(), w2.s.Parts()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, c := range []policy.Command{
		createEngine("Spare"), createGateway("Bare", ""), createTarget("Refund", "target0002", "RefundTarget"), createPolicy(t, "Spare", "active", permitAll),
	} {
		_, err := policy.Decide(restored, alice, c, config())
		refusal{policy.ErrExists, "name_taken", "name", "already"}.check(t, err)
	}
	if was.EngineNamed("Refunds").ID != is.EngineNamed("Refunds").ID {
		t.Error("the names are others")
	}
}

// Each row spoils one thing. Restore refuses what would not hold together; Verify the rest.
func TestVerify(t *testing.T) {
	t.Parallel()
	engine := func(p *policy.Parts) *policy.EngineParts { return &p.Accounts[0].Engines[0] }
	active := func(p *policy.Parts) *policy.Resource[policy.Body] { return &engine(p).Policies[0] }
	gateway := func(p *policy.Parts) *policy.GatewayParts { return &p.Accounts[0].Gateways[1] }
	target := func(p *policy.Parts) *policy.Resource[policy.TargetDefinition] { return &gateway(p).Targets[0] }
	w := newWorld(t)
	body := func(p *policy.Parts, change func(*policy.Body)) {
		b := *active(p).InForce
		change(&b)
		active(p).InForce = &b
	}
	for name, c := range map[string]struct {
		spoil func(*policy.Parts)
		want  string
	}{
		"log without id":          {func(p *policy.Parts) { p.LogID = "" }, `log ""`},
		"log version":             {func(p *policy.Parts) { p.LogVersion = 2 }, "events of its own"},
		"log position":            {func(p *policy.Parts) { p.LogPosition = 0 }, "events of its own"},
		"events missing":          {func(p *policy.Parts) { p.Accounts[0].Position++ }, "events together"},
		"account's form":          {func(p *policy.Parts) { p.Accounts[0].ID = "1" }, "account must match"},
		"account without id":      {func(p *policy.Parts) { p.Accounts[0].ID = "" }, "account must match"},
		"account settings":        {func(p *policy.Parts) { p.Accounts[0].Settings.StalenessBound = new(time.Hour * 100) }, "stalenessBoundMs"},
		"events of its things":    {func(p *policy.Parts) { p.Accounts[0].Position -= 9 }, "its things have"},
		"more events than it has": {func(p *policy.Parts) { p.Accounts[0].Version = 1000 }, "its things have"},
		"account twice":           {func(p *policy.Parts) { p.Accounts = append(p.Accounts, p.Accounts[0]) }, "stands twice"},

		"engine twice":      {func(p *policy.Parts) { p.Accounts[0].Engines = append(p.Accounts[0].Engines, *engine(p)) }, "is there already"},
		"engine name twice": {func(p *policy.Parts) { p.Accounts[0].Engines[1].Name = engine(p).Name }, "is there already"},
		"engine id":         {func(p *policy.Parts) { engine(p).ID = "x" }, "is not the id"},
		"engine without id": {func(p *policy.Parts) { p.Accounts[0].Engines[1].ID = "" }, "is not the id"},
		"engine of another name": {func(p *policy.Parts) {
			p.Accounts[0].Engines[1].ID = engineID("Other")
		}, "is not the id"},
		"engine name":        {func(p *policy.Parts) { engine(p).Name = "x y" }, "name must match"},
		"engine settings":    {func(p *policy.Parts) { engine(p).Settings.OnStale = "NO" }, "settings.onStale"},
		"engine description": {func(p *policy.Parts) { engine(p).InForce = &policy.EngineDefinition{Description: "\xff"} }, "UTF-8"},
		"engine tags":        {func(p *policy.Parts) { engine(p).Tags = map[string]string{"*": ""} }, "tags"},
		"engine status":      {func(p *policy.Parts) { engine(p).Status = "" }, `is ""`},

		"policy twice":      {func(p *policy.Parts) { engine(p).Policies = append(engine(p).Policies, *active(p)) }, "is there already"},
		"policy name twice": {func(p *policy.Parts) { engine(p).Policies[1].Name = active(p).Name }, "is there already"},
		"policy name of another engine": {func(p *policy.Parts) {
			p.Accounts[0].Engines[1].Policies = append(p.Accounts[0].Engines[1].Policies, *active(p))
		}, "is there already"},
		"policy statement":   {func(p *policy.Parts) { body(p, func(b *policy.Body) { b.Statement = permitAll[1:] }) }, "policy active"},
		"policy resource":    {func(p *policy.Parts) { body(p, func(b *policy.Body) { b.Resource = refundGateway }) }, "is scoped to"},
		"policy mode":        {func(p *policy.Parts) { body(p, func(b *policy.Body) { b.Enforcement = "" }) }, "enforcementMode is required"},
		"policy validation":  {func(p *policy.Parts) { body(p, func(b *policy.Body) { b.Validation = "NO" }) }, "validationMode"},
		"policy language":    {func(p *policy.Parts) { body(p, func(b *policy.Body) { b.Language = "" }) }, "definition"},
		"policy description": {func(p *policy.Parts) { body(p, func(b *policy.Body) { b.Description = "\xff" }) }, "UTF-8"},

		"active, nothing in force":    {func(p *policy.Parts) { active(p).InForce = nil }, "is \"ACTIVE\" with something in force: false"},
		"active with a candidate":     {func(p *policy.Parts) { active(p).Candidate = active(p).InForce }, "with a candidate: true"},
		"creating with one in force":  {func(p *policy.Parts) { active(p).Status = policy.Creating }, "is \"CREATING\""},
		"updating without candidate":  {func(p *policy.Parts) { active(p).Status = policy.Updating }, "is \"UPDATING\""},
		"failed with one in force":    {func(p *policy.Parts) { active(p).Status = policy.CreateFailed }, "is \"CREATE_FAILED\""},
		"update failed with both":     {func(p *policy.Parts) { active(p).Status, active(p).Candidate = policy.UpdateFailed, active(p).InForce }, "is \"UPDATE_FAILED\""},
		"deleting with both":          {func(p *policy.Parts) { active(p).Status, active(p).Candidate = policy.Deleting, active(p).InForce }, "is \"DELETING\""},
		"delete failed with neither":  {func(p *policy.Parts) { active(p).Status, active(p).InForce = policy.DeleteFailed, nil }, "is \"DELETE_FAILED\""},
		"in force since never":        {func(p *policy.Parts) { active(p).ActiveRevision = 0 }, "in force: true, since 0"},
		"active for a reason":         {func(p *policy.Parts) { active(p).Reasons = []string{"x"} }, "with the reason"},
		"version 0":                   {func(p *policy.Parts) { active(p).Version = 0 }, "has version 0"},
		"version beyond its revision": {func(p *policy.Parts) { active(p).Version = active(p).Revision + 1 }, "has version"},
		"revision of the future":      {func(p *policy.Parts) { active(p).Revision = 1000 }, "revision 1000"},
		"in force since the future":   {func(p *policy.Parts) { active(p).ActiveRevision = 1000 }, "in force since 1000"},
		"updated before created":      {func(p *policy.Parts) { active(p).UpdatedAt = active(p).CreatedAt - 1 }, "times are out of order"},
		"updated in the future":       {func(p *policy.Parts) { active(p).UpdatedAt = 1 << 60 }, "times are out of order"},

		"gateway twice":      {func(p *policy.Parts) { p.Accounts[0].Gateways = append(p.Accounts[0].Gateways, *gateway(p)) }, "is there already"},
		"gateway name twice": {func(p *policy.Parts) { p.Accounts[0].Gateways[0].Name = gateway(p).Name }, "is there already"},
		"gateway id":         {func(p *policy.Parts) { gateway(p).ID = "REFUND-0123456789" }, "is not the id"},
		"gateway definition": {func(p *policy.Parts) { gateway(p).InForce = &policy.GatewayDefinition{} }, "authorizerType"},
		"gateway status":     {func(p *policy.Parts) { gateway(p).Status = "DONE" }, `is "DONE"`},
		"gateway's engine": {func(p *policy.Parts) {
			d := gatewayTo("None")
			gateway(p).InForce = &d
		}, "is attached to engine None-0123456789, which is not there"},
		"target twice":      {func(p *policy.Parts) { gateway(p).Targets = append(gateway(p).Targets, *target(p)) }, "is there already"},
		"target id":         {func(p *policy.Parts) { target(p).ID = "x" }, "is not the id"},
		"target without id": {func(p *policy.Parts) { target(p).ID = "" }, "is not the id"},
		"target name":       {func(p *policy.Parts) { target(p).Name = "a_b" }, "name must match"},
		"target definition": {func(p *policy.Parts) { target(p).InForce = &policy.TargetDefinition{} }, "exactly one"},
		"target nothing":    {func(p *policy.Parts) { target(p).InForce = nil }, "is \"ACTIVE\""},
	} {
		p := w.s.Parts()
		c.spoil(&p)
		s, err := policy.Restore(p)
		if err == nil {
			err = s.Verify()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
	}
}

// Two policies of different engines can have one id in a state that no commands lead to; neither hides the other.
func TestPendingOfOneID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, engine := range []string{"Refunds", "Spare"} {
		c := createPolicy(t, engine, "in"+engine, permitAll)
		c.ID = policyID("same")
		refusal{policy.ErrInvalid, "pattern", "id", ""}.check(t, c.Check())
		events, err := policy.Decide(w.s, alice, c, config())
		if err != nil {
			t.Fatal(err)
		}
		w.record(alice, events...)
	}
	w.work(alice)
	for range w.s.Account(alice).Pending() {
		t.Error("one waits still")
	}
}
