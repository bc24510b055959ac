// Package lambda turns an allowed tool call of an mcp.lambda target into one invocation of its function, and the function's
// answer, or whatever went wrong, into JSON or a Failure.
//
// It guarantees that a call runs a function once at most: what may have been run is never sent again. The arguments reach the
// function byte for byte. No answer is larger than the limit, none comes after the timeout, and all of it is JSON. A target that
// does not answer is left out for a while, by a circuit breaker of its own. What a caller is told names no address, no
// credential and no place in the function's code.
package lambda

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
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
	// Logger is told of targets that are left alone; nil discards. Failures are returned, for whoever answers to log.
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

// Functions invokes. Its methods can be called at the same time.
type Functions struct {
	client    *awslambda.Client
	timeout   time.Duration
	maxAnswer int
	logger    *slog.Logger
	metrics   *metrics
	breakers  *breakers
}

// New checks the settings. It asks nobody.
func New(config Config) (*Functions, error) {
	config.Timeout = cmp.Or(config.Timeout, DefaultTimeout)
	config.MaxAnswer = cmp.Or(config.MaxAnswer, DefaultMaxAnswer)
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("lambda: %w", err)
	}
	f := &Functions{
		timeout: config.Timeout, maxAnswer: config.MaxAnswer, logger: cmp.Or(config.Logger, slog.New(slog.DiscardHandler)), metrics: newMetrics(),
	}
	if err := f.metrics.register(config.Registerer); err != nil {
		return nil, fmt.Errorf("lambda: %w", err)
	}
	f.breakers = &breakers{changed: f.breakerChanged}
	options := awslambda.Options{
		HTTPClient: newBoundedClient(config.HTTP, config.MaxAnswer), Retryer: newRetryer(), Credentials: config.Credentials,
	}
	if config.Endpoint != "" {
		options.BaseEndpoint = &config.Endpoint
	}
	if config.Credentials == nil {
		options.Credentials = aws.AnonymousCredentials{}
	}
	f.client = awslambda.New(options)
	return f, nil
}

func (c *Config) check() error {
	if c.Credentials == nil && c.Endpoint == "" {
		return errors.New("AWS takes no unsigned invocations: give credentials, or the endpoint of something that takes them")
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("the endpoint must be a URL like https://lambda.example.com, without a name, a query or a fragment")
		}
	}
	if c.Timeout < 0 || c.Timeout > MaxTimeout {
		return fmt.Errorf("the timeout must be at most %v, which is Lambda's own", MaxTimeout)
	}
	if c.MaxAnswer < 0 {
		return errors.New("the largest answer cannot be smaller than nothing")
	}
	return nil
}

// Ready is a *Failure while the target's breaker is open, so that nothing need be decided about a call that would not be made.
func (f *Functions) Ready(target Key) error {
	if f.breakers.open(target) {
		return leftOut()
	}
	return nil
}

// Retain forgets what is known of targets that keep does not want kept: those that are gone.
func (f *Functions) Retain(keep func(Key) bool) { f.breakers.retain(keep) }

// Invoke calls the function and returns its answer, which is valid JSON, or a *Failure.
func (f *Functions) Invoke(ctx context.Context, call Call) ([]byte, error) {
	began := time.Now()
	answer, failure := f.breakers.run(call.Target, func() ([]byte, *Failure) { return f.invoke(ctx, call) })
	f.metrics.invoked(failure, time.Since(began))
	if failure == nil {
		return answer, nil
	}
	return nil, failure
}

func (f *Functions) invoke(caller context.Context, call Call) ([]byte, *Failure) {
	region, err := regionOf(call.ARN)
	if err != nil {
		return nil, refused(err.Error())
	}
	client, err := call.clientContext()
	if err != nil {
		return nil, refused(err.Error())
	}
	ctx, cancel := context.WithTimeout(caller, f.timeout)
	defer cancel()
	output, err := f.client.Invoke(ctx, &awslambda.InvokeInput{
		FunctionName: &call.ARN, InvocationType: types.InvocationTypeRequestResponse, ClientContext: &client, Payload: call.event(),
	}, func(o *awslambda.Options) { o.Region = region })
	if err != nil {
		return nil, f.failureOf(caller, ctx, err)
	}
	if output.FunctionError != nil {
		return nil, functionFailed(*output.FunctionError, output.Payload)
	}
	if output.StatusCode != http.StatusOK {
		return nil, garbage(fmt.Sprintf("status %d", output.StatusCode))
	}
	if !json.Valid(output.Payload) || !utf8.Valid(output.Payload) {
		return nil, garbage(fmt.Sprintf("%d bytes that are not JSON", len(output.Payload)))
	}
	return output.Payload, nil
}

func (c *Call) event() []byte {
	if len(c.Arguments) == 0 {
		return []byte("{}")
	}
	return c.Arguments
}

// maxClientContext is Lambda's.
const maxClientContext = 3583

// clientContext is what functions see of the call beside its arguments, in the names that AgentCore gives it.
func (c *Call) clientContext() (string, error) {
	type custom struct {
		Tool           string `json:"bedrockAgentCoreToolName"`
		Gateway        string `json:"bedrockAgentCoreGatewayId"`
		Target         string `json:"bedrockAgentCoreTargetId"`
		MessageVersion string `json:"bedrockAgentCoreMessageVersion"`
		RequestID      string `json:"bedrockAgentCoreAwsRequestId"`
		MessageID      string `json:"bedrockAgentCoreMcpMessageId"`
	}
	text, err := json.Marshal(map[string]custom{"custom": {
		c.Tool, c.Target.Gateway, c.Target.Target, cmp.Or(c.MessageVersion, "1.0"), c.RequestID, c.MessageID,
	}})
	if err != nil {
		return "", err
	}
	encoded := base64.StdEncoding.EncodeToString(text)
	if len(encoded) > maxClientContext {
		return "", fmt.Errorf("the client context has %d bytes, %d are the most that Lambda takes: the id of the request may be too long", len(encoded), maxClientContext)
	}
	return encoded, nil
}

// A region becomes part of a host name, so it is looked at here again, whoever wrote it into the ARN.
var regionPattern = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)

// regionOf is the region of the function that an ARN names: arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER].
func regionOf(arn string) (string, error) {
	parts := strings.Split(arn, ":")
	if len(parts) < 7 || len(parts) > 8 || parts[0] != "arn" || parts[2] != "lambda" || parts[5] != "function" || !regionPattern.MatchString(parts[3]) {
		return "", fmt.Errorf("%s is not the ARN of a function", clip(arn, 200))
	}
	return parts[3], nil
}
