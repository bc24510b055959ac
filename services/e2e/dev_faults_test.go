//go:build faults

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// The tests of this file run one after the other: each has all of Verdict to itself, and a bound on how long its end takes.

// proc is a process as /proc shows it, which no later one of the same number is.
type proc struct {
	pid, parent int
	begun       string
	command     string // program and arguments
}

// procs are all processes that are not zombies.
func procs(t *testing.T) map[int]proc {
	t.Helper()
	all := map[int]proc{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// "pid (name) state parent …", the start is the 22nd.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		var p proc
		p.pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(file)))
		p.parent, _ = strconv.Atoi(fields[1])
		p.begun = fields[19]
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		p.command = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		all[p.pid] = p
	}
	if len(all) == 0 {
		t.Fatal("no process in /proc: these tests are for Linux")
	}
	return all
}

// tree is everything that a run consists of.
type tree struct {
	procs []proc
	addrs []string // that it listens on
}

func (r *devRun) tree(t *testing.T) tree {
	t.Helper()
	all := procs(t)
	var found tree
	mine := map[int]bool{r.cmd.Process.Pid: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if mine[p.parent] && !mine[p.pid] {
				mine[p.pid], grown = true, true
			}
		}
	}
	for pid := range mine {
		found.procs = append(found.procs, all[pid])
	}
	found.addrs = append(found.addrs, r.control, r.decision, r.audit, r.gateway, r.example, r.nats)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", found.named(t, "verdict dev").pid))
	must(t, err)
	for pair := range strings.SplitSeq(string(environ), "\x00") {
		name, value, _ := strings.Cut(pair, "=")
		if slices.Contains([]string{"VERDICT_POSTGRES_URL", "VERDICT_CLICKHOUSE_URL", "VERDICT_CLICKHOUSE_HTTP_URL"}, name) {
			server, err := url.Parse(value)
			must(t, err)
			found.addrs = append(found.addrs, server.Host)
		}
	}
	if len(found.addrs) != 9 || len(found.procs) < 14 { // make, devservers twice, two servers, verdict dev, four times two
		t.Fatalf("a run has %d addresses and %d processes: %v", len(found.addrs), len(found.procs), found)
	}
	return found
}

// named is the process with this in its command line, before its first flag.
func (all tree) named(t *testing.T, command string) proc {
	t.Helper()
	for _, p := range all.procs {
		program, _, _ := strings.Cut(p.command, " --")
		if strings.HasSuffix(program, command) {
			return p
		}
	}
	t.Fatalf("no %s in %v", command, all.procs)
	return proc{}
}

// left is what there still is of it.
func (all tree) left(t *testing.T) error {
	t.Helper()
	var left []string
	living := procs(t)
	for _, p := range all.procs {
		if now, lives := living[p.pid]; lives && now.begun == p.begun {
			left = append(left, fmt.Sprintf("%d %s", p.pid, p.command))
		}
	}
	for _, addr := range all.addrs {
		if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr); err == nil {
			_ = conn.Close()
			left = append(left, "something listens on "+addr)
		}
	}
	if len(left) > 0 {
		return errors.New(strings.Join(left, "\n")) //nolint:err113 // a test's
	}
	return nil
}

// gone wants nothing to be left.
func (all tree) gone(t *testing.T) {
	t.Helper()
	testenv.Within(t, 5*time.Second, "left", func() error { return all.left(t) })
}

func (p proc) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	must(t, syscall.Kill(p.pid, s))
}

// inTerminal is a run that has a terminal to itself; what is written into the terminal is typed.
func (p *playground) inTerminal(t *testing.T) (*devRun, *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { _ = keyboard.Close() })
	fd := int(keyboard.Fd())
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	defer terminal.Close()
	r := &devRun{playground: p}
	r.cmd = p.command(t, "make", "dev")
	r.cmd.Stdin = terminal
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	r.start(t)
	return r, keyboard
}

// client is control's API.
func (p *playground) client() controlv1connect.ControlServiceClient {
	return controlv1connect.NewControlServiceClient(http.DefaultClient, "http://"+p.control)
}

// revision is how far the log has come.
func (p *playground) revision(ctx context.Context) (string, error) {
	page, err := p.client().ListPolicyEngines(ctx, &controlv1.ListPolicyEnginesRequest{})
	return page.GetRevision(), err
}

