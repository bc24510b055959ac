//go:build cedarwasm

package snapshot_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// official is the official implementation of Cedar, in a process of its own (tools/cedar-wasm).
type official struct {
	t       testing.TB
	child   *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	log     strings.Builder
	answers int // of this process
}

// maxOfficial is how many answers a process gives: its memory grows, and a long one has been seen to fail.
const maxOfficial = 8000

// setting is an environment variable of `make cedar-wasm`.
func setting(t testing.TB, name string, without uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return without
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func (o *official) start() {
	o.t.Helper()
	dir := os.Getenv("VERDICT_CEDAR_WASM")
	if dir == "" {
		o.t.Fatal("the official implementation of Cedar is not there: run `make cedar-wasm`")
	}
	o.stop()
	o.log.Reset()
	o.child = exec.CommandContext(o.t.Context(), "node", filepath.Join(dir, "oracle.mjs"))
	o.child.Stderr = &o.log
	in, err := o.child.StdinPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	out, err := o.child.StdoutPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	o.in, o.out, o.answers = in, bufio.NewReader(out), 0
	if err := o.child.Start(); err != nil {
		o.t.Fatal(err)
	}
	var hello struct{ Version string }
	if err := o.read(&hello); err != nil || hello.Version == "" {
		o.t.Fatalf("%v: %s", err, &o.log)
	}
	if testing.Verbose() {
		o.t.Logf("cedar-wasm %s", hello.Version)
	}
}

// stop ends the process, if there is one.
func (o *official) stop() {
	if o.child == nil {
		return
	}
	_ = o.in.Close()
	_ = o.child.Wait()
	o.child = nil
}

func (o *official) read(answer any) error {
	line, err := o.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, answer)
}

type (
	officialRequest struct {
		Principal cedar.EntityUID `json:"principal"`
		Action    cedar.EntityUID `json:"action"`
		Resource  cedar.EntityUID `json:"resource"`
		Context   json.RawMessage `json:"context"`
		Entities  cedar.EntityMap `json:"entities"`
	}
	officialAnswer struct {
		Allow           bool
		Reasons, Errors []string
	}
)

// ask asks for the answers of each set to each request. What one process cannot answer, a fresh one gets once more.
func (o *official) ask(sets []map[string]string, requests []officialRequest) (answers [][]officialAnswer) {
	o.t.Helper()
	question, err := json.Marshal(map[string]any{"sets": sets, "requests": requests})
	if err != nil {
		o.t.Fatal(err)
	}
	for range 2 {
		if o.child == nil || o.answers > maxOfficial {
			o.start()
		}
		var answer struct{ Answers [][]officialAnswer }
		_, err = o.in.Write(append(question, '\n'))
		if err == nil {
			err = o.read(&answer)
		}
		if err == nil {
			o.answers += len(sets) * len(requests)
			return answer.Answers
		}
		o.stop()
	}
	o.t.Fatalf("%v: %s", err, &o.log)
	return nil
}

// officialCase is a request, and what we answer to it.
type officialCase struct {
	walk   *walk
	strict bool
	got    snapshot.Decision
	text   string
}

// differ compares with the answers of the ACTIVE policies, of the LOG_ONLY permits and of the LOG_ONLY forbids.
func (c *officialCase) differ(answers []officialAnswer) string {
	errors := func(ids []string) (all []snapshot.PolicyError) {
		for _, id := range ids {
			all = append(all, snapshot.PolicyError{PolicyID: id})
		}
		return all
	}
	active := answers[0]
	want := snapshot.Decision{Allow: active.Allow, Determining: active.Reasons, Errors: errors(active.Errors)}
	if c.strict {
		want.Determining, want.Allow = strictly(c.walk.active, active.Allow, active.Reasons, want.Errors)
	}
	want.LogOnly.Matched = slices.Sorted(slices.Values(slices.Concat(answers[1].Reasons, answers[2].Reasons)))
	want.LogOnly.Mismatched = slices.Sorted(slices.Values(slices.Concat(answers[1].Errors, answers[2].Errors)))
	return cmp.Diff(want, c.got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(snapshot.Decision{}),
		cmpopts.IgnoreFields(snapshot.PolicyError{}, "Message"), cmpopts.IgnoreFields(snapshot.Findings{}, "Flipping", "Incomplete"))
}

