// Package authzen is OpenID AuthZEN's Authorization API 1.0: it turns evaluations, in its JSON, into requests of a decision node,
// and the node's decisions into its answers. Search is not offered.
//
// It guarantees that an evaluation is the node's own decision, recorded before it is answered; that numbers reach the policies as
// they were written; and that what is no evaluation is an error, or `"decision": false` within several, and never true.
package authzen

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/go-json-experiment/json"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// Authorize decides one request, and records it.
type Authorize = func(*decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error)

// Node decides.
type Node interface {
	// AtOneRevision is for evaluations that belong together.
	AtOneRevision(ctx context.Context) (Authorize, error)
}

// Config is what an API is made of. PublicURL may be empty, all else is required.
type Config struct {
	Node Node
	// PublicURL is what callers reach the service by: scheme and host, without a slash at the end. Without it that is what each
	// request for the metadata says.
	PublicURL string
	// MaxBody bounds the body of a request, in bytes.
	MaxBody int64
}

// API is the API of one node. It is safe for concurrent use.
type API struct{ cfg Config }

// New is an API.
func New(cfg Config) *API { return &API{cfg} }

// The paths of the API. Whoever may ask for a decision, or for several, may do it here: these are no actions of their own.
const (
	prefix          = "/access/"
	evaluationPath  = prefix + "v1/evaluation"
	evaluationsPath = prefix + "v1/evaluations"
)

// Handler serves the API behind an edge, which must have it as its REST.
func (a *API) Handler(edge *rpc.Edge) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+evaluationPath, a.handle(edge, "Authorize", a.evaluation))
	mux.Handle("POST "+evaluationsPath, a.handle(edge, "BatchAuthorize", a.evaluations))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.Refuse(w, edge.Refusal(r.Context(), rpc.Errorf(connect.CodeUnimplemented, "not_offered",
			"there are POST %s and POST %s, and nothing else: search is not offered", evaluationPath, evaluationsPath)))
	})
	return mux
}

// call is one request.
type call struct {
	requestID string // the caller's; "" when it gave none
	body      []byte
}

// handle is what both endpoints have in common.
func (a *API) handle(edge *rpc.Edge, action string, answer func(context.Context, *call) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel, err := edge.Serve(r.Context(), action)
		defer cancel()
		var c *call
		if err == nil {
			c, err = a.read(w, r)
		}
		var out any
		if err == nil {
			out, err = answer(ctx, c)
		}
		if err != nil {
			a.Refuse(w, edge.Refusal(ctx, err))
			return
		}
		writeJSON(w, http.StatusOK, out)
	})
}

// read takes a request in.
func (a *API) read(w http.ResponseWriter, r *http.Request) (*call, error) {
	id, err := requestID(w.Header(), r.Header)
	if err != nil {
		return nil, err
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, rpc.Errorf(connect.CodeInvalidArgument, "content_type", "the content type has to be application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, a.cfg.MaxBody))
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, rpc.Errorf(connect.CodeResourceExhausted, "too_large", "the request has more than %d bytes", large.Limit)
	}
	if err != nil {
		return nil, rpc.Errorf(connect.CodeInvalidArgument, "unreadable", "the body of the request could not be read")
	}
	return &call{id, body}, nil
}

// maxRequestID is the longest request id, which is recorded.
const maxRequestID = 256

// requestID is the caller's. It is any text, and comes back as it is, also where the edge would not have taken it into its logs.
func requestID(answer, asked http.Header) (string, error) {
	given := asked["X-Request-Id"]
	if len(given) == 0 || given[0] == "" {
		return "", nil
	}
	if len(given) > 1 || len(given[0]) > maxRequestID || !utf8.ValidString(given[0]) {
		return "", policy.Invalid("request_id", "X-Request-ID", "X-Request-ID may be given once, and be at most %d bytes of UTF-8", maxRequestID)
	}
	answer["X-Request-Id"] = given
	return given[0], nil
}

// Serves implements rpc.REST.
func (*API) Serves(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, prefix) }

// failure is what is wrong with a request, or with one of several evaluations.
type failure struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
	Code    string `json:"code"` // a stable word
	Field   string `json:"field,omitzero"`
}

func failureOf(e *rpc.Error) failure {
	return failure{Status: statusOf(e), Message: names.Replace(e.Message), Code: e.Reason, Field: names.Replace(e.Field)}
}

// names are the parts of a request of the node as this API has them.
var names = strings.NewReplacer("principal.tags", "subject.properties", "principal.", "subject.", "action.id", "action.name", "contextJson", "action.properties")

// Refuse implements rpc.REST.
func (*API) Refuse(w http.ResponseWriter, e *rpc.Error) {
	body := failureOf(e)
	writeJSON(w, body.Status, struct {
		Error failure `json:"error"`
	}{body})
}

// statuses are those of AuthZEN, and those of HTTP for what it leaves open.
var statuses = map[connect.Code]int{
	connect.CodeInvalidArgument: http.StatusBadRequest, connect.CodeOutOfRange: http.StatusBadRequest, connect.CodeFailedPrecondition: http.StatusBadRequest,
	connect.CodeUnauthenticated: http.StatusUnauthorized, connect.CodePermissionDenied: http.StatusForbidden,
	connect.CodeNotFound: http.StatusNotFound, connect.CodeUnimplemented: http.StatusNotFound,
	connect.CodeResourceExhausted: http.StatusTooManyRequests, connect.CodeUnavailable: http.StatusServiceUnavailable,
	connect.CodeDeadlineExceeded: http.StatusGatewayTimeout, connect.CodeCanceled: 499,
}

func statusOf(e *rpc.Error) int {
	if e.Reason == "too_large" {
		return http.StatusRequestEntityTooLarge
	}
	if status, ok := statuses[e.Code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, body, json.Deterministic(true)) // a client that is gone needs no answer
}
