package snapshot

import (
	"iter"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// evaluation runs policies of an engine for one request.
type evaluation struct {
	engine     *engine
	candidates lists
	entities   entities
	request    types.Request
}

func (e *engine) evaluation(r *Request, t *tool, context *types.Record) *evaluation {
	ev := &evaluation{engine: e, request: types.Request{
		Principal: types.NewEntityUID(types.EntityType(r.Principal.Type), types.String(r.Principal.ID)),
		Action:    t.uid,
		Resource:  types.NewEntityUID(types.EntityType(r.Resource.Type), types.String(r.Resource.ID)),
		Context:   *context,
	}}
	ev.candidates.collect(e.index, r, t.groups)
	ev.entities = entities{resource: ev.request.Resource, tool: t, principal: types.Entity{UID: ev.request.Principal}}
	ev.describe(&ev.entities.principal, r.Principal.Tags)
	return ev
}

// describe gives the principal what the candidates can see of it. Most read a tag or two of a token's dozens.
func (ev *evaluation) describe(principal *types.Entity, tags map[string]string) {
	var values types.RecordMap
	id := false
	for _, list := range ev.candidates.found {
		for _, c := range list.active {
			id = c.reads.from(tags, &values) || id
		}
		for _, c := range list.logOnly {
			id = c.reads.from(tags, &values) || id
		}
	}
	if id {
		principal.Attributes = types.NewRecord(types.RecordMap{"id": principal.UID.ID})
	}
	if len(values) > 0 {
		principal.Tags = types.NewRecord(values)
	}
}

// from adds what a policy reads of tags to values, and tells whether it reads the principal's id.
func (r *reads) from(tags map[string]string, values *types.RecordMap) (id bool) {
	if *values == nil && (len(r.tags) > 0 || r.anyTag) && len(tags) > 0 {
		*values = types.RecordMap{}
	}
	for _, key := range r.tags {
		if value, ok := tags[key]; ok {
			(*values)[types.String(key)] = types.String(value)
		}
	}
	if r.anyTag && len(*values) < len(tags) {
		for key, value := range tags {
			(*values)[types.String(key)] = types.String(value)
		}
	}
	return r.id
}

// group is the policies that are evaluated together. cedar-go does not tell which permits match beside a forbid, so that
// those which are only reported on are evaluated by effect.
type group uint8

const (
	ofActive group = iota
	ofLogOnlyPermits
	ofLogOnlyForbids
)

// selection is what of the candidates cedar-go is given.
type selection struct {
	candidates *lists
	group      group
}

// All implements cedar.PolicyIterator.
func (s selection) All() iter.Seq2[types.PolicyID, *cedar.Policy] {
	return func(yield func(types.PolicyID, *cedar.Policy) bool) {
		for _, c := range s.candidates.found {
			list := c.active
			if s.group != ofActive {
				list = c.logOnly
			}
			for _, p := range list {
				if s.group != ofActive && p.forbid != (s.group == ofLogOnlyForbids) {
					continue
				}
				if !yield(types.PolicyID(p.id), p.policy) {
					return
				}
			}
		}
	}
}

// outcome is what Cedar says, in an order that depends on nothing but the ids.
type outcome struct {
	allow   bool
	reasons []string
	errors  []PolicyError
}

func (ev *evaluation) run(of group) outcome {
	return ev.engine.run(selection{&ev.candidates, of}, &ev.entities, ev.request)
}

// run evaluates policies of the engine.
func (e *engine) run(policies selection, known types.EntityGetter, r types.Request) outcome {
	decision, diagnostic := cedar.Authorize(policies, known, r)
	out := outcome{allow: bool(decision)}
	if len(diagnostic.Reasons) > 0 {
		out.reasons = make([]string, len(diagnostic.Reasons))
	}
	for i, r := range diagnostic.Reasons {
		out.reasons[i] = string(r.PolicyID)
	}
	for _, err := range diagnostic.Errors {
		id := string(err.PolicyID)
		out.errors = append(out.errors, PolicyError{id, e.find(id).message(err.Message)})
	}
	slices.Sort(out.reasons)
	slices.SortFunc(out.errors, func(a, b PolicyError) int { return strings.Compare(a.PolicyID, b.PolicyID) })
	return out
}

// maxMessage is how many bytes of cedar-go's message are kept. It repeats what the caller sent.
const maxMessage = 300

// message is the same at every evaluation of the same request.
func (c *compiled) message(text string) string {
	if c.reads.either {
		return "the policy could not be evaluated; which member failed is left out, since it writes a record with several or asks for a set"
	}
	return clipTo(text, maxMessage)
}
