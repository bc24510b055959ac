package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// middleware answers what is about tools, and leaves the rest of the protocol to the SDK. A handler runs on a goroutine of the SDK's
// own, where a panic would end the process.
func (s *Service) middleware(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (result mcp.Result, err error) {
		defer func() {
			if v := recover(); v != nil {
				s.proc.Logger.ErrorContext(ctx, "a request failed", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
				result, err = nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: internalError}
			}
		}()
		switch req := req.(type) {
		case *mcp.ListToolsRequest:
			return s.with(ctx, req, func(ctx context.Context, a *asking) (mcp.Result, error) { return s.listTools(ctx, a, req.Params) })
		case *mcp.CallToolRequest:
			return s.with(ctx, req, func(ctx context.Context, a *asking) (mcp.Result, error) { return s.callTool(ctx, a, req.Params) })
		}
		if !passes(method) {
			return nil, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "this gateway has no method " + strconv.Quote(clip(method))}
		}
		return next(ctx, method, req)
	}
}

// passes reports whether a method of MCP is one of those that a gateway has: new ones would pass by policy. Besides tools there is nothing
// behind it, so the lists of other things are empty.
func passes(method string) bool {
	switch method {
	case "initialize", "ping", "server/discover", "tools/list", "tools/call",
		"prompts/list", "prompts/get", "resources/list", "resources/read", "resources/templates/list":
		return true
	}
	return strings.HasPrefix(method, "notifications/")
}

// with hands on who asks, under which account and in which trace.
func (s *Service) with(ctx context.Context, req mcp.Request, answer func(context.Context, *asking) (mcp.Result, error)) (mcp.Result, error) {
	a, ok := askingOf(req)
	if !ok { // it did not come through enter
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: internalError}
	}
	ctx = identity.NewContext(ctx, identity.Caller{Account: a.front.account, ID: "gateway/" + a.front.source.ID, Roles: []string{identity.RoleGateway}})
	return answer(rpc.WithTraceparent(ctx, a.trace), a)
}

const (
	// pageSize is how many tools a page of tools/list has.
	pageSize = 1000
	// maxCursor is longer than any that was given out.
	maxCursor = 1024
)

// listTools answers with the tools that some arguments could be allowed for.
func (s *Service) listTools(ctx context.Context, a *asking, params *mcp.ListToolsParams) (mcp.Result, error) {
	after, err := readCursor(params)
	if err != nil {
		return nil, err
	}
	permitted, err := s.permitted(ctx, a, "")
	if err != nil {
		s.noDecision(ctx, a, err)
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: internalError}
	}
	out := &mcp.ListToolsResult{Tools: []*mcp.Tool{}, Cacheable: private}
	if a.front.searches() && after == "" {
		out.Tools = append(out.Tools, searchTool)
	}
	size := a.front.pageSize()
	for _, t := range permitted {
		if t.id <= after || t.lacking != "" {
			continue
		}
		if len(out.Tools) >= size {
			out.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(out.Tools[len(out.Tools)-1].Name))
			break
		}
		out.Tools = append(out.Tools, t.listed)
	}
	return out, nil
}

// private is for lists: whoever asks gets their own, which may be another one the next moment.
var private = mcp.Cacheable{CacheScope: "private"}

// readCursor is the name of the tool that a page ended with. Names are no secret of whoever got them.
func readCursor(params *mcp.ListToolsParams) (after string, err error) {
	if params == nil || params.Cursor == "" {
		return "", nil
	}
	name, err := base64.RawURLEncoding.DecodeString(params.Cursor)
	if err != nil || len(name) == 0 || len(params.Cursor) > maxCursor {
		return "", &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "cursor is none that this gateway gave out: ask without one"}
	}
	return string(name), nil
}

// permitted are the gateway's tools that the caller could be allowed to call, sorted; only is one to ask about alone, "" is all.
func (s *Service) permitted(ctx context.Context, a *asking, only string) ([]*tool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DecisionTimeout)
	defer cancel()
	req := &decisionv1.ListPermittedActionsRequest{
		Principal: a.caller.Principal, Resource: a.front.resource(), AtLeastRevision: revision(a.position),
	}
	if only != "" {
		req.Action = &decisionv1.Entity{Type: policy.TypeAction, Id: only}
	}
	began := time.Now()
	resp, err := s.decider.ListPermittedActions(ctx, req)
	s.metrics.decided("list", time.Since(began))
	if err != nil {
		return nil, err
	}
	var out []*tool
	for _, action := range resp.GetActions() {
		if t := a.front.tool(action.GetAction().GetId()); t != nil {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *tool) int { return strings.Compare(a.id, b.id) }) // as they are sent
	return out, nil
}

// errWrongAnswer: a decision node broke its word.
var errWrongAnswer = errors.New("the answer contradicts itself")

func (f *front) resource() *decisionv1.Entity {
	return &decisionv1.Entity{Type: policy.TypeGateway, Id: f.arn}
}

// revision is a position as decision nodes take it: they answer with that state or a newer one, so that a tool is never judged by a
// schema or a policy older than what this process has seen.
func revision(position uint64) string { return strconv.FormatUint(position, 10) }
