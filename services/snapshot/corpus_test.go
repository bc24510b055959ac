package snapshot

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// The corpus is in the module of cedar-go: what the official implementation answered to random requests, one policy a test. Its
// entities are of any model, so that it does not go through Authorize, whose requests are typed by the schemas of tools. It goes
// through what stands behind typing: policy.Exact, the heads, the index, the choice of what a policy can see of the principal,
// and the order of what comes out.
//
// The corpus of cedar-go 1.9.0.
const (
	corpusTests    = 7750
	corpusRequests = 62000

	// A request does not apply to the index when its action is, itself or by a group, two of those that a policy lists and that
	// are not within each other by their ids: ours are in one chain of groups, which their ids name. It is decided all the same,
	// with the policy's actions left open. That is so in this many tests, and there is no other reason.
	corpusOutsideIndex = 11
)

type corpusTest struct {
	name     string
	policy   *compiled // called as the test is
	entities cedar.EntityMap
	Requests []corpusRequest
}

type corpusRequest struct {
	Principal, Action, Resource cedar.EntityUID
	Context                     cedar.Record
	Decision                    string
	Reason, Errors              []string
}

// readCorpus reads the corpus of the module that this package is built with.
func readCorpus(t *testing.T) []*corpusTest {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cedar-policy/cedar-go").Output()
	if err != nil {
		t.Fatalf("the folder of cedar-go: %v", err)
	}
	files := unpack(t, filepath.Join(strings.TrimSpace(string(dir)), "corpus-tests.tar.gz"))
	var tests []*corpusTest
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".entities.json") {
			continue
		}
		c := &corpusTest{name: path.Base(name)}
		parts := struct {
			*corpusTest
			Policies, Entities string
		}{corpusTest: c}
		if err := json.Unmarshal(files[name], &parts); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := json.Unmarshal(files[parts.Entities], &c.entities); err != nil {
			t.Fatalf("%s: %v", parts.Entities, err)
		}
		list, err := cedar.NewPolicyListFromBytes("", files[parts.Policies])
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: %d policies, %v", parts.Policies, len(list), err)
		}
		exact, err := policy.Exact(list[0])
		if err != nil {
			t.Fatalf("%s: %v", parts.Policies, err)
		}
		c.policy = &compiled{id: c.name}
		c.policy.take(exact, list[0])
		tests = append(tests, c)
	}
	return tests
}

func unpack(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for in := tar.NewReader(plain); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
	}
}

// loose is an engine of policies that are not of our model, for the requests of one principal and one action.
type loose struct {
	engine
	as     string   // what the principals are to the index
	groups []string // of the action
}

func newLoose(policies []*compiled, r *corpusRequest, entities cedar.EntityMap, as string) *loose {
	l := &loose{as: as, groups: ancestors(entities, r.Action)}
	for _, c := range policies {
		own := *c
		if l.lists(c, r.Action) > 1 {
			own.head.actions = nil
		}
		switch own.head.principalType {
		case "":
		case r.Principal.Type:
			own.head.principalType = cedar.EntityType(as)
		default:
			own.head.principalType = "Else::" + own.head.principalType
		}
		l.policies = append(l.policies, &own)
	}
	slices.SortFunc(l.policies, func(a, b *compiled) int { return strings.Compare(a.id, b.id) })
	l.index = newIndex(l.policies)
	return l
}

// lists is how many of those that a policy lists the action is or is in.
func (l *loose) lists(c *compiled, action cedar.EntityUID) (n int) {
	for _, id := range c.head.actions {
		if id == string(action.ID) || slices.Contains(l.groups, id) {
			n++
		}
	}
	return n
}

// decide answers by the index.
func (l *loose) decide(r *corpusRequest, entities cedar.EntityMap) outcome {
	principal := entities[r.Principal]
	asked := Request{
		Principal: Principal{Type: l.as, ID: string(r.Principal.ID), Tags: map[string]string{}},
		Action:    Entity{ID: string(r.Action.ID)}, Resource: Entity{ID: string(r.Resource.ID)},
	}
	for key, value := range principal.Tags.All() {
		if text, ok := value.(types.String); ok {
			asked.Principal.Tags[string(key)] = string(text)
		}
	}
	var found lists
	found.collect(l.index, &asked, l.groups)
	known := maps.Clone(entities)
	if _, ok := known[r.Principal]; ok {
		known[r.Principal] = seen(principal, &found)
	}
	return l.run(selection{&found, ofActive}, known, r.request())
}

func (r *corpusRequest) request() cedar.Request {
	return cedar.Request{Principal: r.Principal, Action: r.Action, Resource: r.Resource, Context: r.Context}
}

// ancestors are the ids of all groups that an entity is in.
func ancestors(entities cedar.EntityMap, of cedar.EntityUID) []string {
	groups := map[cedar.EntityUID]bool{}
	for pending := []cedar.EntityUID{of}; len(pending) > 0; pending = pending[1:] {
		for parent := range entities[pending[0]].Parents.All() {
			if !groups[parent] {
				groups[parent] = true
				pending = append(pending, parent)
			}
		}
	}
	ids := map[string]bool{}
	for uid := range groups {
		ids[string(uid.ID)] = true
	}
	delete(ids, string(of.ID))
	return slices.Sorted(maps.Keys(ids))
}

