// Package rpc turns HTTP requests into calls of handlers and errors of any kind into answers, the same way on every
// service. It guarantees that a handler runs for a known caller, within a deadline, on a request of bounded size
// whose JSON it understood completely; that an answer carries a request id; that only text written for the caller
// leaves the process; and that every request is counted, and every failed one logged once.
//
// An Edge has two sides, and a service needs both: HandlerOptions for each Connect handler, and Handler around the mux
// that holds them (and may hold REST handlers, which get all but the Connect parts).
package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/identity"
)

// The defaults of Config.
const (
	DefaultMaxBytes   = 4 << 20
	DefaultMaxDepth   = 100
	DefaultTimeout    = 30 * time.Second
	DefaultMaxTimeout = 5 * time.Minute
)

// compressMinBytes is the size from which answers are compressed: below it gzip costs more time than it saves.
const compressMinBytes = 4 << 10

// Access says who may do what. An action is a procedure without its service, or an operation of a REST API.
type Access interface {
	// Check is nil when the caller may; else its text is for the caller.
	Check(caller identity.Caller, action string) error
	// Changes reports whether it changes something, so that doing it twice is not the same as doing it once.
	Changes(action string) bool
}

// Config is what an Edge is made of. Callers and Access are required; every other zero value means a default.
type Config struct {
	// Callers recognises who calls.
	Callers *identity.Authenticator
	// Access says who may call what.
	Access Access
	// Logger gets one line for each failed request; nothing is logged without it.
	Logger *slog.Logger
	// Registry gets the metrics; without it they are not to be seen.
	Registry prometheus.Registerer
	// Errors adds a service's own sentinels to the table of errors. The first that matches is taken.
	Errors []Rule
	// MaxBytes bounds a request message, compressed and not.
	MaxBytes int
	// MaxDepth bounds how deeply the messages and values of a JSON request may be nested.
	MaxDepth int
	// Timeout is the deadline of a unary call that brings none, MaxTimeout the longest that one may bring. Neither
	// applies to streams, which end with their client or at Draining.
	Timeout, MaxTimeout time.Duration
	// Draining, when closed, ends streams with the code unavailable.
	Draining <-chan struct{}
	// REST says how requests of another API than Connect are refused; nil when there is none.
	REST REST
}

// REST is an API that answers refusals in a form of its own.
type REST interface {
	// Serves reports whether the request is one of this API's.
	Serves(r *http.Request) bool
	// Refuse answers with what Refusal gave.
	Refuse(w http.ResponseWriter, refusal *Error)
}

// Edge is the outer face of a service. It is safe for concurrent use.
type Edge struct {
	cfg     Config
	metrics *metrics
	origin  *http.CrossOriginProtection
	writer  *connect.ErrorWriter
}

// New is an Edge. It panics without Config.Callers or Config.Access, and when Config.Registry holds the metrics of another Edge.
func New(cfg Config) *Edge {
	if cfg.Callers == nil || cfg.Access == nil {
		panic("rpc.Config.Callers or rpc.Config.Access is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&cfg.MaxBytes, DefaultMaxBytes)
	setDefault(&cfg.MaxDepth, DefaultMaxDepth)
	setDefault(&cfg.Timeout, DefaultTimeout)
	setDefault(&cfg.MaxTimeout, DefaultMaxTimeout)
	return &Edge{
		cfg:     cfg,
		metrics: newMetrics(cfg.Registry),
		origin:  http.NewCrossOriginProtection(),
		writer:  connect.NewErrorWriter(),
	}
}

func setDefault[T int | time.Duration](field *T, def T) {
	if *field <= 0 {
		*field = def
	}
}

// HandlerOptions are for the constructors of Connect handlers. Such a handler works only behind Handler.
func (e *Edge) HandlerOptions() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCodec(codec{name: codecJSON, maxDepth: e.cfg.MaxDepth}),
		connect.WithCodec(codec{name: codecJSONUTF8, maxDepth: e.cfg.MaxDepth}),
		connect.WithReadMaxBytes(e.cfg.MaxBytes),
		boundedGzip(e.cfg.MaxBytes),
		connect.WithCompressMinBytes(compressMinBytes),
		connect.WithRequestGate(e.gate),
		connect.WithInterceptors(interceptor{e}),
	}
}

// bodySlack is by how much a body may exceed MaxBytes before the connection is given up rather than the request
// read to its end: enough for the frames of the protocols, and for telling the size of what was slightly too large.
const bodySlack = 64 << 10

// Handler is what a service hands to its server: next for requests of known callers, refusals for the others.
func (e *Edge) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{start: time.Now(), requestID: RequestIDOf(r.Header)}
		w.Header()[HeaderRequestID] = []string{c.requestID}
		e.metrics.inFlight.Inc()
		defer e.metrics.inFlight.Dec()
		answer := &answer{ResponseWriter: w, request: r}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, int64(e.cfg.MaxBytes)+bodySlack)
		}
		r, unknown := e.recognise(r, c)
		defer e.finish(r, answer, c)
		if err := e.origin.Check(r); err != nil {
			e.refuse(answer, r, &Error{
				Code:    connect.CodePermissionDenied,
				Message: "this service takes no requests from pages of other sites (" + err.Error() + ")",
			})
			return
		}
		if unknown != nil {
			e.refuse(answer, r, notKnown(w.Header(), unknown))
			return
		}
		if err := checkPath(r.URL); err != nil {
			e.refuse(answer, r, err)
			return
		}
		next.ServeHTTP(answer, r)
	})
}

