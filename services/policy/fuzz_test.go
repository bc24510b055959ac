package policy_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// source makes choices of bytes; when they are used up it chooses the first of everything.
type source struct {
	data []byte
	at   int
}

func (s *source) done() bool { return s.at >= len(s.data) }

func (s *source) next(n int) int {
	if s.done() {
		return 0
	}
	s.at++
	return int(s.data[s.at-1]) % n
}

func pick[T any](s *source, of ...T) T { return of[s.next(len(of))] }

// mostly is one of the first list, and once in a while one of the second, which is of no use.
func mostly[T any](s *source, good, bad []T) T {
	if s.next(16) == 15 {
		return pick(s, bad...)
	}
	return pick(s, good...)
}

// history is a sequence of commands carried out: Check, Decide, Seal, Open, Apply, as control does it.
type history struct {
	source
	t      testing.TB
	config policy.Config
	states []*policy.State // after each event, from the empty one
	log    []policy.Recorded
	seen   map[string]bool // what has happened: types of commands and reasons of refusals
}

// tight are limits that a short history reaches.
var tight = policy.Limits{
	Engines: 2, PoliciesPerEngine: 3, Gateways: 2, TargetsPerGateway: 2, PolicyBytesPerGate: 500, SchemaBytes: 60, Changes: 2,
}

var fuzzSigner = stream.NewSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))

func run(t testing.TB, data []byte, seen map[string]bool) *history {
	h := &history{
		source: source{data: data}, t: t, config: policy.Config{Region: region, Limits: tight},
		states: []*policy.State{policy.Empty()}, seen: seen,
	}
	h.do(policy.LogAccount, policy.CreateLog{ID: "log", Region: region})
	for !h.done() {
		account := mostly(&h.source, []string{alice, alice, alice, alice, alice, alice, alice, bob}, []string{"", "1", policy.LogAccount, "111111111111\n"})
		h.do(account, h.command(account))
	}
	return h
}

func (h *history) head() *policy.State { return h.states[len(h.states)-1] }

func (h *history) do(account string, c policy.Command) {
	s := h.head()
	if err := c.Check(); err != nil {
		h.refused("check", c, err)
		return
	}
	// Times stand still, go back, or make a great leap.
	now := s.RecordedAt + pick(&h.source, 0, 0, 0, 1, 1, 1, -1, -1, 8*24*time.Hour.Microseconds())
	by := h.by(c)
	by.Now = max(now, s.RecordedAt)
	events, err := policy.DecideFor(by, s, account, c, h.config)
	if err != nil {
		h.refused("decide", c, err)
		return
	}
	h.seen[fmt.Sprintf("%T", c)] = true
	if account != policy.LogAccount && by.Actor.Method != policy.MethodInternal {
		h.judge(s.Account(account), events)
	}
	for i, ev := range events {
		r := s.Next(account, ev, now)
		r.Commits, r.EventID, r.Cause.Actor = i == len(events)-1, fmt.Sprint(r.Position), by.Actor
		sealed, err := stream.Seal(r, fuzzSigner)
		if err != nil {
			h.t.Fatalf("%T decided what cannot be sealed: %v", c, err)
		}
		opened, err := stream.Decode(sealed)
		if err != nil {
			h.t.Fatalf("%T decided what cannot be opened: %v", c, err)
		}
		r.Hash = opened.Hash
		if s, err = s.Apply(r); err != nil {
			h.t.Fatalf("%T decided what cannot be applied: %v", c, err)
		}
		h.states, h.log = append(h.states, s), append(h.log, opened)
	}
}

// by is one of a few who may weaken enforcement, or one who may not; the service itself for what it does.
func (h *history) by(c policy.Command) policy.By {
	if _, finishes := c.(policy.FinishPolicy); finishes {
		return policy.By{Actor: policy.Actor{ID: "verdict", Method: policy.MethodInternal}}
	}
	return policy.By{
		Actor:     policy.Actor{Account: alice, ID: pick(&h.source, "a", "b"), Method: mostly(&h.source, []string{"sigv4"}, []string{"oidc"})},
		MayWeaken: h.next(8) != 7,
	}
}

func (h *history) refused(by string, c policy.Command, err error) {
	e, ok := errors.AsType[*policy.Error](err)
	if !ok || e.Kind == nil || e.Reason == "" || e.Message == "" {
		h.t.Fatalf("%s of %T %+v refused with %#v", by, c, c, err)
	}
	h.seen[by+" "+e.Reason] = true
}

