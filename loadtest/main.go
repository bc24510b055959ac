// Command loadtest asks a running Verdict what an agent's gateway would ask, as fast as it answers, and checks every answer. It
// knows the public API and nothing else, and sends to this machine alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/verdict-io/verdict/loadtest/internal/baseline"
)

const usage = `loadtest: load for a running Verdict on this machine, with every answer checked

Usage: loadtest VERB [flags]

  authorize  asks decision about refunds, and compares its CPU time with that of an empty Connect handler

` + "`loadtest VERB --help` lists the settings of a verb.\n"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	os.Exit(report(dispatch(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr), os.Stderr))
}

// usageError is about the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// report says what went wrong and returns the exit status: 2 when it is about the command line.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "loadtest: %v\n", err)
	if _, ok := errors.AsType[*usageError](err); ok {
		return 2
	}
	return 1
}

func dispatch(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	switch args[0] {
	case "--help", "-h", "help":
		fmt.Fprint(stdout, usage)
		return nil
	case baseline.Verb: // hidden: a child of authorize
		return baseline.Serve(ctx, args[1:], stdin, stdout)
	case "authorize":
		s, err := parseSettings(args[1:])
		if errors.Is(err, flag.ErrHelp) {
			printHelp(stdout)
			return nil
		}
		if err != nil {
			return err
		}
		return authorize(ctx, s, stdout, stderr)
	default:
		return usagef("there is no verb %q: see loadtest --help", args[0])
	}
}
