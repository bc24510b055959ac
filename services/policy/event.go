package policy

// Event is something that happened. The set is closed: the types of this file.
type Event interface {
	// Ref names what it happened to.
	Ref() Ref
	// Type is "<kind>.<what happened>". Its meaning never changes.
	Type() string
}

type (
	// LogCreated is the first event of every log.
	LogCreated struct{ LogID, Region string }

	// AccountSettingsChanged replaces the settings of an account.
	AccountSettingsChanged struct {
		Account      string
		Settings     Settings
		SecondPerson bool
	}

	// EngineCreated makes an engine, CREATING.
	EngineCreated struct {
		ID, Name   string
		Definition EngineDefinition
		Tags       map[string]string
	}
	// EngineUpdateRequested puts a candidate beside what is in force.
	EngineUpdateRequested struct {
		ID         string
		Definition EngineDefinition
	}
	// EngineSettingsChanged replaces the settings of an engine.
	EngineSettingsChanged struct {
		ID       string
		Settings Settings
	}

	// PolicyCreated makes a policy, CREATING.
	PolicyCreated struct {
		EngineID, ID, Name string
		Body               Body
		Tags               map[string]string
	}
	// PolicyUpdateRequested puts a candidate beside what is in force.
	PolicyUpdateRequested struct {
		EngineID, ID string
		Body         Body
	}

	// GatewayCreated makes a gateway, CREATING.
	GatewayCreated struct {
		ID, Name   string
		Definition GatewayDefinition
		Tags       map[string]string
	}
	// GatewayUpdateRequested puts a candidate beside what is in force.
	GatewayUpdateRequested struct {
		ID         string
		Definition GatewayDefinition
	}

	// TargetCreated makes a target, CREATING.
	TargetCreated struct {
		GatewayID, ID, Name string
		Definition          TargetDefinition
	}
	// TargetUpdateRequested puts a candidate beside what is in force.
	TargetUpdateRequested struct {
		GatewayID, ID string
		Definition    TargetDefinition
	}

	// Activated puts the candidate in force.
	Activated struct{ Of Ref }
	// Failed ends what was under way; what was in force stays in force.
	Failed struct {
		Of      Ref
		Reasons []string
	}
	// DeleteRequested marks a thing that is on its way out and still in force.
	DeleteRequested struct{ Of Ref }
	// Deleted removes a thing and frees its name.
	Deleted struct{ Of Ref }
	// TagsChanged replaces all tags.
	TagsChanged struct {
		Of   Ref
		Tags map[string]string
	}

	// ChangeProposed records what weakens enforcement once somebody else than its actor approves it.
	ChangeProposed struct {
		ID, Description, Weakens string
		Events                   []Event
		Basis                    []Versioned
	}
	// ChangeApproved ends a change; its events follow.
	ChangeApproved struct{ ID string }
	// ChangeRejected ends a change, of which nothing happens.
	ChangeRejected struct{ ID, Reason string }
)

// Ref implements Event.
func (e LogCreated) Ref() Ref { return Ref{Kind: KindLog, ID: e.LogID} }

// Ref implements Event.
func (e AccountSettingsChanged) Ref() Ref { return Ref{Kind: KindAccount, ID: e.Account} }

// Ref implements Event.
func (e EngineCreated) Ref() Ref { return EngineRef(e.ID) }

// Ref implements Event.
func (e EngineUpdateRequested) Ref() Ref { return EngineRef(e.ID) }

// Ref implements Event.
func (e EngineSettingsChanged) Ref() Ref { return EngineRef(e.ID) }

// Ref implements Event.
func (e PolicyCreated) Ref() Ref { return PolicyRef(e.EngineID, e.ID) }

// Ref implements Event.
func (e PolicyUpdateRequested) Ref() Ref { return PolicyRef(e.EngineID, e.ID) }

// Ref implements Event.
func (e GatewayCreated) Ref() Ref { return GatewayRef(e.ID) }

// Ref implements Event.
func (e GatewayUpdateRequested) Ref() Ref { return GatewayRef(e.ID) }

// Ref implements Event.
func (e TargetCreated) Ref() Ref { return TargetRef(e.GatewayID, e.ID) }

