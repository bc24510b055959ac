// Package gateway is the front door of tools: an MCP request becomes a question to a decision node, and, only if that says proceed, one
// call of the target behind the tool.
//
// It guarantees that
//
//   - no target is called before the decision is there and says so: a decision that is denied, late, wrong or not to be had is a denial;
//   - who calls is what the gateway's authorizer could verify, and nothing else that the request says;
//   - tools/list leaves out no tool that the caller could call, and a tool that a caller could never call is, to that caller, like one
//     that does not exist;
//   - nothing that leaves the process on behalf of a gateway's definition reaches link-local addresses or metadata services;
//   - gateways, targets and attachments are as the log has them, a moment after they change, without a restart.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/client"
	"github.com/verdict-io/verdict/services/follow"
	"github.com/verdict-io/verdict/services/gateway/internal/egress"
	"github.com/verdict-io/verdict/services/gateway/internal/inbound"
	"github.com/verdict-io/verdict/services/gateway/internal/lambda"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// Decider is who decides: a decision node within the process, or the client of some.
type Decider interface {
	Authorize(ctx context.Context, req *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error)
	ListPermittedActions(ctx context.Context, req *decisionv1.ListPermittedActionsRequest) (*decisionv1.ListPermittedActionsResponse, error)
}

// Embed makes a decision node within the process, which calls publish with every state once it decides with it. It is decision.Embed,
// handed in by the program, since services do not know each other.
type Embed func(proc *process.Process, cfg Config, publish func(state *policy.State, accounts []string)) (Decider, error)

// Service is a gateway process: the front door of all gateways of an account, or of all accounts.
type Service struct {
	proc     *process.Process
	cfg      Config
	decider  Decider
	table    *table
	inbound  *inbound.Authenticator
	targets  *lambda.Functions
	metrics  *metrics
	origin   *http.CrossOriginProtection
	follower *follow.Follower // nil with a decision node within
	conn     *nats.Conn       // likewise
}

