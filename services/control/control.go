// Package control is the control service: the commands of callers become signed events in Postgres, the events go onto a
// stream, and the state that they amount to answers queries. Any number of replicas may run on one database.
package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"

	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	"github.com/verdict-io/verdict/proto/gen/verdict/event/v1/eventv1connect"
	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/control/internal/awsapi"
	"github.com/verdict-io/verdict/services/control/internal/connectapi"
	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/control/internal/fleet"
	"github.com/verdict-io/verdict/services/control/internal/relay"
	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/trust"
	"github.com/verdict-io/verdict/services/policy"
)

// Config is what control is told.
type Config struct {
	process.Common

	PostgresURL    string
	NATSURL        string
	NATSKey        string // file; "" for a NATS that knows no users
	SigningKey     string // file
	TrustedKeys    string // file; "" trusts the signing key alone
	AppendTimeout  time.Duration
	StreamReplicas int
	StreamMaxBytes int64
	StreamKeep     int
	MaxBody        int64
	// GatewayURL is what the URLs of gateways start with.
	GatewayURL string
	// Throttle is whose limits of requests the AWS API has: off or aws.
	Throttle string
	// WritesWithoutNATS accepts writes before the stream has been seen.
	WritesWithoutNATS bool
}

// Register makes settings of the fields of c.
func (c *Config) Register(fs *process.Flags) {
	c.Common.Register(fs, "127.0.0.1:7401")
	fs.Secret(&c.PostgresURL, "postgres-url", "VERDICT_POSTGRES_URL", "", "`URL` of the database, as user verdict_control")
	fs.Secret(&c.NATSURL, "nats-url", "VERDICT_NATS_URL", "nats://127.0.0.1:7422", "`URL` of NATS; several behind commas")
	fs.String(&c.NATSKey, "nats-key", "", "", "`FILE` with the seed of this service's NATS user, control.nk of `verdict nats-config`; without it NATS must take anybody")
	fs.String(&c.SigningKey, "signing-key", "VERDICT_SIGNING_KEY", "", "PEM `FILE` of the Ed25519 key that signs events; `verdict keygen` makes one")
	fs.String(&c.TrustedKeys, "trusted-keys", "VERDICT_TRUSTED_KEYS", "", "JSON `FILE` of the public keys that events may be signed with; without it only the signing key's own")
	fs.Duration(&c.AppendTimeout, "append-timeout", "", 5*time.Second, "bound of one transaction that appends")
	fs.Int(&c.StreamReplicas, "stream-replicas", "", 1, "`N` NATS servers that keep the stream of policy events; 3 in production")
	fs.Bytes(&c.StreamMaxBytes, "stream-max-bytes", "", 1<<30, "`SIZE` of the stream of policy events")
	fs.Int(&c.StreamKeep, "stream-keep", "", 100_000, "`N` events before the head at which a stream that is made anew begins")
	fs.Bytes(&c.MaxBody, "max-body", "", 6<<20, "`SIZE` of a request's body")
	fs.Bool(&c.WritesWithoutNATS, "writes-without-nats", "", false, "accept writes before NATS has answered for the first time, though a log that went back would then not be noticed")
	fs.String(&c.GatewayURL, "gateway-url", "VERDICT_GATEWAY_URL", "http://127.0.0.1:7404", "`URL` that agents reach the MCP gateway at: gatewayUrl is it with /gateways/<id>/mcp")
	fs.String(&c.Throttle, "throttle", "", "off", "`LIMITS` of requests to the AWS API: off, or aws for those that AgentCore has, for each account")
	fs.Require("postgres-url", "signing-key")
	fs.Check("gateway-url", checkGatewayURL)
	fs.Check("throttle", checkThrottle)
	fs.Check("region", policy.CheckRegion)
	fs.Check("append-timeout", atLeast(100*time.Millisecond))
	fs.Between("stream-keep", 1, math.MaxInt32)
}

func atLeast(least time.Duration) func(string) error {
	return func(text string) error {
		if d, err := time.ParseDuration(text); err != nil || d < least {
			return fmt.Errorf("it must be %v or more", least)
		}
		return nil
	}
}

func checkGatewayURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("it must be a URL such as https://gateway.example.com")
	}
	return nil
}

func checkThrottle(text string) error {
	if text != "off" && text != "aws" {
		return errors.New("it must be off or aws")
	}
	return nil
}

