package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every kind of user gets both servers, with data below a home that is closed to others, and keeps the data.
func TestServersAndTheirData(t *testing.T) {
	for _, p := range people() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			home := p.home(t)
			data := filepath.Join(home, "deep", "data")
			began := time.Now()
			first := p.startRun(t, home, "--ports", "free", "--data", data)
			t.Logf("new data: ready after %v", time.Since(began))
			want(t, "Postgres", first.sql("CREATE TABLE kept (x text)", "INSERT INTO kept VALUES ('yes')", "SHOW server_version"), "18.4")
			want(t, "fsync", first.sql("SHOW fsync"), "on")
			want(t, "max_connections", first.sql("SHOW max_connections"), "200")
			want(t, "ClickHouse", first.mustClickhouse("CREATE TABLE kept (x String) ENGINE = MergeTree ORDER BY x",
				"INSERT INTO kept VALUES ('yes')", "SELECT substring(version(), 1, 5)"), "26.7.")
			all := first.processes()
			want(t, "exit status", first.end(), 0)
			want(t, "left", strings.Join(living(all), ", "), "")

			began = time.Now()
			second := p.startRun(t, home, "--ports", "free", "--data", data)
			t.Logf("kept data: ready after %v", time.Since(began))
			want(t, "kept in Postgres", second.sql("SELECT x FROM kept"), "yes")
			want(t, "kept in ClickHouse", second.mustClickhouse("SELECT x FROM kept"), "yes")
			want(t, "exit status", second.end(), 0)
		})
	}
}

// Two runs side by side; a third that wants the first's data is told who has it, and so is a reset.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	p := people()[0]
	home := p.home(t)
	data := filepath.Join(home, "data")
	first := p.startRun(t, home, "--ports", "free", "--data", data)
	second := p.startRun(t, home, "--ports", "free")
	want(t, "fsync of temporary data", second.sql("SHOW fsync"), "off")
	first.sql("CREATE TABLE only_here (x int)")
	want(t, "tables of the other run", second.sql("SELECT count(*)::text FROM pg_tables WHERE tablename = 'only_here'"), "0")

	holder := fmt.Sprint("pid ", first.processWith("supervise"))
	for _, args := range [][]string{{"--ports", "free", "--data", data, "--", "true"}, {"reset", "--data", data}} {
		output, err := p.command(t, home, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(output), holder) || strings.Count(string(output), "\n") != 1 {
			t.Errorf("%v: %v, %q; want one line that names %s", args, err, output, holder)
		}
	}
	want(t, "exit status", first.end(), 0)
	want(t, "exit status", second.end(), 0)
	if _, err := p.command(t, home, "reset", "--data", data).CombinedOutput(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after reset: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(home, "verdict-devservers-*", "run-*"))
	want(t, "temporary data left", len(left), 0)
}

// A reset leaves alone what devservers did not make.
func TestResetKeepsOtherFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600))
	check(t, os.Mkdir(filepath.Join(dir, "postgres"), 0o700))
	check(t, reset(dir))
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 1 || entries[0].Name() != "mine" {
		t.Errorf("left: %v", entries)
	}
}

// ClickHouse comes back with the same ports and data, killed or aborted by stray bytes on its native port.
func TestClickhouseComesBack(t *testing.T) {
	t.Parallel()
	p := people()[0]
	r := p.startRun(t, p.home(t), "--ports", "free", "--only", "clickhouse")
	r.mustClickhouse("CREATE TABLE kept (x String) ENGINE = MergeTree ORDER BY x", "INSERT INTO kept VALUES ('yes')")
	kill := func() { check(t, syscall.Kill(r.processWith(clickhouseChildCmd), syscall.SIGKILL)) }
	// Whether stray bytes abort it, and when, is ClickHouse's affair: it must answer afterwards.
	stray := func() {
		u, err := url.Parse(r.env[clickhouseURL])
		check(t, err)
		sendStrayBytes(t, u.Host)
	}
	for _, harm := range []func(){kill, stray} {
		harm()
		eventually(t, 10*time.Second, func() string {
			x, err := r.clickhouse("SELECT x FROM kept")
			if err != nil {
				return err.Error()
			}
			return strings.TrimPrefix(x, "yes")
		})
	}
	want(t, "exit status", r.end(), 0)
	if !strings.Contains(r.stderr.String(), "starting it again on the same ports and data") {
		t.Errorf("nothing was said: %q", r.stderr)
	}
}

