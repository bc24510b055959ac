package stream

import (
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// stateFormat is the version of the serialized State that this build writes and reads.
const stateFormat = 1

// EncodeState serializes s, which must be whole. Equal states give equal bytes.
func EncodeState(s *policy.State) ([]byte, error) {
	if !s.Whole {
		return nil, fmt.Errorf("state of position %d, in the middle of a command, is nobody's to see", s.Position)
	}
	p := s.Parts()
	m := &eventv1.State{
		Format: stateFormat, LogId: p.LogID, Region: p.Region, Position: p.Position, Hash: p.Hash[:], RecordedAtUs: p.RecordedAt,
		LogVersion: p.LogVersion, LogAccountPosition: p.LogPosition,
	}
	for _, a := range p.Accounts {
		account, err := accountToProto(a)
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", a.ID, err)
		}
		m.Accounts = append(m.Accounts, account)
	}
	return deterministic.Marshal(m)
}

// DecodeState is the inverse of EncodeState.
func DecodeState(data []byte) (*policy.State, error) {
	var m eventv1.State
	if err := proto.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if m.GetFormat() != stateFormat {
		return nil, fmt.Errorf("state has format %d, this version reads %d", m.GetFormat(), stateFormat)
	}
	hash, err := decodeHash("hash", m.GetHash(), false)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	p := policy.Parts{
		LogID: m.GetLogId(), Region: m.GetRegion(), Position: m.GetPosition(), Hash: hash, RecordedAt: m.GetRecordedAtUs(),
		LogVersion: m.GetLogVersion(), LogPosition: m.GetLogAccountPosition(),
	}
	for _, a := range m.GetAccounts() {
		account, err := accountFromProto(a)
		if err != nil {
			return nil, fmt.Errorf("state: account %s: %w", a.GetAccount(), err)
		}
		p.Accounts = append(p.Accounts, account)
	}
	return policy.Restore(p)
}

func accountToProto(a policy.AccountParts) (*eventv1.AccountState, error) {
	m := &eventv1.AccountState{Account: a.ID, Position: a.Position, Settings: SettingsToProto(a.Settings), SecondPerson: a.SecondPerson, Version: a.Version}
	for _, e := range a.Engines {
		part := &eventv1.EngineState{
			Lifecycle: lifecycleToProto(&e.Resource), Settings: SettingsToProto(e.Settings),
			InForce: EngineDefinitionToProto(e.InForce), Candidate: EngineDefinitionToProto(e.Candidate),
		}
		for _, p := range e.Policies {
			part.Policies = append(part.Policies, &eventv1.PolicyState{
				Lifecycle: lifecycleToProto(&p), InForce: BodyToProto(p.InForce), Candidate: BodyToProto(p.Candidate),
			})
		}
		m.Engines = append(m.Engines, part)
	}
	for _, g := range a.Gateways {
		part := &eventv1.GatewayState{
			Lifecycle: lifecycleToProto(&g.Resource),
			InForce:   GatewayDefinitionToProto(g.InForce), Candidate: GatewayDefinitionToProto(g.Candidate),
		}
		for _, t := range g.Targets {
			part.Targets = append(part.Targets, &eventv1.TargetState{
				Lifecycle: lifecycleToProto(&t), InForce: TargetDefinitionToProto(t.InForce), Candidate: TargetDefinitionToProto(t.Candidate),
			})
		}
		m.Gateways = append(m.Gateways, part)
	}
	for _, c := range a.Changes {
		part, err := changeToProto(c)
		if err != nil {
			return nil, fmt.Errorf("change %s: %w", c.ID, err)
		}
		m.Changes = append(m.Changes, part)
	}
	return m, nil
}