// needed are the entities of the request, and those that policies name, each with all groups that it is in as parents: what an
// entity costs the official implementation is most of what an answer costs.
func (w *walk) needed(policies string) cedar.EntityMap {
	all := cedar.EntityMap{}
	for uid, e := range w.entities {
		r := w.request
		if uid != r.Principal && uid != r.Action && uid != r.Resource && !strings.Contains(policies, uid.String()) {
			continue
		}
		if uid.Type == policy.TypeAction {
			var groups []cedar.EntityUID
			for _, group := range policy.ActionGroups(string(uid.ID)) {
				groups = append(groups, action(group))
			}
			e.Parents = cedar.NewEntityUIDSet(groups...)
		}
		all[uid] = e
	}
	return all
}

// officialWorld makes one set of policies and some requests.
func officialWorld(t testing.TB, d dice, requests int) (sets []map[string]string, cases []officialCase, questions []officialRequest) {
	t.Helper()
	w := randomWorld(t, d, 1+d.IntN(20))
	sets = []map[string]string{{}, {}, {}}
	for range requests {
		r := randomRequest(d)
		if r.Resource.Type == "" { // ours may leave it out where it names an engine; Cedar has no such type
			r.Resource.Type = "Photo"
		}
		decision := w.ask(r)
		c := officialCase{walk: newWalk(t, w.s, r, decision.ContextJSON(), true), strict: *decision.Settings.StrictForbids, text: fmt.Sprintf("%+v", r)}
		c.got = snapshot.Decision{Allow: decision.Allow, Determining: decision.Determining, Errors: decision.Errors, LogOnly: decision.LogOnly}
		cases = append(cases, c)
		questions = append(questions, officialRequest{
			c.walk.request.Principal, c.walk.request.Action, c.walk.request.Resource, decision.ContextJSON(), c.walk.needed(w.statements()),
		})
	}
	for p := range w.s.Account(alice).Engine(engineID).PoliciesAfter("") {
		set := sets[0]
		if logOnly := cases[0].walk.logOnly[p.ID]; logOnly != nil {
			set = sets[1]
			if logOnly.Effect() == cedar.Forbid {
				set = sets[2]
			}
		}
		set[p.ID] = p.InForce.Statement
	}
	return sets, cases, questions
}

// named are the policies that a text names.
func named(sets []map[string]string, text string) string {
	var b strings.Builder
	for _, set := range sets {
		for id, statement := range set {
			if strings.Contains(text, strconv.Quote(id)) {
				fmt.Fprintf(&b, "%s: %s\n", id, statement)
			}
		}
	}
	return b.String()
}

// Decisions, reasons and errors are those of the official implementation, for random sets of policies.
func TestOfficialImplementationAnswersTheSame(t *testing.T) {
	const requests = 30
	cases, seed := setting(t, "VERDICT_CEDAR_CASES", 3000), setting(t, "VERDICT_CEDAR_SEED", 1)
	o := &official{t: t}
	defer o.stop()
	var asked, different, allowed, failed uint64
	for n := uint64(0); asked < cases; n++ {
		sets, ours, questions := officialWorld(t, rand.New(rand.NewPCG(seed, n)), requests)
		for i, answers := range o.ask(sets, questions) {
			asked++
			if ours[i].got.Allow {
				allowed++
			}
			if len(ours[i].got.Errors) > 0 {
				failed++
			}
			diff := ours[i].differ(answers)
			if diff == "" {
				continue
			}
			if different++; different <= 5 {
				t.Errorf("seed %d, world %d, request %d: -official +ours %s\n%s\n%s", seed, n, i, diff, ours[i].text, named(sets, diff))
			}
		}
	}
	t.Logf("%d cases, seed %d: %d differences; %d allowed, %d with errors", asked, seed, different, allowed, failed)
	if allowed < asked/20 || failed < asked/20 {
		t.Error("the policies and requests do not meet")
	}
}

