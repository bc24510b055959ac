package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withoutServers returns a devservers that starts its command only.
func withoutServers(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	p := people()[0]
	cmd := p.command(t, p.home(t), args...)
	cmd.Env = append(cmd.Env, postgresURL+"=none", clickhouseURL+"=none")
	return cmd
}

// The exit status is the command's, and as a shell has it when a signal ended the command.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	for script, status := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 128 + 9, "kill -TERM $$": 128 + 15} {
		cmd := withoutServers(t, "--", "sh", "-c", script)
		_ = cmd.Run()
		want(t, script, cmd.ProcessState.ExitCode(), status)
	}
}

// The command has the input, the output and the errors of devservers.
func TestStandardStreams(t *testing.T) {
	t.Parallel()
	cmd := withoutServers(t, "--", "sh", "-c", "cat; echo problem >&2")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("hello"), &out, &errs
	check(t, cmd.Run())
	want(t, "stdout", out.String(), "hello")
	want(t, "stderr", errs.String(), "problem\n")
}

// Signals reach the command once, and it may take its time to end.
func TestSignalsAreForwarded(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP} {
		script := fmt.Sprintf("n=0; trap 'n=$((n+1)); read x; exit $((40+n))' %s; echo ready; while :; do read x || :; done", name)
		r := startCommand(t, withoutServers(t, "--", "sh", "-c", script))
		r.processWith("sh")
		check(t, r.cmd.Process.Signal(s))
		want(t, name, r.end(), 41)
	}
}

// A process that the command leaves behind ends with the run, whatever group or session it is in.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	script := "sleep 1000 & setsid sleep 1001 & (setsid sh -c 'sleep 1002 & sleep 1003' &) ; echo ready; cat >/dev/null"
	r := startCommand(t, withoutServers(t, "--", "sh", "-c", script))
	var all []int
	eventually(t, 5*time.Second, func() string {
		all = r.processes()
		if len(living(all)) < 9 { // devservers, supervisor, sh, cat, four sleeps, sh
			return fmt.Sprint(living(all))
		}
		return ""
	})
	want(t, "exit status", r.end(), 0)
	want(t, "left", strings.Join(living(all), ", "), "")
}

// Orphans are collected at once: a zombie would look alive to whoever checks that it ended.
func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	// The orphan ends when the fifo has been written, after its parent.
	script := "mkfifo f; orphan=$( (cat f >/dev/null & echo $!) ); : >f; " +
		"while kill -0 $orphan 2>/dev/null; do :; done; echo ready; cat >/dev/null"
	r := startCommand(t, withoutServers(t, "--", "sh", "-c", script))
	want(t, "exit status", r.end(), 0)
}

// However a run is killed, within five seconds it has no process and no port left, and its temporary data is gone or
// goes with the next run.
func TestKilled(t *testing.T) {
	const deadline = 5 * time.Second
	for name, kill := range map[string]func(t *testing.T, r *run){
		"devservers": func(t *testing.T, r *run) { check(t, r.cmd.Process.Kill()) },
		"supervisor": func(t *testing.T, r *run) { check(t, syscall.Kill(r.processWith("supervise"), syscall.SIGKILL)) },
		"both": func(t *testing.T, r *run) {
			supervisor := r.processWith("supervise")
			check(t, r.cmd.Process.Kill())
			check(t, syscall.Kill(supervisor, syscall.SIGKILL))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := people()[0]
			home := p.home(t)
			script := []string{"--", "sh", "-c", "env | grep ^VERDICT_; trap '' TERM INT HUP; setsid sleep 1000 & echo ready; exec cat"}
			if name == "both" { // nobody is left to find grandchildren
				script = []string{"--", "sh", "-c", "env | grep ^VERDICT_; echo ready; exec cat"}
			}
			r := startCommand(t, p.command(t, home, append([]string{"--ports", "free"}, script...)...))
			conn := dial(t, fmt.Sprintf("127.0.0.1:%d", r.ports()[0])) // a client that stays
			defer conn.Close()
			all, ports := r.processes(), r.ports()
			kill(t, r)
			eventually(t, deadline, func() string { return remaining(all, ports) })
			next := p.command(t, home, "--ports", "free", "--only", "postgres", "--", "true")
			next.Env = append(next.Env, postgresURL+"=", "TMPDIR="+home)
			check(t, next.Run())
			left, _ := filepath.Glob(filepath.Join(home, "verdict-devservers-*", "run-*"))
			want(t, "temporary data left", len(left), 0)
		})
	}
}

