// Package audit is the audit service: what decision nodes record becomes rows in ClickHouse, each once, and the account that it
// was decided for may ask. Any number of replicas may run on one database.
package audit

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"

	"github.com/verdict-io/verdict/proto/gen/verdict/audit/v1/auditv1connect"
	"github.com/verdict-io/verdict/services/audit/internal/connectapi"
	"github.com/verdict-io/verdict/services/audit/internal/ingest"
	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// Config is what audit is told.
type Config struct {
	process.Common

	ClickHouseURL    string
	ClickHouseSecret string // file; "" asks everything as the user of the URL, and lets no account ask
	Accounts         string // behind commas
	NATSURL          string
	NATSKey          string // file; "" for a NATS that knows no users
	Partitions       int
	StreamReplicas   int
	StreamMaxBytes   int64
	InsertTimeout    time.Duration
	MaxBody          int64
}

// Register makes settings of the fields of c.
func (c *Config) Register(fs *process.Flags) {
	c.Common.Register(fs, "127.0.0.1:7403")
	fs.Secret(&c.ClickHouseURL, "clickhouse-url", "VERDICT_CLICKHOUSE_URL", "", "`URL` of the database, clickhouse://HOST:PORT/verdict; with --clickhouse-secret its user is not used")
	fs.String(&c.ClickHouseSecret, "clickhouse-secret", "VERDICT_CLICKHOUSE_SECRET", "", "`FILE` with the secret that the passwords in users.xml are made from; without it accounts cannot query")
	fs.String(&c.Accounts, "accounts", "", identity.DefaultAccount, "12-digit `ACCOUNTS` behind commas that have a user in ClickHouse, the same as of `verdict clickhouse-users`")
	fs.Secret(&c.NATSURL, "nats-url", "VERDICT_NATS_URL", "nats://127.0.0.1:7422", "`URL` of NATS; several behind commas")
	fs.String(&c.NATSKey, "nats-key", "", "", "`FILE` with the seed of this service's NATS user, audit.nk of `verdict nats-config`; without it NATS must take anybody")
	fs.Int(&c.Partitions, "partitions", "VERDICT_PARTITIONS", 1, "`N` streams of decisions; the same for every node and every audit")
	fs.Int(&c.StreamReplicas, "stream-replicas", "", 1, "`N` NATS servers that keep each stream; 3 in production")
	fs.Bytes(&c.StreamMaxBytes, "stream-max-bytes", "", 1<<30, "`SIZE` of each stream; what does not fit stays with the nodes")
	fs.Duration(&c.InsertTimeout, "insert-timeout", "", 30*time.Second, "bound of one try to insert a block")
	fs.Bytes(&c.MaxBody, "max-body", "", 1<<20, "`SIZE` of a request's body")
	fs.Require("clickhouse-url", "accounts")
	fs.Check("accounts", func(text string) error {
		_, err := parseAccounts(text)
		return err
	})
	fs.Between("partitions", 1, stream.MaxPartitions)
	fs.Between("stream-replicas", 1, 5)
}

func parseAccounts(text string) ([]string, error) {
	accounts := strings.Split(text, ",")
	for _, a := range accounts {
		if err := identity.ValidAccount(a); err != nil {
			return nil, err
		}
	}
	return accounts, nil
}

// Main runs audit with settings from the command line and the environment until ctx ends.
func Main(ctx context.Context, args, environ []string) error {
	var cfg Config
	fs := process.NewFlags("audit", "keeps what was decided in ClickHouse, and answers questions about it")
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
	proc   *process.Process
	store  *store.Store
	conn   *nats.Conn
	ingest *ingest.Ingester
}

// New reads the settings. ClickHouse and NATS may be away: decisions then wait in the streams and with the nodes.
func New(_ context.Context, cfg Config) (*Service, error) {
	proc, err := process.New("audit", cfg.Common)
	if err != nil {
		return nil, err
	}
	s := &Service{proc: proc}
	if err := s.open(cfg); err != nil {
		s.close()
		return nil, err
	}
	s.watch()
	s.serve(cfg)
	return s, nil
}