func accountFromProto(m *eventv1.AccountState) (policy.AccountParts, error) {
	settings, err := SettingsFromProto(m.GetSettings())
	if err != nil {
		return policy.AccountParts{}, err
	}
	a := policy.AccountParts{ID: m.GetAccount(), Position: m.GetPosition(), Settings: settings, SecondPerson: m.GetSecondPerson(), Version: m.GetVersion()}
	for _, e := range m.GetEngines() {
		part, err := engineFromProto(e)
		if err != nil {
			return policy.AccountParts{}, fmt.Errorf("engine %s: %w", e.GetLifecycle().GetId(), err)
		}
		a.Engines = append(a.Engines, part)
	}
	for _, g := range m.GetGateways() {
		part, err := gatewayFromProto(g)
		if err != nil {
			return policy.AccountParts{}, fmt.Errorf("gateway %s: %w", g.GetLifecycle().GetId(), err)
		}
		a.Gateways = append(a.Gateways, part)
	}
	for _, c := range m.GetChanges() {
		part, err := changeFromProto(c)
		if err != nil {
			return policy.AccountParts{}, fmt.Errorf("change %s: %w", c.GetId(), err)
		}
		a.Changes = append(a.Changes, part)
	}
	return a, nil
}

func engineFromProto(m *eventv1.EngineState) (policy.EngineParts, error) {
	// An absent definition means something else here than an empty one.
	optional := func(d *eventv1.EngineDefinition) (*policy.EngineDefinition, error) {
		return EngineDefinitionFromProto(d), nil
	}
	r, err := resourceFromProto(m.GetLifecycle(), m.GetInForce(), m.GetCandidate(), optional)
	if err != nil {
		return policy.EngineParts{}, err
	}
	settings, err := SettingsFromProto(m.GetSettings())
	part := policy.EngineParts{Resource: r, Settings: settings}
	for _, p := range m.GetPolicies() {
		r, perr := resourceFromProto(p.GetLifecycle(), p.GetInForce(), p.GetCandidate(), BodyFromProto)
		if perr != nil {
			return policy.EngineParts{}, fmt.Errorf("policy %s: %w", p.GetLifecycle().GetId(), perr)
		}
		part.Policies = append(part.Policies, r)
	}
	return part, err
}

func gatewayFromProto(m *eventv1.GatewayState) (policy.GatewayParts, error) {
	r, err := resourceFromProto(m.GetLifecycle(), m.GetInForce(), m.GetCandidate(), GatewayDefinitionFromProto)
	if err != nil {
		return policy.GatewayParts{}, err
	}
	part := policy.GatewayParts{Resource: r}
	for _, t := range m.GetTargets() {
		r, err := resourceFromProto(t.GetLifecycle(), t.GetInForce(), t.GetCandidate(), TargetDefinitionFromProto)
		if err != nil {
			return policy.GatewayParts{}, fmt.Errorf("target %s: %w", t.GetLifecycle().GetId(), err)
		}
		part.Targets = append(part.Targets, r)
	}
	return part, nil
}

func lifecycleToProto[D any](r *policy.Resource[D]) *eventv1.Lifecycle {
	return &eventv1.Lifecycle{
		Id: r.ID, Name: r.Name, Status: StatusToProto(r.Status), StatusReasons: r.Reasons,
		CreatedAtUs: r.CreatedAt, UpdatedAtUs: r.UpdatedAt,
		Version: r.Version, Revision: r.Revision, ActiveRevision: r.ActiveRevision, Tags: r.Tags,
	}
}

// resourceFromProto decodes one life cycle; M is the message of a definition, nil when it is absent.
func resourceFromProto[D any, M any](l *eventv1.Lifecycle, inForce, candidate *M, decode func(*M) (*D, error)) (policy.Resource[D], error) {
	status, err := statusFromProto(l.GetStatus())
	if err != nil {
		return policy.Resource[D]{}, err
	}
	r := policy.Resource[D]{
		ID: l.GetId(), Name: l.GetName(), Status: status, Reasons: l.GetStatusReasons(),
		CreatedAt: l.GetCreatedAtUs(), UpdatedAt: l.GetUpdatedAtUs(),
		Version: l.GetVersion(), Revision: l.GetRevision(), ActiveRevision: l.GetActiveRevision(), Tags: l.GetTags(),
	}
	if inForce != nil {
		if r.InForce, err = decode(inForce); err != nil {
			return policy.Resource[D]{}, err
		}
	}
	if candidate != nil {
		if r.Candidate, err = decode(candidate); err != nil {
			return policy.Resource[D]{}, err
		}
	}
	return r, nil
}