// seen is the principal as the candidates can see it, which is all that Authorize gives them.
func seen(principal cedar.Entity, candidates *lists) cedar.Entity {
	keys, all, id := map[string]bool{}, false, false
	for _, list := range candidates.found {
		for _, c := range list.active {
			all, id = all || c.reads.anyTag, id || c.reads.id
			for _, key := range c.reads.tags {
				keys[key] = true
			}
		}
	}
	tags, attributes := cedar.RecordMap{}, cedar.RecordMap{}
	for key, value := range principal.Tags.All() {
		if all || keys[string(key)] {
			tags[key] = value
		}
	}
	for key, value := range principal.Attributes.All() {
		if key != "id" || id {
			attributes[key] = value
		}
	}
	principal.Tags, principal.Attributes = cedar.NewRecord(tags), cedar.NewRecord(attributes)
	return principal
}

// differ compares all but the messages of errors, which are cedar-go's own.
func differ(a, b outcome) bool {
	return a.allow != b.allow || !slices.Equal(a.reasons, b.reasons) ||
		!slices.EqualFunc(a.errors, b.errors, func(a, b PolicyError) bool { return a.PolicyID == b.PolicyID })
}

// expected is what the corpus says.
func (r *corpusRequest) expected(name string) outcome {
	out := outcome{allow: r.Decision == "allow"}
	for range r.Reason {
		out.reasons = append(out.reasons, name)
	}
	for range r.Errors {
		out.errors = append(out.errors, PolicyError{PolicyID: name})
	}
	return out
}

// walked is what cedar-go says of all policies.
func (r *corpusRequest) walked(set *cedar.PolicySet, entities cedar.EntityMap) outcome {
	decision, diagnostic := cedar.Authorize(set, entities, r.request())
	out := outcome{allow: bool(decision)}
	for _, reason := range diagnostic.Reasons {
		out.reasons = append(out.reasons, string(reason.PolicyID))
	}
	for _, failed := range diagnostic.Errors {
		out.errors = append(out.errors, PolicyError{PolicyID: string(failed.PolicyID)})
	}
	slices.Sort(out.reasons)
	slices.SortFunc(out.errors, func(a, b PolicyError) int { return strings.Compare(a.PolicyID, b.PolicyID) })
	return out
}

// corpusCount is what came of the corpus.
type corpusCount struct {
	requests, allowed, failed, together int
	outside                             map[string]bool // the index: tests
}

// Decisions, reasons and errors are those of the official implementation: for each policy by itself, and for many together, of
// which cedar-go has been asked.
func TestCorpus(t *testing.T) {
	t.Parallel()
	tests := readCorpus(t)
	count := corpusCount{outside: map[string]bool{}}
	const many = 25
	for chunk := range slices.Chunk(tests, many) {
		var policies []*compiled
		for _, c := range chunk {
			policies = append(policies, c.policy)
		}
		for _, c := range chunk {
			count.one(t, c)
			count.many(t, c, policies)
		}
	}
	if len(tests) != corpusTests || count.requests != corpusRequests {
		t.Errorf("the corpus has %d tests and %d requests, and had %d and %d", len(tests), count.requests, corpusTests, corpusRequests)
	}
	if n := len(count.outside); n != corpusOutsideIndex {
		t.Errorf("%d tests do not apply to the index, and %d should", n, corpusOutsideIndex)
	}
	t.Logf("%d tests, %d requests, %d allowed, %d with errors; %d more among %d policies; %d tests do not apply to the index",
		len(tests), count.requests, count.allowed, count.failed, count.together, many, len(count.outside))
}

// one decides by the policy of one test.
func (n *corpusCount) one(t *testing.T, c *corpusTest) {
	t.Helper()
	for i, r := range c.Requests {
		as := policy.PrincipalTypes()[i%3]
		l := newLoose([]*compiled{c.policy}, &r, c.entities, as)
		if l.lists(c.policy, r.Action) > 1 {
			n.outside[c.name] = true
		}
		got := l.decide(&r, c.entities)
		if want := r.expected(c.name); differ(got, want) {
			t.Errorf("%s, request %d: got %+v, want %+v\n%s", c.name, i, got, want, c.policy.policy.MarshalCedar())
		}
		n.requests++
		if got.allow {
			n.allowed++
		}
		n.failed += len(got.errors)
	}
}

// many decides the requests of one test by the policies of many.
func (n *corpusCount) many(t *testing.T, c *corpusTest, policies []*compiled) {
	t.Helper()
	set := cedar.NewPolicySet()
	for _, p := range policies {
		set.Add(cedar.PolicyID(p.id), p.policy)
	}
	engines := map[[2]cedar.EntityUID]*loose{}
	for i, r := range c.Requests {
		key := [2]cedar.EntityUID{r.Principal, r.Action}
		if engines[key] == nil {
			engines[key] = newLoose(policies, &r, c.entities, policy.TypeOAuthUser)
		}
		if got, want := engines[key].decide(&r, c.entities), r.walked(set, c.entities); differ(got, want) {
			t.Errorf("%s, request %d, among many: got %+v, want %+v", c.name, i, got, want)
		}
		n.together++
	}
}
