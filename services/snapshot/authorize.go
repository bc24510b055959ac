package snapshot

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// Authorize decides a request. What is no request at all is an *policy.Error: of kind ErrInvalid, or ErrNotFound for an
// engine or gateway that is not in force in the account. Everything else is a Decision.
func (s *Snapshot) Authorize(r *Request) (*Decision, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	to, d, err := s.begin(r)
	if err != nil {
		return nil, err
	}
	if to.settled(d) {
		d.LogOnly.Incomplete = to.engine != nil && (to.engine.logOnly || to.engine.ignored)
	} else {
		to.evaluate(r, d)
	}
	d.Proceed = d.Allow || d.Mode == policy.ModeLogOnly
	return d, nil
}

// begin finds out by what a request is decided.
func (s *Snapshot) begin(r *Request) (*route, *Decision, error) {
	to, err := s.route(r)
	if err != nil {
		return nil, nil, err
	}
	d := &Decision{Mode: to.mode, Source: to.source, Settings: to.settings(), EngineID: to.missing}
	if to.gateway != nil {
		d.GatewayARN = to.gateway.arn
	}
	if to.engine != nil {
		d.EngineID = to.engine.source.ID
	}
	d.Stale = !r.Proven || r.Staleness > *d.Settings.StalenessBound
	return to, d, nil
}

// settled decides what is decided without policies: then it is so for every tool.
func (to *route) settled(d *Decision) bool {
	switch {
	case to.missing != "":
		d.deny(CodeEngineBroken, "The policy engine "+to.missing+" is attached to the gateway and cannot be found.")
	case to.engine == nil && d.Stale:
		d.deny(CodeStale, "No policy engine is attached as far as this node knows, but its state could not be proved fresh.")
	case to.engine == nil:
		d.Allow, d.ReasonCode, d.Reason = true, CodeNoEngine, "No policy engine is attached."
	case to.engine.broken != "":
		d.deny(CodeEngineBroken, "The policy "+to.engine.broken+" cannot be evaluated by this version: update or delete it.")
	case d.Stale && d.Settings.OnStale == policy.OnStaleDeny:
		d.deny(CodeStale, "This node's state could not be proved fresh within the bound of the engine's settings.")
	default:
		return false
	}
	return true
}

// evaluate decides by the policies of the engine.
func (to *route) evaluate(r *Request, d *Decision) {
	d.LogOnly.Incomplete = to.engine.logOnly
	t, why := to.tool(r)
	if t == nil {
		d.deny(CodeUnknownTool, "Policy evaluation denied: "+why+".")
		return
	}
	context, wrong := typeContext(t.input, r.Context, r.Now)
	if wrong != nil {
		d.deny(wrong.code, "Policy evaluation denied: "+wrong.reason("context")+".")
		return
	}
	d.context = &context
	d.LogOnly.Incomplete = to.engine.ignored
	ev := to.engine.evaluation(r, t, &context)
	ev.judge(*d.Settings.StrictForbids, d)
	if to.engine.logOnly {
		ev.report(*d.Settings.StrictForbids, d)
	}
}

// judge turns what the ACTIVE policies said into the answer.
func (ev *evaluation) judge(strict bool, d *Decision) {
	active := ev.run(ofActive)
	d.Errors = active.errors
	var failed []string
	if strict {
		failed = ev.engine.forbids(active.errors)
	}
	d.Determining = active.reasons
	switch {
	case active.allow && len(failed) == 0:
		d.Allow, d.ReasonCode, d.Reason = true, CodeAllowed, reasonAllowed+named(active.reasons)
	case !active.allow && len(active.reasons) > 0:
		d.deny(CodeForbid, reasonDenied+named(active.reasons))
	case len(failed) > 0:
		d.Determining = failed
		d.deny(CodeForbidError, reasonForbidError+named(failed))
	default:
		d.deny(CodeDefaultDeny, reasonDefaultDeny)
	}
}

// forbids are the forbids among policies that failed.
func (e *engine) forbids(errors []PolicyError) []string {
	var ids []string
	for _, err := range errors {
		if c := e.find(err.PolicyID); c != nil && c.forbid {
			ids = append(ids, err.PolicyID)
		}
	}
	return ids
}

// report finds out what each LOG_ONLY policy would have done alone. A permit turns a denial by default into an allow, a forbid
// an allow into a denial; so does a forbid that fails, where forbids are strict.
func (ev *evaluation) report(strict bool, d *Decision) {
	permits := ev.run(ofLogOnlyPermits)
	forbids := ev.run(ofLogOnlyForbids)
	f := &d.LogOnly
	f.Matched = slices.Concat(permits.reasons, forbids.reasons)
	for _, err := range slices.Concat(permits.errors, forbids.errors) {
		f.Mismatched = append(f.Mismatched, err.PolicyID)
	}
	switch {
	case d.ReasonCode == CodeDefaultDeny:
		f.Flipping = slices.Clone(permits.reasons)
	case d.Allow:
		f.Flipping = slices.Clone(forbids.reasons)
		if strict {
			f.Flipping = append(f.Flipping, ev.engine.forbids(forbids.errors)...)
		}
	}
	for _, list := range []*[]string{&f.Matched, &f.Flipping, &f.Mismatched} {
		slices.Sort(*list)
		if len(*list) > MaxFindings {
			*list, f.Incomplete = (*list)[:MaxFindings], true
		}
	}
}

// entities are the entities of one request: the principal, the resource, and all actions, whose groups are in their ids.
type entities struct {
	principal types.Entity
	resource  types.EntityUID
	tool      *tool
}

// Get implements types.EntityGetter.
func (e *entities) Get(uid types.EntityUID) (types.Entity, bool) {
	switch {
	case uid == e.principal.UID:
		return e.principal, true
	case uid == e.tool.uid:
		return e.tool.entity, true
	case uid.Type == policy.TypeAction:
		return actionEntity(string(uid.ID), policy.ActionGroups(string(uid.ID))), true
	case uid == e.resource:
		return types.Entity{UID: uid}, true
	}
	return types.Entity{}, false
}