// What a run has stored is there for the next, which makes nothing anew; Ctrl-C and SIGTERM end it in its orderly way and leave
// nothing that runs; `make reset` waits for that, and then leaves nothing at all.
func TestDevTwice(t *testing.T) {
	p := newPlayground(t)
	first, keyboard := p.inTerminal(t)
	first.serving(t)
	ids := first.shown(t)
	revision, err := p.revision(t.Context())
	must(t, err)
	if out, code := p.reset(t); code == 0 || !strings.Contains(out, "is in use") {
		t.Errorf("make reset under a run exits %d: %s", code, out)
	}
	all := first.tree(t)
	_, err = keyboard.Write([]byte{3}) // Ctrl-C
	must(t, err)
	// make itself always ends by the signal. Of its recipe it would say `Error`, did that not end with 0.
	first.wantStatus(t, "signal: interrupt")
	if strings.Contains(first.errs.String(), "Error") {
		t.Errorf("Ctrl-C is an error:\n%s", &first.errs)
	}
	all.gone(t)

	second := p.dev(t)
	second.serving(t)
	again := second.shown(t)
	if !slices.Equal(again[:3], ids[:3]) {
		t.Errorf("the second run has %v, the first had %v", again, ids)
	}
	now, err := p.revision(t.Context())
	must(t, err)
	if now != revision {
		t.Errorf("the second run moved the log from %s to %s", revision, now)
	}
	for run, n := range map[string][]string{"first": ids, "second": again} {
		query := p.command(t, ".bin/verdict", "query", "--sql", "SELECT count() AS n FROM decisions WHERE decision_id IN ('"+strings.Join(n[3:], "','")+"')")
		out, err := query.CombinedOutput()
		if string(out) != "n\n2\n" {
			t.Errorf("decisions of the %s run: %s %v", run, out, err)
		}
	}
	all = second.tree(t)
	all.named(t, ".bin/devservers").signal(t, syscall.SIGTERM)
	second.wantStatus(t, "exit status 0")
	all.gone(t)
	if out, code := p.reset(t); code != 0 {
		t.Errorf("make reset exits %d: %s", code, out)
	}
	if _, err := os.Stat(p.data); !errors.Is(err, os.ErrNotExist) {
		out, _ := exec.Command("find", p.data).CombinedOutput()
		t.Errorf("make reset leaves %s (%v)", out, err)
	}
}

// Whatever of a run is killed, within five seconds nothing of it runs, and where anybody is left to say so, it says what ended.
func TestDevKilled(t *testing.T) {
	p := newPlayground(t)
	for _, c := range []struct {
		name, process string
		says          []string
	}{
		{"make", "make dev", nil},
		{"devservers", ".bin/devservers", []string{"Killed"}},
		{"its supervisor", "supervise", []string{"its supervisor ended early"}},
		{"verdict dev", ".bin/verdict dev", []string{"Error"}},
		{"a holder", "/.bin/control", []string{"error: control: it ended", "the end of " + p.data + "/control.log:\n"}},
		{"a service", "/.bin/decision", []string{"error: decision: it ended", "the end of " + p.data + "/decision.log:\n", "msg=serving"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := p.dev(t)
			r.serving(t)
			all := r.tree(t)
			victim := all.named(t, c.process)
			if c.name == "a holder" {
				victim = all.named(t, ".bin/verdict hold "+filepath.Join(repository(t), ".bin/control"))
			}
			victim.signal(t, syscall.SIGKILL)
			all.gone(t)
			r.wantStatus(t, map[bool]string{true: "signal: killed", false: "exit status 2"}[c.name == "make"])
			must(t, testenv.Contains(r.errs.String(), c.says...))
		})
	}
}

// A start that is broken off anywhere is completed by the next.
func TestDevInterrupted(t *testing.T) {
	p := newPlayground(t)
	for _, c := range []struct {
		when string
		come func() error
	}{
		{"the keys are being made", func() error {
			return firstOf(filepath.Join(p.data, "keys.new"), filepath.Join(p.data, "keys"))
		}},
		{"there are the keys", func() error { return firstOf(filepath.Join(p.data, "keys")) }},
		{"the databases start", func() error { return firstOf(filepath.Join(p.data, "servers", "postgres.log")) }},
		{"control answers", func() error { _, err := p.revision(t.Context()); return err }},
		{"the engine is there", func() error {
			page, err := p.client().ListPolicyEngines(t.Context(), &controlv1.ListPolicyEnginesRequest{})
			if err == nil && len(page.GetPolicyEngines()) == 0 {
				err = errNotYet
			}
			return err
		}},
	} {
		r := p.dev(t)
		r.until(t, c.when, c.come)
		must(t, syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)) // make and what is in its group
		<-r.done
		testenv.Within(t, 10*time.Second, "the end of the run that was broken off when "+c.when, func() error { return p.free(t) })
	}
	r := p.dev(t)
	r.serving(t)
	r.shown(t)
	engines, err := p.client().ListPolicyEngines(t.Context(), &controlv1.ListPolicyEnginesRequest{})
	must(t, err)
	if len(engines.GetPolicyEngines()) != 1 {
		t.Errorf("engines: %v", engines)
	}
}

// firstOf is nil when one of the files is there.
func firstOf(paths ...string) error {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return errNotYet
}

// free is nil when no process has the folder in its command line.
func (p *playground) free(t *testing.T) error {
	t.Helper()
	for _, other := range procs(t) {
		if strings.Contains(other.command, p.data) {
			return errors.New(other.command) //nolint:err113 // a test's
		}
	}
	return nil
}

// What is missing of the example is made, what is there stays.
func TestDevCompletesTheExample(t *testing.T) {
	p := newPlayground(t)
	first := p.dev(t)
	first.serving(t)
	before := first.shown(t)
	_, err := p.client().DeletePolicy(t.Context(), &controlv1.DeletePolicyRequest{PolicyEngineId: before[0], PolicyId: before[2]})
	must(t, err)
	testenv.Eventually(t, "the policy's end", func() error {
		page, err := p.client().ListPolicies(t.Context(), &controlv1.ListPoliciesRequest{PolicyEngineId: before[0]})
		if err == nil && len(page.GetPolicies()) > 0 {
			err = errNotYet
		}
		return err
	})
	first.tree(t).named(t, ".bin/verdict dev").signal(t, syscall.SIGINT)
	first.wantStatus(t, "exit status 0")
	second := p.dev(t)
	second.serving(t)
	after := second.shown(t)
	if !slices.Equal(after[:2], before[:2]) || after[2] == before[2] {
		t.Errorf("the example was %v, and is %v", before, after)
	}
}
