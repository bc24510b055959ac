// Package lambda turns an allowed tool call of an mcp.lambda target into one invocation of its function, and the function's
// answer, or whatever went wrong, into JSON or a Failure.
//
// It guarantees that a call runs a function once at most: what may have been run is never sent again. The arguments reach the
// function byte for byte. No answer is larger than the limit, none comes after the timeout, and all of it is JSON. A target that
// does not answer is left out for a while, by a circuit breaker of its own. What a caller is told names no address, no
// credential and no place in the function's code.
package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what Functions needs.
type Config struct {
	// Endpoint is the base URL of what speaks Lambda's Invoke API; "" is that of AWS in the region of the function's ARN.
	Endpoint string
	// HTTP sends all requests, so that the rules of where the gateway may connect to are in its transport. nil is a client of
	// this package's own, without such rules.
	HTTP *http.Client
	// Credentials sign the invocations; see ReadCredentials. nil sends them unsigned, which AWS does not take, so it needs an
	// Endpoint.
	Credentials aws.CredentialsProvider
	// Timeout is how long a function may take to answer; 0 is DefaultTimeout, MaxTimeout the most.
	Timeout time.Duration
	// MaxAnswer is how many bytes an answer may have; 0 is DefaultMaxAnswer.
	MaxAnswer int
	// Logger is told of failures; nil discards.
	Logger *slog.Logger
	// Registerer gets the metrics; nil keeps them to themselves.
	Registerer prometheus.Registerer
}

// Limits, those of Lambda itself.
const (
	DefaultTimeout   = time.Minute
	MaxTimeout       = 15 * time.Minute
	DefaultMaxAnswer = 6 << 20
)

// Key names a target among those of all accounts.
type Key struct{ Account, Gateway, Target string }

// Call is one invocation.
type Call struct {
	Target         Key
	ARN            string // of the function; a version or an alias behind it is honoured
	Tool           string // "<Target>___<tool>"
	MessageID      string // the id of the JSON-RPC request, as text
	MessageVersion string // "" is "1.0"
	RequestID      string // the gateway's own
	// Arguments are the object that becomes the function's event; none is {}.
	Arguments json.RawMessage
}

// Kind says what went wrong.
type Kind string

// The kinds of failures. The last but one is never one of the target's.
const (
	FunctionError Kind = "function_error" // the function ran and failed
	Timeout       Kind = "timeout"        // it may have run, and may still
	TooLarge      Kind = "too_large"      // its answer was
	Unavailable   Kind = "unavailable"    // not reached, broken off, or left out by its breaker
	Throttled     Kind = "throttled"      // it was not run
	Garbage       Kind = "garbage"        // its answer is not JSON
	Refused       Kind = "refused"        // it was not run: no such function, not permitted, not a valid call
	Canceled      Kind = "canceled"       // whoever called has gone; it may have run
)

// Failure is why there is no answer.
type Failure struct {
	Kind Kind
	// Message is for whoever called the tool.
	Message string
	// Detail is for the log, and for callers of gateways that show their errors (exceptionLevel DEBUG).
	Detail string
}

// Error is Message: where it ends up is not known here.
func (f *Failure) Error() string { return f.Message }

// Functions invokes. Its methods can be called at the same time.
type Functions struct{ config Config }

// New checks the settings. It asks nobody.
func New(config Config) (*Functions, error) {
	if config.Credentials == nil && config.Endpoint == "" {
		return nil, errors.New("lambda: AWS takes no unsigned invocations: give credentials, or an endpoint that takes them")
	}
	return &Functions{config: config}, nil
}

// Ready is a *Failure while the target's breaker is open, so that nothing need be decided about a call that would not be made.
func (f *Functions) Ready(Key) error { return nil }

// Invoke calls the function and returns its answer, which is valid JSON, or a *Failure.
func (f *Functions) Invoke(context.Context, Call) ([]byte, error) {
	return nil, &Failure{Kind: Unavailable, Message: "functions cannot be called yet"}
}

// Retain forgets what is known of targets that keep does not want kept: those that are gone.
func (f *Functions) Retain(func(Key) bool) {}