// checkPath refuses paths that http.ServeMux would answer with a redirect to what they might mean: a client that follows it would have
// something else done than it asked for.
func checkPath(u *url.URL) error {
	if !unclean(u.Path) || !unclean(u.EscapedPath()) { // the second takes longer, and is what counts
		return nil
	}
	return Errorf(connect.CodeInvalidArgument, "path", "a path must have no empty segment and none that is . or ..: %s", clip(u.EscapedPath()))
}

func unclean(path string) bool {
	return strings.Contains(path, "//") || strings.Contains(path, "/./") || strings.Contains(path, "/../") ||
		strings.HasSuffix(path, "/.") || strings.HasSuffix(path, "/..")
}

// recognise is r with what is known of it in its context: the call, and the caller unless that is unknown, with the reason.
func (e *Edge) recognise(r *http.Request, c *call) (_ *http.Request, unknown error) {
	ctx := context.WithValue(r.Context(), callKey{}, c)
	if c.caller, unknown = e.cfg.Callers.Authenticate(r); unknown == nil {
		ctx = identity.NewContext(ctx, c.caller)
	}
	return r.WithContext(ctx), unknown
}

// refuse answers with an error in the protocol or the API of the request, or as Connect's JSON when it has none.
func (e *Edge) refuse(w http.ResponseWriter, r *http.Request, err error) {
	refusal := e.Refusal(r.Context(), err)
	if rest := e.cfg.REST; rest != nil && rest.Serves(r) {
		rest.Refuse(w, refusal)
		return
	}
	_ = e.writer.Write(w, r, refusal.connect()) // a client that is gone needs no answer
}

// finish runs when a request has been answered, or when its handler panicked.
func (e *Edge) finish(r *http.Request, w *answer, c *call) {
	v := recover()
	if v != nil && v != http.ErrAbortHandler { //nolint:errorlint // net/http compares so too
		err := e.recovered(r.Context(), v)
		if w.status == 0 {
			e.refuse(w, r, err)
			v = nil
		} else {
			_ = e.Refusal(r.Context(), err)
			v = http.ErrAbortHandler // half an answer must not look like a whole one
		}
	}
	if c.once && c.refusal != nil && c.refusal.Undone {
		e.cfg.Callers.GiveBack(c.caller)
	}
	e.observe(r, c, c.outcome(w))
	if v != nil {
		panic(v)
	}
}

// errNotWrapped is for developers: the service would otherwise run handlers for unknown callers.
var errNotWrapped = errors.New("this handler is not behind rpc.Edge.Handler")

// gate runs before a request is decoded. Connect decodes unary requests before interceptors see them, so this is
// where the procedure of undecodable ones is learned.
func (e *Edge) gate(ctx context.Context, spec connect.Spec, _ connect.Peer, _ http.Header) (context.Context, error) {
	c := callFrom(ctx)
	if _, known := identity.FromContext(ctx); c == nil || !known {
		return nil, connect.NewError(connect.CodeInternal, errNotWrapped)
	}
	c.procedure = spec.Procedure
	c.stream = spec.StreamType != connect.StreamTypeUnary
	if err := e.admit(ctx, c); err != nil {
		return nil, err.connect()
	}
	return nil, nil //nolint:nilnil // Connect's way to say: go on with the context there is
}

// Serve is what a handler of a REST API begins with, on the goroutine of the request, as Connect handlers need not: it names the
// operation that is asked for, and gives its context a deadline. It is refused, with an *Error, where the caller may not do that.
// action must come from a fixed set, never from the request. The cancel function is never nil and must be called.
func (e *Edge) Serve(ctx context.Context, action string) (context.Context, context.CancelFunc, error) {
	c := callFrom(ctx)
	if _, known := identity.FromContext(ctx); c == nil || !known {
		return ctx, func() {}, errNotWrapped
	}
	SetProcedure(ctx, action)
	if err := e.admit(ctx, c); err != nil {
		return ctx, func() {}, err
	}
	ctx, cancel := e.deadline(ctx)
	return ctx, cancel, nil
}

// admit is nil when the caller may call the procedure.
func (e *Edge) admit(ctx context.Context, c *call) *Error {
	action := c.procedure[strings.LastIndexByte(c.procedure, '/')+1:]
	if err := e.cfg.Access.Check(c.caller, action); err != nil {
		return e.Refusal(ctx, &Error{Code: connect.CodePermissionDenied, Reason: "access", Message: err.Error()})
	}
	if e.cfg.Access.Changes(action) {
		if err := e.cfg.Callers.Once(c.caller); err != nil {
			return e.Refusal(ctx, notKnown(http.Header{}, err))
		}
		c.once = true
	}
	return nil
}

// notKnown is why a request has no caller, or is not taken from the one it has. Its body may have been read for that, and been too
// large.
func notKnown(answer http.Header, err error) *Error {
	out := &Error{Code: connect.CodeUnauthenticated, Message: err.Error()}
	large, isLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isLarge:
		return Errorf(connect.CodeResourceExhausted, "too_large", "the request has more than %d bytes", large.Limit)
	case errors.Is(err, identity.ErrForbidden):
		out.Code = connect.CodePermissionDenied
	case errors.Is(err, identity.ErrUnavailable):
		out.Code = connect.CodeUnavailable
	case errors.Is(err, identity.ErrExhausted):
		out.Code = connect.CodeResourceExhausted
	case errors.Is(err, identity.ErrUnauthenticated):
		answer.Set("WWW-Authenticate", "Bearer")
	default: // the body could not be read
		out = Errorf(connect.CodeInvalidArgument, "unreadable", "the body of the request could not be read")
	}
	return out
}