// Main runs control with settings from the command line and the environment until ctx ends.
func Main(ctx context.Context, args, environ []string) error {
	var cfg Config
	fs := process.NewFlags("control", "keeps engines, policies, gateways and targets, and tells everyone what changes")
	cfg.Register(fs)
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	s, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// Service is one replica.
type Service struct {
	proc  *process.Process
	log   *eventlog.Log
	conn  *nats.Conn
	relay *relay.Relay
	app   *app.App
	fleet *fleet.Fleet
}

// New connects, brings the state to the head of the log, and looks at the stream. Until it has seen the stream once, it refuses
// writes: the log may have gone back. After that NATS may be away: then writes go into the log, and onto the stream later.
func New(ctx context.Context, cfg Config) (*Service, error) {
	signer, keys, err := readKeys(cfg)
	if err != nil {
		return nil, err
	}
	proc, err := process.New("control", cfg.Common)
	if err != nil {
		return nil, err
	}
	s := &Service{proc: proc}
	if err := s.open(ctx, cfg, signer, keys); err != nil {
		s.close()
		return nil, err
	}
	s.watch()
	s.serve(cfg, signer)
	return s, nil
}

func readKeys(cfg Config) (*stream.Signer, stream.Keyring, error) {
	signer, err := stream.ReadSigner(cfg.SigningKey)
	if err != nil {
		return nil, nil, err
	}
	if cfg.TrustedKeys == "" {
		return signer, stream.NewKeyring(signer.Public()), nil
	}
	keys, err := stream.ReadKeyring(cfg.TrustedKeys)
	if err == nil && keys[signer.KeyID()] == nil {
		err = fmt.Errorf("trusted keys %s: the signing key %s is not among them, so nobody would believe this control", cfg.TrustedKeys, signer.KeyID())
	}
	return signer, keys, err
}

func (s *Service) open(ctx context.Context, cfg Config, signer *stream.Signer, keys stream.Keyring) error {
	var err error
	s.log, err = eventlog.Open(ctx, eventlog.Config{
		PostgresURL: cfg.PostgresURL, Trust: s.proc.Trust, Signer: signer, Keys: keys, AppendTimeout: cfg.AppendTimeout, Logger: s.proc.Logger, Registerer: s.proc.Registry,
		Policy: policy.Config{Region: cfg.Region, Limits: policy.DefaultLimits()},
	})
	if err != nil {
		return err
	}
	if s.conn, err = stream.Connect(stream.Connection{URL: cfg.NATSURL, Name: "verdict-control", KeyFile: cfg.NATSKey, Trust: s.proc.Trust, Logger: s.proc.Logger}); err != nil {
		return err
	}
	s.relay, err = relay.New(relay.Config{
		Log: s.log, Conn: s.conn, Keys: keys, Signer: signer, Keep: uint64(cfg.StreamKeep), MaxBytes: cfg.StreamMaxBytes,
		Replicas: cfg.StreamReplicas, Logger: s.proc.Logger, Registerer: s.proc.Registry,
	})
	if err != nil {
		return err
	}
	if !cfg.WritesWithoutNATS {
		s.log.Refuse(relay.ErrNotLooked)
	}
	_ = s.relay.Look(ctx) // it logs, and what matters has the log refuse writes
	if s.log.Refusal() == nil {
		if err := s.log.Begin(ctx); err != nil {
			return err
		}
	}
	s.app = app.New(s.log, cfg.Region, s.mayWeaken, s.proc.Logger, s.proc.Registry)
	s.fleet = fleet.New(fleet.Config{Log: s.log, Conn: s.conn, Logger: s.proc.Logger, Registerer: s.proc.Registry})
	return nil
}

// watch registers what /readyz says, what runs beside the requests, and what is closed in which order.
func (s *Service) watch() {
	s.proc.Health.Register("database", true, s.log.Ping)
	s.proc.Health.Register("migrations", true, s.log.CheckMigrated)
	s.proc.Health.Register("state_at_head", true, func(ctx context.Context) error {
		_, err := s.log.State(ctx)
		return err
	})
	s.proc.Health.Register("relay", false, func(context.Context) error { return s.relay.Status() })
	s.proc.Health.Register("nats", false, func(context.Context) error {
		return cmp.Or(stream.Connected(s.conn), stream.Permitted(s.conn))
	})
	s.proc.Health.Register("writes", false, func(context.Context) error { return s.log.Refusal() })
	s.proc.Go("log", s.log.Run)
	s.proc.Go("relay", s.relay.Run)
	s.proc.Go("worker", s.app.Work)
	s.proc.Go("fleet", s.fleet.Run)
	s.proc.OnClose("nats", drain(s.conn))
	s.proc.OnClose("database", func(context.Context) error { s.log.Close(); return nil })
}

// drain sends what is buffered and closes, or just closes when NATS is away.
func drain(conn *nats.Conn) func(context.Context) error {
	return func(ctx context.Context) error {
		defer conn.Close()
		if !conn.IsConnected() {
			return nil
		}
		return conn.FlushWithContext(ctx)
	}
}

// failures are what the failures of the log mean for whoever asked. The causes name other accounts' things, and are for the log
// of the process and for /readyz.
var failures = []rpc.Rule{
	{Is: relay.ErrNotLooked, Code: connect.CodeUnavailable, Reason: "stream_not_seen", Message: "writes are refused until NATS has answered once since control started: start NATS, or see --writes-without-nats", Undone: true},
	{Is: eventlog.ErrRefused, Code: connect.CodeFailedPrecondition, Reason: "log_went_back", Message: wentBack, Undone: true},
	{Is: eventlog.ErrWentBack, Code: connect.CodeFailedPrecondition, Reason: "log_went_back", Message: wentBack, Undone: true},
	{Is: eventlog.ErrUnknown, Code: connect.CodeUnavailable, Reason: "outcome_unknown", Message: "whether the request was carried out is not known: repeat it with the same clientToken, or look"},
	{Is: eventlog.ErrUnavailable, Code: connect.CodeUnavailable, Reason: "database_unavailable", Message: "the database does not answer; nothing was changed: try again", Undone: true},
	{Is: fleet.ErrBusy, Code: connect.CodeUnavailable, Reason: "busy", Message: "too many callers wait for nodes to reach a revision: try again later, or ask another replica of control", Undone: true},
	{Is: stream.ErrUnknownType, Code: connect.CodeUnavailable, Reason: "upgrade", Message: "the log holds events of a later version: ask another replica, and upgrade this one", Undone: true},
	{Is: eventlog.ErrCorrupt, Code: connect.CodeDataLoss, Reason: "log_corrupt", Message: "the log is corrupt; an operator must look: verdict fsck", Undone: true},
}

const wentBack = "writes are refused: the log lacks or contradicts what was published, as after a restore from an older copy, and an operator must decide; /readyz of control says more"

func (s *Service) serve(cfg Config, signer *stream.Signer) {
	aws := awsapi.New(awsapi.Config{
		App: s.app, GatewayURL: strings.TrimRight(cfg.GatewayURL, "/"), MaxBody: cfg.MaxBody, Throttle: cfg.Throttle == "aws",
	})
	edge := rpc.New(rpc.Config{
		Callers: s.proc.Callers, Access: s.proc.Access, Logger: s.proc.Logger, Registry: s.proc.Registry, MaxBytes: int(cfg.MaxBody), Draining: s.proc.Draining(),
		Errors: failures, REST: aws,
	})
	mux := http.NewServeMux()
	mux.Handle(controlv1connect.NewControlServiceHandler(connectapi.NewControl(s.app, s.fleet), edge.HandlerOptions()...))
	mux.Handle(eventv1connect.NewEventServiceHandler(connectapi.NewEvents(s.log, signer), edge.HandlerOptions()...))
	mux.Handle("/", aws.Handler(edge))
	s.proc.Handle(edge.Handler(mux))
}

func (s *Service) mayWeaken(c identity.Caller) bool { return s.proc.Access.Allows(c, access.Weaken) }

// Run serves until ctx ends, and then shuts down: not ready, requests finished, loops ended, NATS, database.
func (s *Service) Run(ctx context.Context) error { return s.proc.Run(ctx) }

// Listen binds the address, so that Addr can tell it before Run.
func (s *Service) Listen() error { return s.proc.Listen() }

// Addr is the host:port that is listened on.
func (s *Service) Addr() string { return s.proc.Addr() }

// close ends what open began.
func (s *Service) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.log != nil {
		s.log.Close()
	}
}

// Migrate brings the database up to this version; see eventlog.Migrate.
func Migrate(ctx context.Context, ownerURL, password string, t *trust.Trust) ([]int64, error) {
	return eventlog.Migrate(ctx, ownerURL, password, t)
}