// Ref implements Event.
func (e TargetUpdateRequested) Ref() Ref { return TargetRef(e.GatewayID, e.ID) }

// Ref implements Event.
func (e Activated) Ref() Ref { return e.Of }

// Ref implements Event.
func (e Failed) Ref() Ref { return e.Of }

// Ref implements Event.
func (e DeleteRequested) Ref() Ref { return e.Of }

// Ref implements Event.
func (e Deleted) Ref() Ref { return e.Of }

// Ref implements Event.
func (e TagsChanged) Ref() Ref { return e.Of }

// Type implements Event.
func (LogCreated) Type() string { return "log.created" }

// Type implements Event.
func (AccountSettingsChanged) Type() string { return "account.settings_changed" }

// Type implements Event.
func (EngineCreated) Type() string { return "engine.created" }

// Type implements Event.
func (EngineUpdateRequested) Type() string { return "engine.update_requested" }

// Type implements Event.
func (EngineSettingsChanged) Type() string { return "engine.settings_changed" }

// Type implements Event.
func (PolicyCreated) Type() string { return "policy.created" }

// Type implements Event.
func (PolicyUpdateRequested) Type() string { return "policy.update_requested" }

// Type implements Event.
func (GatewayCreated) Type() string { return "gateway.created" }

// Type implements Event.
func (GatewayUpdateRequested) Type() string { return "gateway.update_requested" }

// Type implements Event.
func (TargetCreated) Type() string { return "target.created" }

// Type implements Event.
func (TargetUpdateRequested) Type() string { return "target.update_requested" }

// Type implements Event.
func (e Activated) Type() string { return string(e.Of.Kind) + ".activated" }

// Type implements Event.
func (e Failed) Type() string { return string(e.Of.Kind) + ".failed" }

// Type implements Event.
func (e DeleteRequested) Type() string { return string(e.Of.Kind) + ".delete_requested" }

// Type implements Event.
func (e Deleted) Type() string { return string(e.Of.Kind) + ".deleted" }

// Type implements Event.
func (e TagsChanged) Type() string { return string(e.Of.Kind) + ".tags_changed" }

// Ref implements Event.
func (e ChangeProposed) Ref() Ref { return ChangeRef(e.ID) }

// Ref implements Event.
func (e ChangeApproved) Ref() Ref { return ChangeRef(e.ID) }

// Ref implements Event.
func (e ChangeRejected) Ref() Ref { return ChangeRef(e.ID) }

// Type implements Event.
func (ChangeProposed) Type() string { return "change.proposed" }

// Type implements Event.
func (ChangeApproved) Type() string { return "change.approved" }

// Type implements Event.
func (ChangeRejected) Type() string { return "change.rejected" }

// EngineRef names an engine.
func EngineRef(id string) Ref { return Ref{Kind: KindEngine, ID: id} }

// PolicyRef names a policy of an engine.
func PolicyRef(engineID, id string) Ref { return Ref{Kind: KindPolicy, Parent: engineID, ID: id} }

// GatewayRef names a gateway.
func GatewayRef(id string) Ref { return Ref{Kind: KindGateway, ID: id} }

// TargetRef names a target of a gateway.
func TargetRef(gatewayID, id string) Ref { return Ref{Kind: KindTarget, Parent: gatewayID, ID: id} }

// ChangeRef names a change.
func ChangeRef(id string) Ref { return Ref{Kind: KindChange, ID: id} }

// Hash is the SHA-256 that chains the log.
type Hash [32]byte

// Actor is who caused an event, as far as it could be proved.
type Actor struct {
	Account       string
	ID            string
	Method        string // "loopback", "sigv4", "oidc", "mtls" or MethodInternal
	SourceAddress string
}

// Cause is what all events of one command have in common.
type Cause struct {
	Actor       Actor
	RequestID   string
	ClientToken string // "" when the request had none
	RequestHash Hash   // of what was asked for; zero when there is no token
}

// Recorded is an event in its place in the log.
type Recorded struct {
	LogID           string
	Position        uint64
	Commits         bool // the last event of its command
	Account         string
	AccountPosition uint64
	StreamVersion   uint64
	EventID         string
	RecordedAt      int64 // microseconds since 1970 UTC
	Cause           Cause
	PrevHash, Hash  Hash
	Event           Event
}
