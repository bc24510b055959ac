package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/loadtest/internal/cpu"
	"github.com/verdict-io/verdict/loadtest/internal/drive"
	"github.com/verdict-io/verdict/loadtest/internal/refund"
)

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   string
	}{
		{nil, "-"},
		{[]float64{4}, "4.0"},
		{[]float64{9, 1}, "5.0 (1.0–9.0)"},
		{[]float64{9, 1, 2}, "2.0 (1.0–9.0)"},
		{[]float64{4, 3, 2, 1}, "2.5 (1.0–4.0)"},
	} {
		if got := text(test.values, 1); got != test.want {
			t.Errorf("%v: %s, not %s", test.values, got, test.want)
		}
	}
}

// rounds are turns of 100 answers in a second, with so much processor time each.
func rounds(each ...time.Duration) (out []round) {
	for _, used := range each {
		out = append(out, round{cpu: used, tally: &drive.Tally{
			Answers: 100, Errors: 1, Retries: 2, Elapsed: time.Second, Latencies: drive.Latencies{3000, 1000, 2000},
		}})
	}
	return out
}

func TestTableComparesRoundByRound(t *testing.T) {
	server := &side{name: "decision", process: &cpu.Process{}, rounds: rounds(10*time.Millisecond, 40*time.Millisecond, 0, 30*time.Millisecond)}
	server.rounds[1].tally.LastError = errors.New("was away")
	empty := &side{name: "baseline", process: &cpu.Process{}, rounds: rounds(10*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond)}
	var out bytes.Buffer
	if err := printTable(&out, summarize(refund.JSON, []*side{server, empty})); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	// The third round of decision was too short to be measured, and the fourth has no baseline beside it.
	want := []string{
		"codec side requests errors retries requests/s p50 ms p95 ms p99 ms CPU µs/request to baseline",
		"json decision 404 4 8 100 (100–100) 2.00 3.00 3.00 300.0 (100.0–400.0) 1.50 (1.00–2.00)",
		"json baseline 303 3 6 100 (100–100) 2.00 3.00 3.00 200.0 (100.0–200.0) -",
		"json: the last error: was away",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("printed\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTableWithoutAnswers(t *testing.T) {
	var out bytes.Buffer
	nothing := &side{name: "decision", rounds: []round{{tally: &drive.Tally{Errors: 1, Elapsed: time.Second}}}}
	if err := printTable(&out, summarize(refund.JSON, []*side{nothing})); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(strings.Split(out.String(), "\n")[1]); strings.Join(got, " ") != "json decision 1 1 0 0 - - - - -" {
		t.Errorf("printed\n%s", &out)
	}
}
