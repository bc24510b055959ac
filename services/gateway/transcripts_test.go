package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/gateway"
	"github.com/verdict-io/verdict/services/policy"
)

// updateVariable, when set, has TestTranscripts write what the gateway answers, to be read before it is committed.
const updateVariable = "VERDICT_UPDATE"

// What differs from run to run.
var transcriptMasks = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"traceId":"[0-9a-f]{32}"`), `"traceId":"TRACE"`},
	{regexp.MustCompile(`"requestId":"[0-9a-f-]{36}"`), `"requestId":"REQUEST"`},
	{regexp.MustCompile(`"id":"[a-z2-7]{39}"`), `"id":"DECISION"`},
	{regexp.MustCompile(`"revision":"\d+"`), `"revision":"REVISION"`},
	{regexp.MustCompile(`"version":"[^"]*"`), `"version":"VERSION"`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST"},
}

// TestTranscripts sends what the files of testdata/transcripts have behind ">", with the headers before it, and compares the answers with
// what they have behind "<": the status, the challenge if there is one, and the body. Each file is a gateway of its own, the refund example,
// or what its first line, "# setup: …", makes of it.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			got := w.replay(string(text))
			if os.Getenv(updateVariable) != "" {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("the gateway answers:\n%s\nand the file has:\n%s", got, text)
			}
		})
	}
}

// replay is the transcript with the answers that come now.
func (w *world) replay(text string) string {
	var out strings.Builder
	var header []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "<": // comes anew
			continue
		case "#":
			if what, ok := strings.CutPrefix(rest, "setup: "); ok {
				w.setUp(what)
			}
		case "header:":
			name, value, _ := strings.Cut(rest, ": ")
			header = append(header, name, value)
		case ">":
			out.WriteString(line + "\n" + w.answerTo(rest, header))
			header = nil
			continue
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}

func (w *world) answerTo(body string, header []string) string {
	a := w.post(body, header...)
	out := "< " + strconv.Itoa(a.status) + "\n"
	if challenge := a.header.Get("Www-Authenticate"); challenge != "" {
		out += "< Www-Authenticate: " + challenge + "\n"
	}
	if a.body != "" {
		out += "< " + strings.TrimSpace(a.body) + "\n"
	}
	for _, m := range transcriptMasks {
		out = m.what.ReplaceAllString(out, m.with)
	}
	return out
}

// setUp is what a transcript wants to be different from the refund example.
func (w *world) setUp(what string) {
	w.t.Helper()
	change, ok := map[string]func(){
		"tokens":     func() { w.onlyTokens(newIssuer(w.t)) },
		"orders":     func() { w.write("orders", "permit", lookup, "true") },
		"a forbid":   func() { w.write("not_that_much", "forbid", refund, "context.input.amount > 900") },
		"log only":   func() { w.update(func(d *policy.GatewayDefinition) { d.PolicyEngine = logOnly }) },
		"denied tag": func() { w.do(account, policy.AddTags{Of: policy.GatewayRef(gatewayID), Tags: deniedTag}) },
		"sessions":   func() { w.mcp(policy.MCPConfiguration{Session: &policy.SessionConfiguration{}}) },
		"2025-06-18": func() { w.mcp(policy.MCPConfiguration{SupportedVersions: []string{what}}) },
		"search":     func() { w.mcp(policy.MCPConfiguration{SearchType: policy.SearchSemantic}) },
	}[what]
	if !ok {
		w.t.Fatal(fmt.Errorf("no setup is called %q", what)) //nolint:err113 // a test's
	}
	change()
}

var (
	logOnly   = &policy.EngineAttachment{EngineID: engineID, Mode: policy.ModeLogOnly}
	deniedTag = map[string]string{gateway.DeniedTag: gateway.DeniedResult}
)

// mcp changes how the gateway speaks MCP.
func (w *world) mcp(m policy.MCPConfiguration) {
	w.t.Helper()
	w.update(func(d *policy.GatewayDefinition) { d.MCP = &m })
}
