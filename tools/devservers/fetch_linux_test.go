package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeNPM stands for npm, which would need the network: it makes the file that a package is known by, and the record
// with the checksum. It hangs half-way when FAKE_NPM is "hangs", and fails when it is "fails".
func fakeNPM(t *testing.T, integrity func(pack) string) (path string) {
	t.Helper()
	packs, err := platformPacks()
	check(t, err)
	var script strings.Builder
	script.WriteString(`#!/bin/sh
[ "$FAKE_NPM" = fails ] && { echo "no network" >&2; exit 1; }
while [ $# -gt 1 ]; do [ "$1" = --prefix ] && dir=$2; shift; done
case $1 in
`)
	for _, p := range packs {
		script.WriteString(fmt.Sprintf("%s@%s) name=%s marker=%s integrity=%s;;\n", p.name, p.version, p.name, p.marker, integrity(p)))
	}
	script.WriteString(`*) echo "unexpected: $1" >&2; exit 1
esac
file=$dir/node_modules/$name/$marker
mkdir -p "$(dirname "$file")"
echo half >"$file"
[ "$FAKE_NPM" = hangs ] && exec sleep 1000
echo whole >"$file"
printf '{"packages":{"node_modules/%s":{"integrity":"%s"}}}' "$name" "$integrity" >"$dir/node_modules/.package-lock.json"
`)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "npm"), []byte(script.String()), 0o755))
	return dir + ":" + os.Getenv("PATH")
}

func pinned(p pack) string { return p.integrity }

// fetching returns `devservers fetch` into cache, under the strictest umask.
func fetching(t *testing.T, cache, path, npm string) *exec.Cmd {
	t.Helper()
	cmd := people()[0].command(t, t.TempDir(), "fetch")
	cmd.Path = "/bin/sh"
	cmd.Args = []string{"sh", "-c", `umask 077; exec "$0" fetch`, program}
	cmd.Env = append(cmd.Env, "VERDICT_CACHE_DIR="+cache, "PATH="+path, "FAKE_NPM="+npm)
	return cmd
}

// openFolder is a folder that all users can reach, as a cache of root's has to be.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "devservers-cache-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	return dir
}

// An interrupted fetch leaves no half package and no process, and the next fetch is complete.
func TestFetchInterrupted(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			cache, path := openFolder(t), fakeNPM(t, pinned)
			packs, err := platformPacks()
			check(t, err)
			cmd := fetching(t, cache, path, "hangs")
			check(t, cmd.Start())
			eventually(t, 10*time.Second, func() string {
				if half, _ := filepath.Glob(filepath.Join(cache, stagingPrefix+"*", "node_modules", "*", "*", packs[0].marker)); len(half) == 0 {
					return "nothing half-done"
				}
				return ""
			})
			npm := descendants(cmd.Process.Pid)
			check(t, cmd.Process.Signal(s))
			_ = cmd.Wait()
			eventually(t, 5*time.Second, func() string { return strings.Join(living([]int{npm[0].pid}), "") })
			for _, p := range packs {
				want(t, p.name+" after the interruption", p.fetched(cache), false)
			}
			output, err := fetching(t, cache, path, "works").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			checkFetched(t, cache, packs)
		})
	}
}

// checkFetched wants whole packages that everybody can read, and nothing besides.
func checkFetched(t *testing.T, cache string, packs []pack) {
	t.Helper()
	expected := []string{"fetch.lock"}
	for _, p := range packs {
		expected = append(expected, filepath.Base(p.dir(cache)))
		text, err := os.ReadFile(filepath.Join(p.dir(cache), p.marker))
		check(t, err)
		want(t, p.name, string(text), "whole\n")
		info, err := os.Stat(filepath.Join(p.dir(cache), p.marker))
		check(t, err)
		want(t, "mode", info.Mode().Perm()&0o444, 0o444)
		check(t, reachable(filepath.Dir(filepath.Join(p.dir(cache), p.marker))))
	}
	entries, err := os.ReadDir(cache)
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(expected)
	want(t, "in the cache", strings.Join(names, " "), strings.Join(expected, " "))
}

// A second fetch asks nobody; the error of a failed one has npm's words; a package other than the pinned is refused.
func TestFetch(t *testing.T) {
	t.Parallel()
	cache := openFolder(t)
	output, err := fetching(t, cache, fakeNPM(t, pinned), "fails").CombinedOutput()
	if err == nil || !strings.Contains(string(output), "no network") {
		t.Errorf("without network: %v, %q", err, output)
	}
	output, err = fetching(t, cache, fakeNPM(t, func(pack) string { return "sha512-other" }), "works").CombinedOutput()
	if err == nil || !strings.Contains(string(output), `checksum "sha512-other", wanted "sha512-`) {
		t.Errorf("another package: %v, %q", err, output)
	}
	for _, npm := range []string{"works", "fails"} {
		if output, err := fetching(t, cache, fakeNPM(t, pinned), npm).CombinedOutput(); err != nil {
			t.Errorf("fetch, npm %s: %v\n%s", npm, err, output)
		}
	}
}

// A cache that the user nobody cannot reach is of no use to root, and says so.
func TestFetchIntoClosedFolder(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(people()[0].home(t), "cache")
	output, err := fetching(t, closed, fakeNPM(t, pinned), "works").CombinedOutput()
	if os.Getuid() != 0 {
		check(t, err)
		return
	}
	if err == nil || !strings.Contains(string(output), "VERDICT_CACHE_DIR") {
		t.Errorf("%v, %q", err, output)
	}
}
