package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/verdict-io/verdict/loadtest/internal/drive"
	"github.com/verdict-io/verdict/loadtest/internal/refund"
)

// The bounds of a run, so that none goes on for ever or takes the machine's memory.
const (
	maxConnections = 256
	maxDuration    = 10 * time.Minute
	maxRequests    = 10_000_000
	maxRounds      = 100
)

// settings are what `loadtest authorize` is told.
type settings struct {
	url, controlURL string
	codec           string
	connections     int
	duration        time.Duration
	requests        int
	rounds          int
	maxErrors       int
	serverPID       int
	ids             string
	keepGoing       bool

	codecs []refund.Codec
	addr   netip.AddrPort // of url
}

func (s *settings) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("authorize", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are returned, and help is printHelp's
	fs.StringVar(&s.url, "url", "http://127.0.0.1:7402", "`URL` of decision, in 127.0.0.0/8")
	fs.StringVar(&s.controlURL, "control-url", "http://127.0.0.1:7401", "`URL` of control, in 127.0.0.0/8")
	fs.StringVar(&s.codec, "codec", string(refund.JSON), "`CODECS` behind commas, measured one after another: json (context as JSON), json-text (contextJson), binary (protobuf with contextJson)")
	fs.IntVar(&s.connections, "connections", 8, fmt.Sprintf("`N` connections, each with one request at a time; at most %d", maxConnections))
	fs.DurationVar(&s.duration, "duration", 10*time.Second, fmt.Sprintf("`TIME` for each codec, spread over the rounds; as long again for the baseline; at most %s", maxDuration))
	fs.IntVar(&s.requests, "requests", 0, fmt.Sprintf("`N` requests for each codec, spread over the rounds, in place of a time; at most %d", maxRequests))
	fs.IntVar(&s.rounds, "rounds", 5, fmt.Sprintf("`N` rounds, in each of which decision and the baseline take turns; CPU time comes in steps of 10 ms, so a round of less than a second tells little; at most %d", maxRounds))
	fs.IntVar(&s.maxErrors, "max-errors", 0, "`N` requests that may stay without an answer in a round")
	fs.IntVar(&s.serverPID, "server-pid", 0, "`PID` of decision, when it cannot be found by its port")
	fs.StringVar(&s.ids, "ids", "", "`FILE` that gets a line for each answer: its decisionId and ALLOW or DENY")
	fs.BoolVar(&s.keepGoing, "keep-going", false, "send a request again for up to a minute when decision is away, so that its restart is survived; in one round, and without CPU time and baseline")
	return fs
}

// parseSettings returns flag.ErrHelp when help is asked for, else an error that is a *usageError.
func parseSettings(args []string) (*settings, error) {
	s := &settings{}
	fs := s.flags()
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, usagef("%s: see loadtest authorize --help", err)
	}
	if fs.NArg() > 0 {
		return nil, usagef("%q is no flag: see loadtest authorize --help", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if err := s.check(given); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *settings) check(given map[string]bool) error {
	for _, bound := range []struct {
		name            string
		value, min, max int
	}{
		{"connections", s.connections, 1, maxConnections},
		{"rounds", s.rounds, 1, maxRounds},
		{"requests", s.requests, min(1, s.requests), maxRequests},
		{"max-errors", s.maxErrors, 0, maxRequests},
		{"server-pid", s.serverPID, 0, 1 << 30},
	} {
		if bound.value < bound.min || bound.value > bound.max {
			return usagef("--%s must be %d to %d", bound.name, bound.min, bound.max)
		}
	}
	if s.keepGoing {
		if given["rounds"] || given["server-pid"] {
			return usagef("--keep-going takes neither --rounds nor --server-pid: CPU time is not measured over restarts")
		}
		s.rounds = 1
	}
	if err := s.checkLimit(given); err != nil {
		return err
	}
	if err := s.checkCodecs(); err != nil {
		return err
	}
	if _, err := loopback("control-url", s.controlURL); err != nil {
		return err
	}
	var err error
	s.addr, err = loopback("url", s.url)
	return err
}

func (s *settings) checkLimit(given map[string]bool) error {
	switch {
	case given["requests"] && given["duration"]:
		return usagef("--requests and --duration are two ways to end a run: give one")
	case given["requests"] && s.requests < s.rounds:
		return usagef("--requests must be at least the number of rounds, %d", s.rounds)
	case !given["requests"] && (s.duration < 100*time.Millisecond || s.duration > maxDuration):
		return usagef("--duration must be 100ms to %s", maxDuration)
	}
	return nil
}

func (s *settings) checkCodecs() error {
	for name := range strings.SplitSeq(s.codec, ",") {
		codec := refund.Codec(name)
		if !slices.Contains(refund.Codecs, codec) {
			return usagef("--codec has no %q, only json, json-text and binary", name)
		}
		s.codecs = append(s.codecs, codec)
	}
	return nil
}

// loopback is the address in a URL that cannot lead off this machine.
func loopback(name, text string) (netip.AddrPort, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return netip.AddrPort{}, usagef("--%s must be a URL such as http://127.0.0.1:7402, without a path", name)
	}
	addr, err := netip.ParseAddrPort(u.Host)
	if err != nil || !addr.Addr().Is4() || !addr.Addr().IsLoopback() {
		return netip.AddrPort{}, usagef("--%s must name an address of this machine in numbers, 127.0.0.1, and a port; loadtest sends to no other machine", name)
	}
	return addr, nil
}

// limit is that of round i, the first of which is 0: together the rounds make all that was asked for.
func (s *settings) limit(i int) drive.Limit {
	if s.requests > 0 {
		share := s.requests / s.rounds
		if i < s.requests%s.rounds {
			share++
		}
		return drive.Limit{Requests: share}
	}
	return drive.Limit{Duration: s.duration / time.Duration(s.rounds)}
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, "loadtest authorize: asks decision about refunds, and compares its CPU time with that of an empty Connect handler\n\n"+
		"It needs the example that `make dev` loads, and checks every answer against the example's policy: a wrong one ends the\n"+
		"run. Exit status: 0 when all answers were right, 1 when not, 2 when the flags are.\n\nUsage: loadtest authorize [flags]\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	(&settings{}).flags().VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "0" && f.DefValue != "false" {
			text += " (" + f.DefValue + ")"
		}
		fmt.Fprintf(table, "  --%s\t%s\n", strings.TrimSpace(f.Name+" "+kind), text)
	})
	_ = table.Flush() // a terminal that is gone needs no help
}