// name is one of few, so that names meet.
func (h *history) name() string {
	return mostly(&h.source, []string{"a", "b", "c"}, []string{"A", "", "a/b", "x.>", "*", "a-b", "ü", "a\x00", "\xff", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"})
}

// id is that of name.
func (h *history) id(kind policy.Kind, name string) string {
	if kind == policy.KindTarget {
		return mostly(&h.source, []string{"0000000000", "0000000001"}, []string{"0000000002", "", "*", "00000000000"})
	}
	return mostly(&h.source, []string{policy.NewID(kind, name, suffix)}, []string{policy.NewID(kind, name, "abcdefghij"), policy.NewID(kind, "a", suffix), name, "", ">"})
}

// existing is the id of something that may be there.
func (h *history) existing(kind policy.Kind) string {
	return h.id(kind, mostly(&h.source, []string{"a", "b"}, []string{"c", ""}))
}

func (h *history) version() uint64 {
	return mostly(&h.source, []uint64{0}, []uint64{1, 2, 3})
}

func (h *history) tags() map[string]string {
	return mostly(&h.source, []map[string]string{nil, {}, {"a": "1"}, {"b": "", "c": "x"}}, []map[string]string{{"*": ""}})
}

func (h *history) settings() policy.Settings {
	return mostly(&h.source, []policy.Settings{
		{},
		policy.Defaults(),
		{RedactedPaths: new([]string(nil))},
		{RedactedPaths: new([]string{"/context/a", "/context/b"}), OnStale: policy.OnStaleDeny},
		{StalenessBound: new(time.Second), StrictForbids: new(false)},
		{StalenessBound: new(time.Minute), StrictForbids: new(true), OnStale: policy.OnStaleDeny},
	}, []policy.Settings{{StalenessBound: new(-time.Second)}, {OnStale: "x"}, {RedactedPaths: new([]string{"b", "a"})}})
}

func (h *history) statement() policy.Statement {
	g := policy.ARN(region, alice, policy.GatewayRef(policy.NewID(policy.KindGateway, "a", suffix)))
	text := pick(&h.source, permitAll, scopedTo(g, 0), scopedTo(g, 150), scopedTo(gate+"b-0123456789", 0),
		scoped(g, `permit(principal, action == AgentCore::Action::"a___process_refund", `), `forbid(principal, action, resource is AgentCore::Gateway);`,
		`permit(principal, action, resource is AgentCore::Gateway) when { context.input.x == "1" };`)
	if h.next(32) == 31 {
		return policy.Statement{}
	}
	return parse(h.t, text)
}

func (h *history) gateway() policy.GatewayDefinition {
	d := gatewayTo("")
	d.Description = mostly(&h.source, []string{"", "d"}, []string{"\xff"})
	d.AuthorizerType = mostly(&h.source, []policy.AuthorizerType{policy.AuthorizerNone, policy.AuthorizerIAM}, []policy.AuthorizerType{policy.AuthorizerJWT, ""})
	d.Interceptors = pick(&h.source, nil, []policy.Interceptor{})
	if h.next(2) == 0 {
		d.PolicyEngine = &policy.EngineAttachment{EngineID: h.existing(policy.KindEngine), Mode: h.mode()}
	}
	return d
}

func (h *history) mode() policy.EngineMode {
	return mostly(&h.source, []policy.EngineMode{policy.ModeEnforce, policy.ModeLogOnly}, []policy.EngineMode{""})
}

func (h *history) target() policy.TargetDefinition {
	if h.next(16) == 15 {
		return policy.TargetDefinition{}
	}
	return pick(&h.source, lambda(), lambda("x"), lambda("x", "y"), lambda("longlonglong"),
		policy.TargetDefinition{Configuration: policy.TargetConfiguration{MCPServer: &policy.MCPServerTarget{Endpoint: "https://a.example/"}}})
}

func (h *history) command(account string) policy.Command {
	name := h.name()
	switch h.next(29) {
	case 0:
		return policy.CreateEngine{ID: h.id(policy.KindEngine, name), Name: name, Tags: h.tags()}
	case 1, 2, 3:
		return policy.CreatePolicy{
			EngineID: h.existing(policy.KindEngine), ID: h.id(policy.KindPolicy, name), Name: name, Language: mostly(&h.source, []policy.Language{policy.LanguageCedar, policy.LanguagePolicy}, []policy.Language{""}),
			Statement: h.statement(), Description: pick(&h.source, "", "d"), Enforcement: h.enforcement(), Validation: h.validation(), Tags: h.tags(),
		}
	case 4:
		return policy.CreateGateway{ID: h.id(policy.KindGateway, name), Name: name, Definition: h.gateway(), Tags: h.tags()}
	case 5:
		return policy.CreateTarget{GatewayID: h.existing(policy.KindGateway), ID: h.id(policy.KindTarget, name), Name: name, Definition: h.target()}
	case 6, 8, 10, 11, 12, 13, 14, 15:
		return h.weakening()
	case 7:
		return policy.UpdateEngine{ID: h.existing(policy.KindEngine), Description: mostly(&h.source, []*string{nil, new("d"), new("")}, []*string{new("\xff")}), ExpectedVersion: h.version()}
	case 9:
		return policy.DeleteEngine{ID: h.existing(policy.KindEngine), ExpectedVersion: h.version()}
	case 16:
		return policy.DeleteGateway{ID: h.existing(policy.KindGateway), ExpectedVersion: h.version()}
	case 17:
		return policy.UpdateTarget{GatewayID: h.existing(policy.KindGateway), ID: h.id(policy.KindTarget, ""), Definition: h.target(), ExpectedVersion: h.version()}
	case 18:
		return policy.DeleteTarget{GatewayID: h.existing(policy.KindGateway), ID: h.id(policy.KindTarget, ""), ExpectedVersion: h.version()}
	case 19:
		return policy.AddTags{Of: h.ref(), Tags: h.tags()}
	case 20:
		return policy.RemoveTags{Of: h.ref(), Keys: mostly(&h.source, [][]string{{"a"}, {"a", "b", "c"}}, [][]string{nil, {"*"}})}
	case 21, 22:
		return policy.ProposeChange{ID: h.change(), Description: pick(&h.source, "", "d"), Command: h.weakening()}
	case 23, 24:
		return policy.ApproveChange{ID: h.change()}
	case 25:
		return policy.RejectChange{ID: h.change(), Reason: pick(&h.source, "", "r")}
	default:
		return h.finish(account)
	}
}

func (h *history) change() string {
	return mostly(&h.source, []string{"0000000000", "0000000001"}, []string{"0000000002", "", "*"})
}

// weakening is a command that can weaken enforcement.
func (h *history) weakening() policy.Command {
	switch h.next(8) {
	case 0:
		return policy.SetAccountSettings{Settings: h.settings(), SecondPerson: pick(&h.source, nil, nil, new(true), new(false)), ExpectedVersion: h.version()}
	case 1:
		return policy.SetEngineSettings{ID: h.existing(policy.KindEngine), Settings: h.settings(), ExpectedVersion: h.version()}
	case 2, 3:
		c := policy.UpdatePolicy{
			EngineID: h.existing(policy.KindEngine), ID: h.existing(policy.KindPolicy), Enforcement: h.enforcement(), Validation: h.validation(), ExpectedVersion: h.version(),
		}
		if h.next(2) == 0 {
			c.Language, c.Statement = policy.LanguageCedar, new(h.statement())
		}
		return c
	case 4:
		return policy.DeletePolicy{EngineID: h.existing(policy.KindEngine), ID: h.existing(policy.KindPolicy), ExpectedVersion: h.version()}
	case 5:
		return policy.UpdateGateway{ID: h.existing(policy.KindGateway), Definition: h.gateway(), ExpectedVersion: h.version()}
	case 6:
		return policy.AttachEngine{GatewayID: h.existing(policy.KindGateway), EngineID: h.existing(policy.KindEngine), Mode: h.mode(), ExpectedVersion: h.version()}
	default:
		return policy.DetachEngine{GatewayID: h.existing(policy.KindGateway), ExpectedVersion: h.version()}
	}
}

func (h *history) enforcement() policy.EnforcementMode {
	return mostly(&h.source, []policy.EnforcementMode{"", policy.EnforcementActive, policy.EnforcementLogOnly}, []policy.EnforcementMode{"x"})
}

func (h *history) validation() policy.ValidationMode {
	return mostly(&h.source, []policy.ValidationMode{"", policy.FailOnAnyFindings, policy.IgnoreAllFindings}, []policy.ValidationMode{"x"})
}

func (h *history) ref() policy.Ref {
	kind := mostly(&h.source, []policy.Kind{policy.KindEngine, policy.KindPolicy, policy.KindGateway}, []policy.Kind{policy.KindTarget, policy.KindAccount, policy.KindLog, ""})
	return policy.Ref{Kind: kind, Parent: h.existing(policy.KindEngine), ID: h.existing(kind)}
}

// finish is what the worker does: it examines what waits, now or some events ago; or something that it would never do.
func (h *history) finish(account string) policy.Command {
	s := h.states[max(0, len(h.states)-1-pick(&h.source, 0, 0, 0, 1, 2, 5))]
	for ref := range s.Account(account).Pending() {
		if h.next(3) == 2 {
			continue
		}
		e, ok := policy.Examine(s.Account(account), ref, region)
		if !ok {
			h.t.Fatalf("%v waits and cannot be examined", ref)
		}
		return policy.FinishPolicy{EngineID: ref.Parent, ID: ref.ID, Examination: e}
	}
	return policy.FinishPolicy{
		EngineID: h.existing(policy.KindEngine), ID: h.existing(policy.KindPolicy),
		Examination: policy.Examination{Version: h.version(), Reasons: pick(&h.source, nil, []string{"why"})},
	}
}

// check wants the state to be sound, and the same however one comes to it: from the events as they are stored, and from
// any state on the way and the events after it.
func (h *history) check() {
	h.t.Helper()
	last := h.head()
	if err := last.Verify(); err != nil {
		h.t.Fatal(err)
	}
	want := encode(h.t, last)
	h.fold(policy.Empty(), want)
	for _, at := range []int{h.next(len(h.states)), len(h.states) / 2, len(h.states) - 1} {
		for !h.states[at].Whole {
			at++
		}
		stored := encode(h.t, h.states[at])
		s, err := stream.DecodeState([]byte(stored))
		if err != nil {
			h.t.Fatal(err)
		}
		if err := s.Verify(); err != nil {
			h.t.Fatalf("restored at %d: %v", at, err)
		}
		h.fold(s, want)
		if again := encode(h.t, h.states[at]); again != stored {
			h.t.Fatalf("the state of position %d has changed", at)
		}
	}
}

// fold applies the events after s.
func (h *history) fold(s *policy.State, want string) {
	h.t.Helper()
	from := s.Position
	for _, r := range h.log[from:] {
		var err error
		if s, err = s.Apply(r); err != nil {
			h.t.Fatalf("from %d: %v", from, err)
		}
	}
	if err := s.Verify(); err != nil {
		h.t.Fatalf("from %d: %v", from, err)
	}
	if encode(h.t, s) != want {
		h.t.Fatalf("from %d it is another state:\n%+v\n%+v", from, s.Parts(), h.head().Parts())
	}
}

// FuzzHistory carries out any commands in any order.
func FuzzHistory(f *testing.F) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for n := range 20 {
		f.Add(randomBytes(rnd, 20*n))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			t.Skip("longer than it has to be")
		}
		run(t, data, map[string]bool{}).check()
	})
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	return data
}

