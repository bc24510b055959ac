package stream

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	records, sealed := goldenRecords(t)
	for i, want := range records {
		got, err := Open(sealed[i], goldenKeys())
		if err != nil {
			t.Fatal(err)
		}
		wantRecord(t, want, got)
		again, err := Seal(got, goldenSigner)
		if err != nil || !proto.Equal(again, sealed[i]) {
			t.Errorf("%s is sealed otherwise the second time: %v", want.Event.Type(), err)
		}
	}
}

// No byte of an event can be changed, neither in a field nor in how the fields are put together.
func TestOpenRefusesEveryChangedByte(t *testing.T) {
	t.Parallel()
	records, sealed := goldenRecords(t)
	for i, r := range records {
		if r.Event.Type() != "policy.created" {
			continue
		}
		data := mustMarshal(t, sealed[i])
		for at := range data {
			flip := byte(1) << (at % 8)
			data[at] ^= flip
			var ev eventv1.PolicyEvent
			if proto.Unmarshal(data, &ev) == nil {
				if _, err := Open(&ev, goldenKeys()); !errors.Is(err, ErrSignature) && !errors.Is(err, ErrHash) {
					t.Fatalf("byte %d ^ %x: %v", at, flip, err)
				}
			}
			data[at] ^= flip
		}
		return
	}
}

// resealed is what somebody with the key would write: the body as it is after change, hashed and signed.
func resealed(t testing.TB, ev *eventv1.PolicyEvent, change func(*eventv1.EventBody)) *eventv1.PolicyEvent {
	t.Helper()
	var body eventv1.EventBody
	if err := proto.Unmarshal(ev.GetBody(), &body); err != nil {
		t.Fatal(err)
	}
	change(&body)
	return signed(mustMarshal(t, &body))
}

func signed(body []byte) *eventv1.PolicyEvent {
	hash := HashBody(body)
	return &eventv1.PolicyEvent{Body: body, Hash: hash[:], KeyId: goldenSigner.KeyID(), Signature: goldenSigner.sign(eventDomain, hash[:])}
}

