package snapshot_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/snapshot"
)

const setSchema = `entity Role enum ["a", "b"]; entity Who in [Role] { id: String }; entity What;
	action group, far; action near in [far]; action do in [near, group] appliesTo { principal: Who, resource: What, context: { sourceAddress?: ipaddr } };`

func ask(role string, attributes map[string]string) *snapshot.SetRequest {
	return &snapshot.SetRequest{
		Principal: snapshot.SetEntity{Type: "Who", ID: "x", ParentType: "Role", Parents: []string{role}, Attributes: attributes},
		Resource:  snapshot.SetEntity{Type: "What", ID: "y"}, Action: "do",
	}
}

func compile(t *testing.T, policies string) *snapshot.Set {
	t.Helper()
	set, err := snapshot.Compile([]byte(policies), []byte(setSchema))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Default deny, forbid wins, and groups of actions are known near and far.
func TestSetDecides(t *testing.T) {
	t.Parallel()
	set := compile(t, `@id("far") permit (principal in Role::"a", action in Action::"far", resource);
		@id("not b") forbid (principal in Role::"b", action in Action::"group", resource);
		@id("all") permit (principal, action, resource) when { principal.id == "b" };`)
	id := map[string]string{"id": "x"}
	for name, tt := range map[string]struct {
		request *snapshot.SetRequest
		want    snapshot.SetDecision
	}{
		"permitted":                        {ask("a", id), snapshot.SetDecision{Allow: true, Policies: []string{"far"}}},
		"no policy":                        {ask("c", id), snapshot.SetDecision{}},
		"forbidden":                        {ask("b", map[string]string{"id": "b"}), snapshot.SetDecision{Policies: []string{"not b"}}},
		"an action that is not there":      {&snapshot.SetRequest{Principal: ask("a", id).Principal, Action: "x"}, snapshot.SetDecision{}},
		"a group is no action to be asked": {&snapshot.SetRequest{Principal: ask("c", id).Principal, Action: "group"}, snapshot.SetDecision{}},
	} {
		if diff := cmp.Diff(tt.want, set.Decide(tt.request)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A permit that fails to evaluate permits nothing, and a forbid that fails denies.
func TestSetForbidFails(t *testing.T) {
	t.Parallel()
	const all, forbid = `@id("all") permit (principal, action, resource);`, `@id("odd") forbid (principal, action, resource) when { principal.id == "z" };`
	for policies, allowed := range map[string]bool{
		all: true, all + forbid: false, strings.Replace(all+forbid, "forbid", "permit", 1): true, strings.Replace(forbid, "forbid", "permit", 1): false,
	} {
		got := compile(t, policies).Decide(ask("a", nil)) // without the id that the schema promises
		if got.Allow != allowed || (len(got.Errors) == 1) != strings.Contains(policies, "odd") {
			t.Errorf("%s: %+v", policies, got)
		}
	}
}

// A Set answers as Cedar does where cedar-go does not.
func TestSetIsExact(t *testing.T) {
	t.Parallel()
	const before = `@id("a") permit (principal, action, resource) when { datetime("1969-12-31T12:00:00Z")`
	if d := compile(t, before+`.toDate() == datetime("1969-12-31") };`).Decide(ask("a", nil)); !d.Allow {
		t.Errorf("got %+v", d)
	}
	_, err := snapshot.Compile([]byte(before+strings.Repeat(".toDate()", 5)+` == datetime("1969-12-31") };`), []byte(setSchema))
	if err == nil || !strings.Contains(err.Error(), `policy "a", at line 1: toDate() and toTime() stand more than 4 deep`) {
		t.Errorf("got %v", err)
	}
}
