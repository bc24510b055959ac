// Command gateway speaks MCP with agents and calls tools that policy allows.
package main

import (
	"context"
	"os"

	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/gateway"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/policy"
)

func main() {
	process.Main(func(ctx context.Context) error { return gateway.Main(ctx, os.Args[1:], os.Environ(), embed) })
}

// embed makes the decision node of a gateway that decides itself.
func embed(proc *process.Process, cfg gateway.Config, publish func(*policy.State, []string)) (gateway.Decider, error) {
	return decision.Embed(proc, decision.Config{
		Common: cfg.Common, Name: cfg.Node, Dir: cfg.Dir, ControlURL: cfg.ControlURL, Credentials: cfg.Credentials,
		NATSURL: cfg.NATSURL, NATSKey: cfg.NATSKey, TrustedKeys: cfg.TrustedKeys, Partitions: cfg.Partitions, SpoolBytes: cfg.SpoolBytes,
	}, publish)
}
