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
		EnforcementMode: enforcementModes.toProto(b.Enforcement), ValidationMode: validationModes.toProto(b.Validation),
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

// enum maps a domain's words to an enum's numbers and back. The zero number stands for "".
type enum[W ~string, N ~int32] struct {
	what    string
	numbers map[W]N
}

func (e enum[W, N]) toProto(word W) N { return e.numbers[word] }

func (e enum[W, N]) fromProto(number N) (W, error) {
	if number == 0 {
		return "", nil
	}
	for word, n := range e.numbers {
		if n == number {
			return word, nil
		}
	}
	return "", policy.Invalid("enum", e.what, "%s has the unknown value %d", e.what, number)
}

var (
	enforcementModes = enum[policy.EnforcementMode, eventv1.EnforcementMode]{"enforcementMode", map[policy.EnforcementMode]eventv1.EnforcementMode{
		policy.EnforcementActive:  eventv1.EnforcementMode_ENFORCEMENT_MODE_ACTIVE,
		policy.EnforcementLogOnly: eventv1.EnforcementMode_ENFORCEMENT_MODE_LOG_ONLY,
	}}
	validationModes = enum[policy.ValidationMode, eventv1.ValidationMode]{"validationMode", map[policy.ValidationMode]eventv1.ValidationMode{
		policy.FailOnAnyFindings: eventv1.ValidationMode_VALIDATION_MODE_FAIL_ON_ANY_FINDINGS,
		policy.IgnoreAllFindings: eventv1.ValidationMode_VALIDATION_MODE_IGNORE_ALL_FINDINGS,
	}}
	onStales = enum[policy.OnStale, eventv1.OnStale]{"settings.onStale", map[policy.OnStale]eventv1.OnStale{
		policy.OnStaleServe: eventv1.OnStale_ON_STALE_SERVE,
		policy.OnStaleDeny:  eventv1.OnStale_ON_STALE_DENY,
	}}
	statuses = enum[policy.Status, eventv1.Status]{"status", map[policy.Status]eventv1.Status{
		policy.Creating: eventv1.Status_STATUS_CREATING, policy.Active: eventv1.Status_STATUS_ACTIVE,
		policy.Updating: eventv1.Status_STATUS_UPDATING, policy.Deleting: eventv1.Status_STATUS_DELETING,
		policy.CreateFailed: eventv1.Status_STATUS_CREATE_FAILED, policy.UpdateFailed: eventv1.Status_STATUS_UPDATE_FAILED,
		policy.DeleteFailed: eventv1.Status_STATUS_DELETE_FAILED,
	}}
)

// EnforcementModeFromProto is "" for an absent mode.
func EnforcementModeFromProto(m eventv1.EnforcementMode) (policy.EnforcementMode, error) {
	return enforcementModes.fromProto(m)
}

// ValidationModeFromProto is "" for an absent mode.
func ValidationModeFromProto(m eventv1.ValidationMode) (policy.ValidationMode, error) {
	return validationModes.fromProto(m)
}

// StatusToProto is the status on the wire.
func StatusToProto(s policy.Status) eventv1.Status { return statuses.toProto(s) }

// SettingsToProto is nil for settings of which nothing is set.
func SettingsToProto(s policy.Settings) *eventv1.Settings {
	if s.IsZero() {
		return nil
	}
	m := &eventv1.Settings{OnStale: onStales.toProto(s.OnStale), StrictForbids: s.StrictForbids}
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
	onStale, err := onStales.fromProto(m.GetOnStale())
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
	s, err := statuses.fromProto(m)
	if err == nil && s == "" {
		return "", fmt.Errorf("status is missing")
	}
	return s, err
}
