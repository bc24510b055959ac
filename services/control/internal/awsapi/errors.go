package awsapi

import (
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"github.com/go-json-experiment/json"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

// class is a class of errors of the service's model.
type class struct {
	name   string
	status int
}

var (
	validation   = class{"ValidationException", http.StatusBadRequest}
	unauthorized = class{"UnauthorizedException", http.StatusUnauthorized}
	accessDenied = class{"AccessDeniedException", http.StatusForbidden}
	notFound     = class{"ResourceNotFoundException", http.StatusNotFound}
	conflict     = class{"ConflictException", http.StatusConflict}
	quota        = class{"ServiceQuotaExceededException", http.StatusPaymentRequired}
	throttling   = class{"ThrottlingException", http.StatusTooManyRequests}
	internal     = class{"InternalServerException", http.StatusInternalServerError}
)

// classOf is the class that says what e says. What is wrong with the service and may pass is internal: SDKs try that again.
func classOf(e *rpc.Error) class {
	switch e.Code {
	case connect.CodeInvalidArgument, connect.CodeUnimplemented, connect.CodeOutOfRange:
		return validation
	case connect.CodeUnauthenticated:
		return unauthorized
	case connect.CodePermissionDenied:
		return accessDenied
	case connect.CodeNotFound:
		return notFound
	case connect.CodeAlreadyExists, connect.CodeAborted:
		return conflict
	case connect.CodeFailedPrecondition:
		if e.Reason == "log_went_back" { // no matter of the request
			return internal
		}
		return conflict
	case connect.CodeResourceExhausted:
		switch e.Reason {
		case "throttled", e.Code.String(): // the second is too many requests of one caller
			return throttling
		case "too_large":
			return validation
		}
		return quota
	default:
		return internal
	}
}

// failure is the body of an error.
type failure struct {
	Type      string  `json:"__type"` //nolint:tagliatelle // AWS names it so
	Message   string  `json:"message"`
	Reason    string  `json:"reason,omitzero"` // of a ValidationException, which always has one
	FieldList []field `json:"fieldList,omitzero"`
}

// field is a member of the request that is wrong.
type field struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

// Refuse implements rpc.REST.
func (*API) Refuse(w http.ResponseWriter, e *rpc.Error) {
	c := classOf(e)
	body := failure{Type: c.name, Message: e.Message}
	if e.Suggest != "" {
		body.Message += "; did you mean " + e.Suggest + "?"
	}
	if c == validation {
		body.Reason = reasonOf(e)
		if name := wireField(e); name != "" {
			body.FieldList = []field{{Name: name, Message: body.Message}}
		}
	}
	w.Header().Set("X-Amzn-Errortype", c.name)
	writeJSON(w, c.status, body)
}

// reasonOf is one of the model's reasons of a ValidationException.
func reasonOf(e *rpc.Error) string {
	switch e.Reason {
	case "idempotent_parameter_mismatch":
		return "IdempotentParameterMismatchException"
	case "json", "unreadable":
		return "CannotParse"
	case "too_large":
		if e.Code == connect.CodeResourceExhausted { // the body; else what it says makes too large an event
			return "CannotParse"
		}
		return "FieldValidationFailed"
	default:
		return "FieldValidationFailed"
	}
}

// wireField is where the member stands in the request. What policy calls the definition of a gateway or target is the request
// itself here, and not a member; that of a policy is one, of which statements are part. Engines are named by ARN.
func wireField(e *rpc.Error) string {
	rest, inside := strings.CutPrefix(e.Field, "definition.")
	switch {
	case e.Field == "definition" && e.Reason == "too_large":
		return ""
	case inside && (strings.HasPrefix(rest, "cedar") || strings.HasPrefix(rest, "policy.") || strings.HasPrefix(rest, "policyGeneration")):
		return e.Field
	case rest == "policyEngineConfiguration.policyEngineId":
		return "policyEngineConfiguration.arn"
	}
	return rest
}

// writeJSON answers; a nil body is none.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header()["X-Amzn-Requestid"] = w.Header()["X-Request-Id"] // which the edge has set
	if body == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, body, json.Deterministic(true)) // a client that is gone needs no answer
}
