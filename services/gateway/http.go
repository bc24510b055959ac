package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/verdict-io/verdict/services/gateway/internal/inbound"
	"github.com/verdict-io/verdict/services/internal/rpc"
)

// pathOf is where a gateway is.
func pathOf(id string) string { return "/gateways/" + id + "/mcp" }

// gatewayAt is the gateway whose path this is.
func gatewayAt(path string) (id string, ok bool) {
	id, ok = strings.CutPrefix(path, "/gateways/")
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(id, "/mcp")
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// asking is one HTTP request to a gateway: what is known of it before MCP is spoken.
type asking struct {
	front     *front
	position  uint64 // of the state that the front is of
	caller    inbound.Caller
	requestID string
	trace     string // traceparent
	messageID string // of the one JSON-RPC message in it, as text
}

// serve is everything that comes in.
func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	a := &asking{requestID: rpc.RequestIDOf(r.Header), trace: traceparent(r.Header)}
	out := newAnswer(w, writeTimeout)
	defer out.bound(0) // what net/http still has to write; then it lifts the bound itself
	out.Header().Set(rpc.HeaderRequestID, a.requestID)
	defer func() {
		s.recovered(r, out, recover())
		s.metrics.answered(out.status, time.Since(began))
		s.proc.Logger.LogAttrs(r.Context(), slog.LevelDebug, "request served", slog.String("path", r.URL.Path), slog.Int("status", out.status),
			slog.String("request_id", a.requestID), slog.Duration("took", time.Since(began)))
	}()
	path, about := strings.CutPrefix(r.URL.EscapedPath(), metadataPath)
	id, ok := gatewayAt(path)
	if a.front, a.position = s.table.find(id); !ok || a.front == nil {
		refuse(out, r, http.StatusNotFound, jsonrpc.CodeInvalidRequest, "there is no gateway at this path: use the gatewayUrl that the control API returns")
		return
	}
	if about {
		s.metadata(out, r, a.front)
		return
	}
	s.enter(out, r, a)
}

// recovered answers for a handler that panicked.
func (s *Service) recovered(r *http.Request, w *answer, v any) {
	if v == nil {
		return
	}
	s.proc.Logger.ErrorContext(r.Context(), "a request failed", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	if w.status == 0 {
		refuse(w, nil, http.StatusInternalServerError, jsonrpc.CodeInternalError, internalError)
		return
	}
	panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way: half an answer must not look like a whole one
}

// internalError is AgentCore's text for what callers cannot help.
const internalError = "An internal error occurred. Please retry later."

// metadata is the RFC 9728 document of a gateway.
func (s *Service) metadata(w http.ResponseWriter, r *http.Request, f *front) {
	resource, _ := s.urls(r, f.source.ID)
	document, ok := s.inbound.Metadata(r.Context(), f.source, resource)
	if !ok {
		refuse(w, nil, http.StatusNotFound, jsonrpc.CodeInvalidRequest, "this gateway takes no bearer tokens")
		return
	}
	auth.ProtectedResourceMetadataHandler(document).ServeHTTP(w, r)
}

// enter finds out who asks, and lets them speak MCP.
func (s *Service) enter(w *answer, r *http.Request, a *asking) {
	if err := s.origin.Check(r); err != nil {
		refuse(w, nil, http.StatusForbidden, jsonrpc.CodeInvalidRequest, "this gateway takes no requests from pages of other sites ("+err.Error()+")")
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, s.cfg.MaxBody)
	}
	_, metadataURL := s.urls(r, a.front.source.ID)
	caller, refusal := s.inbound.Authenticate(r, a.front.account, a.front.source, metadataURL)
	if refusal != nil {
		refuseCaller(w, r, refusal)
		return
	}
	a.caller = caller
	m, ok := readMessage(w, r, s.cfg.MaxBody)
	if !ok || !a.front.surface.accepts(w, r, m) {
		return
	}
	if what := a.front.lacking; what != "" {
		refuseMessage(w, m, http.StatusNotImplemented, jsonrpc.CodeInternalError, "this gateway is not served: its definition has "+what+", which Verdict does not do yet", nil)
		return
	}
	a.messageID, w.message = m.id(), m
	if r.Method == http.MethodGet {
		s.metrics.streams.Inc()
		defer s.metrics.streams.Dec()
	}
	a.front.surface.serving().handler.ServeHTTP(w, a.request(r))
}

// request is r as the SDK gets it. Its Authorization header is one that known takes, whatever the caller's was: from here on nobody
// has the token.
func (a *asking) request(r *http.Request) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), askingKey{}, a))
	r.Header = r.Header.Clone()
	r.Header.Set("Authorization", "Bearer known")
	return r
}

type askingKey struct{}

