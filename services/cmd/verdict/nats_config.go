package main

import (
	"context"
	"net"
	"os"
	"strings"

	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// natsConfig prints the configuration of a NATS server, and makes the keys of its users that are not there yet.
func natsConfig(_ context.Context, args, environ []string) error {
	var cfg stream.NATSConfig
	var keys, nodes string
	fs := process.NewFlags("nats-config", "prints the configuration of a nats-server in which each service may do what it has to, and no more; makes the keys that are missing")
	fs.String(&keys, "nats-keys", "", "nats-keys", "`FOLDER` of the users' keys, NAME.nk for each, which it may have to make; the services get theirs with --nats-key")
	fs.String(&nodes, "nodes", "", "", "`NAMES` behind commas of decision nodes that have a user each, with node-NAME.nk, and cannot speak for one another; without it one user is for all")
	fs.String(&cfg.Listen, "listen", "", "127.0.0.1:7422", "`HOST:PORT` that the server listens on; set up TLS in what is printed before it is not loopback")
	fs.String(&cfg.StoreDir, "store-dir", "", "/var/lib/verdict/nats", "`FOLDER` on the server's machine for its streams")
	fs.Require("nats-keys", "listen", "store-dir")
	fs.Check("listen", func(text string) error {
		_, _, err := net.SplitHostPort(text)
		return err
	})
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	var names []string
	if nodes != "" {
		names = strings.Split(nodes, ",")
	}
	var err error
	if cfg.Users, err = stream.NATSUsers(names); err != nil {
		return process.Usagef("flag --nodes: %v", err)
	}
	if cfg.Keys, err = stream.EnsureNATSKeys(keys, cfg.Users); err != nil {
		return err
	}
	return stream.WriteNATSConfig(os.Stdout, cfg)
}
