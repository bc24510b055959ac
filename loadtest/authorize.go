package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/verdict-io/verdict/loadtest/internal/cpu"
	"github.com/verdict-io/verdict/loadtest/internal/drive"
	"github.com/verdict-io/verdict/loadtest/internal/refund"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
)

const (
	// seed of the amounts: every run asks the same.
	seed = 20_260_101
	// different requests, of which each connection draws.
	different = 1000
	// retryFor is how long --keep-going waits for a server: longer than a restart takes.
	retryFor = time.Minute
)

// authorize is the verb. The table goes to stdout.
func authorize(ctx context.Context, s *settings, stdout, stderr io.Writer) (err error) {
	client := &http.Client{
		Transport: drive.Transport(), Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	example, err := refund.Find(ctx, client, s.controlURL)
	if err != nil {
		return err
	}
	ids, err := openIDs(s.ids)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ids.close()) }()
	b := &bench{settings: s, example: example, ids: ids}
	if b.server, err = s.findServer(stderr); err != nil {
		return err
	}
	var rows []row
	for _, codec := range s.codecs {
		sides, err := b.measure(ctx, codec)
		rows = append(rows, summarize(codec, sides)...)
		if err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			return errors.Join(err, printTable(stdout, rows))
		}
	}
	return printTable(stdout, rows)
}

// findServer is the process of decision, nil when its time is not measured.
func (s *settings) findServer(stderr io.Writer) (*cpu.Process, error) {
	if s.keepGoing {
		return nil, nil
	}
	if s.serverPID != 0 {
		p, err := cpu.Open(s.serverPID)
		if err != nil {
			return nil, fmt.Errorf("--server-pid: %w", err)
		}
		return p, nil
	}
	pid, err := cpu.Listener(s.addr)
	var p *cpu.Process
	if err == nil {
		p, err = cpu.Open(pid)
	}
	if err != nil {
		fmt.Fprintf(stderr, "loadtest: no CPU time and no baseline: %v; --server-pid names the process\n", err)
		return nil, nil
	}
	return p, nil
}

// bench measures one server.
type bench struct {
	*settings
	example *refund.Example
	server  *cpu.Process // nil: its time is not measured
	ledger  refund.Ledger
	ids     *idFile
}

// drive is a Driver to a server whose answers check looks at.
func (b *bench) drive(baseURL string, codec refund.Codec, check func(amount int, answer *decisionv1.AuthorizeResponse) error) (*drive.Driver, error) {
	requests, err := b.example.Requests(codec, different, seed)
	if err != nil {
		return nil, err
	}
	cfg := drive.Config{
		URL:         strings.TrimRight(baseURL, "/") + decisionv1connect.DecisionServiceAuthorizeProcedure,
		ContentType: codec.ContentType(), Connections: b.connections, MaxErrors: b.maxErrors,
	}
	if b.keepGoing {
		cfg.RetryFor = retryFor
	}
	for _, request := range requests {
		cfg.Calls = append(cfg.Calls, drive.Call{Body: request.Body, Check: func(body []byte) error {
			answer, err := codec.Decode(body)
			if err == nil {
				err = check(request.Amount, answer)
			} else {
				err = fmt.Errorf("%w: no AuthorizeResponse: %w: %.500q", refund.ErrWrong, err, body)
			}
			if err != nil {
				return fmt.Errorf("%w\nthe request was %s: %.2000q", err, codec, request.Body)
			}
			return nil
		}})
	}
	return drive.New(cfg)
}

// judge is the check of the server's answers.
func (b *bench) judge(amount int, answer *decisionv1.AuthorizeResponse) error {
	if err := b.example.Judge(amount, answer); err != nil {
		return err
	}
	if err := b.ledger.Add(answer.GetDecisionId()); err != nil {
		return err
	}
	return b.ids.add(answer)
}
