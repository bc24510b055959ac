package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/verdict-io/verdict/services/internal/testenv"
)

// block is what stands between two fences of the README: commands, and what they print, "" where the README does not say.
type block struct {
	line             int
	commands, prints string
	asJSON           bool
}

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```\n")

// readmeBlocks are the blocks of commands, each with the first block of output behind it, up to the first heading below that which
// the text begins with.
func readmeBlocks(t *testing.T, readme string) []block {
	t.Helper()
	screen, _, _ := strings.Cut(readme, "\n## ")
	var blocks []block
	for _, at := range fence.FindAllStringSubmatchIndex(screen, -1) {
		language, body := screen[at[2]:at[3]], screen[at[4]:at[5]]
		last := len(blocks) - 1
		switch {
		case language == "sh":
			blocks = append(blocks, block{line: strings.Count(screen[:at[0]], "\n") + 1, commands: body})
		case (language == "text" || language == "json") && last >= 0 && blocks[last].prints == "":
			blocks[last].prints, blocks[last].asJSON = body, language == "json"
		default:
			t.Fatalf("README.md: a block of %q that is neither commands nor what they print:\n%s", language, body)
		}
	}
	return blocks
}

// What differs from run to run.
var masks = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\b(RefundEngine|refund_limit|refund-gw)-[a-z0-9]{10}\b`), "$1-ID"},
	{regexp.MustCompile(`\b[a-z2-7]{39}\b`), "DECISION"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`"revision":"\d+"`), `"revision":"REVISION"`},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "TRACE"},
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "REQUEST"},
	{regexp.MustCompile(`(?m) +`), " "}, // columns are as wide as a time with all its digits
}

func masked(t *testing.T, b block, text string) string {
	t.Helper()
	if b.asJSON && text != "" {
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatalf("README.md:%d: %v in:\n%s", b.line, err, text)
		}
		out, err := json.Marshal(value)
		must(t, err)
		text = string(out)
	}
	for _, m := range masks {
		text = m.what.ReplaceAllString(text, m.with)
	}
	return strings.TrimSpace(text)
}

// The first screen of the README, what it says about callers, and the page about AuthZEN and Envoy do what they say, in their order,
// and print what they show.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(repository(t), "README.md"))
	must(t, err)
	p := newPlayground(t)
	own := strings.NewReplacer("127.0.0.1:7401", p.control, "127.0.0.1:7402", p.decision, "127.0.0.1:7403", p.audit, "127.0.0.1:7404", p.gateway, "127.0.0.1:7405", p.example, "stays in .data\n", "stays in "+p.data+"\n")
	blocks := readmeBlocks(t, own.Replace(string(readme)))
	_, section, _ := strings.Cut(own.Replace(string(readme)), "\n## Who may call\n")
	callers := readmeBlocks(t, section)
	if len(blocks) != 5 || len(callers) != 1 || !strings.HasSuffix(blocks[0].commands, "make dev\n") || blocks[4].commands != "make reset\n" {
		t.Fatalf("README.md has other blocks than those that this test knows how to run: %v", blocks)
	}
	r := p.readmeDev(t, blocks[0])
	if err := differs(blocks[0], masked(t, blocks[0], r.out.String()), masked(t, blocks[0], blocks[0].prints)); err != nil {
		t.Error(err)
	}
	for _, b := range append(blocks[1:4:4], callers...) {
		p.readmeBlock(t, b)
	}
	p.fronts(t, own)
	for _, want := range []string{"deleted policy, detached the, deleted policy, deleted target, deleted gateway", ""} {
		if got := p.removeExample(t); got != want {
			t.Errorf("remove-example: %s, want %s", got, want)
		}
	}
	must(t, syscall.Kill(-r.cmd.Process.Pid, syscall.SIGINT))
	r.wantStatus(t, "signal: interrupt")
	p.readmeBlock(t, blocks[4])
	if _, err := os.Stat(p.data); !os.IsNotExist(err) {
		t.Errorf("what was to be removed: %v", err)
	}
}

// removeExample takes the example apart, and is the first two words of each line that says so.
func (p *playground) removeExample(t *testing.T) string {
	t.Helper()
	out, err := p.command(t, filepath.Join(repository(t), ".bin", "verdict"), "remove-example", "--control-url", "http://"+p.control).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var said []string
	for line := range strings.Lines(string(out)) {
		said = append(said, strings.Join(strings.Fields(line)[:2], " "))
	}
	return strings.Join(said, ", ")
}

// fronts runs the commands of the page about AuthZEN and Envoy.
func (p *playground) fronts(t *testing.T, own *strings.Replacer) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(repository(t), "services", "docs", "fronts.md"))
	must(t, err)
	for heading, want := range map[string]int{"AuthZEN": 3, "Envoy": 1} {
		_, section, _ := strings.Cut(own.Replace(string(page)), "\n## "+heading+"\n")
		blocks := readmeBlocks(t, section)
		if len(blocks) != want {
			t.Errorf("fronts.md, %s: %d blocks of commands, want %d", heading, len(blocks), want)
		}
		for _, b := range blocks {
			p.readmeBlock(t, b)
		}
	}
}

// readmeDev runs the block that ends with `make dev`, and returns when it serves.
func (p *playground) readmeDev(t *testing.T, b block) *devRun {
	t.Helper()
	r := &devRun{playground: p}
	r.cmd = p.command(t, "bash", "-euc", strings.Replace(b.commands, "make dev\n", "exec make dev\n", 1))
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.start(t)
	r.serving(t)
	return r
}

// readmeBlock runs commands until they print what the README shows: a decision gets into the table in its own time.
func (p *playground) readmeBlock(t *testing.T, b block) {
	t.Helper()
	run := func() error {
		cmd := p.command(t, "bash", "-euc", b.commands)
		cmd.Stderr = &text{}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("README.md:%d: %v\n%s%s", b.line, err, out, cmd.Stderr)
		}
		return differs(b, masked(t, b, string(out)), masked(t, b, b.prints))
	}
	if strings.Contains(b.commands, "query") {
		testenv.Eventually(t, "what the table holds", run)
	} else if err := run(); err != nil {
		t.Error(err)
	}
}

func differs(b block, got, want string) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("README.md:%d prints:\n%s\nand shows:\n%s", b.line, got, want) //nolint:err113 // a test's
}
