package main

import (
	"context"
	"os"

	"github.com/verdict-io/verdict/services/cmd/verdict/internal/dev"
	"github.com/verdict-io/verdict/services/internal/process"
)

// runDev runs everything on this machine.
func runDev(ctx context.Context, args, environ []string) error {
	cfg := dev.Config{Environ: environ, Out: os.Stdout, Progress: os.Stderr}
	fs := process.NewFlags("dev", "runs all services on this machine with the refund example; `make dev` gives it a Postgres and a ClickHouse")
	fs.String(&cfg.Dir, "data", "", ".data", "`FOLDER` of what stays: keys, NATS, decisions on their way, logs of the services")
	fs.String(&cfg.ControlAddr, "control-addr", "VERDICT_CONTROL_ADDR", "127.0.0.1:7401", "`HOST:PORT` of control, :0 for any")
	fs.String(&cfg.DecisionAddr, "decision-addr", "VERDICT_DECISION_ADDR", "127.0.0.1:7402", "`HOST:PORT` of the decision node")
	fs.String(&cfg.AuditAddr, "audit-addr", "VERDICT_AUDIT_ADDR", "127.0.0.1:7403", "`HOST:PORT` of audit")
	fs.String(&cfg.GatewayAddr, "gateway-addr", "VERDICT_GATEWAY_ADDR", "127.0.0.1:7404", "`HOST:PORT` of the MCP gateway, whose port cannot be 0, since control tells it")
	fs.String(&cfg.ExampleAddr, "example-addr", "VERDICT_EXAMPLE_ADDR", "127.0.0.1:7405", "`HOST:PORT` of what the example needs: an issuer of tokens, and the refund function")
	fs.String(&cfg.NATSAddr, "nats-addr", "VERDICT_NATS_ADDR", "127.0.0.1:7422", "`HOST:PORT` of the NATS that it runs itself")
	fs.Secret(&cfg.NATSURL, "nats-url", "VERDICT_NATS_URL", "", "`URL` of a NATS to use instead")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	if err := dev.Check(environ); err != nil {
		return process.Usagef("%s", err)
	}
	return dev.Run(ctx, cfg)
}
