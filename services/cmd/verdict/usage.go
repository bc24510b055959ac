package main

import (
	"fmt"
	"strings"
)

func names() []string {
	var out []string
	for _, v := range verbs {
		out = append(out, v.name)
	}
	return out
}

func usage() string {
	var b strings.Builder
	b.WriteString("verdict: the tool of those who operate Verdict\n\nUsage: verdict VERB [flags]\n\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "  %-16s  %s\n", v.name, v.summary)
	}
	b.WriteString("\n`verdict VERB --help` lists the settings of a verb.\n")
	return b.String()
}