// Devservers does not outlive who started it.
func TestParentKilled(t *testing.T) {
	t.Parallel()
	p := people()[0]
	home := p.home(t)
	inner := p.command(t, home, append([]string{"--ports", "free"}, waiting...)...)
	shell := exec.Command("sh", append([]string{"-c", `"$0" "$@"; exit $?`, inner.Path}, inner.Args[1:]...)...)
	shell.Env, shell.Dir, shell.SysProcAttr = inner.Env, inner.Dir, inner.SysProcAttr
	r := startCommand(t, shell)
	all, ports := r.processes(), r.ports()
	check(t, r.cmd.Process.Kill())
	eventually(t, 5*time.Second, func() string { return remaining(all, ports) })
	left, _ := filepath.Glob(filepath.Join(home, "verdict-devservers-*", "run-*"))
	want(t, "temporary data left", len(left), 0)
}

// A run that is broken off while its servers start leaves nothing, and has the status of the signal.
func TestStartBrokenOff(t *testing.T) {
	t.Parallel()
	p := people()[0]
	home := p.home(t)
	for _, word := range []string{"supervise", "-D", clickhouseChildCmd} {
		cmd := p.command(t, home, "--ports", "free", "--", "echo", "the command ran")
		var output bytes.Buffer
		cmd.Stdout = &output
		check(t, cmd.Start())
		r := &run{t: t, cmd: cmd}
		eventually(t, 10*time.Second, func() string {
			for _, pid := range r.processes()[1:] {
				if strings.Contains(commandLine(pid), word) {
					return ""
				}
			}
			return "no process with " + word
		})
		all := r.processes()
		check(t, cmd.Process.Signal(syscall.SIGINT))
		_ = cmd.Wait()
		want(t, "exit status", cmd.ProcessState.ExitCode(), exitSignalled+int(syscall.SIGINT))
		want(t, "left", strings.Join(living(all), ", "), "")
		want(t, "output", output.String(), "")
	}
	left, _ := filepath.Glob(filepath.Join(home, "verdict-devservers-*", "run-*"))
	want(t, "temporary data left", len(left), 0)
}

func remaining(pids, ports []int) string {
	if left := living(pids); len(left) > 0 {
		return fmt.Sprintf("processes %v", left)
	}
	if left := listening(ports); len(left) > 0 {
		return fmt.Sprintf("ports %v", left)
	}
	return ""
}

// Ctrl-C in a terminal reaches the command once, and the command can read the terminal.
func TestTerminal(t *testing.T) {
	t.Parallel()
	master, terminal := openTerminal(t)
	script := "n=0; trap 'n=$((n+1)); echo interrupt $n' INT; echo ready; read a; read a; echo got $a; exit $n"
	cmd := withoutServers(t, "--", "sh", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	check(t, cmd.Start())
	terminal.Close()
	late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var seen strings.Builder
	expect := func(text string) {
		t.Helper()
		for buffer := make([]byte, 256); !strings.Contains(seen.String(), text); {
			n, err := master.Read(buffer)
			if err != nil {
				t.Fatalf("no %q in %q: %v", text, seen.String(), err)
			}
			seen.Write(buffer[:n])
		}
	}
	expect("ready")
	_, err := io.WriteString(master, "\x03")
	check(t, err)
	expect("interrupt 1")
	_, err = io.WriteString(master, "one\ntwo\n")
	check(t, err)
	expect("got")
	_ = cmd.Wait()
	want(t, "interrupts", cmd.ProcessState.ExitCode(), 1)
}

func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	check(t, err)
	t.Cleanup(func() { master.Close() })
	check(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	check(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	check(t, err)
	return master, terminal
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp4", address)
	check(t, err)
	check(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn
}
