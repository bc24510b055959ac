// Command verdict is the tool of those who operate Verdict: one file a verb.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/verdict-io/verdict/services/internal/process"
)

// verb is one thing that verdict can do.
type verb struct {
	name, summary string
	run           func(ctx context.Context, args, environ []string) error
}

var verbs = []verb{
	{"migrate", "brings the database up to this version", migrate},
	{"keygen", "makes the key that control signs with", keygen},
	{"fsck", "checks the log, and the stream against it", fsck},
}

func main() {
	process.Main(func(ctx context.Context) error { return dispatch(ctx, os.Args[1:], os.Environ()) })
}

func dispatch(ctx context.Context, args, environ []string) error {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		return &process.HelpRequest{Text: usage()}
	}
	for _, v := range verbs {
		if v.name == args[0] {
			return v.run(ctx, args[1:], environ)
		}
	}
	return process.Usagef("verdict has no verb %q; it has %s", args[0], strings.Join(names(), ", "))
}

func names() []string {
	var out []string
	for _, v := range verbs {
		out = append(out, v.name)
	}
	return out
}

func usage() string {
	var b strings.Builder
	b.WriteString("verdict: the tool of those who operate Verdict\n\nUsage: verdict VERB [flags]\n\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "  %-8s  %s\n", v.name, v.summary)
	}
	b.WriteString("\n`verdict VERB --help` lists the settings of a verb.\n")
	return b.String()
}
