package stream

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// The domains keep a signature or hash of one kind of thing from standing for another's.
const (
	hashDomain  = "verdict-event/1\n"
	eventDomain = "verdict-sig/1\n"
	headDomain  = "verdict-head/1\n"
	stateDomain = "verdict-state/1\n"
)

// MaxEvent is the largest event, as published: NATS refuses 1 MiB, and one event that cannot be published would stop
// everyone.
const MaxEvent = 512 << 10

// typeVersionNow is the version of every payload that is written today.
const typeVersionNow = 1

// Reader is the version of this reader. An event with a higher min_reader is not understood.
const Reader = 1

var (
	// ErrUnknownType: a later version wrote this. Whoever meets it stops there.
	ErrUnknownType = errors.New("event type is not known to this version: upgrade it")
	// ErrHash: the bytes are not those that were hashed.
	ErrHash = errors.New("hash does not hold")
)

var deterministic = proto.MarshalOptions{Deterministic: true}

// HashBody is SHA-256("verdict-event/1\n" ‖ body).
func HashBody(body []byte) policy.Hash {
	h := sha256.New()
	h.Write([]byte(hashDomain))
	h.Write(body)
	return policy.Hash(h.Sum(nil))
}

// marshal fails only for text that is not UTF-8, which came with the request.
func marshal(m proto.Message) ([]byte, error) {
	data, err := deterministic.Marshal(m)
	if err != nil {
		return nil, policy.Invalid("encoding", "", "a text of the request is not UTF-8")
	}
	return data, nil
}

// Seal encodes r, for once and all, and signs it. It sets nothing in r; the hash is in the answer. An event over MaxEvent
// is refused as a *policy.Error, since the caller's definition is too large; so is text that is not UTF-8.
func Seal(r policy.Recorded, signer *Signer) (*eventv1.PolicyEvent, error) {
	body, err := encodeBody(r)
	if err != nil {
		return nil, err
	}
	hash := HashBody(body)
	ev := &eventv1.PolicyEvent{Body: body, Hash: hash[:], KeyId: signer.KeyID(), Signature: signer.sign(eventDomain, hash[:])}
	if size := proto.Size(ev); size > MaxEvent {
		return nil, policy.Invalid("too_large", "definition", "the definition makes an event of %d bytes; the limit is %d: shorten the tool schemas or descriptions", size, MaxEvent)
	}
	return ev, nil
}

// Open checks the hash of ev and its signature and decodes it. What order it stands in State.Apply checks.
func Open(ev *eventv1.PolicyEvent, keys Keyring) (policy.Recorded, error) {
	if err := keys.verify(eventDomain, ev.GetKeyId(), ev.GetHash(), ev.GetSignature()); err != nil {
		return policy.Recorded{}, err
	}
	return Decode(ev)
}

// Decode is Open for events whose signature need not be looked at: a signature covers, through the chain of hashes, every
// event before it.
func Decode(ev *eventv1.PolicyEvent) (policy.Recorded, error) {
	hash := HashBody(ev.GetBody())
	if string(hash[:]) != string(ev.GetHash()) {
		return policy.Recorded{}, ErrHash
	}
	var body eventv1.EventBody
	if err := proto.Unmarshal(ev.GetBody(), &body); err != nil {
		return policy.Recorded{}, fmt.Errorf("event body: %w", err)
	}
	r, err := decodeBody(&body)
	if err != nil {
		return policy.Recorded{}, fmt.Errorf("position %d: %w", body.GetPosition(), err)
	}
	r.Hash = hash
	return r, nil
}

// Identify says which position of which log ev is, if control signed it, without understanding what it is about: an event of
// a later version has a place too.
func Identify(ev *eventv1.PolicyEvent, keys Keyring) (logID string, position uint64, err error) {
	if err := keys.verify(eventDomain, ev.GetKeyId(), ev.GetHash(), ev.GetSignature()); err != nil {
		return "", 0, err
	}
	if hash := HashBody(ev.GetBody()); string(hash[:]) != string(ev.GetHash()) {
		return "", 0, ErrHash
	}
	var body eventv1.EventBody
	if err := proto.Unmarshal(ev.GetBody(), &body); err != nil {
		return "", 0, fmt.Errorf("event body: %w", err)
	}
	return body.GetLogId(), body.GetPosition(), nil
}