func (s *Service) open(cfg Config) error {
	accounts, err := parseAccounts(cfg.Accounts)
	if err != nil {
		return err
	}
	var secret []byte
	if cfg.ClickHouseSecret != "" {
		if secret, err = ReadSecret(cfg.ClickHouseSecret); err != nil {
			return err
		}
	}
	if s.store, err = store.Open(store.Config{URL: cfg.ClickHouseURL, Trust: s.proc.Trust, Secret: secret, Accounts: accounts}); err != nil {
		return err
	}
	if s.conn, err = stream.Connect(stream.Connection{URL: cfg.NATSURL, Name: "verdict-audit", KeyFile: cfg.NATSKey, Trust: s.proc.Trust, Logger: s.proc.Logger}); err != nil {
		return err
	}
	s.ingest, err = ingest.New(ingest.Config{
		Conn: s.conn, Store: s.store, Partitions: cfg.Partitions, Replicas: cfg.StreamReplicas, StreamBytes: cfg.StreamMaxBytes,
		InsertTimeout: cfg.InsertTimeout, Logger: s.proc.Logger, Registerer: s.proc.Registry,
	})
	return err
}

// watch registers what /readyz says, what runs beside the requests, and what is closed in which order.
func (s *Service) watch() {
	s.proc.Health.Register("clickhouse", true, s.store.Ping)
	s.proc.Health.Register("migrations", true, s.store.CheckMigrated)
	s.proc.Health.Register("ingest", false, func(context.Context) error { return s.ingest.Status() })
	s.proc.Health.Register("nats", false, func(context.Context) error {
		if err := stream.Connected(s.conn); err != nil {
			return fmt.Errorf("%w; decisions wait with the nodes", err)
		}
		return stream.Permitted(s.conn)
	})
	s.proc.Go("ingest", s.ingest.Run)
	s.proc.OnClose("nats", func(context.Context) error { s.conn.Close(); return nil })
	s.proc.OnClose("clickhouse", func(context.Context) error { return s.store.Close() })
}

// failures are what the failures of the store mean for whoever asked.
var failures = []rpc.Rule{
	{Is: store.ErrNotFound, Code: connect.CodeNotFound, Reason: "decision", Message: "the account has no such decision; one that was made a moment ago may not be in the table yet"},
	{Is: store.ErrNoUser, Code: connect.CodeFailedPrecondition, Reason: "no_clickhouse_user", Message: "the account has no user in ClickHouse: an operator adds it to --accounts of audit and of `verdict clickhouse-users`, whose output ClickHouse reads when it starts"},
	{Is: store.ErrNotMigrated, Code: connect.CodeUnavailable, Reason: "not_migrated", Message: "the audit database lacks tables: an operator runs `verdict migrate --clickhouse-url …`"},
	{Is: store.ErrUnavailable, Code: connect.CodeUnavailable, Reason: "clickhouse_unavailable", Message: "ClickHouse does not answer: try again"},
}

func (s *Service) serve(cfg Config) {
	edge := rpc.New(rpc.Config{
		Callers: s.proc.Callers, Access: s.proc.Access, Logger: s.proc.Logger, Registry: s.proc.Registry, MaxBytes: int(cfg.MaxBody), Draining: s.proc.Draining(),
		Errors: failures,
	})
	mux := http.NewServeMux()
	mux.Handle(auditv1connect.NewAuditServiceHandler(connectapi.New(s.store), edge.HandlerOptions()...))
	s.proc.Handle(edge.Handler(mux))
}

// Run serves until ctx ends, and then shuts down: not ready, requests finished, the ingester stopped, NATS, ClickHouse.
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
	if s.store != nil {
		_ = s.store.Close() // nothing was asked yet
	}
}
