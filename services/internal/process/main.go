package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Main is the whole of a daemon's main: it runs run under a context that ends at SIGINT or SIGTERM, and exits with 0,
// with 1 and the error in one line, or with 2 when the error is about the settings. A second signal ends the process
// at once. Help goes to stdout and is no error.
func Main(run func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// From the first signal on, signals do again what they do by default: kill.
	context.AfterFunc(ctx, stop)
	os.Exit(exitCode(run(ctx), os.Stdout, os.Stderr))
}

func exitCode(err error, stdout, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if help, ok := errors.AsType[*HelpRequest](err); ok {
		_, _ = io.WriteString(stdout, help.Text)
		return 0
	}
	_, _ = fmt.Fprintln(stderr, "error: "+oneLine(err))
	if _, ok := errors.AsType[*UsageError](err); ok {
		return 2
	}
	return 1
}

func isNewline(r rune) bool { return r == '\n' || r == '\r' }