// member of auth.TokenInfo.Extra, in which the SDK hands it on.
const askingMember = "asking"

// known tells the SDK who asks, so that a session is only for whoever began it.
func known(ctx context.Context, _ string, _ *http.Request) (*auth.TokenInfo, error) {
	a, ok := ctx.Value(askingKey{}).(*asking)
	if !ok {
		return nil, auth.ErrInvalidToken
	}
	expires := a.caller.Expires
	if expires.IsZero() {
		expires = time.Now().Add(time.Hour) // of this request, which takes less
	}
	p := a.caller.Principal
	return &auth.TokenInfo{
		UserID: fmt.Sprintf("%s::%q", p.GetType(), p.GetId()), Expiration: expires, Extra: map[string]any{askingMember: a},
	}, nil
}

// askingOf is the HTTP request that a message came in.
func askingOf(req mcp.Request) (*asking, bool) {
	extra := req.GetExtra()
	if extra == nil || extra.TokenInfo == nil {
		return nil, false
	}
	a, ok := extra.TokenInfo.Extra[askingMember].(*asking)
	return a, ok
}

// message is as much of a JSON-RPC message as is needed before the SDK reads it.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
}

// id is the message's id as text.
func (m message) id() string {
	if text, err := strconv.Unquote(string(m.ID)); err == nil {
		return text
	}
	return string(m.ID)
}

// readMessage reads a body and puts it back; false when it could not be read, which is answered.
func readMessage(w http.ResponseWriter, r *http.Request, most int64) (m message, ok bool) {
	if r.Method != http.MethodPost || r.Body == nil {
		return m, true
	}
	body, err := io.ReadAll(r.Body)
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		refuse(w, nil, http.StatusRequestEntityTooLarge, jsonrpc.CodeInvalidRequest, fmt.Sprintf("the request has more than %d bytes", most))
		return m, false
	}
	if err != nil {
		refuse(w, nil, http.StatusBadRequest, jsonrpc.CodeParseError, "the body of the request could not be read")
		return m, false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		refuse(w, nil, http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "this gateway takes one message at a time, not a batch")
		return m, false
	}
	if err := json.Unmarshal(body, &m); err != nil {
		code := int64(jsonrpc.CodeInvalidRequest)
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) || len(body) == 0 {
			code = jsonrpc.CodeParseError
		}
		refuseMessage(w, m, http.StatusBadRequest, code, "the body is no message of JSON-RPC: "+err.Error(), nil)
		return m, false
	}
	if !exactID(m.ID) {
		refuseMessage(w, message{}, http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "an id has to be a string, or an integer between -2^53 and 2^53", nil)
		return m, false
	}
	return m, true
}

// exactID reports whether an id is answered as it was sent: numbers go through a float64 on their way.
func exactID(id json.RawMessage) bool {
	if len(id) == 0 || id[0] == '"' || id[0] == 'n' { // what else it may be the SDK refuses
		return true
	}
	n, err := strconv.ParseInt(string(id), 10, 64)
	return err == nil && n <= 1<<53 && n >= -1<<53
}

// accepts answers requests that the SDK would answer without a code that a client can act upon.
func (s *surface) accepts(w http.ResponseWriter, r *http.Request, m message) bool {
	version := r.Header.Get("Mcp-Protocol-Version")
	switch {
	case len(s.versions) == 0, version != "" && !slices.Contains(s.versions, version):
		data, err := json.Marshal(mcp.UnsupportedProtocolVersionData{Supported: s.versions, Requested: version})
		if err != nil { // strings can always be encoded
			data = nil
		}
		refuseMessage(w, m, http.StatusBadRequest, mcp.CodeUnsupportedProtocolVersion, "this gateway does not speak this version of the protocol", data)
		return false
	case m.Method != "" && !passes(m.Method):
		refuseMessage(w, m, http.StatusOK, jsonrpc.CodeMethodNotFound, "this gateway has no method "+strconv.Quote(clip(m.Method)), nil)
		return false
	case s.sessions() && r.Method == http.MethodPost && m.Method != "initialize" && r.Header.Get("Mcp-Session-Id") == "":
		refuseMessage(w, m, http.StatusBadRequest, jsonrpc.CodeInvalidRequest, "Missing Mcp-Session-Id", nil)
		return false
	case s.sessions() && m.Method == "initialize" && s.full():
		refuseMessage(w, m, http.StatusServiceUnavailable, jsonrpc.CodeInternalError, "this gateway has as many sessions as it can: try again later", nil)
		return false
	}
	return true
}

// maxSessions of one gateway in this process. What one costs is for as long as its timeout.
const maxSessions = 10_000

func (s *surface) full() bool {
	n := 0
	for range s.serving().server.Sessions() {
		n++
	}
	return n >= maxSessions
}