// Main runs gateways with settings from the command line and the environment until ctx ends.
func Main(ctx context.Context, args, environ []string, embed Embed) error {
	if os.Getenv("GOGC") == "" {
		// The SDK takes some 300 KB for a call, most of it buffers to decode with, and a process holds little else: with the default a third
		// of its CPU goes into collecting them.
		debug.SetGCPercent(gcPercent)
	}
	var cfg Config
	fs := process.NewFlags("gateway", "speaks MCP with agents, asks for a decision before every tool call, and calls the tool when it is allowed")
	cfg.Register(fs)
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	s, err := New(cfg, embed)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// signatures leaves an access key some 1,500 signed messages a second, for 80 MiB at most: every one may be a call of a tool.
const signatures = 1 << 20

// gcPercent lets the heap grow to five times of what is in use.
const gcPercent = 400

// New opens the process's folder: the gateways that it knew when it stopped it serves at once. embed is needed where Config.Decision
// asks for it.
func New(cfg Config, embed Embed) (*Service, error) {
	cfg.Signatures = signatures
	proc, err := process.New("gateway", cfg.Common)
	if err != nil {
		return nil, err
	}
	if cfg.Account == "" && cfg.Decision != DecisionEmbedded {
		cfg.Account = identity.DefaultAccount // nodes answer for the account of whoever asks
	}
	s := &Service{proc: proc, cfg: cfg, metrics: newMetrics(proc.Registry), origin: http.NewCrossOriginProtection()}
	if err := s.open(embed); err != nil {
		s.close()
		return nil, err
	}
	proc.Health.Register("gateways", true, func(context.Context) error { return s.table.ready() })
	proc.Go("sessions", s.endSessions)
	proc.Handle(http.HandlerFunc(s.serve))
	return s, nil
}

func (s *Service) open(embed Embed) error {
	outside := egress.Transport(egress.Config{Trust: s.proc.Trust, Loopback: s.cfg.EgressLoopback})
	s.inbound = inbound.New(inbound.Config{
		Client: egress.Client(outside, issuerTimeout), Callers: s.proc.Callers, Access: s.proc.Access, Logger: s.proc.Logger, Registerer: s.proc.Registry,
	})
	credentials, err := lambda.ReadCredentials(s.cfg.LambdaCredentials)
	if err != nil {
		return err
	}
	s.targets, err = lambda.New(lambda.Config{
		Endpoint: s.cfg.LambdaEndpoint, HTTP: egress.Client(outside, 0), Credentials: credentials, Timeout: s.cfg.TargetTimeout,
		Logger: s.proc.Logger, Registerer: s.proc.Registry,
	})
	if err != nil {
		return err
	}
	s.table = newTable(s.cfg.Account, s.surfaceOf, s.changed)
	s.metrics.watch(s.table)
	if s.cfg.Decision == DecisionEmbedded {
		if embed == nil {
			return errors.New("this program has no decision node in it")
		}
		s.decider, err = embed(s.proc, s.cfg, s.table.publish)
		return err
	}
	if s.decider, err = s.remote(); err != nil {
		return err
	}
	return s.follow()
}

// issuerTimeout bounds a question to an issuer.
const issuerTimeout = 10 * time.Second

// remote is the client of the decision nodes that the settings name.
func (s *Service) remote() (Decider, error) {
	transport, err := identity.Present(s.cfg.DecisionCredentials, s.proc.Trust.Transport(), s.cfg.Region)
	if err != nil {
		return nil, fmt.Errorf("decision credentials: %w", err)
	}
	return client.New(client.Config{
		Nodes: strings.Split(s.cfg.Decision, ","), Transport: transport, Timeout: s.cfg.DecisionTimeout, Insecure: s.cfg.TLS.Insecure,
		Options: []connect.ClientOption{connect.WithInterceptors(rpc.ClientTrace())}, Logger: s.proc.Logger,
	})
}

// follow makes the follower of a process that has no decision node within, and has it run.
func (s *Service) follow() error {
	keys, err := stream.ReadKeyring(s.cfg.TrustedKeys)
	if err != nil {
		return err
	}
	if err := s.proc.Trust.URL(s.cfg.ControlURL); err != nil {
		return fmt.Errorf("control url: %w", err)
	}
	transport, err := identity.Present(s.cfg.Credentials, s.proc.Trust.Transport(), s.cfg.Region)
	if err != nil {
		return err
	}
	if s.conn, err = stream.Connect(stream.Connection{
		URL: s.cfg.NATSURL, Name: "verdict-gateway", KeyFile: s.cfg.NATSKey, Trust: s.proc.Trust, Logger: s.proc.Logger,
	}); err != nil {
		return err
	}
	s.follower, err = follow.New(follow.Config{
		Conn: s.conn, Events: follow.NewEvents(s.cfg.ControlURL, transport), Keys: keys, Dir: filepath.Join(s.cfg.Dir, "state"),
		Publish: s.table.publish, Logger: s.proc.Logger, Registerer: s.proc.Registry,
	})
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	s.proc.Health.Register("follower", false, func(context.Context) error { return s.follower.Status() })
	s.proc.Health.Register("nats", false, func(context.Context) error { return stream.Connected(s.conn) })
	s.proc.Go("follower", s.follower.Run)
	s.proc.OnClose("nats", func(context.Context) error { s.conn.Close(); return nil })
	return nil
}

// endSessions ends all sessions when the shutdown begins: the streams that clients hold open would keep it waiting.
func (s *Service) endSessions(ctx context.Context) error {
	select {
	case <-s.proc.Draining():
		s.table.end(s.table.now.Load(), &gateways{})
	case <-ctx.Done():
	}
	return nil
}

// changed forgets what was kept for gateways and targets that are gone.
func (s *Service) changed() {
	s.inbound.Retain(s.table.gateways())
	s.targets.Retain(s.table.has)
}

// Run serves until ctx ends, and then shuts down: not ready, requests finished, loops ended, decision log closed, NATS.
func (s *Service) Run(ctx context.Context) error { return s.proc.Run(ctx) }

// Listen binds the address, so that Addr can tell it before Run.
func (s *Service) Listen() error { return s.proc.Listen() }

// Addr is the host:port that is listened on.
func (s *Service) Addr() string { return s.proc.Addr() }

// close ends what open began.
func (s *Service) close() {
	if s.follower != nil {
		s.follower.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
}

// metadataPath is where RFC 9728 has the document about the resource at a path.
const metadataPath = "/.well-known/oauth-protected-resource"

// urls are the gateway's own and that of its RFC 9728 document, as the caller knows them.
func (s *Service) urls(r *http.Request, id string) (resource, metadata string) {
	base := s.cfg.URL
	if base == "" {
		u := url.URL{Scheme: "http", Host: r.Host}
		if r.TLS != nil {
			u.Scheme = "https"
		}
		base = u.String()
	}
	origin, prefix := base, ""
	if u, err := url.Parse(base); err == nil {
		prefix, u.Path = strings.TrimSuffix(u.Path, "/"), ""
		origin = u.String()
	}
	return origin + prefix + pathOf(id), origin + metadataPath + prefix + pathOf(id)
}
