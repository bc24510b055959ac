package process_test

import (
	"context"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"

	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/rpc"
)

// config is what a service is told: what all have in common, and its own.
type config struct {
	Common      process.Common
	PostgresURL string
	PollEvery   time.Duration
	MaxBytes    int64
}

func (c *config) register(fs *process.Flags) {
	c.Common.Register(fs, "127.0.0.1:7401")
	fs.String(&c.PostgresURL, "postgres-url", "VERDICT_POSTGRES_URL", "", "`URL` of the database that holds the log")
	fs.Duration(&c.PollEvery, "poll-interval", "", time.Second, "how often to look for events without being woken")
	fs.Bytes(&c.MaxBytes, "max-request", "", rpc.DefaultMaxBytes, "largest request")
	fs.Require("postgres-url")
}

// A service from its settings to its end.
func Example() {
	process.Main(func(ctx context.Context) error {
		var cfg config
		fs := process.NewFlags("control", "appends policy events to the log and publishes them")
		cfg.register(fs)
		if err := fs.Parse(os.Args[1:], os.Environ()); err != nil {
			return err
		}
		return serve(ctx, &cfg)
	})
}

func serve(ctx context.Context, cfg *config) error {
	p, err := process.New("control", cfg.Common)
	if err != nil {
		return err
	}
	log, err := openLog(ctx, cfg.PostgresURL)
	if err != nil {
		return p.Abandon(err)
	}
	p.OnClose("log", log.close)
	p.Health.Register("database", true, log.ping)
	p.Health.Register("relay", false, log.relaying)
	p.Go("relay", log.relay)

	edge := rpc.New(rpc.Config{
		Callers:  p.Callers,
		Access:   p.Access,
		Logger:   p.Logger,
		Registry: p.Registry,
		MaxBytes: int(cfg.MaxBytes),
		Draining: p.Draining(),
		Errors: []rpc.Rule{
			{Is: errWentBack, Code: connect.CodeUnavailable, Reason: "log_went_back"},
		},
	})
	mux := http.NewServeMux()
	mux.Handle(controlv1connect.NewControlServiceHandler(
		controlv1connect.UnimplementedControlServiceHandler{}, edge.HandlerOptions()...))
	p.Handle(edge.Handler(mux))
	return p.Run(ctx)
}
