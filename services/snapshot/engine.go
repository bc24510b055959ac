package snapshot

import (
	cedar "github.com/cedar-policy/cedar-go"

	"github.com/verdict-io/verdict/services/policy"
)

// engine is a policy engine, compiled.
type engine struct {
	source   *policy.Engine
	policies []*compiled // those in force, sorted by id
	index    *index

	broken  string // the id of an ACTIVE policy that does not compile: then nothing can be decided
	ignored bool   // a LOG_ONLY policy does not compile
	logOnly bool   // there are LOG_ONLY policies
	unkeyed int    // policies that the index cannot key
}

// compiled is a policy in force.
type compiled struct {
	source  *policy.Policy
	id      string
	forbid  bool
	logOnly bool
	policy  *cedar.Policy // nil when the statement does not parse, which control has seen to
	stated  *cedar.Policy // as its author wrote it: policy is what cedar-go has to evaluate
	head    head
	reads   reads
}

// next is the engine as it is in a new state; e is nil when there was none.
func (e *engine) next(source *policy.Engine) *engine {
	if e == nil {
		e = &engine{}
	}
	next := &engine{source: source, policies: make([]*compiled, 0, source.PolicyCount())}
	var without, with []*compiled
	old := e.policies
	for p := range source.PoliciesAfter("") {
		if p.InForce == nil {
			continue
		}
		for len(old) > 0 && old[0].id < p.ID {
			without, old = append(without, old[0]), old[1:]
		}
		var known *compiled
		if len(old) > 0 && old[0].id == p.ID {
			known, old = old[0], old[1:]
		}
		c := known.next(p)
		if c != known {
			with = append(with, c)
			if known != nil {
				without = append(without, known)
			}
		}
		next.policies = append(next.policies, c)
	}
	next.arrange(e.index, append(without, old...), with)
	return next
}

// arrange puts the policies in order for requests: in the index of before with these changes, or in a new one when they are
// many. That also leaves the empty places behind that editing makes.
func (e *engine) arrange(before *index, without, with []*compiled) {
	for _, c := range e.policies {
		e.logOnly = e.logOnly || c.logOnly
		switch {
		case c.policy != nil:
			if c.unkeyed() {
				e.unkeyed++
			}
		case c.logOnly:
			e.ignored = true
		case e.broken == "":
			e.broken = c.id
		}
	}
	const many = 16
	if changes := len(without) + len(with); before == nil || changes > many || before.edits+changes > len(e.policies)+many {
		e.index = newIndex(e.policies)
		return
	}
	e.index = before.edited(without, with)
}

// next is the policy as it is in a new state: c itself when the same is in force, compiled anew only when the statement is
// another. c is nil when there was none.
func (c *compiled) next(source *policy.Policy) *compiled {
	body := source.InForce
	if c != nil && c.source.InForce == body {
		return c
	}
	if c != nil && c.source.InForce.Statement == body.Statement {
		next := *c
		next.source, next.logOnly = source, body.Enforcement == policy.EnforcementLogOnly
		return &next
	}
	next := &compiled{source: source, id: source.ID, logOnly: body.Enforcement == policy.EnforcementLogOnly}
	statement, err := policy.ParseStatement(body.Statement)
	if err != nil {
		return next
	}
	next.take(statement.Compile())
	return next
}

// take makes c what evaluates one policy, and shows the other.
func (c *compiled) take(evaluated, stated *cedar.Policy) {
	c.policy, c.stated, c.forbid = evaluated, stated, evaluated.Effect() == cedar.Forbid
	c.head, c.reads = headOf(evaluated), readsOf(evaluated)
}

// unkeyed tells policies that the index cannot key. Those that do not compile are in no index.
func (c *compiled) unkeyed() bool { return c.policy != nil && c.head.unkeyed() }

func (e *engine) find(id string) *compiled {
	i, ok := find(e.policies, id)
	if !ok {
		return nil
	}
	return e.policies[i]
}
