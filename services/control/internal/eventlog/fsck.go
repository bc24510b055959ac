package eventlog

import (
	"context"
	"fmt"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/trust"
	"github.com/verdict-io/verdict/services/policy"
)

// Walk reads the log at url from the beginning, as any role that may read it, and checks all that an event promises: number,
// hash, signature, what the columns repeat, whole commands, and that it can have happened (the fold, with every invariant
// at the end). visit, which may add checks of its own, sees each event. The error names the first bad position; the state is
// that of the last good one.
func Walk(ctx context.Context, url string, t *trust.Trust, keys stream.Keyring, visit func(Row) error) (*policy.State, error) {
	conn, err := connect(ctx, url, t)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	s := policy.Empty()
	for {
		page, err := readPage(ctx, conn, s.Position)
		if err != nil {
			return s, unavailable(ctx, err)
		}
		for _, row := range page {
			next, err := examine(s, row, keys)
			if err == nil {
				err = visit(row)
			}
			if err != nil {
				return s, fmt.Errorf("position %d: %w", s.Position+1, err)
			}
			s = next
		}
		if len(page) < pageSize {
			break
		}
	}
	if err := s.Verify(); err != nil {
		return s, fmt.Errorf("position %d: the state that the log amounts to is not sound: %w", s.Position, err)
	}
	return s, nil
}

func examine(s *policy.State, row Row, keys stream.Keyring) (*policy.State, error) {
	if row.Position != s.Position+1 {
		return nil, fmt.Errorf("missing; the next in the log is %d", row.Position)
	}
	r, err := stream.Open(row.Event, keys)
	if err != nil {
		return nil, err
	}
	if err := repeats(row, r); err != nil {
		return nil, err
	}
	return s.Apply(r)
}

// repeats compares the columns with what the event says.
func repeats(row Row, r policy.Recorded) error {
	want := newRow(r, row.Event)
	token := func(t *string) string {
		if t == nil {
			return ""
		}
		return *t
	}
	for _, c := range []struct{ name, have, want string }{
		{"position", fmt.Sprint(row.Position), fmt.Sprint(want.Position)},
		{"commits", fmt.Sprint(row.Commits), fmt.Sprint(want.Commits)},
		{"account", row.Account, want.Account},
		{"account_position", fmt.Sprint(row.AccountPosition), fmt.Sprint(want.AccountPosition)},
		{"stream", row.Stream, want.Stream},
		{"stream_version", fmt.Sprint(row.StreamVersion), fmt.Sprint(want.StreamVersion)},
		{"client_token", token(row.ClientToken), token(want.ClientToken)},
	} {
		if c.have != c.want {
			return fmt.Errorf("column %s is %q; the event says %q", c.name, c.have, c.want)
		}
	}
	return nil
}
