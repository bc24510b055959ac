package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

var errEndedEarly = errors.New("ended before it was ready")

// waitReady returns when probe succeeds, the process ends, the context ends, or a minute has passed.
func waitReady(ctx context.Context, p *process, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var last error
	for tick := time.Tick(20 * time.Millisecond); ; {
		select {
		case <-p.done:
			return fmt.Errorf("%w (%v)", errEndedEarly, p.state)
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return fmt.Errorf("no answer for %v: %w", startTimeout, last)
			}
			return context.Cause(ctx)
		case <-tick:
		}
		attempt, done := context.WithTimeout(ctx, time.Second)
		last = probe(attempt)
		done()
		if last == nil {
			return nil
		}
	}
}

// lastLines returns the end of a log, each line indented.
func lastLines(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "  " + err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-15):]
	return "  " + path + ":\n  " + strings.Join(lines, "\n  ")
}
