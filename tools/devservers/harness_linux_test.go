package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
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

	"github.com/jackc/pgx/v5"
)

// The tests run this test binary as devservers: with the variable set it is the program, and no test.
const actAsProgram = "DEVSERVERS_TEST_ACT_AS_PROGRAM"

var program string // a copy of the test binary that every user can reach

func TestMain(m *testing.M) {
	if os.Getenv(actAsProgram) != "" {
		main()
	}
	dir, err := os.MkdirTemp("", "devservers-test-")
	if err == nil {
		program, err = copyProgram(dir)
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func copyProgram(dir string) (string, error) {
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "devservers")
	return path, os.WriteFile(path, self, 0o755)
}

// person is somebody who runs devservers.
type person struct {
	name       string
	credential *syscall.Credential // nil is the user of the test
}

// people are the user of the test and, when that is root, an ordinary user, who must have a name: initdb asks for it.
func people() []person {
	if os.Getuid() != 0 {
		return []person{{name: "ordinary user"}}
	}
	return []person{{name: "root"}, {"ordinary user", serverUser()}}
}

// home makes a folder that is closed to everybody but the person.
func (p person) home(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "devservers-home-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o700))
	if p.credential != nil {
		check(t, os.Chown(dir, int(p.credential.Uid), int(p.credential.Gid)))
	}
	return dir
}

// command returns devservers, to be started by the person in a home and with temporary data in it.
func (p person) command(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	cache, err := cacheDir()
	check(t, err)
	cmd := exec.Command(program, args...)
	cmd.Env = []string{
		actAsProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "VERDICT_CACHE_DIR=" + cache,
	}
	cmd.Dir = home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential, Setpgid: true}
	return cmd
}

// run is a started devservers whose command lives until the test ends its input.
type run struct {
	t      *testing.T
	cmd    *exec.Cmd
	input  io.Closer
	env    map[string]string
	stderr *bytes.Buffer
}

// waiting prints the variables and a line "ready", then waits for the end of its input.
var waiting = []string{"--", "sh", "-c", "env | grep ^VERDICT_; echo ready; cat >/dev/null"}

// startRun returns when the command runs.
func (p person) startRun(t *testing.T, home string, args ...string) *run {
	t.Helper()
	return startCommand(t, p.command(t, home, append(args, waiting...)...))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *run {
	t.Helper()
	r := &run{t: t, cmd: cmd, env: map[string]string{}, stderr: &bytes.Buffer{}}
	var err error
	r.input, err = cmd.StdinPipe()
	check(t, err)
	output, err := cmd.StdoutPipe()
	check(t, err)
	cmd.Stderr = r.stderr
	cmd.WaitDelay = 5 * time.Second // what escaped holds the pipes open
	check(t, cmd.Start())
	t.Cleanup(func() { _ = r.input.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewScanner(output)
	for lines.Scan() && lines.Text() != "ready" {
		name, value, _ := strings.Cut(lines.Text(), "=")
		r.env[name] = value
	}
	if lines.Text() != "ready" {
		_ = cmd.Wait()
		t.Fatalf("the command did not start: %v\n%s", cmd.ProcessState, r.stderr)
	}
	return r
}

// end lets the command end and returns devservers' exit status.
func (r *run) end() int {
	r.t.Helper()
	check(r.t, r.input.Close())
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

// sql runs statements in Postgres and returns the first column of the last one's row, if it has one.
func (r *run) sql(statements ...string) string {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.env[postgresURL])
	check(r.t, err)
	defer conn.Close(context.WithoutCancel(r.t.Context()))
	var value string
	for _, s := range statements {
		rows, err := conn.Query(r.t.Context(), s)
		check(r.t, err)
		for rows.Next() {
			check(r.t, rows.Scan(&value))
		}
		check(r.t, rows.Err())
	}
	return value
}

// clickhouse runs statements in ClickHouse over HTTP and returns the last one's answer.
func (r *run) clickhouse(statements ...string) (string, error) {
	var answer string
	for _, s := range statements {
		response, err := http.Post(r.env[clickhouseHTTPURL], "text/plain", strings.NewReader(s))
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return "", err
		}
		if response.StatusCode != http.StatusOK {
			return "", fmt.Errorf("%s: %s", response.Status, body)
		}
		answer = strings.TrimSpace(string(body))
	}
	return answer, nil
}

func (r *run) mustClickhouse(statements ...string) string {
	r.t.Helper()
	answer, err := r.clickhouse(statements...)
	check(r.t, err)
	return answer
}

// ports returns the ports of all servers of the run.
func (r *run) ports() []int {
	r.t.Helper()
	var all []int
	for _, name := range []string{postgresURL, clickhouseURL, clickhouseHTTPURL} {
		u, err := url.Parse(r.env[name])
		check(r.t, err)
		port, err := strconv.Atoi(u.Port())
		check(r.t, err)
		all = append(all, port)
	}
	return all
}

// processes returns the pids of devservers and all below it.
func (r *run) processes() []int {
	pids := []int{r.cmd.Process.Pid}
	for _, d := range descendants(r.cmd.Process.Pid) {
		pids = append(pids, d.pid)
	}
	return pids
}

// processWith returns the one descendant that has word as an argument.
func (r *run) processWith(word string) int {
	r.t.Helper()
	for _, pid := range r.processes()[1:] {
		if slices.Contains(strings.Fields(commandLine(pid)), word) {
			return pid
		}
	}
	r.t.Fatalf("no process with %q below devservers", word)
	return 0
}

func living(pids []int) []string {
	var found []string
	for _, pid := range pids {
		if p, ok := readStat(fmt.Sprintf("/proc/%d/stat", pid)); ok && !p.zombie {
			found = append(found, fmt.Sprintf("%d (%s)", pid, commandLine(pid)))
		}
	}
	return found
}

func listening(ports []int) []int {
	return slices.DeleteFunc(slices.Clone(ports), func(port int) bool {
		conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// eventually waits until problem returns "" and fails the test when it still has one after d.
func eventually(t *testing.T, d time.Duration, problem func() string) {
	t.Helper()
	began := time.Now()
	for range time.Tick(10 * time.Millisecond) {
		p := problem()
		if p == "" {
			t.Logf("after %v", time.Since(began).Round(10*time.Millisecond))
			return
		}
		if time.Since(began) > d {
			t.Fatalf("still after %v: %s", d, p)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want[T comparable](t *testing.T, what string, got, wanted T) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: got %v, want %v", what, got, wanted)
	}
}