func sealedOf(t testing.TB, typ string) *eventv1.PolicyEvent {
	t.Helper()
	records, sealed := goldenRecords(t)
	for i, r := range records {
		if r.Event.Type() == typ {
			return sealed[i]
		}
	}
	t.Fatalf("no event of type %s", typ)
	return nil
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good := sealedOf(t, "policy.created")
	stranger := NewSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	both := NewKeyring(goldenSigner.Public(), stranger.Public())
	with := func(change func(*eventv1.PolicyEvent)) *eventv1.PolicyEvent {
		ev := proto.CloneOf(good)
		change(ev)
		return ev
	}
	body := func(change func(*eventv1.EventBody)) *eventv1.PolicyEvent { return resealed(t, good, change) }
	onStream := func(stream, typ string) *eventv1.PolicyEvent {
		return body(func(b *eventv1.EventBody) { b.Stream, b.Type = stream, typ })
	}
	payload := func(typ string, m proto.Message) *eventv1.PolicyEvent {
		kind, _, _ := strings.Cut(typ, ".")
		return body(func(b *eventv1.EventBody) { b.Stream, b.Type, b.Payload = kind+"/x", typ, mustMarshal(t, m) })
	}
	withoutSentinel := errors.New("any other error")

	for name, c := range map[string]struct {
		ev   *eventv1.PolicyEvent
		keys Keyring
		want error
		text string
	}{
		"nothing":     {nil, both, ErrSignature, `key "" is not trusted`},
		"empty":       {&eventv1.PolicyEvent{}, both, ErrSignature, "is not trusted"},
		"no keys":     {good, nil, ErrSignature, "is not trusted"},
		"unknown key": {good, NewKeyring(stranger.Public()), ErrSignature, "is not trusted"},
		"key under another id": {
			with(func(ev *eventv1.PolicyEvent) { ev.KeyId = stranger.KeyID() }), both, ErrSignature, "did not sign this",
		},
		"another's signature": {
			with(func(ev *eventv1.PolicyEvent) { ev.Signature = stranger.sign(eventDomain, ev.GetHash()) }), both, ErrSignature, "did not sign this",
		},
		"signature of a head": {
			with(func(ev *eventv1.PolicyEvent) { ev.Signature = goldenSigner.sign(headDomain, ev.GetHash()) }), both, ErrSignature, "did not sign this",
		},
		"signature of a state": {
			with(func(ev *eventv1.PolicyEvent) { ev.Signature = goldenSigner.sign(stateDomain, ev.GetHash()) }), both, ErrSignature, "did not sign this",
		},
		"no signature": {with(func(ev *eventv1.PolicyEvent) { ev.Signature = nil }), both, ErrSignature, ""},
		"body of another event": {
			with(func(ev *eventv1.PolicyEvent) { ev.Body = sealedOf(t, "engine.created").GetBody() }), both, ErrHash, "",
		},
		"hash in the domain of none": {
			signedAs(func(body []byte) []byte { h := HashBody(body); return h[:31] }, good.GetBody()), both, ErrHash, "",
		},

		"unknown type":           {onStream("policy/x", "policy.renamed"), both, ErrUnknownType, "policy.renamed version 1"},
		"unknown kind":           {onStream("session/x", "session.created"), both, ErrUnknownType, "session.created"},
		"life cycle of the log":  {onStream("log/x", "log.activated"), both, ErrUnknownType, "log.activated"},
		"life cycle of accounts": {onStream("account/x", "account.deleted"), both, ErrUnknownType, "account.deleted"},
		"settings of a policy":   {onStream("policy/x", "policy.settings_changed"), both, ErrUnknownType, ""},
		"later version":          {body(func(b *eventv1.EventBody) { b.TypeVersion = 2 }), both, ErrUnknownType, "policy.created version 2"},
		"no version":             {body(func(b *eventv1.EventBody) { b.TypeVersion = 0 }), both, ErrUnknownType, "version 0"},
		"later reader": {
			body(func(b *eventv1.EventBody) { b.MinReader, b.Stream, b.PrevHash = Reader+1, "?", nil }), both, ErrUnknownType, "needs reader 2, this is 1",
		},

		"type of another stream":    {onStream("engine/x", "policy.created"), both, withoutSentinel, `type "policy.created" on stream "engine/x"`},
		"type that begins alike":    {onStream("policy/x", "policys.created"), both, withoutSentinel, "on stream"},
		"stream without a slash":    {onStream("policy", "policy.created"), both, withoutSentinel, `on stream "policy"`},
		"stream without an id":      {onStream("policy/", "policy.created"), both, withoutSentinel, "on stream"},
		"stream without a kind":     {onStream("/x", ".activated"), both, withoutSentinel, "on stream"},
		"no stream":                 {onStream("", ""), both, withoutSentinel, "on stream"},
		"truncated payload":         {body(func(b *eventv1.EventBody) { b.Payload = b.Payload[:len(b.Payload)-1] }), both, withoutSentinel, "payload of policy.created version 1"},
		"truncated body":            {signed(good.GetBody()[:len(good.GetBody())-1]), both, withoutSentinel, "event body"},
		"empty body":                {signed(nil), both, withoutSentinel, "prev_hash has 0 bytes"},
		"short previous hash":       {body(func(b *eventv1.EventBody) { b.PrevHash = b.PrevHash[1:] }), both, withoutSentinel, "prev_hash has 31 bytes"},
		"short request hash":        {body(func(b *eventv1.EventBody) { b.RequestHash = []byte{1} }), both, withoutSentinel, "request_hash has 1 bytes"},
		"policy without body":       {payload("policy.created", &eventv1.PolicyCreated{Name: "x"}), both, policy.ErrInvalid, "exactly one of cedar or policy"},
		"policy update without":     {payload("policy.update_requested", &eventv1.PolicyUpdateRequested{}), both, policy.ErrInvalid, "exactly one of cedar or policy"},
		"policy of unknown mode":    {payload("policy.created", &eventv1.PolicyCreated{Definition: unknownMode()}), both, policy.ErrInvalid, "enforcementMode"},
		"target of no kind":         {payload("target.created", &eventv1.TargetCreated{Definition: &eventv1.TargetDefinition{TargetConfiguration: &eventv1.TargetConfiguration{}}}), both, policy.ErrInvalid, "exactly one of"},
		"settings of unknown sort":  {payload("account.settings_changed", &eventv1.AccountSettingsChanged{Settings: &eventv1.Settings{OnStale: 9}}), both, policy.ErrInvalid, "settings.onStale"},
		"a change in a change":      {payload("change.proposed", carrying("change/x", "change.proposed", 1)), both, ErrUnknownType, "change.proposed"},
		"a later event in a change": {payload("change.proposed", carrying("policy/x", "policy.renamed", 1)), both, ErrUnknownType, "policy.renamed version 1"},
		"a later version in one":    {payload("change.proposed", carrying("policy/x", "policy.activated", 2)), both, ErrUnknownType, "policy.activated version 2"},
		"another stream in one":     {payload("change.proposed", carrying("engine/x", "policy.activated", 1)), both, withoutSentinel, `type "policy.activated" on stream "engine/x"`},
		"a bad policy in one":       {payload("change.proposed", carrying("policy/x", "policy.update_requested", 1)), both, policy.ErrInvalid, "exactly one of cedar or policy"},
		"a basis of nothing":        {payload("change.proposed", &eventv1.ChangeProposed{Basis: []*eventv1.StreamVersion{{Stream: "policy"}}}), both, withoutSentinel, `stream "policy"`},
		"a change of a later kind":  {onStream("change/x", "change.postponed"), both, ErrUnknownType, "change.postponed"},
		"life cycle of changes":     {onStream("change/x", "change.activated"), both, ErrUnknownType, "change.activated"},
		"settings beyond time":      {payload("engine.settings_changed", &eventv1.EngineSettingsChanged{Settings: &eventv1.Settings{StalenessBoundMs: new(^uint64(0))}}), both, policy.ErrInvalid, "is too large"},
	} {
		_, err := Open(c.ev, c.keys)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want …%s…", name, err, c.text)
		}
		for _, sentinel := range []error{ErrSignature, ErrHash, ErrUnknownType} {
			if errors.Is(err, sentinel) != errors.Is(c.want, sentinel) {
				t.Errorf("%s: %v is %v", name, err, sentinel)
			}
		}
		if errors.Is(err, policy.ErrInvalid) != errors.Is(c.want, policy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func signedAs(hash func([]byte) []byte, body []byte) *eventv1.PolicyEvent {
	h := hash(body)
	return &eventv1.PolicyEvent{Body: body, Hash: h, KeyId: goldenSigner.KeyID(), Signature: goldenSigner.sign(eventDomain, h)}
}

// carrying is a change with an event without payload.
func carrying(stream, typ string, version uint32) *eventv1.ChangeProposed {
	return &eventv1.ChangeProposed{Events: []*eventv1.ProposedEvent{{Stream: stream, Type: typ, TypeVersion: version}}}
}

func unknownMode() *eventv1.PolicyBody {
	b := BodyToProto(new(goldenBody(func(*policy.Body) {})))
	b.EnforcementMode = 99
	return b
}

// A payload without a definition has an empty one, where there can be one: it was never valid, but nobody falls over it.
func TestOpenWithoutDefinition(t *testing.T) {
	t.Parallel()
	good := sealedOf(t, "policy.created")
	for typ, m := range map[string]proto.Message{
		"engine.created": &eventv1.EngineCreated{}, "engine.update_requested": &eventv1.EngineUpdateRequested{},
		"gateway.created": &eventv1.GatewayCreated{}, "gateway.update_requested": &eventv1.GatewayUpdateRequested{},
		"target.created": &eventv1.TargetCreated{}, "target.update_requested": &eventv1.TargetUpdateRequested{},
		"account.settings_changed": &eventv1.AccountSettingsChanged{}, "engine.settings_changed": &eventv1.EngineSettingsChanged{},
	} {
		kind, _, _ := strings.Cut(typ, ".")
		ev := resealed(t, good, func(b *eventv1.EventBody) { b.Stream, b.Type, b.Payload = kind+"/x", typ, mustMarshal(t, m) })
		r, err := Open(ev, goldenKeys())
		if err != nil || r.Event.Type() != typ || r.Event.Ref().ID != "x" {
			t.Errorf("%s: %+v, %v", typ, r.Event, err)
		}
	}
}

// Fields that a later version adds are ignored: it may add only those for which that is right.
func TestOpenIgnoresNewFields(t *testing.T) {
	t.Parallel()
	good := sealedOf(t, "engine.created")
	field := []byte{0xfa, 0x7f, 3, 'n', 'e', 'w'} // number 2047
	ev := resealed(t, good, func(b *eventv1.EventBody) { b.Payload = append(b.Payload, field...) })
	ev = signed(append(ev.GetBody(), field...))
	want, err := Open(good, goldenKeys())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(ev, goldenKeys())
	if err != nil {
		t.Fatal(err)
	}
	want.Hash = got.Hash
	wantRecord(t, want, got)
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	large := goldenLambda()
	tools := &large.Configuration.Lambda.Tools
	tools.Inline[0].Description = strings.Repeat("x", MaxEvent)
	target := policy.TargetCreated{GatewayID: "g", ID: "t", Name: "t", Definition: large}
	_, err := Seal(policy.Recorded{Event: target}, goldenSigner)
	wantRefusal(t, err, "too_large", "definition")

	size := func(n int) (int, error) {
		tools.Inline[0].Description = strings.Repeat("x", n)
		ev, err := Seal(policy.Recorded{Event: target}, goldenSigner)
		return proto.Size(ev), err
	}
	small, err := size(MaxEvent / 2)
	if err != nil {
		t.Fatal(err)
	}
	if exact, err := size(MaxEvent/2 + MaxEvent - small); err != nil || exact != MaxEvent {
		t.Errorf("an event of %d bytes: %v", exact, err)
	}
	_, err = size(MaxEvent/2 + MaxEvent - small + 1)
	wantRefusal(t, err, "too_large", "definition")

	engine := policy.EngineCreated{ID: "x", Name: "x"}
	_, err = Seal(policy.Recorded{Event: engine, Cause: policy.Cause{RequestID: "\xff"}}, goldenSigner)
	wantRefusal(t, err, "encoding", "")
	_, err = Seal(policy.Recorded{Event: policy.EngineCreated{ID: "x", Name: "\xff"}}, goldenSigner)
	wantRefusal(t, err, "encoding", "")
}

// Any body, signed, is either refused or an event that a state takes or refuses; what it takes can be stored.
func FuzzOpen(f *testing.F) {
	_, sealed := goldenRecords(f)
	for _, ev := range sealed {
		f.Add(ev.GetBody())
	}
	f.Add([]byte{})
	before := goldenState(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		var ev eventv1.PolicyEvent
		if proto.Unmarshal(body, &ev) == nil {
			if _, err := Open(&ev, goldenKeys()); err == nil {
				t.Fatal("what nobody signed was opened")
			}
		}
		r, err := Open(signed(body), goldenKeys())
		if err != nil {
			return
		}
		next := before.Next(r.Account, r.Event, r.RecordedAt)
		next.Commits, next.Hash = true, r.Hash
		after, err := before.Apply(next)
		if err != nil {
			return
		}
		data, err := EncodeState(after)
		if err != nil {
			t.Fatal(err)
		}
		restored, err := DecodeState(data)
		if err != nil {
			t.Fatalf("%T %+v: %v", r.Event, r.Event, err)
		}
		again, err := EncodeState(restored)
		if err != nil || string(again) != string(data) {
			t.Fatalf("%T %+v: the state is another one when restored: %v", r.Event, r.Event, err)
		}
	})
}

func goldenState(t testing.TB) *policy.State {
	t.Helper()
	records, _ := goldenRecords(t)
	s := policy.Empty()
	for _, r := range records {
		var err error
		if s, err = s.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Whoever does not understand an event still knows its place, if it is genuine.
func TestIdentify(t *testing.T) {
	t.Parallel()
	good := sealedOf(t, "policy.created")
	later := resealed(t, good, func(b *eventv1.EventBody) {
		b.LogId, b.Position, b.Type, b.MinReader = "another", 99, "policy.later", Reader+1
	})
	if id, position, err := Identify(later, goldenKeys()); err != nil || id != "another" || position != 99 {
		t.Errorf("%q, %d, %v", id, position, err)
	}
	other := proto.CloneOf(good)
	other.Body = later.GetBody()
	for name, c := range map[string]struct {
		ev   *eventv1.PolicyEvent
		want error
	}{
		"nothing":        {nil, ErrSignature},
		"another body":   {other, ErrHash},
		"hash too short": {signedAs(func([]byte) []byte { return good.GetHash()[1:] }, later.GetBody()), ErrHash},
	} {
		if _, _, err := Identify(c.ev, goldenKeys()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Identify(signed([]byte{1}), goldenKeys()); err == nil {
		t.Error("what is no event has a place")
	}
}
