package snapshot

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// outcomes is what an expression may come to, over all arguments that fit the tool: a set that may hold more than there is, and
// never less.
type outcomes uint8

const (
	isTrue  outcomes = 1 << iota
	isFalse          // the other boolean
	isOther          // a value that is no boolean
	fails            // it cannot be evaluated

	isBoolean = isTrue | isFalse
	anything  = isBoolean | isOther | fails
)

// condition is what an expression comes to where a boolean is wanted.
func (o outcomes) condition() outcomes {
	if o&isOther != 0 {
		return o&^isOther | fails
	}
	return o
}

// negated is what `!` makes of a condition.
func (o outcomes) negated() outcomes {
	out := o &^ isBoolean
	if o&isTrue != 0 {
		out |= isFalse
	}
	if o&isFalse != 0 {
		out |= isTrue
	}
	return out
}

// partial is an expression of which everything but the arguments is known.
type partial struct {
	can outcomes
	// value is nil when it depends on the arguments, or cannot be evaluated.
	value types.Value
	// rest is what is left of the expression: it comes to the same, for whatever arguments fit the tool.
	rest expression
	// loose: only where a boolean is wanted.
	loose bool
	// place is the record of the context that the value is.
	place place
}

func known(v types.Value) partial {
	p := partial{value: v, rest: literalOf(v), can: isOther}
	if b, ok := v.(types.Boolean); ok {
		p.can = isFalse
		if b {
			p.can = isTrue
		}
	}
	return p
}

// exact is what is left, for use anywhere.
func (p *partial) exact() expression {
	if !p.loose {
		return p.rest
	}
	return conjunction(literalOf(types.True), p.rest)
}

// place is a record in the context, of which it is known what members it has. The zero place is none.
type place struct {
	kind   placeKind
	schema *policy.Schema // of inObject; of the tool's arguments for inContext
}

type placeKind uint8

const (
	nowhere placeKind = iota
	inContext
	inSystem // context.system
	inObject // context.input, or an object in it
)

// member is what is known of a member of a record.
type member struct {
	there  bool     // it may be there
	always bool     // it is never missing
	can    outcomes // what its value may be
	place  place
}

// member is what typeContext makes of a member.
func (at place) member(name string) member {
	switch {
	case at.kind == inContext && name == "input":
		return member{there: true, always: true, can: isOther, place: place{inObject, inputOf(at.schema)}}
	case at.kind == inContext && name == "system":
		return member{there: true, always: true, can: isOther, place: place{kind: inSystem}}
	case at.kind == inSystem && name == "now":
		return member{there: true, always: true, can: isOther}
	case at.kind != inObject:
		return member{}
	}
	schema, declared := at.schema.Properties[name]
	m := member{can: isOther, always: slices.Contains(at.schema.Required, name)}
	m.there = declared || m.always
	switch {
	case schema == nil: // of whatever type
		m.can = isBoolean | isOther
	case schema.Type == policy.SchemaBoolean:
		m.can = isBoolean
	case schema.Type == policy.SchemaObject:
		m.place = place{inObject, schema}
	}
	return m
}

// partialEvaluation evaluates expressions as far as the arguments of a tool do not matter: the context as a whole is unknown,
// but for what the tool's schema says of its members. An unknown never makes anything impossible or certain.
type partialEvaluation struct {
	env     environment
	context place // that of the tool
	// anyTool: the tool is unknown as well. Then met tells whether it, or the context, was come across.
	anyTool, met bool
}

// of evaluates an expression. It fails for sure only when it does so whatever the arguments are.
func (ev *partialEvaluation) of(n expression) partial {
	p := partsOf(n)
	switch p.form {
	case formLiteral:
		return known(p.value)
	case formVariable:
		return ev.variable(n, p.name)
	case formAnd:
		return ev.connective(p, isTrue)
	case formOr:
		return ev.connective(p, isFalse)
	case formNot:
		return ev.negation(p)
	case formIf:
		return ev.choice(n, p)
	case formMember, formHas, formStrict, formTest:
	}
	return ev.strict(n, p)
}

func (ev *partialEvaluation) variable(n expression, name string) partial {
	switch name {
	case "principal":
		return known(ev.env.Principal)
	case "action":
		if !ev.anyTool {
			return known(ev.env.Action)
		}
	case "resource":
		return known(ev.env.Resource)
	case "context":
		ev.met = true
		return partial{can: isOther, rest: n, place: ev.context}
	}
	ev.met = true
	return partial{can: isOther, rest: n}
}

