package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/verdict-io/verdict/loadtest/internal/baseline"
	"github.com/verdict-io/verdict/loadtest/internal/cpu"
	"github.com/verdict-io/verdict/loadtest/internal/drive"
	"github.com/verdict-io/verdict/loadtest/internal/refund"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// warmUp is how many requests each connection sends before the first round: connections are made, heaps have their size.
const warmUp = 200

// side is a server under load, and what came of it.
type side struct {
	name    string
	driver  *drive.Driver
	process *cpu.Process // nil: its time is not measured
	rounds  []round
}

// round is one turn of a side.
type round struct {
	tally *drive.Tally
	cpu   time.Duration
}

// measure drives the server with one codec; when its CPU time is measured, in turns with a baseline. With an error the sides have
// the rounds until then.
func (b *bench) measure(ctx context.Context, codec refund.Codec) (sides []*side, err error) {
	server := &side{name: "decision", process: b.server}
	if server.driver, err = b.drive(b.url, codec, b.judge); err != nil {
		return nil, err
	}
	defer server.driver.Close()
	sides = []*side{server}
	if b.server != nil {
		answer, err := b.sample(ctx, server.driver, codec)
		if err != nil {
			return nil, err
		}
		child, err := baseline.Start(answer)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, child.Close()) }()
		empty, err := b.baseline(child, codec)
		if err != nil {
			return nil, err
		}
		defer empty.driver.Close()
		sides = append(sides, empty)
	}
	return sides, b.takeTurns(ctx, sides)
}

// sample is a right answer of the server.
func (b *bench) sample(ctx context.Context, server *drive.Driver, codec refund.Codec) (*decisionv1.AuthorizeResponse, error) {
	call, body, err := server.Ask(ctx)
	if err != nil {
		return nil, fmt.Errorf("decision at %s: %w", b.url, err)
	}
	if err := call.Check(body); err != nil {
		return nil, err
	}
	return codec.Decode(body)
}

// baseline is the side of an empty handler. Its answers are decoded, and right whatever they say.
func (b *bench) baseline(child *baseline.Child, codec refund.Codec) (*side, error) {
	process, err := cpu.Open(child.PID)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	driver, err := b.drive(child.URL, codec, func(int, *decisionv1.AuthorizeResponse) error { return nil })
	if err != nil {
		return nil, err
	}
	return &side{name: "baseline", driver: driver, process: process}, nil
}

// takeTurns lets the sides run one after another, in each round in the other order.
func (b *bench) takeTurns(ctx context.Context, sides []*side) error {
	if b.server != nil {
		for _, s := range sides {
			if _, err := s.driver.Run(ctx, drive.Limit{Requests: warmUp * b.connections}); err != nil {
				return fmt.Errorf("%s, warming up: %w", s.name, err)
			}
		}
	}
	order := slices.Clone(sides)
	for i := range b.rounds {
		for _, s := range order {
			if err := s.run(ctx, b.limit(i)); err != nil {
				return fmt.Errorf("%s, round %d: %w", s.name, i+1, err)
			}
		}
		slices.Reverse(order)
	}
	return nil
}

// run is one turn.
func (s *side) run(ctx context.Context, limit drive.Limit) error {
	before, err := s.used()
	if err != nil {
		return err
	}
	tally, err := s.driver.Run(ctx, limit)
	s.rounds = append(s.rounds, round{tally: tally})
	if err != nil {
		return err
	}
	after, err := s.used()
	s.rounds[len(s.rounds)-1].cpu = after - before
	return err
}

func (s *side) used() (time.Duration, error) {
	if s.process == nil {
		return 0, nil
	}
	return s.process.Used()
}
