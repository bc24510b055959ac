package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// options is one run's command line.
type options struct {
	data            string // "" means temporary
	freePorts       bool
	clickhouseUsers string // "" means the default users
	only            []string
	cmd             []string
}

const (
	postgresURL       = "VERDICT_POSTGRES_URL"
	postgresCA        = "VERDICT_POSTGRES_CA"
	clickhouseURL     = "VERDICT_CLICKHOUSE_URL"
	clickhouseHTTPURL = "VERDICT_CLICKHOUSE_HTTP_URL"
)

var errNoCommand = errors.New("no command: say what to run after --, as in `devservers --ports free -- go test ./...`")

// parseOptions reads the flags of a run. The supervisor parses the same arguments again, after one flag of its own.
func parseOptions(args []string, extra func(*flag.FlagSet)) (options, error) {
	var o options
	var ports, only string
	fs := newFlagSet("devservers")
	fs.StringVar(&o.data, "data", "", "")
	fs.StringVar(&ports, "ports", "fixed", "")
	fs.StringVar(&only, "only", "postgres,clickhouse", "")
	fs.StringVar(&o.clickhouseUsers, "clickhouse-users", "", "")
	if extra != nil {
		extra(fs)
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.cmd = fs.Args()
	if len(o.cmd) == 0 {
		return o, errNoCommand
	}
	if ports != "fixed" && ports != "free" {
		return o, fmt.Errorf("--ports %s: it is fixed or free", ports)
	}
	o.freePorts = ports == "free"
	if err := o.parseOnly(only); err != nil {
		return o, err
	}
	return o, o.checkFiles()
}

// newFlagSet has the program's usage text, not the flag package's: errors are printed once, by the caller.
func newFlagSet(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

func (o *options) parseOnly(list string) error {
	for name := range strings.SplitSeq(list, ",") {
		if name != "postgres" && name != "clickhouse" {
			return fmt.Errorf("--only %s: it is postgres, clickhouse, or both with a comma", list)
		}
		o.only = append(o.only, name)
	}
	return nil
}

// checkFiles makes paths absolute and finds what would fail late, before a server has been started for nothing.
func (o *options) checkFiles() error {
	if o.clickhouseUsers != "" {
		abs, err := filepath.Abs(o.clickhouseUsers)
		if err != nil {
			return err
		}
		if _, err := os.ReadFile(abs); err != nil {
			return fmt.Errorf("--clickhouse-users: %w", err)
		}
		o.clickhouseUsers = abs
	}
	if o.data != "" {
		abs, err := filepath.Abs(o.data)
		if err != nil {
			return err
		}
		o.data = abs
	}
	if _, err := exec.LookPath(o.cmd[0]); err != nil {
		return err
	}
	return nil
}

// wants says whether a run starts the server: it was asked for, and the environment names no other.
func (o *options) wants(server, urlVariable string) bool {
	return slices.Contains(o.only, server) && os.Getenv(urlVariable) == ""
}

// usageError prints a wrong command line's error and returns the exit status for it.
func usageError(err error) int {
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(os.Stdout, usage)
		return 0
	}
	if errors.Is(err, exec.ErrNotFound) {
		say("%v", err)
		return exitNotFound
	}
	say("%v (devservers --help tells more)", err)
	return exitUsage
}
