package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/verdict-io/verdict/loadtest/internal/drive"
	"github.com/verdict-io/verdict/loadtest/internal/refund"
)

// spread is what several rounds came to.
type spread struct{ median, least, most float64 }

// spreadOf is nothing for no values.
func spreadOf(values []float64) (spread, bool) {
	if len(values) == 0 {
		return spread{}, false
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + median) / 2
	}
	return spread{median: median, least: sorted[0], most: sorted[len(sorted)-1]}, true
}

// text has so many digits behind the point; a dash is "not measured".
func text(values []float64, digits int) string {
	s, ok := spreadOf(values)
	if !ok {
		return "-"
	}
	if len(values) == 1 {
		return fmt.Sprintf("%.*f", digits, s.median)
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.median, digits, s.least, digits, s.most)
}

// row is a side in the table.
type row struct {
	codec                     refund.Codec
	side                      string
	requests, errors, retries int
	lastError                 error
	latencies                 drive.Latencies // sorted
	perSecond                 []float64       // of each round
	cpu                       []float64       // microseconds for a request, of each round
	ratio                     []float64       // of cpu to that of the baseline in the same round
}

// summarize makes a row of each side.
func summarize(codec refund.Codec, sides []*side) []row {
	var rows []row
	for _, s := range sides {
		rows = append(rows, rowOf(codec, s))
	}
	if len(sides) == 2 { // the second is the baseline
		rows[0].ratio = ratios(sides[0].rounds, sides[1].rounds)
	}
	return rows
}

func rowOf(codec refund.Codec, s *side) row {
	out := row{codec: codec, side: s.name}
	for _, r := range s.rounds {
		t := r.tally
		out.requests += t.Answers + t.Errors
		out.errors += t.Errors
		out.retries += t.Retries
		out.latencies = append(out.latencies, t.Latencies...)
		if t.LastError != nil {
			out.lastError = t.LastError
		}
		out.perSecond = append(out.perSecond, float64(t.Answers)/t.Elapsed.Seconds())
		if cpu := r.perRequest(); cpu > 0 {
			out.cpu = append(out.cpu, cpu)
		}
	}
	out.latencies.Sort()
	return out
}

// perRequest is the CPU time of a request in microseconds, 0 when there is none to tell.
func (r round) perRequest() float64 {
	if r.tally.Answers == 0 {
		return 0
	}
	return float64(r.cpu) / float64(time.Microsecond) / float64(r.tally.Answers)
}

// ratios compare each round with the one of the baseline beside it, since what else runs on the machine comes and goes.
func ratios(rounds, baseline []round) []float64 {
	var out []float64
	for i := range min(len(rounds), len(baseline)) {
		if a, b := rounds[i].perRequest(), baseline[i].perRequest(); a > 0 && b > 0 {
			out = append(out, a/b)
		}
	}
	return out
}

// printTable explains itself: the numbers of a row are medians of rounds, with the least and the most.
func printTable(w io.Writer, rows []row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "codec\tside\trequests\terrors\tretries\trequests/s\tp50 ms\tp95 ms\tp99 ms\tCPU µs/request\tto baseline")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.codec, r.side, r.requests, r.errors, r.retries,
			text(r.perSecond, 0), r.percentile(50), r.percentile(95), r.percentile(99), text(r.cpu, 1), text(r.ratio, 2))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.lastError != nil {
			fmt.Fprintf(w, "%s: the last error: %v\n", r.codec, r.lastError)
		}
	}
	return nil
}

func (r *row) percentile(p float64) string {
	if len(r.latencies) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(r.latencies.Percentile(p).Microseconds())/1000)
}
