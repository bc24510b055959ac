// Package awsapi is AgentCore's control API, as its SDKs speak it (REST with JSON bodies, API version 2023-06-05): it turns
// requests into commands and queries of app, and what they answer into AgentCore's JSON. Its facts are those of the SDK's model
// (github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol).
//
// It guarantees that nothing is accepted that Verdict would not act on, but for the few members that are only kept (the table
// of members in services/docs/aws.md): what a request names and this package does not know, or would have to ignore, refuses the
// request, by name. Every operation of the service is answered in AWS's form, also those that Verdict does not offer.
package awsapi

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// Config is what an API is made of. All but Throttle is required.
type Config struct {
	App *app.App
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
	throttle *throttle // nil when there is none
}

// New is an API.
func New(cfg Config) *API {
	a := &API{cfg: cfg}
	if cfg.Throttle {
		a.throttle = newThrottle()
	}
	return a
}

// route is all operations, with and without a slash at the end: AWS is not consistent in that, and callers less. Patterns are matched
// with escaped paths, segment by segment, so that an ARN is one.
func route(handler func(*operation) http.Handler) *http.ServeMux {
	mux := http.NewServeMux()
	for _, op := range operations {
		path, h := strings.TrimSuffix(op.path, "/"), handler(op)
		mux.Handle(op.method+" "+path, h)
		mux.Handle(op.method+" "+path+"/{$}", h)
	}
	return mux
}

// Handler serves the API behind an edge, which must have it as its REST.
func (a *API) Handler(edge *rpc.Edge) http.Handler {
	return route(func(op *operation) http.Handler {
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
}

// begin is what all operations have in common before their own work: whether the caller may, and may now.
func (a *API) begin(edge *rpc.Edge, r *http.Request, op *operation) (context.Context, context.CancelFunc, error) {
	if !op.offered {
		rpc.SetProcedure(r.Context(), op.name)
		return r.Context(), func() {}, nil
	}
	ctx, cancel, err := edge.Serve(r.Context(), op.name)
	if err == nil {
		err = cmp.Or(checkQuery(op, r.URL.RawQuery), checkNoBody(r))
	}
	if err == nil && a.throttle != nil {
		err = a.throttle.take(app.Caller(ctx).Account, op)
	}
	return ctx, cancel, err
}

// checkQuery refuses a query that would be ignored, in part or as a whole.
func checkQuery(op *operation, raw string) error {
	if raw == "" {
		return nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return policy.Invalid("query", "", "the query of the request cannot be read: escape its values")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case !slices.Contains(op.query, name):
			return policy.Invalid("unknown", name, "there is no parameter %.40q of %s", name, op.name)
		case len(query[name]) > 1 && name != "tagKeys":
			return policy.Invalid("duplicate", name, "%s is given %d times", name, len(query[name]))
		}
	}
	return nil
}

// checkNoBody refuses a body of what has none in the model: it would be ignored.
func checkNoBody(r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodDelete || r.ContentLength == 0 {
		return nil
	}
	return policy.Invalid("unexpected", "", "this operation takes no body")
}

// Serves implements rpc.REST: a path is this API's when its first segment is no name of a service of Connect, which have dots.
func (*API) Serves(r *http.Request) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return !strings.Contains(first, ".")
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

// create carries out a command that makes something, once for each client token.
func (a *API) create(r *request, in interface{ take() *string }, command func(suffix string) policy.Command) (app.Outcome, error) {
	call, err := a.tokenCall(r, in)
	if err != nil {
		return app.Outcome{}, err
	}
	return a.cfg.App.Create(r.Context(), call, command)
}

func (a *API) change(r *request, command policy.Command) (app.Outcome, error) {
	return a.cfg.App.Change(r.Context(), a.cfg.App.Call(r.Context()), command)
}

func (a *API) remove(r *request, command policy.Command) (app.Outcome, error) {
	return a.cfg.App.Delete(r.Context(), a.cfg.App.Call(r.Context()), command)
}

// get is an operation that shows the thing that its path names.
func get[T, V any](find func(*API, *request) (*policy.Account, T, uint64, error), show func(*API, *policy.Account, T) V) func(*API, *request) (answer, error) {
	return func(a *API, r *request) (answer, error) {
		account, thing, revision, err := find(a, r)
		if err != nil {
			return answer{}, err
		}
		return answer{show(a, account, thing), revision}, nil
	}
}

// write answers with what an operation gave.
func write(w http.ResponseWriter, status int, out answer) {
	if out.revision > 0 {
		w.Header().Set("X-Verdict-Revision", strconv.FormatUint(out.revision, 10))
	}
	writeJSON(w, status, out.body)
}
