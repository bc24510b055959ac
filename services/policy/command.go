package policy

// Command is something that a caller wants to happen. The set is closed: the types of this file. Ids in commands are
// chosen by the caller (NewID), at random; one that is taken is refused as stale, and the caller chooses again.
type Command interface {
	// Check refuses what is wrong whatever the state is, as an *Error. It may be slow (a tool schema has megabytes), so it
	// runs before the lock is taken; Decide relies on it.
	Check() error
	// decide refuses what the state does not allow, and otherwise says what happens.
	decide(in input) ([]Event, error)
}

type (
	// CreateLog begins a log.
	CreateLog struct{ ID, Region string }

	// SetAccountSettings replaces the settings of the account.
	SetAccountSettings struct {
		Settings        Settings
		SecondPerson    *bool // nil leaves it
		ExpectedVersion uint64
	}

	// CreateEngine makes an engine.
	CreateEngine struct {
		ID, Name   string
		Definition EngineDefinition
		Tags       map[string]string
	}
	// UpdateEngine changes an engine; what is nil stays.
	UpdateEngine struct {
		ID              string
		Description     *string
		ExpectedVersion uint64 // 0 is any, here and below
	}
	// SetEngineSettings replaces the settings of an engine.
	SetEngineSettings struct {
		ID              string
		Settings        Settings
		ExpectedVersion uint64
	}
	// DeleteEngine deletes an engine that holds nothing and is attached to nothing.
	DeleteEngine struct {
		ID              string
		ExpectedVersion uint64
	}

	// CreatePolicy makes a policy.
	CreatePolicy struct {
		EngineID, ID, Name string
		Language           Language
		Statement          Statement
		Description        string
		Enforcement        EnforcementMode // "" is ACTIVE
		Validation         ValidationMode  // "" is FAIL_ON_ANY_FINDINGS
		Tags               map[string]string
	}
	// UpdatePolicy changes a policy; what is nil or "" stays.
	UpdatePolicy struct {
		EngineID, ID    string
		Language        Language   // of Statement
		Statement       *Statement // parsed
		Description     *string
		Enforcement     EnforcementMode
		Validation      ValidationMode
		ExpectedVersion uint64
	}
	// FinishPolicy ends what is under way with a policy, as Examine found: it is activated, or it failed.
	FinishPolicy struct {
		EngineID, ID string
		Examination  Examination
	}
	// DeletePolicy deletes a policy.
	DeletePolicy struct {
		EngineID, ID    string
		ExpectedVersion uint64
	}

	// CreateGateway makes a gateway.
	CreateGateway struct {
		ID, Name   string
		Definition GatewayDefinition
		Tags       map[string]string
	}
	// UpdateGateway replaces the definition of a gateway.
	UpdateGateway struct {
		ID              string
		Definition      GatewayDefinition
		ExpectedVersion uint64
	}
	// AttachEngine attaches an engine to a gateway, in place of what was attached.
	AttachEngine struct {
		GatewayID, EngineID string
		Mode                EngineMode
		ExpectedVersion     uint64
	}
	// DetachEngine takes the engine from a gateway.
	DetachEngine struct {
		GatewayID       string
		ExpectedVersion uint64
	}
	// DeleteGateway deletes a gateway that has no targets.
	DeleteGateway struct {
		ID              string
		ExpectedVersion uint64
	}

	// CreateTarget makes a target.
	CreateTarget struct {
		GatewayID, ID, Name string
		Definition          TargetDefinition
	}
	// UpdateTarget replaces the definition of a target.
	UpdateTarget struct {
		GatewayID, ID   string
		Definition      TargetDefinition
		ExpectedVersion uint64
	}
	// DeleteTarget deletes a target.
	DeleteTarget struct {
		GatewayID, ID   string
		ExpectedVersion uint64
	}

	// AddTags sets tags of an engine, policy or gateway and leaves its others.
	AddTags struct {
		Of   Ref
		Tags map[string]string
	}
	// RemoveTags removes tags of an engine, policy or gateway.
	RemoveTags struct {
		Of   Ref
		Keys []string
	}

	// ProposeChange records a command that weakens enforcement, for somebody else to approve.
	ProposeChange struct {
		ID          string
		Description string
		Command     Command // one of those that Check knows
	}
	// ApproveChange carries out what somebody else proposed.
	ApproveChange struct{ ID string }
	// RejectChange throws away what somebody proposed.
	RejectChange struct{ ID, Reason string }
)

// input is what a decision may look at.
type input struct {
	by      By
	state   *State
	account *Account
	config  Config
}

// Decide says what happens when c, already checked, is carried out for an account in state s: events in their order, none
// when everything is as it is asked to be, or an *Error. It changes nothing. CreateLog belongs to LogAccount, all else to
// accounts. Whether whoever asks may do that DecideFor says.
func Decide(s *State, account string, c Command, config Config) ([]Event, error) {
	return decide(By{MayWeaken: true, Now: s.RecordedAt}, s, account, c, config)
}

func decide(by By, s *State, account string, c Command, config Config) ([]Event, error) {
	if _, begins := c.(CreateLog); begins != (account == LogAccount) {
		return nil, Invalid("account", "", "account %s cannot do this", quoted(account))
	}
	if account == LogAccount {
		return c.decide(input{by: by, state: s, config: config})
	}
	if err := CheckAccount(account); err != nil {
		return nil, err
	}
	return c.decide(input{by: by, state: s, account: s.Account(account), config: config})
}
