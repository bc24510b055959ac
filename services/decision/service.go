package decision

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	"github.com/verdict-io/verdict/services/decision/internal/authzen"
	"github.com/verdict-io/verdict/services/decision/internal/decisionlog"
	"github.com/verdict-io/verdict/services/decision/internal/extauthz"
	"github.com/verdict-io/verdict/services/decision/internal/report"
	"github.com/verdict-io/verdict/services/follow"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// Config is what a node is told.
type Config struct {
	process.Common

	Name        string
	Dir         string
	ControlURL  string
	Credentials string // file, for control; "" shows none but the certificate
	NATSURL     string
	NATSKey     string // file; "" for a NATS that knows no users
	TrustedKeys string // file
	Partitions  int
	SpoolBytes  int64
	MaxBody     int64
	PublicURL   string
}

// Register makes settings of the fields of c.
func (c *Config) Register(fs *process.Flags) {
	c.Common.Register(fs, "127.0.0.1:7402")
	fs.String(&c.Name, "node", "VERDICT_NODE", stream.HostNode(""), "`NAME` of this node, the same at every start and no other node's: 1 to 64 of [A-Za-z0-9_-]")
	fs.String(&c.Dir, "dir", "VERDICT_DECISION_DIR", "", "`FOLDER` of this node's own for its state and for decisions that are not in ClickHouse yet")
	fs.String(&c.ControlURL, "control-url", "VERDICT_CONTROL_URL", "http://127.0.0.1:7401", "`URL` of control, or of a balancer before its replicas")
	fs.String(&c.Credentials, "credentials", "", "", "JSON `FILE` that makes this node known to control, in the role node: {\"accessKeyId\", \"secretAccessKey\"} or {\"tokenFile\"}; without it the certificate of --tls-cert does")
	fs.Secret(&c.NATSURL, "nats-url", "VERDICT_NATS_URL", "nats://127.0.0.1:7422", "`URL` of NATS; several behind commas")
	fs.String(&c.NATSKey, "nats-key", "", "", "`FILE` with the seed of this service's NATS user, decision.nk or node-NAME.nk of `verdict nats-config`; without it NATS must take anybody")
	fs.String(&c.TrustedKeys, "trusted-keys", "VERDICT_TRUSTED_KEYS", "", "JSON `FILE` of the public keys that events may be signed with")
	fs.Int(&c.Partitions, "partitions", "VERDICT_PARTITIONS", 1, "`N` streams that decisions are spread over, by node; as audit has it")
	fs.Bytes(&c.SpoolBytes, "spool-bytes", "", 1<<30, "`SIZE` of the decisions that may wait to get into ClickHouse; when it is reached, Authorize is unavailable")
	fs.Bytes(&c.MaxBody, "max-body", "", 4<<20, "`SIZE` of a request's body")
	fs.String(&c.PublicURL, "public-url", "VERDICT_DECISION_PUBLIC_URL", "", "`URL` that callers of AuthZEN reach nodes by, such as https://pdp.example.com, for its metadata; without it, the one they ask it by")
	fs.Require("dir", "trusted-keys", "control-url")
	fs.Check("node", stream.ValidNode)
	fs.Check("control-url", validURL)
	fs.Check("public-url", validPublicURL)
	fs.Between("partitions", 1, stream.MaxPartitions)
}

func validURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("it must be a URL such as http://127.0.0.1:7401")
	}
	return nil
}

// validPublicURL takes no path: the metadata of a URL with one would have to stand elsewhere.
func validPublicURL(text string) error {
	u, err := url.Parse(text)
	if text != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Scheme+"://"+u.Host != text) {
		return errors.New("it must be a scheme and a host, such as https://pdp.example.com, with nothing behind them")
	}
	return nil
}

