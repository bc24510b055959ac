// Command verdict is the tool of those who operate Verdict: one file a verb.
package main

import (
	"context"
	"os"
	"strings"

	"github.com/verdict-io/verdict/services/cmd/verdict/internal/dev"
	"github.com/verdict-io/verdict/services/internal/process"
)

// verb is one thing that verdict can do.
type verb struct {
	name, summary string
	run           func(ctx context.Context, args, environ []string) error
}

var verbs = []verb{
	{"dev", "runs all services on this machine, with an example", runDev},
	{"remove-example", "takes the example of dev apart again", removeExample},
	{"query", "asks audit with SQL", runQuery},
	{"migrate", "brings the databases up to this version", migrate},
	{"keygen", "makes the key that control signs with, and the secret of ClickHouse's users", keygen},
	{"fsck", "checks the log, and the stream against it", fsck},
	{"nats-config", "prints the configuration of a NATS in which each service has its own user", natsConfig},
	{"access-rules", "prints the rules of who may do what, in Cedar, or checks others", accessRules},
	{"clickhouse-users", "prints the users.xml of a ClickHouse that keeps decisions", clickhouseUsers},
}

func main() {
	process.Main(func(ctx context.Context) error { return dispatch(ctx, os.Args[1:], os.Environ()) })
}

func dispatch(ctx context.Context, args, environ []string) error {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		return &process.HelpRequest{Text: usage()}
	}
	if args[0] == dev.HoldVerb {
		return hold(args[1:])
	}
	for _, v := range verbs {
		if v.name == args[0] {
			return v.run(ctx, args[1:], environ)
		}
	}
	return process.Usagef("verdict has no verb %q; it has %s", args[0], strings.Join(names(), ", "))
}
