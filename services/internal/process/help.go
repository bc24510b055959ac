package process

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// Help lists every setting: flag, variable and default in columns, and what it is for below them.
func (f *Flags) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage: %s [flags]\n\n", f.service, f.summary, f.service)
	b.WriteString("A flag wins over its environment variable, and that over the default. Empty variables count as not set.\n\n")
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "  FLAG\tENVIRONMENT\tDEFAULT")
	for _, s := range f.settings {
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\n", s.synopsis(), s.env, s.shownDefault(f.required))
	}
	_ = w.Flush() // into a strings.Builder, which does not fail
	head, rows, _ := strings.Cut(table.String(), "\n")
	b.WriteString(head + "\n")
	lines := strings.Split(rows, "\n")
	for i, s := range f.settings {
		fmt.Fprintf(&b, "%s\n        %s\n", strings.TrimRight(lines[i], " "), s.usage)
	}
	return b.String()
}

func (s *setting) synopsis() string {
	if s.isBool {
		return "--" + s.name
	}
	return "--" + s.name + " " + s.value
}

func (s *setting) shownDefault(required []string) string {
	if s.def != "" {
		return s.def
	}
	if slices.Contains(required, s.name) {
		return "(must be set)"
	}
	return "(none)"
}

// didYouMean is ", did you mean X?" when one of the known names is close to name, else "".
func didYouMean(name, before string, known []string) string {
	best, least := "", 1+min(len(name)/3, 3)
	for _, k := range known {
		if d := distance(strings.ToLower(clip(name)), strings.ToLower(k)); d < least || d == least && best == "" {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + before + best + "?"
}

// distance is the number of letters to insert, drop or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// clip keeps a value short enough to be part of one line of an error.
func clip(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