func encodeBody(r policy.Recorded) ([]byte, error) {
	payload, err := encodePayload(r.Event)
	if err != nil {
		return nil, err
	}
	body := &eventv1.EventBody{
		LogId: r.LogID, Position: r.Position, Commits: r.Commits, Account: r.Account, AccountPosition: r.AccountPosition,
		Stream: r.Event.Ref().Stream(), StreamVersion: r.StreamVersion, EventId: r.EventID, RecordedAtUs: r.RecordedAt,
		Actor:     ActorToProto(r.Cause.Actor),
		RequestId: r.Cause.RequestID, ClientToken: r.Cause.ClientToken, RequestHash: encodeHash(r.Cause.RequestHash),
		Type: r.Event.Type(), TypeVersion: typeVersionNow, MinReader: Reader, Payload: payload, PrevHash: r.PrevHash[:],
	}
	return marshal(body)
}

// encodeHash is empty for the zero hash, which stands for none.
func encodeHash(h policy.Hash) []byte {
	if h == (policy.Hash{}) {
		return nil
	}
	return h[:]
}

func decodeHash(what string, b []byte, optional bool) (policy.Hash, error) {
	if len(b) == len(policy.Hash{}) {
		return policy.Hash(b), nil
	}
	if len(b) == 0 && optional {
		return policy.Hash{}, nil
	}
	return policy.Hash{}, fmt.Errorf("%s has %d bytes, want %d", what, len(b), len(policy.Hash{}))
}

func decodeBody(b *eventv1.EventBody) (policy.Recorded, error) {
	if b.GetMinReader() > Reader {
		return policy.Recorded{}, fmt.Errorf("%s needs reader %d, this is %d: %w", b.GetType(), b.GetMinReader(), Reader, ErrUnknownType)
	}
	prev, err := decodeHash("prev_hash", b.GetPrevHash(), false)
	if err != nil {
		return policy.Recorded{}, err
	}
	request, err := decodeHash("request_hash", b.GetRequestHash(), true)
	if err != nil {
		return policy.Recorded{}, err
	}
	event, err := decodeEvent(b, func(name string, version uint32, ref policy.Ref) decoder {
		if decode, known := changeDecoders[typeVersion{name, version}]; known {
			return decode
		}
		return findDecoder(name, version, ref)
	})
	if err != nil {
		return policy.Recorded{}, err
	}
	return policy.Recorded{
		LogID: b.GetLogId(), Position: b.GetPosition(), Commits: b.GetCommits(), Account: b.GetAccount(),
		AccountPosition: b.GetAccountPosition(), StreamVersion: b.GetStreamVersion(), EventID: b.GetEventId(),
		RecordedAt: b.GetRecordedAtUs(),
		Cause: policy.Cause{
			Actor:     actorFromProto(b.GetActor()),
			RequestID: b.GetRequestId(), ClientToken: b.GetClientToken(), RequestHash: request,
		},
		PrevHash: prev, Event: event,
	}, nil
}

// typed is what an event says of itself, recorded or proposed.
type typed interface {
	GetStream() string
	GetType() string
	GetTypeVersion() uint32
	GetPayload() []byte
}

func decodeEvent(m typed, find func(string, uint32, policy.Ref) decoder) (policy.Event, error) {
	ref, err := parseStream(m.GetStream())
	if err != nil || !strings.HasPrefix(m.GetType(), string(ref.Kind)+".") {
		return nil, fmt.Errorf("type %q on stream %q", m.GetType(), m.GetStream())
	}
	return decodePayload(m.GetType(), m.GetTypeVersion(), ref, m.GetPayload(), find)
}

// parseStream is the inverse of Ref.Stream, but for the parent.
func parseStream(stream string) (policy.Ref, error) {
	kind, id, ok := strings.Cut(stream, "/")
	if !ok || kind == "" || id == "" {
		return policy.Ref{}, fmt.Errorf("stream %q", stream)
	}
	return policy.Ref{Kind: policy.Kind(kind), ID: id}, nil
}

// ActorToProto is the actor on the wire.
func ActorToProto(a policy.Actor) *eventv1.Actor {
	return &eventv1.Actor{Account: a.Account, Id: a.ID, Method: a.Method, SourceAddress: a.SourceAddress}
}

func actorFromProto(m *eventv1.Actor) policy.Actor {
	return policy.Actor{Account: m.GetAccount(), ID: m.GetId(), Method: m.GetMethod(), SourceAddress: m.GetSourceAddress()}
}
