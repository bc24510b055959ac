package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func findingWith(t *testing.T, findings []finding, word string) finding {
	t.Helper()
	for _, f := range findings {
		if strings.Contains(f.what, word) {
			return f
		}
	}
	t.Fatalf("no finding about %q in %v", word, findings)
	return finding{}
}

// The doctor names the process that holds a port; a free port and this machine are fine.
func TestDoctor(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	defer listener.Close()
	taken := listener.Addr().(*net.TCPAddr).Port
	free, err := newPorts(true).choose(0)
	check(t, err)
	before := devPorts
	t.Cleanup(func() { devPorts = before })
	devPorts = devPorts[:0:0]
	for _, port := range []int{taken, free} {
		devPorts = append(devPorts, struct {
			port int
			name string
		}{port, "test"})
	}
	findings := examine(t.TempDir(), fixed)
	f := findingWith(t, findings, fmt.Sprintf("port %d", taken))
	want(t, "taken port", f.level, failure)
	if !strings.Contains(f.what, fmt.Sprintf("by pid %d (", os.Getpid())) {
		t.Errorf("%q does not name pid %d", f.what, os.Getpid())
	}
	want(t, "free port", findingWith(t, findings, fmt.Sprintf("port %d", free)).level, okay)
	for _, what := range []string{"go 1.", "node ", "npm ", "make ", "git ", "Postgres", "ClickHouse", "cache folder", "data folder"} {
		want(t, what, findingWith(t, findings, what).level, okay)
	}
	want(t, "exit status", doctorCommand([]string{"--data", t.TempDir()}), exitFailed)
}

// Each thing that is missing fails, with its cure.
func TestDoctorFindsWhatIsMissing(t *testing.T) {
	t.Setenv("VERDICT_CACHE_DIR", filepath.Join(openFolder(t), "empty"))
	for _, f := range checkCache()[1:] {
		if f.level != failure || f.cure != "run `make fetch`" {
			t.Errorf("%v", f)
		}
	}
	t.Setenv("PATH", t.TempDir())
	for _, f := range checkTools() {
		if f.level != failure || !strings.Contains(f.what, "not on PATH") || f.cure == "" {
			t.Errorf("%v", f)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	want(t, "a file as data folder", checkFolder("data", filepath.Join(file, "below"))[0].level, failure)
}

func TestPlatforms(t *testing.T) {
	before := platform
	t.Cleanup(func() { platform = before })
	t.Setenv(postgresURL, "")
	t.Setenv(clickhouseURL, "")
	for _, c := range []struct{ platform, postgres, clickhouse string }{
		{"linux/amd64", okay, okay},
		{"linux/arm64", okay, failure},
		{"darwin/arm64", okay, failure},
		{"windows/amd64", failure, failure},
	} {
		platform = c.platform
		findings := checkPlatform()
		want(t, "Postgres on "+c.platform, findings[0].level, c.postgres)
		want(t, "ClickHouse on "+c.platform, findings[1].level, c.clickhouse)
		if c.clickhouse == failure && !strings.Contains(findings[1].cure, "set "+clickhouseURL) {
			t.Errorf("no cure: %v", findings[1])
		}
	}
	t.Setenv(clickhouseURL, "clickhouse://elsewhere")
	want(t, "ClickHouse elsewhere", checkPlatform()[1].level, okay)
}

func TestVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tool := filepath.Join(dir, "tool")
	check(t, os.WriteFile(tool, []byte("#!/bin/sh\necho tool version v$1 linux\n"), 0o755))
	for version, level := range map[string]string{"1.26": okay, "1.26.8": okay, "1.9": failure, "1.25.9": failure, "2.0": okay} {
		want(t, version, checkTool("1.26", "", tool, version).level, level)
	}
}