// TestHistories is FuzzHistory over histories that are always the same ones. They are worth something only as long as they
// reach everything, so that is wanted too.
func TestHistories(t *testing.T) {
	t.Parallel()
	histories := 5000
	if underRace() {
		histories = 200 // nothing here runs at once, and everything takes ten times as long
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	for n := range histories {
		h := run(t, randomBytes(rnd, 20+n%1000), seen)
		h.check()
	}
	if underRace() {
		return
	}
	for _, c := range []policy.Command{
		policy.SetAccountSettings{},
		policy.CreateEngine{},
		policy.UpdateEngine{},
		policy.SetEngineSettings{},
		policy.DeleteEngine{},
		policy.CreatePolicy{},
		policy.UpdatePolicy{},
		policy.FinishPolicy{},
		policy.DeletePolicy{},
		policy.CreateGateway{},
		policy.UpdateGateway{},
		policy.AttachEngine{},
		policy.DetachEngine{},
		policy.DeleteGateway{},
		policy.CreateTarget{},
		policy.UpdateTarget{},
		policy.DeleteTarget{},
		policy.AddTags{},
		policy.RemoveTags{},
		policy.ProposeChange{},
		policy.ApproveChange{},
		policy.RejectChange{},
	} {
		if name := reflect.TypeOf(c).String(); !seen[name] {
			t.Errorf("no history has a %s", name)
		}
	}
	for _, reason := range []string{
		"account", "pattern", "engine_not_found", "policy_not_found", "gateway_not_found", "target_not_found", "account_not_found", "name_taken", "id_taken",
		"quota", "policy_bytes", "schema_bytes", "version_mismatch", "tools_changed", "busy", "engine_not_empty", "engine_attached", "gateway_not_empty",
		"weakens_enforcement", "approval_required", "weakens_nothing", "change_not_found", "same_person", "expired", "stale_change",
	} {
		if !seen["decide "+reason] {
			t.Errorf("nothing is refused with %s", reason)
		}
	}
	if t.Failed() {
		var all []string
		for what := range seen {
			all = append(all, what)
		}
		slices.Sort(all)
		t.Log(all)
	}
}

func underRace() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
