// Package policy is what is true: it turns commands into events (Decide) and events into State (Apply), and owns every
// invariant of engines, policies, gateways, targets, attachments, tags, settings and changes that wait for a second person.
//
// It is pure. Bytes, times, random ids and limits come in as arguments; there is no context, no I/O, no clock, no
// randomness and no goroutine, so the same commands in the same order give the same State everywhere and for ever.
//
// A State is a persistent value: Apply returns a new one that shares what did not change. Readers hold a pointer; what
// is not the same pointer as before is what has changed.
package policy

import "time"

// Kind is what a stream of events is about.
type Kind string

// The kinds.
const (
	KindLog     Kind = "log"
	KindAccount Kind = "account"
	KindEngine  Kind = "engine"
	KindPolicy  Kind = "policy"
	KindGateway Kind = "gateway"
	KindTarget  Kind = "target"
	KindChange  Kind = "change"
)

// LogAccount is the account of events of the log itself.
const LogAccount = "-"

// Ref names one thing within an account.
type Ref struct {
	Kind   Kind
	Parent string // the engine of a policy, the gateway of a target; "" for the others
	ID     string
}

// Stream is the name of the thing's event stream: "<kind>/<id>".
func (r Ref) Stream() string { return string(r.Kind) + "/" + r.ID }

// Status is where a thing stands in its life.
type Status string

// The statuses, in AgentCore's words for engines and policies.
const (
	Creating     Status = "CREATING"
	Active       Status = "ACTIVE"
	Updating     Status = "UPDATING"
	Deleting     Status = "DELETING"
	CreateFailed Status = "CREATE_FAILED"
	UpdateFailed Status = "UPDATE_FAILED"
	DeleteFailed Status = "DELETE_FAILED"
)

// busy reports whether something is under way that has to end first.
func (s Status) busy() bool { return s == Creating || s == Updating || s == Deleting }

// EnforcementMode is whether a policy decides or is only reported.
type EnforcementMode string

// The enforcement modes.
const (
	EnforcementActive  EnforcementMode = "ACTIVE"
	EnforcementLogOnly EnforcementMode = "LOG_ONLY"
)

// ValidationMode is which findings refuse a policy.
type ValidationMode string

// The validation modes.
const (
	FailOnAnyFindings ValidationMode = "FAIL_ON_ANY_FINDINGS"
	IgnoreAllFindings ValidationMode = "IGNORE_ALL_FINDINGS"
)

// Language is the member of AgentCore's PolicyDefinition union that a statement was given in.
type Language string

// The languages.
const (
	LanguageCedar  Language = "cedar"
	LanguagePolicy Language = "policy"
)

// EngineDefinition is what can be changed of an engine.
type EngineDefinition struct {
	Description      string
	EncryptionKeyARN string // stored only
}

// Body is everything of a policy that can be changed.
type Body struct {
	Language    Language
	Statement   string
	Resource    string // gateway ARN of the statement's scope, "" when it is scoped by type; derived from Statement
	Description string
	Enforcement EnforcementMode
	Validation  ValidationMode
}

// OnStale is what a node does that cannot prove its state fresh.
type OnStale string

// The choices; "" is not set.
const (
	OnStaleServe OnStale = "SERVE"
	OnStaleDeny  OnStale = "DENY"
)

// Settings of an account or an engine. nil and "" are not set: the account decides for its engines, and Defaults for it.
type Settings struct {
	StalenessBound *time.Duration // a whole number of milliseconds
	OnStale        OnStale
	StrictForbids  *bool
	RedactedPaths  *[]string // JSON Pointers, sorted; an empty list redacts nothing, whatever the account says
}

// IsZero reports whether nothing is set.
func (s Settings) IsZero() bool {
	return s.StalenessBound == nil && s.OnStale == "" && s.StrictForbids == nil && s.RedactedPaths == nil
}

// Or is s with what it leaves open taken from base.
func (s Settings) Or(base Settings) Settings {
	if s.StalenessBound == nil {
		s.StalenessBound = base.StalenessBound
	}
	if s.OnStale == "" {
		s.OnStale = base.OnStale
	}
	if s.StrictForbids == nil {
		s.StrictForbids = base.StrictForbids
	}
	if s.RedactedPaths == nil {
		s.RedactedPaths = base.RedactedPaths
	}
	return s
}

// Defaults are the settings of an account that has set none.
func Defaults() Settings {
	return Settings{
		StalenessBound: new(10 * time.Second),
		OnStale:        OnStaleServe,
		StrictForbids:  new(true),
		RedactedPaths:  new([]string{}),
	}
}

// Config is what an operator decides about the rules.
type Config struct {
	Region string // part of every ARN, such as "us-east-1"
	Limits Limits
}

// Limits are the quotas of one account (docs: AgentCore's quotas, but for changes, which AgentCore does not have).
type Limits struct {
	Engines            int // per account
	PoliciesPerEngine  int
	Gateways           int // per account
	TargetsPerGateway  int
	PolicyBytesPerGate int // statements of one engine that can apply to one gateway, together
	SchemaBytes        int // tools of all gateways that an engine is attached to, together
	Changes            int // that wait for a second person, per account
}

// DefaultLimits are AgentCore's, where it has them.
func DefaultLimits() Limits {
	return Limits{
		Engines:            1000,
		PoliciesPerEngine:  1000,
		Gateways:           1000,
		TargetsPerGateway:  100,
		PolicyBytesPerGate: 200 << 10,
		SchemaBytes:        400 << 10,
		Changes:            100,
	}
}
