package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// BootStatus says what is known of a boot's records.
type BootStatus int

// What is known of a boot's records.
const (
	BootOpen     BootStatus = iota // not closed: alive, ended without a word, or ended with its machine, so that the loss has only a bound
	BootComplete                   // ended, and every record is there
	BootLost                       // ended, and some are not
)

// BootCompleteness is what the table holds of one boot.
type BootCompleteness struct {
	Node     string
	Boot     stream.Boot
	Status   BootStatus
	Started  time.Time // its first record; of a boot of which there is none, when the boot after it started
	Rows     uint64    // in the table
	Recorded uint64    // different seqs among Rows; less than Rows is a fault of ours
	GivenOut uint64    // the last seq that it is known to have given out
	Missing  uint64    // GivenOut less Recorded: exact unless it is BootOpen, else at most so many
	bounded  bool      // it has ended, and GivenOut is a bound
}

// Completeness is an entry for each boot that was alive at some time between from and to (zero: since ever, until now), sorted
// by node and start. A boot without an end counts as alive. It reads four columns of the whole table.
func (s *Store) Completeness(ctx context.Context, from, to time.Time) ([]BootCompleteness, error) {
	named, err := s.namedBoots(ctx)
	if err != nil {
		return nil, fmt.Errorf("completeness: %w", unavailable(err))
	}
	rows, err := s.conn.Query(ctx, "SELECT boot, any(node), count(), groupBitmap(seq), max(greatest(given_out, seq)), countIf(kind = '"+kindClosed+"') > 0,"+
		" min(recorded_at), max(recorded_at) FROM "+s.table("decisions")+" GROUP BY boot")
	if err != nil {
		return nil, fmt.Errorf("completeness: %w", unavailable(err))
	}
	defer rows.Close()
	var out []BootCompleteness
	for rows.Next() {
		var b BootCompleteness
		var boot string
		var ended uint8
		var last time.Time
		if err := rows.Scan(&boot, &b.Node, &b.Rows, &b.Recorded, &b.GivenOut, &ended, &b.Started, &last); err != nil {
			return nil, fmt.Errorf("completeness: %w", err)
		}
		if b.Boot, err = stream.ParseBoot(boot); err != nil {
			return nil, fmt.Errorf("completeness: %w", err)
		}
		after, isNamed := named[b.Boot]
		delete(named, b.Boot)
		if isNamed {
			b.GivenOut, b.bounded, last = max(b.GivenOut, after.GivenOut), after.bounded, after.Started
		}
		over := ended != 0 || isNamed
		b.judge(over)
		if (from.IsZero() || !over || !last.Before(from)) && (to.IsZero() || !b.Started.After(to)) {
			out = append(out, b)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("completeness: %w", unavailable(err))
	}
	for _, b := range named { // of which nothing is there
		b.judge(true)
		if (from.IsZero() || !b.Started.Before(from)) && (to.IsZero() || !b.Started.After(to)) {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b BootCompleteness) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), a.Started.Compare(b.Started), cmp.Compare(min(a.Rows, 1), min(b.Rows, 1)), bytes.Compare(a.Boot[:], b.Boot[:]))
	})
	return out, nil
}

func (b *BootCompleteness) judge(ended bool) {
	b.Missing = b.GivenOut - b.Recorded
	switch {
	case !ended:
		b.Status = BootOpen
	case b.Missing == 0:
		b.Status = BootComplete
	case b.bounded:
		b.Status = BootOpen
	default:
		b.Status = BootLost
	}
}

// namedBoots are the boots that ended without a closing record, and that the boot after them on the same node has named.
func (s *Store) namedBoots(ctx context.Context) (map[stream.Boot]BootCompleteness, error) {
	rows, err := s.conn.Query(ctx, "SELECT previous_boot, any(node), max(previous_given_out), max(previous_is_bound), min(recorded_at) FROM "+s.table("decisions")+
		" WHERE account = '"+logAccount+"' AND kind = '"+kindOpened+"' AND previous_boot != '' GROUP BY previous_boot")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	named := map[stream.Boot]BootCompleteness{}
	for rows.Next() {
		var b BootCompleteness
		var boot string
		if err := rows.Scan(&boot, &b.Node, &b.GivenOut, &b.bounded, &b.Started); err != nil {
			return nil, err
		}
		if b.Boot, err = stream.ParseBoot(boot); err != nil {
			return nil, err
		}
		named[b.Boot] = b
	}
	return named, rows.Err()
}