// A ClickHouse that dies again and again ends the run with an error.
func TestClickhouseGivesUp(t *testing.T) {
	t.Parallel()
	p := people()[0]
	r := p.startRun(t, p.home(t), "--ports", "free", "--only", "clickhouse")
	killed := 0
	eventually(t, 30*time.Second, func() string {
		for _, pid := range r.processes()[1:] {
			if strings.Contains(commandLine(pid), clickhouseChildCmd) && pid != killed {
				killed = pid
				check(t, syscall.Kill(pid, syscall.SIGKILL))
			}
		}
		if len(living([]int{r.cmd.Process.Pid})) == 0 {
			return ""
		}
		return "devservers runs"
	})
	want(t, "exit status", r.end(), exitFailed)
	if !strings.Contains(r.stderr.String(), "clickhouse died 5 times within 30s") {
		t.Errorf("said: %q", r.stderr)
	}
}

// A Postgres that is lost ends the run, with the end of its log.
func TestPostgresLost(t *testing.T) {
	t.Parallel()
	p := people()[0]
	r := p.startRun(t, p.home(t), "--ports", "free", "--only", "postgres")
	check(t, syscall.Kill(r.processWith("-D"), syscall.SIGKILL))
	_ = r.cmd.Wait()
	want(t, "exit status", r.cmd.ProcessState.ExitCode(), exitFailed)
	if !strings.Contains(r.stderr.String(), "postgres ended by itself (signal: killed)") {
		t.Errorf("said: %q", r.stderr)
	}
}

// Users of ClickHouse come from the file that is named.
func TestClickhouseUsers(t *testing.T) {
	t.Parallel()
	p := people()[0]
	home := p.home(t)
	users := filepath.Join(home, "us & ers.xml")
	own := strings.Replace(defaultUsers, "<users>", "<users><reader><password>secret</password><grants>"+
		"<query>GRANT SELECT ON system.one</query></grants></reader>", 1)
	check(t, os.WriteFile(users, []byte(own), 0o600))
	r := p.startRun(t, home, "--ports", "free", "--only", "clickhouse", "--clickhouse-users", users)
	r.env[clickhouseHTTPURL] += "/?user=reader&password=secret"
	want(t, "who", r.mustClickhouse("SELECT currentUser() FROM system.one"), "reader")
	if _, err := r.clickhouse("CREATE TABLE x (x Int8) ENGINE = Memory"); err == nil {
		t.Error("a user without the right created a table")
	}
	want(t, "exit status", r.end(), 0)
}

// What cannot work is said in one line before anything is started.
func TestRefusals(t *testing.T) {
	t.Parallel()
	p := people()[0]
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--ports", "free", "--", "no-such-program"}, exitNotFound, "no-such-program"},
		{[]string{"--ports", "free"}, exitUsage, "say what to run"},
		{[]string{"--ports", "some", "--", "true"}, exitUsage, "fixed or free"},
		{[]string{"--only", "mysql", "--", "true"}, exitUsage, "postgres, clickhouse"},
		{[]string{"--unknown", "--", "true"}, exitUsage, "-unknown"},
		{[]string{"--clickhouse-users", "no-such-file", "--", "true"}, exitUsage, "no-such-file"},
		{[]string{"reset"}, exitUsage, "reset --data DIR"},
	} {
		cmd := p.command(t, t.TempDir(), c.args...)
		output, _ := cmd.CombinedOutput()
		want(t, fmt.Sprint("exit status of ", c.args), cmd.ProcessState.ExitCode(), c.status)
		if !strings.Contains(string(output), c.says) || strings.Count(string(output), "\n") != 1 {
			t.Errorf("%v said %q, want one line with %q", c.args, output, c.says)
		}
	}
}

// Without packages a run says how to get them.
func TestNotFetched(t *testing.T) {
	t.Parallel()
	p := people()[0]
	cmd := p.command(t, p.home(t), "--ports", "free", "--only", "postgres", "--", "true")
	cmd.Env = append(cmd.Env, "VERDICT_CACHE_DIR="+t.TempDir())
	output, _ := cmd.CombinedOutput()
	want(t, "exit status", cmd.ProcessState.ExitCode(), exitFailed)
	if !strings.Contains(string(output), "run `make fetch`") || strings.Count(string(output), "\n") != 1 {
		t.Errorf("said %q", output)
	}
}

// A server whose URL is set is not started, and the command sees the URL as it was.
func TestOwnServers(t *testing.T) {
	t.Parallel()
	p := people()[0]
	cmd := p.command(t, p.home(t), waiting...)
	cmd.Env = append(cmd.Env, postgresURL+"=mine", clickhouseURL+"=mine too", "VERDICT_CACHE_DIR=/nonexistent")
	r := startCommand(t, cmd)
	want(t, postgresURL, r.env[postgresURL], "mine")
	want(t, clickhouseURL, r.env[clickhouseURL], "mine too")
	want(t, "exit status", r.end(), 0)
}

func sendStrayBytes(t *testing.T, address string) {
	t.Helper()
	conn := dial(t, address)
	_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	_, _ = io.ReadAll(conn) // until the server is done with it
	conn.Close()
}