// literals are what the constructor of each extension takes, and begin what it may not take.
var literals = map[string][]string{
	"decimal": {"1.5", "-0.5", "+0.5", "922337203685477.5807", "-922337203685477.5808", "12.3456"},
	"ip":      {"10.0.0.1", "10.0.0.0/8", "255.255.255.255/32", "::1", "::", "fe80::1/64", "2001:db8:0:0:0:0:0:1", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8/128"},
	"datetime": {
		"2026-03-01", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.123Z", "2026-03-01T13:30:00.123+0130", "2026-02-28T22:00:00-1400",
		"1969-12-31T23:59:59.999Z", "9999-12-31", "0000-01-01", "+292278994-08-17T07:12:55.807Z", "-292275055-05-16T16:47:04.192Z",
	},
	"duration": {
		"1d2h3m4s5ms", "-1d", "9223372036854775807ms", "-9223372036854775808ms", "106751991167d7h12m55s807ms", "-106751991167d7h12m55s808ms", "15250284452w",
	},
}

// mutated is a text with some of its characters changed.
func mutated(d dice, text string) string {
	const alphabet = "0123456789-+.:/dhms TZt%abfAF,_xw"
	for range d.IntN(3) {
		i := d.IntN(len(text) + 1)
		before, after := text[:i], text[i:]
		with := string(alphabet[d.IntN(len(alphabet))])
		switch d.IntN(3) {
		case 0:
			text = before + with + after
		case 1:
			text = before + after[min(1, len(after)):]
		default:
			text = before + with + after[min(1, len(after)):]
		}
	}
	return text
}

// canonical is a literal as cedar-go writes its value; the literal itself when it takes none of it.
func canonical(constructor, literal string) string {
	var value fmt.Stringer
	var err error
	switch constructor {
	case "decimal":
		value, err = types.ParseDecimal(literal)
	case "ip":
		value, err = types.ParseIPAddr(literal)
	case "datetime":
		value, err = types.ParseDatetime(literal)
	case "duration":
		value, err = types.ParseDuration(literal)
	}
	if err != nil {
		return literal
	}
	return value.String()
}

// The literals of extensions that the official implementation takes are those that we take, with the same values.
func TestOfficialImplementationTakesTheSameLiterals(t *testing.T) {
	o := &official{t: t}
	defer o.stop()
	seed := setting(t, "VERDICT_CEDAR_SEED", 1)
	nobody := officialRequest{
		Principal: cedar.NewEntityUID("User", "u"), Action: cedar.NewEntityUID("Action", "a"), Resource: cedar.NewEntityUID("User", "u"),
		Context: []byte("{}"), Entities: cedar.EntityMap{},
	}
	for constructor, of := range literals {
		d := rand.New(rand.NewPCG(seed, 0))
		set, ours := map[string]string{}, cedar.NewPolicySet()
		for i := range 4000 {
			id, literal := fmt.Sprint("p", i), mutated(d, pick(d, of...))
			set[id] = fmt.Sprintf("permit(principal, action, resource) when { %s(%q) == %s(%q) };", constructor, literal, constructor, canonical(constructor, literal))
			ours.Add(cedar.PolicyID(id), (&walk{exact: true}).parse(t, set[id]))
		}
		answer := o.ask([]map[string]string{set}, []officialRequest{nobody})[0][0]
		_, determining, failed := (&walk{request: cedar.Request{}}).decide(ours, false)
		var errors []string
		for _, e := range failed {
			errors = append(errors, e.PolicyID)
		}
		slices.Sort(determining)
		report := func(what string, official, ours []string) {
			if diff := cmp.Diff(official, ours, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, %s: -official +ours %s\n%s", constructor, what, diff, named([]map[string]string{set}, diff))
			}
		}
		report("taken", answer.Reasons, determining)
		report("refused", answer.Errors, errors)
		if len(answer.Reasons) < 400 || len(answer.Errors) < 400 {
			t.Errorf("%s: %d taken, %d refused", constructor, len(answer.Reasons), len(answer.Errors))
		}
		t.Logf("%s: %d literals taken, %d refused, seed %d", constructor, len(answer.Reasons), len(answer.Errors), seed)
	}
}
