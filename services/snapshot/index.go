package snapshot

import (
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// head is what the index knows of a statement: a request that does not fit it gets neither a match nor an error from the
// policy. That is so because cedar-go tests principal, action, resource and conditions in this order and stops at the first
// that does not hold, and because none of the tests of the head, nor a leading test of a tag, can fail.
type head struct {
	principalType types.EntityType // "" is any
	principal     *string          // the id, when the principal is one entity
	actions       []string         // ids of actions and groups, none of them in another; nil is any
	resource      *string          // the id, when the resource is one entity
	tag           *tag             // that the principal must have
}

// unkeyed tells whether a policy has to be evaluated for every request of its gateways, or for all of one type of principal, since
// its head holds nothing else that the index could find it by.
func (h *head) unkeyed() bool {
	somebodys := h.principalType == "" || slices.Contains(policy.PrincipalTypes(), string(h.principalType))
	return somebodys && h.actions == nil && h.principal == nil && h.tag == nil
}

// tag is `principal.hasTag(key) && principal.getTag(key) == value`.
type tag struct{ key, value string }

// index finds the policies whose heads may fit a request. It never changes once it is made; a nil part of it holds nothing.
type index struct {
	anywhere *byAction
	at       map[string]*byAction // by the id of the resource
	edits    int                  // since it was made of nothing
}

type byAction struct {
	any   *byCaller
	named map[string]*byCaller // by the id of the action, or of a group that it is in
}

type byCaller struct{ oauth, iam, anonymous *callers }

// callers holds the policies for one type of principal.
type callers struct {
	any    *candidates
	named  map[string]*candidates            // by the id of the principal
	tagged map[string]map[string]*candidates // by key and value of a tag
}

// candidates are sorted by id.
type candidates struct{ active, logOnly []*compiled }

// newIndex is the index of policies that are sorted by id. Those that do not compile are in none.
func newIndex(policies []*compiled) *index {
	x := &index{}
	for _, c := range policies {
		edit{fresh: true, policy: c}.index(x)
	}
	x.edits = 0
	return x
}

// edited is the index without some policies and with some others. It shares with x what they are not in.
func (x *index) edited(without, with []*compiled) *index {
	for _, c := range without {
		x = edit{remove: true, policy: c}.index(x)
	}
	for _, c := range with {
		x = edit{policy: c}.index(x)
	}
	return x
}

// edit adds one policy to an index, or removes it. Of what it changes it makes copies, unless the index is fresh and nobody
// else's yet. A policy that is added to a fresh one comes last.
type edit struct {
	fresh, remove bool
	policy        *compiled
}

func (e edit) index(x *index) *index {
	if e.policy.policy == nil {
		return x
	}
	x = copied(e, x)
	x.edits++
	if at := e.policy.head.resource; at != nil {
		x.at = copiedMap(e, x.at)
		x.at[*at] = e.actions(x.at[*at])
	} else {
		x.anywhere = e.actions(x.anywhere)
	}
	return x
}

func (e edit) actions(b *byAction) *byAction {
	b = copied(e, b)
	if e.policy.head.actions == nil {
		b.any = e.caller(b.any)
		return b
	}
	b.named = copiedMap(e, b.named)
	for _, id := range e.policy.head.actions {
		b.named[id] = e.caller(b.named[id])
	}
	return b
}

// caller leaves a policy out that is for a type of principal which no request has.
func (e edit) caller(b *byCaller) *byCaller {
	b = copied(e, b)
	if t := e.policy.head.principalType; t == "" || t == policy.TypeOAuthUser {
		b.oauth = e.callers(b.oauth)
	}
	if t := e.policy.head.principalType; t == "" || t == policy.TypeIamEntity {
		b.iam = e.callers(b.iam)
	}
	if t := e.policy.head.principalType; t == "" || t == policy.TypeUnauthenticatedUser {
		b.anonymous = e.callers(b.anonymous)
	}
	return b
}

func (e edit) callers(cs *callers) *callers {
	cs = copied(e, cs)
	switch h := e.policy.head; {
	case h.principal != nil:
		cs.named = copiedMap(e, cs.named)
		cs.named[*h.principal] = e.candidates(cs.named[*h.principal])
	case h.tag != nil:
		cs.tagged = copiedMap(e, cs.tagged)
		values := copiedMap(e, cs.tagged[h.tag.key])
		values[h.tag.value] = e.candidates(values[h.tag.value])
		cs.tagged[h.tag.key] = values
	default:
		cs.any = e.candidates(cs.any)
	}
	return cs
}

func (e edit) candidates(c *candidates) *candidates {
	c = copied(e, c)
	list := &c.active
	if e.policy.logOnly {
		list = &c.logOnly
	}
	switch i, _ := find(*list, e.policy.id); {
	case e.fresh:
		*list = append(*list, e.policy)
	case e.remove:
		*list = slices.Concat((*list)[:i], (*list)[i+1:])
	default:
		*list = slices.Concat((*list)[:i], []*compiled{e.policy}, (*list)[i:])
	}
	return c
}

// find is where the policy with this id stands, or should.
func find(list []*compiled, id string) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(c *compiled, id string) int { return strings.Compare(c.id, id) })
}

// copied is p itself where nobody else has it, and a copy of it else; an empty one for nil.
func copied[T any](e edit, p *T) *T {
	switch {
	case p == nil:
		return new(T)
	case e.fresh:
		return p
	}
	return new(*p)
}

func copiedMap[V any](e edit, m map[string]V) map[string]V {
	switch {
	case m == nil:
		return map[string]V{}
	case e.fresh:
		return m
	}
	return maps.Clone(m)
}

// lists are the candidates for one request, each once: an action is in one group, which is in one group, so that of a head's
// actions, none of which is in another, it fits at most one.
type lists struct {
	found []*candidates
	room  [8]*candidates
}

// collect finds them; l must stay where it is.
func (l *lists) collect(x *index, r *Request, groups []string) {
	l.found = l.room[:0]
	l.addActions(x.anywhere, r, groups)
	l.addActions(x.at[r.Resource.ID], r, groups)
}

func (l *lists) addActions(b *byAction, r *Request, groups []string) {
	if b == nil {
		return
	}
	l.addCallers(b.any, &r.Principal)
	if len(b.named) == 0 {
		return
	}
	l.addCallers(b.named[r.Action.ID], &r.Principal)
	for _, group := range groups {
		l.addCallers(b.named[group], &r.Principal)
	}
}

func (l *lists) addCallers(b *byCaller, p *Principal) {
	if b == nil {
		return
	}
	cs := b.oauth
	switch p.Type {
	case policy.TypeIamEntity:
		cs = b.iam
	case policy.TypeUnauthenticatedUser:
		cs = b.anonymous
	}
	if cs == nil {
		return
	}
	l.add(cs.any)
	l.add(cs.named[p.ID])
	for key, values := range cs.tagged {
		if value, ok := p.Tags[key]; ok {
			l.add(values[value])
		}
	}
}

func (l *lists) add(c *candidates) {
	if c != nil {
		l.found = append(l.found, c)
	}
}
