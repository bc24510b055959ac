package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/policy"
)

// The life cycle of every kind. A path is the events that lead to a state, one letter each: create, update, activate, fail,
// delete request. Definition 1 is the one created, 2 the one that an update of the path brings, 3 the one that the event
// under test brings. A state is its status, what is in force / the candidate, and the reasons.
var lifecycle = []struct {
	path, state                                            string
	update, activate, fail, deleteRequest, deleted, tagged string // the state afterwards; "" when the event is refused
}{
	{"c", "CREATING -/1", "", "ACTIVE 1/-", "CREATE_FAILED -/1 why", "", "", "CREATING -/1"},
	{"ca", "ACTIVE 1/-", "UPDATING 1/3", "", "", "DELETING 1/-", "", "ACTIVE 1/-"},
	{"cau", "UPDATING 1/2", "", "ACTIVE 2/-", "UPDATE_FAILED 1/- why", "", "", "UPDATING 1/2"},
	{"cfu", "UPDATING -/2", "", "ACTIVE 2/-", "UPDATE_FAILED -/2 why", "", "", "UPDATING -/2"},
	{"cf", "CREATE_FAILED -/1 why", "UPDATING -/3", "", "", "DELETING -/1", "", "CREATE_FAILED -/1 why"},
	{"cauf", "UPDATE_FAILED 1/- why", "UPDATING 1/3", "", "", "DELETING 1/-", "", "UPDATE_FAILED 1/- why"},
	{"cfuf", "UPDATE_FAILED -/2 why", "UPDATING -/3", "", "", "DELETING -/2", "", "UPDATE_FAILED -/2 why"},
	{"caua", "ACTIVE 2/-", "UPDATING 2/3", "", "", "DELETING 2/-", "", "ACTIVE 2/-"},
	{"cad", "DELETING 1/-", "", "", "DELETE_FAILED 1/- why", "", "gone", "DELETING 1/-"},
	{"cfd", "DELETING -/1", "", "", "DELETE_FAILED -/1 why", "", "gone", "DELETING -/1"},
	{"cadf", "DELETE_FAILED 1/- why", "UPDATING 1/3", "", "", "DELETING 1/-", "", "DELETE_FAILED 1/- why"},
	{"cfdf", "DELETE_FAILED -/1 why", "UPDATING -/3", "", "", "DELETING -/1", "", "DELETE_FAILED -/1 why"},
	{"cadfu", "UPDATING 1/2", "", "ACTIVE 2/-", "UPDATE_FAILED 1/- why", "", "", "UPDATING 1/2"},
}

// kindUnderTest makes the events of one kind, whose definitions have their number as description.
type kindUnderTest struct {
	ref    policy.Ref
	before []policy.Event // where the thing lives
	create func() policy.Event
	update func(n string) policy.Event
	state  func(a *policy.Account) (state string, version, revision, active uint64)
}

func kindsUnderTest() map[policy.Kind]kindUnderTest {
	engine, gateway := engineID("E"), gatewayID("g")
	home := []policy.Event{policy.EngineCreated{ID: engine, Name: "E"}, policy.GatewayCreated{ID: gateway, Name: "g", Definition: gatewayTo("")}}
	body := func(n string) policy.Body {
		return policy.Body{
			Language: policy.LanguageCedar, Statement: permitAll, Description: n,
			Enforcement: policy.EnforcementActive, Validation: policy.FailOnAnyFindings,
		}
	}
	described := func(n string) policy.GatewayDefinition { d := gatewayTo(""); d.Description = n; return d }
	target := func(n string) policy.TargetDefinition { d := lambda(); d.Description = n; return d }
	return map[policy.Kind]kindUnderTest{
		policy.KindEngine: {
			policy.EngineRef(engine), nil,
			func() policy.Event {
				return policy.EngineCreated{ID: engine, Name: "E", Definition: policy.EngineDefinition{Description: "1"}}
			},
			func(n string) policy.Event {
				return policy.EngineUpdateRequested{ID: engine, Definition: policy.EngineDefinition{Description: n}}
			},
			func(a *policy.Account) (string, uint64, uint64, uint64) {
				if a.Engine(engine) == nil {
					return gone()
				}
				return show(&a.Engine(engine).Resource, func(d *policy.EngineDefinition) string { return d.Description })
			},
		},
		policy.KindPolicy: {
			policy.PolicyRef(engine, policyID("p")), home,
			func() policy.Event {
				return policy.PolicyCreated{EngineID: engine, ID: policyID("p"), Name: "p", Body: body("1")}
			},
			func(n string) policy.Event {
				return policy.PolicyUpdateRequested{EngineID: engine, ID: policyID("p"), Body: body(n)}
			},
			func(a *policy.Account) (string, uint64, uint64, uint64) {
				if a.Engine(engine).Policy(policyID("p")) == nil {
					return gone()
				}
				return show(&a.Engine(engine).Policy(policyID("p")).Resource, func(d *policy.Body) string { return d.Description })
			},
		},
		policy.KindGateway: {
			policy.GatewayRef(gateway), nil,
			func() policy.Event { return policy.GatewayCreated{ID: gateway, Name: "g", Definition: described("1")} },
			func(n string) policy.Event {
				return policy.GatewayUpdateRequested{ID: gateway, Definition: described(n)}
			},
			func(a *policy.Account) (string, uint64, uint64, uint64) {
				if a.Gateway(gateway) == nil {
					return gone()
				}
				return show(&a.Gateway(gateway).Resource, func(d *policy.GatewayDefinition) string { return d.Description })
			},
		},
		policy.KindTarget: {
			policy.TargetRef(gateway, "target0001"), home,
			func() policy.Event {
				return policy.TargetCreated{GatewayID: gateway, ID: "target0001", Name: "t", Definition: target("1")}
			},
			func(n string) policy.Event {
				return policy.TargetUpdateRequested{GatewayID: gateway, ID: "target0001", Definition: target(n)}
			},
			func(a *policy.Account) (string, uint64, uint64, uint64) {
				if a.Gateway(gateway).Target("target0001") == nil {
					return gone()
				}
				return show(&a.Gateway(gateway).Target("target0001").Resource, func(d *policy.TargetDefinition) string { return d.Description })
			},
		},
	}
}

