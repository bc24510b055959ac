package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"unicode"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Kind says what went wrong.
type Kind string

// The kinds of failures.
const (
	FunctionError Kind = "function_error" // the function ran and failed
	Timeout       Kind = "timeout"        // it may have run, and may still
	TooLarge      Kind = "too_large"      // its answer was
	Unavailable   Kind = "unavailable"    // not reached, broken off, or left out by the target's breaker
	Throttled     Kind = "throttled"      // it was not run, since others run
	Garbage       Kind = "garbage"        // its answer is not JSON
	Refused       Kind = "refused"        // it was not run: there is none, it is not permitted, or the call is none that can be made
	Canceled      Kind = "canceled"       // whoever called has gone; it may have run
)

// Failure is why there is no answer.
type Failure struct { //nolint:errname // that it is an error is the least of it
	Kind Kind
	// Message is for whoever called the tool.
	Message string
	// Detail is for the log, and for callers of gateways that show their errors (exceptionLevel DEBUG): it may name addresses.
	Detail string

	leftOut bool // the breaker is open, so nothing was tried
	hurried bool // it was the caller who could not wait
}

// Error is Message, which may be shown to anybody.
func (f *Failure) Error() string { return f.Message }

// How much of a function's words is handed on.
const (
	maxMessage = 500
	maxDetail  = 2000
)

const mayHaveRun = "it may have run all the same: find out before you call it again"

// failureOf is what an error of the SDK means. ctx is the caller's, with the timeout.
func (f *Functions) failureOf(caller, ctx context.Context, err error) *Failure {
	detail := clip(err.Error(), maxDetail)
	response, answered := errors.AsType[*smithyhttp.ResponseError](err)
	switch {
	case errors.Is(err, errCredentials): // it was not sent
		return refused(detail)
	case answered && response.HTTPStatusCode() >= 300: // looked at first, since the detail of a refusal must be cut
		return refusedBy(response.HTTPStatusCode(), err)
	case errors.Is(caller.Err(), context.Canceled):
		return &Failure{Kind: Canceled, Message: "the call was given up by its caller", Detail: detail, hurried: true}
	case ctx.Err() != nil:
		return f.timedOut(caller.Err() != nil, detail)
	case errors.Is(err, errTooLarge):
		return &Failure{Kind: TooLarge, Message: fmt.Sprintf("the tool's answer is larger than %d bytes, the most that is taken: ask it for less", f.maxAnswer), Detail: detail}
	case notRun(err) || isDial(err):
		return &Failure{Kind: Unavailable, Message: "the tool cannot be reached and was not run: try again later", Detail: detail}
	default:
		return &Failure{Kind: Unavailable, Message: "the connection to the tool broke, and " + mayHaveRun, Detail: detail}
	}
}

func (f *Functions) timedOut(hurried bool, detail string) *Failure {
	message := fmt.Sprintf("the tool did not answer within %v, and %s", f.timeout, mayHaveRun)
	if hurried {
		message = "the tool did not answer as soon as its caller wanted, and " + mayHaveRun
	}
	return &Failure{Kind: Timeout, Message: message, Detail: detail, hurried: hurried}
}

// refusedBy is what Lambda answers instead of running a function, or instead of the function's answer.
func refusedBy(status int, err error) *Failure {
	detail := fmt.Sprintf("HTTP status %d", status)
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		// Of a signature that is wrong the further lines show everything that was signed, a session's token among it.
		detail += fmt.Sprintf(", %s: %s", clip(api.ErrorCode(), 200), firstLine(api.ErrorMessage(), maxMessage))
	}
	switch {
	case status == http.StatusTooManyRequests:
		return &Failure{Kind: Throttled, Message: "the tool is called by too many at once and was not run: try again in a moment", Detail: detail}
	case status >= 400 && status < 500:
		return refused(detail)
	default:
		return &Failure{Kind: Unavailable, Message: "the tool's function is in trouble, and " + mayHaveRun, Detail: detail}
	}
}

func refused(detail string) *Failure {
	return &Failure{
		Kind: Refused, Detail: detail,
		Message: "the tool's function does not take this call, and was not run: whoever runs the gateway finds the reason in its log",
	}
}

func garbage(detail string) *Failure {
	return &Failure{Kind: Garbage, Message: "the tool's answer is not JSON, so it cannot be handed on; the tool has run", Detail: detail}
}

func leftOut() *Failure {
	return &Failure{
		Kind: Unavailable, leftOut: true, Detail: "its circuit breaker is open",
		Message: fmt.Sprintf("the tool has not answered several times in a row and is left alone for a while; it was not run: try again in %v", breakerPause),
	}
}

// functionFailed is what a function says of its own failure: {"errorMessage": …, "errorType": …} and, depending on its language,
// where in its code, which is nobody's business.
func functionFailed(how string, payload []byte) *Failure {
	var said struct{ ErrorMessage, ErrorType any }
	_ = json.Unmarshal(payload, &said) // what cannot be read says nothing
	message, _ := said.ErrorMessage.(string)
	kind, _ := said.ErrorType.(string)
	f := &Failure{Kind: FunctionError, Message: "the tool failed and does not say why"}
	if line := firstLine(message, maxMessage); line != "" {
		f.Message = "the tool failed: " + line
	}
	f.Detail = clip(fmt.Sprintf("%s %s: %s", how, kind, message), maxDetail)
	return f
}

// isDial is true of connections that never came about.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// firstLine is the first line that says something.
func firstLine(text string, limit int) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return clip(line, limit)
}

// clip is a text as one can show it: no more of it than limit bytes, and nothing that steers a terminal.
func clip(text string, limit int) string {
	const more = "…"
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + more
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