// Head is a position that every committed event is at or below.
type Head struct {
	LogID    string
	Position uint64
	Hash     policy.Hash
}

// SealHead signs a head for whoever asked with nonce.
func SealHead(h Head, nonce []byte, signer *Signer) (*eventv1.SignedHead, error) {
	body, err := deterministic.Marshal(&eventv1.Head{LogId: h.LogID, Position: h.Position, Hash: h.Hash[:], Nonce: nonce})
	if err != nil {
		return nil, err
	}
	return &eventv1.SignedHead{Body: body, KeyId: signer.KeyID(), Signature: signer.sign(headDomain, body)}, nil
}

// OpenHead checks the signature and that the head answers nonce.
func OpenHead(m *eventv1.SignedHead, nonce []byte, keys Keyring) (Head, error) {
	if err := keys.verify(headDomain, m.GetKeyId(), m.GetBody(), m.GetSignature()); err != nil {
		return Head{}, err
	}
	var body eventv1.Head
	if err := proto.Unmarshal(m.GetBody(), &body); err != nil {
		return Head{}, fmt.Errorf("head: %w", err)
	}
	if string(body.GetNonce()) != string(nonce) {
		return Head{}, fmt.Errorf("head answers another question: %w", ErrSignature)
	}
	hash, err := decodeHash("hash", body.GetHash(), false)
	return Head{LogID: body.GetLogId(), Position: body.GetPosition(), Hash: hash}, err
}

// SealState serializes s and signs what it amounts to.
func SealState(s *policy.State, signer *Signer) ([]byte, *eventv1.SignedStateManifest, error) {
	data, err := EncodeState(s)
	if err != nil {
		return nil, nil, err
	}
	digest := sha256.Sum256(data)
	body, err := deterministic.Marshal(&eventv1.StateManifest{
		LogId: s.LogID, Position: s.Position, Hash: s.Hash[:], Size: uint64(len(data)), Digest: digest[:],
	})
	if err != nil {
		return nil, nil, err
	}
	return data, &eventv1.SignedStateManifest{Body: body, KeyId: signer.KeyID(), Signature: signer.sign(stateDomain, body)}, nil
}

// OpenState checks the signature, the digest, and that the state is the one the manifest names.
func OpenState(data []byte, m *eventv1.SignedStateManifest, keys Keyring) (*policy.State, error) {
	if err := keys.verify(stateDomain, m.GetKeyId(), m.GetBody(), m.GetSignature()); err != nil {
		return nil, err
	}
	var manifest eventv1.StateManifest
	if err := proto.Unmarshal(m.GetBody(), &manifest); err != nil {
		return nil, fmt.Errorf("state manifest: %w", err)
	}
	if digest := sha256.Sum256(data); string(digest[:]) != string(manifest.GetDigest()) || uint64(len(data)) != manifest.GetSize() {
		return nil, fmt.Errorf("state of %d bytes: %w", len(data), ErrHash)
	}
	s, err := DecodeState(data)
	if err != nil {
		return nil, err
	}
	if s.LogID != manifest.GetLogId() || s.Position != manifest.GetPosition() || string(s.Hash[:]) != string(manifest.GetHash()) {
		return nil, fmt.Errorf("state is of position %d, its manifest of %d: %w", s.Position, manifest.GetPosition(), ErrHash)
	}
	return s, nil
}