// connective evaluates `&&`, which goes on when the left side is true, and `||`, which goes on when it is false.
func (ev *partialEvaluation) connective(p parts, goesOn outcomes) partial {
	left := ev.of(p.operands[0])
	can := left.can.condition()
	left.loose = left.loose || left.can&isOther != 0
	if can&goesOn == 0 {
		return settled(can, left)
	}
	right := ev.of(p.operands[1])
	right.loose = right.loose || right.can&isOther != 0
	switch {
	case can == goesOn:
		return settled(right.can.condition(), right)
	case right.can == goesOn:
		return settled(can, left)
	}
	return settled(can&^goesOn|right.can.condition(), partial{rest: p.made([]expression{left.rest, right.rest})})
}

// settled is a condition with these outcomes, of which p is left.
func settled(can outcomes, p partial) partial {
	if can == isTrue || can == isFalse {
		return known(types.Boolean(can == isTrue))
	}
	return partial{can: can, rest: p.rest, loose: p.loose}
}

func (ev *partialEvaluation) negation(p parts) partial {
	of := ev.of(p.operands[0])
	return settled(of.can.condition().negated(), partial{rest: p.made([]expression{of.rest})})
}

// choice evaluates `if`.
func (ev *partialEvaluation) choice(n expression, p parts) partial {
	when := ev.of(p.operands[0])
	can := when.can.condition()
	switch {
	case can == isTrue:
		return ev.of(p.operands[1])
	case can == isFalse:
		return ev.of(p.operands[2])
	case can == fails:
		return partial{can: fails, rest: n}
	}
	out := partial{can: can &^ isBoolean}
	operands := []expression{when.rest, p.operands[1], p.operands[2]}
	for i, possible := range []outcomes{isTrue, isFalse} {
		if can&possible != 0 {
			branch := ev.of(p.operands[i+1])
			out.can |= branch.can
			operands[i+1] = branch.exact()
		}
	}
	out.rest = p.made(operands)
	return out
}

// strict evaluates what needs all its operands.
func (ev *partialEvaluation) strict(n expression, p parts) partial {
	operands := make([]partial, len(p.operands))
	rests := make([]expression, len(p.operands))
	open := false
	var failures outcomes
	for i, operand := range p.operands {
		operands[i] = ev.of(operand)
		if operands[i].can == fails {
			return partial{can: fails, rest: n}
		}
		failures |= operands[i].can & fails
		open = open || operands[i].value == nil
		rests[i] = operands[i].exact()
	}
	made := p.made(rests)
	if !open {
		value, err := evaluate(made, &ev.env)
		if err != nil {
			return partial{can: fails, rest: n}
		}
		return known(value)
	}
	out := partial{can: anything, rest: made}
	switch at := operands[0].place; {
	case p.form == formTest && hopeless(n, operands):
		out.can = isFalse | fails
	case p.form == formTest, p.form == formHas && at.kind == nowhere:
		out.can = isBoolean | fails
	case p.form == formHas:
		return at.has(p.name, failures, out)
	case p.form == formMember && at.kind != nowhere:
		return at.read(p.name, failures, out)
	}
	return out
}

// hopeless tells whether something is looked for in a set that is empty.
func hopeless(n expression, operands []partial) bool {
	return slices.ContainsFunc(nonEmpty(n), func(i int) bool {
		set, ok := operands[i].value.(types.Set)
		return ok && set.Len() == 0
	})
}

// read reads a member; failures are those of the way to it.
func (at place) read(name string, failures outcomes, out partial) partial {
	m := at.member(name)
	switch {
	case !m.there:
		out.can = fails
		return out
	case !m.always:
		failures = fails
	}
	out.can, out.place = m.can|failures, m.place
	return out
}

// has tests whether there is a member.
func (at place) has(name string, failures outcomes, out partial) partial {
	m := at.member(name)
	switch {
	case !m.there:
		return settled(isFalse|failures, out)
	case m.always:
		return settled(isTrue|failures, out)
	}
	out.can = isBoolean | failures
	return out
}

// remainder is what is left of the conditions of a policy.
type remainder struct {
	can        outcomes // a condition's
	conditions []condition
}

// all evaluates conditions that have to hold all.
func (ev *partialEvaluation) all(conditions []condition) remainder {
	left := remainder{can: isTrue}
	for _, on := range conditions {
		of := ev.of(on.body)
		can := of.can.condition()
		if on.unless {
			can = can.negated()
		}
		if can == isTrue {
			continue
		}
		left.conditions = append(left.conditions, condition{on.unless, of.rest})
		left.can = left.can&^isTrue | can
		if can&isTrue == 0 {
			break // what follows is not evaluated
		}
	}
	return left
}
