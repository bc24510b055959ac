package snapshot

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// What tests of the reuse of compiled things compare.

// CompiledPolicy is the compiled form of a policy.
func CompiledPolicy(s *Snapshot, account, engineID, policyID string) any {
	a, _ := s.accounts.Get(account)
	e, _ := a.engines.get(engineID)
	return e.find(policyID).policy
}

// CompiledIndex is the index of an engine.
func CompiledIndex(s *Snapshot, account, engineID string) any {
	a, _ := s.accounts.Get(account)
	e, _ := a.engines.get(engineID)
	return e.index
}

// CompiledTarget is the table of a target's tools.
func CompiledTarget(s *Snapshot, account, gatewayID, target string) any {
	a, _ := s.accounts.Get(account)
	g, _ := a.gateways.get(gatewayID)
	return g.targets[target]
}

// Text is the value as JSON, "" for an absent one.
func (v Value) Text() string {
	switch v.kind {
	case null:
		return "null"
	case boolean:
		return strconv.FormatBool(v.number == 1)
	case literalNumber:
		return v.text
	case floatNumber:
		return strconv.FormatFloat(v.number, 'g', -1, 64)
	case text:
		return quoteJSON(v.text)
	case array, object:
		parts := make([]string, len(v.elems))
		for i, e := range v.elems {
			if parts[i] = e.Text(); v.kind == object {
				parts[i] = quoteJSON(v.names[i]) + ":" + parts[i]
			}
		}
		if v.kind == array {
			return "[" + strings.Join(parts, ",") + "]"
		}
		return "{" + strings.Join(parts, ",") + "}"
	case absent:
	}
	return ""
}

func quoteJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		case r == '"', r == '\\':
			b.WriteString(`\` + string(r))
		default:
			b.WriteRune(r)
		}
	}
	return `"` + b.String() + `"`
}

// Typed is the context of a request with this input.
func Typed(schema *policy.Schema, input Value, now int64) (_ types.Record, ok bool, code string) {
	record, wrong := typeContext(schema, Object([]Member{{"input", input}}), now)
	if wrong != nil {
		return record, false, wrong.code
	}
	return record, true, ""
}

// Evaluation is what Authorize does behind typing: it answers whether a request is allowed.
func Evaluation(s *Snapshot, r *Request) func() bool {
	to, err := s.route(r)
	if err != nil {
		return nil
	}
	t, _ := to.tool(r)
	context, _ := typeContext(t.input, r.Context, r.Now)
	return func() bool {
		var d Decision
		to.engine.evaluation(r, t, &context).judge(true, &d)
		return d.Allow
	}
}

// Candidates is how many policies a request is decided by.
func Candidates(s *Snapshot, r *Request) (n int) {
	to, err := s.route(r)
	if err != nil {
		return 0
	}
	t, _ := to.tool(r)
	var l lists
	l.collect(to.engine.index, r, t.groups)
	for _, c := range l.found {
		n += len(c.active) + len(c.logOnly)
	}
	return n
}
