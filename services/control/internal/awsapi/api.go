// Package awsapi is AgentCore's control API, as its SDKs speak it (REST with JSON bodies, API version 2023-06-05): it turns
// requests into commands and queries of app, and what they answer into AgentCore's JSON. Its facts are those of the SDK's model
// (github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol).
//
// It guarantees that nothing is accepted that Verdict would not act on, but for the few members that are only kept (the table
// of members in services/docs/aws.md): what a request names and this package does not know, or would have to ignore, refuses the
// request, by name. Every operation of the service is answered in AWS's form, also those that Verdict does not offer.
package awsapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// Config is what an API is made of. All but Throttle is required.
type Config struct {
	App *app.App
	// MayWeaken says whether a caller may weaken what is enforced.
	MayWeaken func(identity.Caller) bool
	// GatewayURL is what the URL of every gateway starts with, without a slash at its end.
	GatewayURL string
	// MaxBody bounds the body of a request, in bytes.
	MaxBody int64
	// Throttle limits requests as AgentCore does.
	Throttle bool
}

// API is the API of one replica. It is safe for concurrent use.
type API struct {
	cfg      Config
	routes   *http.ServeMux // patterns of operations; what it calls is not used
	throttle *throttle
}

// New is an API.
func New(cfg Config) *API {
	a := &API{cfg: cfg, routes: http.NewServeMux()}
	if cfg.Throttle {
		a.throttle = newThrottle()
	}
	a.route(a.routes, func(*operation) http.Handler { return http.NotFoundHandler() })
	return a
}

// route registers all operations, with and without a slash at the end: AWS is not consistent in that, and callers less.
// Patterns are matched with escaped paths, segment by segment, so that an ARN is one.
func (a *API) route(mux *http.ServeMux, handler func(*operation) http.Handler) {
	for _, op := range operations {
		path, h := strings.TrimSuffix(op.path, "/"), handler(op)
		mux.Handle(op.method+" "+path, h)
		mux.Handle(op.method+" "+path+"/{$}", h)
	}
}

// Handler serves the API behind an edge, which must have it as its REST.
func (a *API) Handler(edge *rpc.Edge) http.Handler {
	mux := http.NewServeMux()
	a.route(mux, func(op *operation) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel, err := a.begin(edge, r, op)
			defer cancel()
			var out answer
			if err == nil {
				out, err = op.handle(a, &request{Request: r.WithContext(ctx), op: op})
			}
			if err != nil {
				a.Refuse(w, edge.Refusal(ctx, err))
				return
			}
			write(w, op.status, out)
		})
	})
	return mux
}

// begin is what all operations have in common before their own work: whether the caller may, and may now.
func (a *API) begin(edge *rpc.Edge, r *http.Request, op *operation) (context.Context, context.CancelFunc, error) {
	if !op.offered {
		rpc.SetProcedure(r.Context(), op.name)
		return r.Context(), func() {}, nil
	}
	// Before the edge takes a signature as used: what is throttled is not done, and boto3 sends it again with the same signature when
	// that is within the second.
	if a.throttle != nil {
		if err := a.throttle.take(callerOf(r.Context()).Account, op); err != nil {
			rpc.SetProcedure(r.Context(), op.name)
			return r.Context(), func() {}, err
		}
	}
	return edge.Serve(r.Context(), op.name)
}

// Serves implements rpc.REST.
func (a *API) Serves(r *http.Request) bool {
	_, pattern := a.routes.Handler(r)
	return pattern != ""
}

// request is a request for an operation.
type request struct {
	*http.Request
	op *operation
}

// answer is what an operation answers with: a struct, or nil for no body, and the revision of the state that it shows; 0 is none.
type answer struct {
	body     any
	revision uint64
}

func callerOf(ctx context.Context) identity.Caller {
	c, _ := identity.FromContext(ctx)
	return c
}

// call is the request as the writes of app take it.
func (a *API) call(r *request) app.Call {
	by := callerOf(r.Context())
	return app.Call{Caller: by, RequestID: rpc.RequestID(r.Context()), MayWeaken: a.cfg.MayWeaken(by)}
}

// account is all that the caller's account has, not older than the request, and its revision.
func (a *API) account(r *request) (*policy.Account, uint64, error) {
	return a.cfg.App.Account(r.Context(), callerOf(r.Context()).Account)
}

func (a *API) arn(account *policy.Account, ref policy.Ref) string {
	return policy.ARN(a.cfg.App.Region(), account.ID, ref)
}

func (a *API) parseARN(r *request, field, arn string) (policy.Ref, error) {
	return policy.ParseARN(a.cfg.App.Region(), callerOf(r.Context()).Account, field, arn)
}

// write answers with what an operation gave.
func write(w http.ResponseWriter, status int, out answer) {
	if out.revision > 0 {
		w.Header().Set("X-Verdict-Revision", strconv.FormatUint(out.revision, 10))
	}
	writeJSON(w, status, out.body)
}
