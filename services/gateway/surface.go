package gateway

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/policy"
)

// surface speaks MCP for one gateway, in the way that its settings say. It outlives changes of everything else, so that sessions do.
type surface struct {
	settings surfaceSettings
	versions []string // of the protocol, newest first; none that are known when the gateway wants others
	serving  func() *serving
}

// serving is made at the first request: most of a thousand gateways wait.
type serving struct {
	server  *mcp.Server
	handler http.Handler
}

// surfaceSettings are those that a session was begun with.
type surfaceSettings struct {
	name, instructions string
	versions           []string
	sessionTimeout     time.Duration // 0 without sessions
	streaming          bool
}

// defaultSessionTimeout is AgentCore's.
const defaultSessionTimeout = time.Hour

func settingsOf(g *policy.Gateway) surfaceSettings {
	out := surfaceSettings{name: g.Name}
	m := g.InForce.MCP
	if m == nil {
		return out
	}
	out.instructions, out.versions = m.Instructions, m.SupportedVersions
	if m.Session != nil {
		out.sessionTimeout = defaultSessionTimeout
		if m.Session.TimeoutSeconds != nil {
			out.sessionTimeout = time.Duration(*m.Session.TimeoutSeconds) * time.Second
		}
	}
	if m.Streaming != nil && m.Streaming.EnableResponseStreaming != nil {
		out.streaming = *m.Streaming.EnableResponseStreaming
	}
	return out
}

// surfaceOf is what speaks for a gateway; before is what did, or nil, and stays if nothing about it changed.
func (s *Service) surfaceOf(g *policy.Gateway, before *surface) *surface {
	settings := settingsOf(g)
	if before != nil && reflect.DeepEqual(before.settings, settings) {
		return before
	}
	out := &surface{settings: settings, versions: narrowed(settings)}
	out.serving = sync.OnceValue(func() *serving { return s.newServing(out) })
	return out
}

// narrowed are the versions that are spoken: those of the settings that are known here. What has no handshake has no sessions.
func narrowed(settings surfaceSettings) []string {
	return slices.DeleteFunc(mcp.SupportedProtocolVersions(), func(v string) bool {
		return len(settings.versions) > 0 && !slices.Contains(settings.versions, v)
	})
}

func (s *Service) newServing(of *surface) *serving {
	server := mcp.NewServer(&mcp.Implementation{Name: of.settings.name, Version: process.Build()}, &mcp.ServerOptions{
		Instructions: of.settings.instructions, SupportedProtocolVersions: of.versions,
		// Which tools there are depends on who asks, so nobody is told of changes.
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
		SetCacheable: func(_ context.Context, _ mcp.Request, c *mcp.Cacheable) { *c = private },
	})
	server.AddReceivingMiddleware(s.middleware)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{
		Stateless: !of.sessions(), SessionTimeout: of.settings.sessionTimeout, JSONResponse: !of.settings.streaming,
		MaxRequestBodyBytes: s.cfg.MaxBody, PropagateRequestCancellation: true,
		// With a name of its own it may be behind a proxy on this machine. Without, a page whose name was made to lead here must not
		// pass for somebody on this machine.
		DisableLocalhostProtection: s.cfg.URL != "",
	})
	return &serving{server: server, handler: auth.RequireBearerToken(known, nil)(handler)}
}

func (s *surface) sessions() bool { return s.settings.sessionTimeout > 0 }

// end closes all sessions, and does not wait until they are: the SDK lets a call in a session come to its end, for as long as its target
// takes, and changes of policies must not wait for that.
func (s *surface) end() {
	if !s.sessions() {
		return
	}
	for _, session := range slices.Collect(s.serving().server.Sessions()) {
		go func() { _ = session.Close() }() // whoever had it begins another
	}
}
