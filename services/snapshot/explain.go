package snapshot

import (
	"cmp"
	"errors"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
)

// PermitExplanation is how a permit was evaluated. It applies when all its clauses hold.
type PermitExplanation struct {
	PolicyID string
	Clauses  []Clause
}

// Clause is one of the conditions of a permit that must all hold. It is evaluated by itself.
type Clause struct {
	Text   string        // in Cedar's text
	Holds  bool          // it is true
	Error  string        // why it cannot be evaluated; "" when it can
	Values []ClauseValue // what it read of the request
}

// ClauseValue is a part of a clause that is read from the request, with its value, both in Cedar's text.
type ClauseValue struct{ Expression, Value string }

// The bounds of an explanation.
const (
	MaxExplained    = 3       // permits
	maxClauseText   = 2 << 10 // bytes
	maxClauseValues = 10
)

// Explain tells how the permits were evaluated that came nearest to what r asks, which d has decided: of the ACTIVE ones about its
// action, those of which the most clauses hold, then those of which the fewest do not, then by id. It is empty where policies
// did not decide. It takes time in proportion to the engine's policies.
func (s *Snapshot) Explain(r *Request, d *Decision) []PermitExplanation {
	to, err := s.route(r)
	if err != nil || to.engine == nil || d.context == nil {
		return nil
	}
	t, _ := to.tool(r)
	if t == nil {
		return nil
	}
	q := to.asked(r, false)
	q.turnTo(t)
	q.env.Context = *d.context
	var nearest []explained
	for _, c := range to.engine.policies {
		if c.forbid || c.logOnly || c.policy == nil || !fitsAction(c.policy, &q.env) {
			continue
		}
		nearest = append(nearest, q.examine(c))
		slices.SortFunc(nearest, nearer)
		nearest = nearest[:min(len(nearest), MaxExplained)]
	}
	out := make([]PermitExplanation, len(nearest))
	for i := range nearest {
		out[i] = q.explain(&nearest[i])
	}
	return out
}

// explained is a permit with its clauses.
type explained struct {
	policy        *compiled
	clauses       []expression
	results       []error // nil for one that holds
	held, notHeld int
}

var (
	errFalse     = errors.New("it is false")
	errNoBoolean = errors.New("it is no boolean")
)

func nearer(a, b explained) int {
	return cmp.Or(cmp.Compare(b.held, a.held), cmp.Compare(a.notHeld, b.notHeld), cmp.Compare(a.policy.id, b.policy.id))
}

// examine evaluates each clause of a permit.
func (q *question) examine(c *compiled) explained {
	e := explained{policy: c, clauses: clausesOf(c.stated)}
	e.results = make([]error, len(e.clauses))
	for i, clause := range e.clauses {
		if e.results[i] = q.holds(clause); e.results[i] == nil {
			e.held++
		} else {
			e.notHeld++
		}
	}
	return e
}

// holds is nil when a clause is true, errFalse when it is false, and else why it cannot be evaluated.
func (q *question) holds(clause expression) error {
	value, err := evaluate(clause, &q.env)
	if err != nil {
		return err
	}
	switch truth, ok := value.(types.Boolean); {
	case !ok:
		return errNoBoolean
	case !bool(truth):
		return errFalse
	}
	return nil
}

// explain puts an examined permit into words.
func (q *question) explain(e *explained) PermitExplanation {
	out := PermitExplanation{PolicyID: e.policy.id, Clauses: make([]Clause, len(e.clauses))}
	for i, clause := range e.clauses {
		c := Clause{Text: clipTo(expressionText(clause), maxClauseText), Holds: e.results[i] == nil, Values: q.values(clause)}
		if err := e.results[i]; err != nil && !errors.Is(err, errFalse) {
			c.Error = e.policy.message(err.Error())
		}
		out.Clauses[i] = c
	}
	return out
}

// values are the values of what a clause reads, each once.
func (q *question) values(clause expression) []ClauseValue {
	var out []ClauseValue
	for _, n := range readIn(clause) {
		value, err := evaluate(n, &q.env)
		text := expressionText(n)
		if err != nil || slices.ContainsFunc(out, func(v ClauseValue) bool { return v.Expression == text }) {
			continue
		}
		if len(out) == maxClauseValues {
			break
		}
		out = append(out, ClauseValue{clipTo(text, maxClauseText), clipTo(string(value.MarshalCedar()), maxMessage)})
	}
	return out
}
