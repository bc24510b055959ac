package stream

import (
	"fmt"
	"time"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// EngineDefinitionToProto is the definition on the wire.
func EngineDefinitionToProto(d *policy.EngineDefinition) *eventv1.EngineDefinition {
	if d == nil {
		return nil
	}
	return &eventv1.EngineDefinition{Description: d.Description, EncryptionKeyArn: d.EncryptionKeyARN}
}

// EngineDefinitionFromProto is never nil: an absent definition is an empty one.
func EngineDefinitionFromProto(m *eventv1.EngineDefinition) *policy.EngineDefinition {
	return &policy.EngineDefinition{Description: m.GetDescription(), EncryptionKeyARN: m.GetEncryptionKeyArn()}
}

// BodyToProto is the body of a policy on the wire.
func BodyToProto(b *policy.Body) *eventv1.PolicyBody {
	if b == nil {
		return nil
	}
	d := &eventv1.PolicyDefinition{}
	switch b.Language {
	case policy.LanguageCedar:
		d.Definition = &eventv1.PolicyDefinition_Cedar{Cedar: &eventv1.CedarPolicy{Statement: b.Statement}}
	case policy.LanguagePolicy:
		d.Definition = &eventv1.PolicyDefinition_Policy{Policy: &eventv1.PolicyStatement{Statement: b.Statement}}
	}
	return &eventv1.PolicyBody{
		Definition: d, Resource: b.Resource, Description: b.Description,
		EnforcementMode: enumTo[eventv1.EnforcementMode](b.Enforcement), ValidationMode: enumTo[eventv1.ValidationMode](b.Validation),
	}
}

// BodyFromProto is the inverse of BodyToProto.
func BodyFromProto(m *eventv1.PolicyBody) (*policy.Body, error) {
	language, statement, err := PolicyDefinitionFromProto(m.GetDefinition())
	if err != nil {
		return nil, err
	}
	enforcement, err := EnforcementModeFromProto(m.GetEnforcementMode())
	if err != nil {
		return nil, err
	}
	validation, err := ValidationModeFromProto(m.GetValidationMode())
	if err != nil {
		return nil, err
	}
	return &policy.Body{
		Language: language, Statement: statement, Resource: m.GetResource(), Description: m.GetDescription(),
		Enforcement: enforcement, Validation: validation,
	}, nil
}

// PolicyDefinitionFromProto takes the union apart.
func PolicyDefinitionFromProto(m *eventv1.PolicyDefinition) (policy.Language, string, error) {
	switch d := m.GetDefinition().(type) {
	case *eventv1.PolicyDefinition_Cedar:
		return policy.LanguageCedar, d.Cedar.GetStatement(), nil
	case *eventv1.PolicyDefinition_Policy:
		return policy.LanguagePolicy, d.Policy.GetStatement(), nil
	}
	return "", "", policy.Invalid("union", "definition", "definition must have exactly one of cedar or policy")
}

// namedEnum is enumFrom for an enum that comes from outside: a number without a name is refused.
func namedEnum[T ~string, E protoEnum](field string, value E) (T, error) {
	if value.Descriptor().Values().ByNumber(value.Number()) == nil {
		return "", policy.Invalid("enum", field, "%s has the unknown value %d", field, value)
	}
	return enumFrom[T](value), nil
}

// EnforcementModeFromProto is "" for an absent mode.
func EnforcementModeFromProto(m eventv1.EnforcementMode) (policy.EnforcementMode, error) {
	return namedEnum[policy.EnforcementMode]("enforcementMode", m)
}

// ValidationModeFromProto is "" for an absent mode.
func ValidationModeFromProto(m eventv1.ValidationMode) (policy.ValidationMode, error) {
	return namedEnum[policy.ValidationMode]("validationMode", m)
}

// EngineModeFromProto is "" for an absent mode.
func EngineModeFromProto(m eventv1.EngineMode) (policy.EngineMode, error) {
	return namedEnum[policy.EngineMode]("mode", m)
}

// StatusToProto is the status on the wire.
func StatusToProto(s policy.Status) eventv1.Status { return enumTo[eventv1.Status](s) }

// SettingsToProto is nil for settings of which nothing is set.
func SettingsToProto(s policy.Settings) *eventv1.Settings {
	if s.IsZero() {
		return nil
	}
	m := &eventv1.Settings{OnStale: enumTo[eventv1.OnStale](s.OnStale), StrictForbids: s.StrictForbids}
	if s.StalenessBound != nil {
		m.StalenessBoundMs = new(uint64(s.StalenessBound.Milliseconds()))
	}
	if s.RedactedPaths != nil {
		m.RedactedPaths = &eventv1.RedactedPaths{Paths: *s.RedactedPaths}
	}
	return m
}

// SettingsFromProto is the inverse of SettingsToProto.
func SettingsFromProto(m *eventv1.Settings) (policy.Settings, error) {
	onStale, err := namedEnum[policy.OnStale]("settings.onStale", m.GetOnStale())
	if m == nil || err != nil {
		return policy.Settings{}, err
	}
	s := policy.Settings{OnStale: onStale, StrictForbids: m.StrictForbids}
	if m.StalenessBoundMs != nil {
		const most = uint64(1<<63-1) / uint64(time.Millisecond)
		if *m.StalenessBoundMs > most {
			return policy.Settings{}, policy.Invalid("range", "settings.stalenessBoundMs", "settings.stalenessBoundMs %d is too large", *m.StalenessBoundMs)
		}
		s.StalenessBound = new(time.Duration(*m.StalenessBoundMs) * time.Millisecond)
	}
	if m.RedactedPaths != nil {
		s.RedactedPaths = new(append([]string{}, m.RedactedPaths.GetPaths()...))
	}
	return s, nil
}

func statusFromProto(m eventv1.Status) (policy.Status, error) {
	s, err := namedEnum[policy.Status]("status", m)
	if err == nil && s == "" {
		return "", fmt.Errorf("status is missing")
	}
	return s, err
}