// Main runs a node with settings from the command line and the environment until ctx ends.
func Main(ctx context.Context, args, environ []string) error {
	var cfg Config
	fs := process.NewFlags("decision", "answers whether a caller may call a tool, and records every answer")
	cfg.Register(fs)
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	s, err := New(cfg)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// Service is a node with all that it needs to run alone.
type Service struct {
	proc     *process.Process
	also     Publish // nil where nobody else wants the states
	node     *Node
	follower *follow.Follower
	log      *decisionlog.Writer
	reporter *report.Reporter
	conn     *nats.Conn
}

// New opens the node's folder: what it held when it stopped it decides with at once, whether or not control and NATS are
// there.
func New(cfg Config) (*Service, error) {
	proc, err := process.New("decision", cfg.Common)
	if err != nil {
		return nil, err
	}
	s, err := within(proc, cfg, nil)
	if err != nil {
		return nil, err
	}
	s.serve(cfg)
	return s, nil
}

// Publish hears of a new state; accounts are those that may have changed since the last, nil is all. One call at a time.
type Publish func(state *policy.State, accounts []string)

// Embed is a node within the process of a gateway, which is its only caller and says with identity.NewContext for whom it asks. The
// process runs it, reports on it and closes it; of cfg.Common only the region counts. also hears of every state, once the node decides
// with it.
func Embed(proc *process.Process, cfg Config, also Publish) (*Node, error) {
	s, err := within(proc, cfg, also)
	if err != nil {
		return nil, err
	}
	return s.node, nil
}

func within(proc *process.Process, cfg Config, also Publish) (*Service, error) {
	s := &Service{proc: proc, also: also}
	if err := s.open(cfg); err != nil {
		s.close()
		return nil, err
	}
	s.watch()
	return s, nil
}

func (s *Service) open(cfg Config) error {
	keys, err := stream.ReadKeyring(cfg.TrustedKeys)
	if err != nil {
		return err
	}
	if err := s.proc.Trust.URL(cfg.ControlURL); err != nil {
		return fmt.Errorf("control url: %w", err)
	}
	transport, err := identity.Present(cfg.Credentials, s.proc.Trust.Transport(), cfg.Region)
	if err != nil {
		return err
	}
	if s.conn, err = stream.Connect(stream.Connection{URL: cfg.NATSURL, Name: "verdict-decision-" + cfg.Name, KeyFile: cfg.NATSKey, Trust: s.proc.Trust, Logger: s.proc.Logger}); err != nil {
		return err
	}
	s.log, err = decisionlog.Open(decisionlog.Config{
		Dir: filepath.Join(cfg.Dir, "decisions"), Node: cfg.Name, Build: process.Build(), Partitions: cfg.Partitions, SpoolBytes: cfg.SpoolBytes,
		Conn: s.conn, Logger: s.proc.Logger, Registerer: s.proc.Registry,
	})
	if err != nil {
		return fmt.Errorf("decision log: %w", err)
	}
	s.node = NewNode(s.log, s.proc.Registry)
	s.reporter = report.New(report.Config{
		Conn: s.conn, Node: cfg.Name, Boot: s.log.Boot(), Build: process.Build(), Observe: s.observe, Logger: s.proc.Logger,
	})
	s.follower, err = follow.New(follow.Config{
		Conn: s.conn, Events: follow.NewEvents(cfg.ControlURL, transport), Keys: keys,
		Dir: filepath.Join(cfg.Dir, "state"), Publish: s.publish, Logger: s.proc.Logger, Registerer: s.proc.Registry,
	})
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	s.node.Follow(s.follower)
	return nil
}

// publish makes a new state the one that decides, and has it reported.
func (s *Service) publish(state *policy.State, accounts []string) {
	s.node.Publish(state, accounts)
	s.reporter.Changed()
	if s.also != nil {
		s.also(state, accounts)
	}
}

// observe says what the node decides with.
func (s *Service) observe(m *decisionv1.NodeReport) {
	s.node.observe(m)
	if err := s.follower.Status(); err != nil {
		text := err.Error()
		m.Stopped = strings.ToValidUTF8(text[:min(len(text), maxStopped)], "")
	}
}

// maxStopped bounds what a report says of why the node does not follow.
const maxStopped = 1 << 10

// watch registers what /readyz says, what runs beside the requests, and what is closed in which order.
func (s *Service) watch() {
	s.proc.Health.Register("snapshot", true, func(context.Context) error { return s.node.Ready() })
	s.proc.Health.Register("spool", true, func(context.Context) error {
		if err := s.log.Status(); errors.Is(err, decisionlog.ErrFull) {
			return err
		}
		return nil
	})
	s.proc.Health.Register("follower", false, func(context.Context) error { return s.follower.Status() })
	s.proc.Health.Register("decision_log", false, func(context.Context) error { return s.log.Status() })
	s.proc.Health.Register("nats", false, func(context.Context) error {
		if err := stream.Connected(s.conn); err != nil {
			return fmt.Errorf("%w; changes come from control once a second, and decisions wait in the spool", err)
		}
		return stream.Permitted(s.conn)
	})
	s.proc.Go("follower", s.follower.Run)
	s.proc.Go("decision_log", s.log.Run)
	s.proc.Go("reporter", s.reporter.Run)
	s.proc.OnClose("reporter", s.reporter.Close)
	s.proc.OnClose("decision_log", s.log.Close)
	s.proc.OnClose("nats", func(context.Context) error { s.conn.Close(); return nil })
}

// maxWait is how long a request waits that names no deadline: for a revision, there is nothing else to wait for.
const maxWait = 2 * time.Second

// failures are what the failures of a node mean for whoever asked.
var failures = []rpc.Rule{
	{Is: ErrNoState, Code: connect.CodeUnavailable, Reason: "no_state", Message: "this node has no policies yet: ask another one, or wait until it has reached control"},
	{Is: decisionlog.ErrFull, Code: connect.CodeUnavailable, Reason: "decision_log_full", Message: "the decision cannot be recorded, so there is none: the node's spool or disk is full; an operator must look"},
	{Is: decisionlog.ErrTooLarge, Code: connect.CodeResourceExhausted, Reason: "record_too_large", Message: "what the policies say of this request is too much to be recorded, so there is no decision: fewer of them may fail, or apply, at once"},
	{Is: decisionlog.ErrClosed, Code: connect.CodeUnavailable, Reason: "shutting_down", Message: "this node is shutting down: ask another one"},
}

func (s *Service) serve(cfg Config) {
	s.proc.Handle(s.node.handler(rpc.Config{
		Callers: s.proc.Callers, Access: s.proc.Access, Logger: s.proc.Logger, Registry: s.proc.Registry, MaxBytes: int(cfg.MaxBody), Draining: s.proc.Draining(),
		Timeout: maxWait, Errors: failures,
	}, cfg.PublicURL))
}

// handler is all that a node answers, in each of its APIs.
func (n *Node) handler(cfg rpc.Config, publicURL string) http.Handler {
	api := authzen.New(authzen.Config{Node: n, PublicURL: publicURL, MaxBody: int64(cfg.MaxBytes)})
	cfg.REST = api
	edge := rpc.New(cfg)
	mux := http.NewServeMux()
	mux.Handle(decisionv1connect.NewDecisionServiceHandler(n, edge.HandlerOptions()...))
	mux.Handle("/access/", traced(api.Handler(edge)))
	mux.Handle(extauthz.Procedure, connect.NewUnaryHandlerSimple(extauthz.Procedure, extauthz.New(n, edge.Refusal).Check, edge.HandlerOptions()...))
	known, public := edge.Handler(mux), api.Metadata()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == authzen.MetadataPath {
			public.ServeHTTP(w, r)
			return
		}
		known.ServeHTTP(w, r)
	})
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
	if s.log != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.log.Close(ended) // there is an error already, and what is in the spool stays there
	}
	if s.conn != nil {
		s.conn.Close()
	}
}
