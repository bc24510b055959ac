package snapshot

import (
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/verdict-io/verdict/services/policy"
)

// Source is how the engine of a decision was found.
type Source string

// The sources. A request that names the engine which is attached to its gateway is decided as one that names only the gateway.
const (
	SourceNone    Source = ""        // no engine is attached
	SourceGateway Source = "gateway" // the gateway's attachment
	SourceRequest Source = "request" // the request's policyEngineId
)

// The words of Decision.ReasonCode. They are part of the contract: new ones may come, none changes its meaning.
const (
	CodeAllowed     = "allowed"
	CodeDefaultDeny = "default_deny"
	CodeForbid      = "forbid"
	CodeForbidError = "forbid_error" // strict forbids: one could not be evaluated
	CodeNoEngine    = "no_engine"
	CodeStale       = "stale"

	CodeEngineBroken = "engine_broken" // the engine, or a policy of it, cannot be evaluated
	CodeUnknownTool  = "unknown_tool"

	CodeArgumentType       = "argument_type"
	CodeArgumentMissing    = "argument_missing"
	CodeArgumentUndeclared = "argument_undeclared"
	CodeArgumentTooLarge   = "argument_too_large"
	CodeNumberTooLarge     = "number_too_large"
)

// PolicyError is a policy whose evaluation failed.
type PolicyError struct{ PolicyID, Message string }

// Findings are what LOG_ONLY policies would have done, each alone on top of the ACTIVE ones. Lists are sorted, and hold
// at most MaxFindings.
type Findings struct {
	Matched    []string // their conditions hold
	Flipping   []string // the decision would be the other one
	Mismatched []string // their evaluation failed
	// Incomplete: lists were cut, or the LOG_ONLY policies were not evaluated, not all of them.
	Incomplete bool
}

// MaxFindings is how many policies each list of Findings holds.
const MaxFindings = 1000

// Decision is an answer.
type Decision struct {
	Allow   bool // Cedar's answer; true where no engine decides
	Proceed bool // what the caller does now

	Mode       policy.EngineMode // "" where no engine decides
	EngineID   string
	GatewayARN string // "" when the resource is no gateway
	Source     Source

	Determining []string      // policies, sorted
	Errors      []PolicyError // ACTIVE policies, sorted
	Reason      string        // for people, in AgentCore's words
	ReasonCode  string        // one of the Code words
	LogOnly     Findings

	Settings policy.Settings // as they applied, with nothing left open; not to be changed
	Stale    bool            // the state could not be proved fresh within the bound

	context *types.Record
}

// ContextJSON is the context as it was evaluated, context.system.now included, in Cedar's JSON form, made anew at each call.
// It is nil when the context was not typed, which includes all decisions without an engine, and when an argument has a name
// that Cedar's JSON keeps for itself (__entity, __extn).
func (d *Decision) ContextJSON() []byte {
	if d.context == nil {
		return nil
	}
	text, ok := appendRecord(make([]byte, 0, 256), *d.context)
	if !ok {
		return nil
	}
	return text
}

// deny makes d a DENY.
func (d *Decision) deny(code, reason string) {
	d.Allow, d.ReasonCode, d.Reason = false, code, reason
}

// AgentCore's words for outcomes.
const (
	reasonDefaultDeny = "No policy applies to the request (denied by default)."
	reasonDenied      = "Policy evaluation denied due to "
	reasonAllowed     = "Policy evaluation allowed due to "
	reasonForbidError = "Policy evaluation denied because forbid policies could not be evaluated: "
)

// maxNamed is how many policies a reason names.
const maxNamed = 10

// named lists ids.
func named(ids []string) string {
	if more := len(ids) - maxNamed; more > 0 {
		return strings.Join(ids[:maxNamed], ", ") + " and " + strconv.Itoa(more) + " more"
	}
	return strings.Join(ids, ", ")
}