func gone() (string, uint64, uint64, uint64) { return "gone", 0, 0, 0 }

func show[D any](r *policy.Resource[D], number func(*D) string) (state string, version, revision, active uint64) {
	label := func(d *D) string {
		if d == nil {
			return "-"
		}
		return number(d)
	}
	state = strings.TrimSpace(fmt.Sprintf("%s %s/%s %s", r.Status, label(r.InForce), label(r.Candidate), strings.Join(r.Reasons, ",")))
	if d := r.Definition(); d == nil || d != r.InForce && d != r.Candidate || r.InForce != nil && d != r.InForce {
		state += " with another definition"
	}
	return state, r.Version, r.Revision, r.ActiveRevision
}

func (k kindUnderTest) event(letter rune, n string) policy.Event {
	switch letter {
	case 'c':
		return k.create()
	case 'u':
		return k.update(n)
	case 'a':
		return policy.Activated{Of: k.ref}
	case 'f':
		return policy.Failed{Of: k.ref, Reasons: []string{"why"}}
	case 'd':
		return policy.DeleteRequested{Of: k.ref}
	}
	panic(letter)
}

// reach is the world after a path.
func (k kindUnderTest) reach(t *testing.T, path string) *world {
	t.Helper()
	w := emptyWorld(t)
	for _, ev := range k.before {
		w.record(alice, ev)
	}
	for _, letter := range path {
		w.record(alice, k.event(letter, "2"))
	}
	return w
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	for kind, k := range kindsUnderTest() {
		for _, row := range lifecycle {
			t.Run(string(kind)+"/"+row.path, func(t *testing.T) {
				t.Parallel()
				w := k.reach(t, row.path)
				state, version, revision, active := k.state(w.s.Account(alice))
				if state != row.state || version != uint64(len(row.path)) || revision != w.s.Position {
					t.Fatalf("is %q, version %d, revision %d; want %q", state, version, revision, row.state)
				}
				for _, c := range []struct {
					event policy.Event
					want  string
				}{
					{k.create(), ""},
					{k.update("3"), row.update},
					{policy.Activated{Of: k.ref}, row.activate},
					{policy.Failed{Of: k.ref, Reasons: []string{"why"}}, row.fail},
					{policy.DeleteRequested{Of: k.ref}, row.deleteRequest},
					{policy.Deleted{Of: k.ref}, row.deleted},
					{policy.TagsChanged{Of: k.ref, Tags: map[string]string{"a": "b"}}, row.tagged},
				} {
					next, _, err := apply(w.s, alice, c.event, true)
					if (err == nil) != (c.want != "") {
						t.Errorf("%s: %v, want %q", c.event.Type(), err, c.want)
					}
					if err != nil {
						continue
					}
					got, v, rev, act := k.state(next.Account(alice))
					if got != c.want {
						t.Errorf("%s made it %q, want %q", c.event.Type(), got, c.want)
					}
					wantActive := active
					if _, ok := c.event.(policy.Activated); ok {
						wantActive = next.Position
					}
					if got != "gone" && (v != version+1 || rev != next.Position || act != wantActive) {
						t.Errorf("%s: version %d, revision %d, in force since %d", c.event.Type(), v, rev, act)
					}
					if err := next.Verify(); err != nil {
						t.Errorf("%s: %v", c.event.Type(), err)
					}
				}
			})
		}
	}
}

// Only policies wait, and only while something is under way with them.
func TestPending(t *testing.T) {
	t.Parallel()
	for kind, k := range kindsUnderTest() {
		for _, row := range lifecycle {
			w := k.reach(t, row.path)
			waits := kind == policy.KindPolicy && (strings.HasPrefix(row.state, "CREATING") || strings.HasPrefix(row.state, "UPDATING"))
			n := 0
			for ref := range w.s.Account(alice).Pending() {
				n++
				if ref != k.ref {
					t.Errorf("%v waits", ref)
				}
			}
			if (n == 1) != waits || n > 1 {
				t.Errorf("%s after %s: %d wait", kind, row.path, n)
			}
		}
	}
}

// A name is taken from creation to deletion, whatever becomes of the thing in between.
func TestNamesAreFreeAfterDeletion(t *testing.T) {
	t.Parallel()
	for kind, k := range kindsUnderTest() {
		for _, path := range []string{"cad", "cfd"} {
			w := k.reach(t, path)
			w.record(alice, policy.Deleted{Of: k.ref})
			w.record(alice, k.create())
			if state, version, _, _ := k.state(w.s.Account(alice)); state != "CREATING -/1" || version != 1 {
				t.Errorf("%s: %s, version %d", kind, state, version)
			}
		}
	}
}
