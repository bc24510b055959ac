package snapshot

import (
	"iter"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// Permitted is what a principal could be allowed to do.
type Permitted struct {
	Mode     policy.EngineMode // "" where no engine decides
	EngineID string
	Stale    bool // as of a Decision
	// Reason is why all tools, or none, are listed whatever the policies say; "" when the policies decide.
	Reason string

	tools  []*tool
	listed func(*tool, *conditions) bool
}

// PermittedAction is a tool.
type PermittedAction struct {
	ID string
	// Condition is what is left of the policies for this tool once all but the arguments is known, as policies in Cedar's text:
	// of all arguments that fit the tool they allow those which Authorize allows, with the same policies as the reason. It is ""
	// when nobody asked for it, and when it would be too long.
	Condition string
}

// The bounds of conditions, in bytes.
const (
	MaxCondition  = 64 << 10 // of one tool
	MaxConditions = 2 << 20  // of all tools together
)

// PermittedActions tells which tools some arguments could make Authorize proceed with, for the principal and the resource of a
// request; its action and context do not matter. What cannot be a request is an error, as of Authorize.
//
// The list is a superset, and as small a one as can be had by looking at one policy after the other: a tool is left out when no
// permit can hold for any arguments that fit it, or when some forbid holds (or, being strict, fails) for all of them. Where an answer
// does not block (LOG_ONLY, no engine), all tools are listed.
func (s *Snapshot) PermittedActions(r *Request) (*Permitted, error) {
	if err := r.checkPrincipal(); err != nil {
		return nil, err
	}
	if err := r.checkResource(); err != nil {
		return nil, err
	}
	to, d, err := s.begin(r)
	if err != nil {
		return nil, err
	}
	p := &Permitted{Mode: d.Mode, EngineID: d.EngineID, Stale: d.Stale}
	if to.gateway == nil { // no statement is about anything else, as ParseStatement sees to
		p.Reason = "Policies are about gateways, and resource names none."
		return p, nil
	}
	p.tools = to.gateway.all()
	logOnly := d.Mode == policy.ModeLogOnly
	if to.settled(d) {
		p.Reason = d.Reason
		p.listed = func(_ *tool, out *conditions) bool {
			out.always(d.Allow, d.Reason)
			return d.Allow || logOnly
		}
		return p, nil
	}
	asked := to.asked(r, *d.Settings.StrictForbids)
	p.listed = func(t *tool, out *conditions) bool { return asked.about(t, out) || logOnly }
	return p, nil
}

// Only leaves out all tools but the one with the id of an action.
func (p *Permitted) Only(id string) {
	i, found := slices.BinarySearchFunc(p.tools, id, func(t *tool, id string) int { return strings.Compare(string(t.uid.ID), id) })
	if !found {
		p.tools = nil
		return
	}
	p.tools = p.tools[i : i+1]
}

// All are the tools, sorted by the ids of their actions, each found out about when its turn comes.
func (p *Permitted) All(explain bool) iter.Seq[PermittedAction] {
	return func(yield func(PermittedAction) bool) {
		room := MaxConditions
		for _, t := range p.tools {
			out := &conditions{wanted: explain, room: min(room, MaxCondition)}
			if !p.listed(t, out) {
				continue
			}
			condition := out.text.String()
			room -= len(condition)
			if !yield(PermittedAction{ID: string(t.uid.ID), Condition: condition}) {
				return
			}
		}
	}
}

// question is what is asked about one tool after the other.
type question struct {
	engine   *engine
	request  Request
	entities entities
	env      environment
	strict   bool
	policies map[*compiled]forAnyTool
}

// forAnyTool is what is left of a policy while the tool is not known yet.
type forAnyTool struct {
	remainder
	same bool // for every tool
}

func (to *route) asked(r *Request, strict bool) *question {
	q := &question{engine: to.engine, request: *r, strict: strict, policies: map[*compiled]forAnyTool{}}
	principal := types.NewEntityUID(types.EntityType(r.Principal.Type), types.String(r.Principal.ID))
	resource := types.NewEntityUID(types.EntityType(r.Resource.Type), types.String(r.Resource.ID))
	tags := make(types.RecordMap, len(r.Principal.Tags))
	for key, value := range r.Principal.Tags {
		tags[types.String(key)] = types.String(value)
	}
	q.entities = entities{resource: resource, tool: &tool{}, principal: types.Entity{
		UID: principal, Tags: types.NewRecord(tags), Attributes: types.NewRecord(types.RecordMap{"id": principal.ID}),
	}}
	q.env = environment{Entities: &q.entities, Principal: principal, Resource: resource}
	return q
}

// turnTo makes t the tool that is asked about.
func (q *question) turnTo(t *tool) {
	q.entities.tool, q.env.Action, q.request.Action.ID = t, t.uid, string(t.uid.ID)
}

// about tells whether some arguments could be allowed. Permits are looked at until one is found, unless all are to be written.
func (q *question) about(t *tool, out *conditions) bool {
	q.turnTo(t)
	permitted, forbidden := false, false
	for _, c := range q.candidates(t) {
		if !c.forbid && permitted && !out.wanted {
			continue
		}
		left := q.left(c, t)
		switch {
		case !c.forbid && left.can&isTrue != 0:
			permitted = true
		case c.forbid && q.matters(left.can):
			forbidden = forbidden || q.certain(left.can)
		default:
			continue
		}
		out.add(c, left.conditions)
	}
	out.none()
	return permitted && !forbidden
}

// left is what is left of a policy for a tool.
func (q *question) left(c *compiled, t *tool) remainder {
	if !fitsAction(c.policy, &q.env) {
		return remainder{can: isFalse}
	}
	known, ok := q.policies[c]
	if !ok {
		known = q.forAnyTool(c)
		q.policies[c] = known
	}
	if known.same {
		return known.remainder
	}
	ev := &partialEvaluation{env: q.env, context: place{inContext, t.input}}
	return ev.all(known.conditions)
}

// forAnyTool evaluates a policy as far as that can be done once for all tools.
func (q *question) forAnyTool(c *compiled) forAnyTool {
	if !fitsCaller(c.policy, &q.env) {
		return forAnyTool{remainder{can: isFalse}, true}
	}
	ev := &partialEvaluation{env: q.env, anyTool: true}
	left := ev.all(conditionsOf(c.stated))
	never := !c.forbid && left.can&isTrue == 0 || c.forbid && !q.matters(left.can)
	return forAnyTool{left, never || !ev.met}
}

// candidates are the ACTIVE policies that may apply to the tool, sorted by id.
func (q *question) candidates(t *tool) []*compiled {
	var l lists
	l.collect(q.engine.index, &q.request, t.groups)
	if len(l.found) == 1 {
		return l.found[0].active
	}
	var all []*compiled
	for _, c := range l.found {
		all = append(all, c.active...)
	}
	slices.SortFunc(all, func(a, b *compiled) int { return strings.Compare(a.id, b.id) })
	return all
}

// matters tells whether a forbid with these outcomes can deny anything.
func (q *question) matters(can outcomes) bool {
	return can&isTrue != 0 || q.strict && can&fails != 0
}

// certain tells whether a forbid with these outcomes denies whatever the arguments are.
func (q *question) certain(can outcomes) bool {
	return can == isTrue || q.strict && can&isFalse == 0
}

// conditions writes what is left of the policies for one tool.
type conditions struct {
	wanted bool
	room   int
	text   strings.Builder
}

// add writes a policy. What does not fit leaves nothing: half of the policies would say something else than all of them.
func (c *conditions) add(p *compiled, left []condition) {
	if c.wanted {
		c.write(textOf(p.id, p.forbid, left))
	}
}

func (c *conditions) write(text []byte) {
	if c.text.Len()+len(text)+1 > c.room {
		c.wanted = false
		c.text.Reset()
		return
	}
	if c.text.Len() > 0 {
		c.text.WriteByte('\n')
	}
	c.text.Write(text)
}

// always writes what does not depend on policies.
func (c *conditions) always(allow bool, reason string) {
	switch {
	case !c.wanted:
	case allow:
		c.write([]byte("permit ( principal, action, resource );"))
	default:
		c.write([]byte("// " + reason))
	}
}

// none says so when no policy is left.
func (c *conditions) none() {
	if c.wanted && c.text.Len() == 0 {
		c.write([]byte("// " + reasonDefaultDeny))
	}
}
