package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const stagingPrefix = "staging-"

// fetchCommand downloads the packages of this platform that the cache lacks. A platform without a package for one of
// the servers still gets the other.
func fetchCommand(args []string) int {
	if err := newFlagSet("fetch").Parse(args); err != nil {
		return usageError(err)
	}
	cache, err := cacheDir()
	if err == nil {
		err = fetchAll(cache)
	}
	if err != nil {
		say("fetch: %v", err)
		return exitFailed
	}
	return 0
}

func fetchAll(cache string) error {
	wanted, missing := platformPacks()
	if len(wanted) == 0 {
		return missing
	}
	if missing != nil {
		say("fetch: %v", missing)
	}
	if allFetched(cache, wanted) {
		return nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("%w (VERDICT_CACHE_DIR names another folder)", err)
	}
	if serverUser() != nil {
		if err := reachable(cache); err != nil {
			return err
		}
	}
	lock, err := lockFetch(cache)
	if err != nil {
		return err
	}
	defer lock.Close()
	f := &fetcher{family: newFamily(), interrupted: make(chan os.Signal, 1)}
	signal.Notify(f.interrupted, forwarded...)
	for _, p := range wanted {
		if p.fetched(cache) {
			continue // by whom we waited for
		}
		if err := f.fetch(p, cache); err != nil {
			return fmt.Errorf("%s %s: %w", p.name, p.version, err)
		}
	}
	allFetched(cache, wanted) // says where they are
	return nil
}

// fetcher downloads packages, one after the other.
type fetcher struct {
	family      *family
	interrupted chan os.Signal
}

// platformPacks returns the packages of this platform, and an error for each server that has none.
func platformPacks() (found []pack, missing error) {
	for _, s := range startable {
		p, err := packOf(s.packs, s.name, s.variable)
		if err == nil {
			found = append(found, p)
		}
		missing = errors.Join(missing, err)
	}
	return found, missing
}

func allFetched(cache string, packs []pack) bool {
	for _, p := range packs {
		if !p.fetched(cache) {
			return false
		}
	}
	for _, p := range packs {
		say("fetch: %s %s is in %s", p.name, p.version, p.dir(cache))
	}
	return true
}

// lockFetch waits for another fetch into the same cache, and removes what one that was killed has left.
func lockFetch(cache string) (*os.File, error) {
	lock, err := openLock(filepath.Join(cache, "fetch.lock"))
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		say("fetch: waiting for another fetch into %s", cache)
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			return nil, err
		}
	}
	left, _ := filepath.Glob(filepath.Join(cache, stagingPrefix+"*"))
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	return lock, nil
}

// fetch makes the package in a folder beside its place, and moves it there when it is complete: what has the package's
// name is the whole package, whenever a fetch is interrupted.
func (f *fetcher) fetch(p pack, cache string) (err error) {
	staging, err := os.MkdirTemp(cache, stagingPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	if err := f.install(p, staging); err != nil {
		return err
	}
	if err := p.checkIntegrity(staging); err != nil {
		return err
	}
	made := filepath.Join(staging, "node_modules", filepath.FromSlash(p.name))
	if err := f.hydrateSymlinks(made); err != nil {
		return err
	}
	if err := openToAll(made); err != nil {
		return err
	}
	if err := os.RemoveAll(p.dir(cache)); err != nil { // a folder without the file that the server is started from
		return err
	}
	return os.Rename(made, p.dir(cache))
}

// install runs npm and prints how far it has come.
func (f *fetcher) install(p pack, staging string) error {
	cmd := exec.Command("npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund",
		"--prefix", staging, p.name+"@"+p.version)
	cmd.Dir = staging // an .npmrc of the folder we were started in is none of our business
	return f.run(cmd, filepath.Join(staging, "npm.log"), func() { p.progress(staging) })
}

// run waits for a program of Node and calls progress every second. Its output goes to a file, not through a pipe: a
// pipe would be held open by what the program leaves behind.
func (f *fetcher) run(cmd *exec.Cmd, log string, progress func()) error {
	output, err := os.Create(log)
	if err != nil {
		return err
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = dieWithParent(&syscall.SysProcAttr{})
	process, err := f.family.start(cmd)
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w: install Node.js 20 or newer", err)
	}
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		progress()
		select {
		case <-tick.C:
		case s := <-f.interrupted:
			process.stop(syscall.SIGKILL, time.Second)
			f.family.killAll()
			return fmt.Errorf("interrupted (%v); nothing half-done is left", s)
		case <-process.done:
			progress()
			if process.err != nil {
				return fmt.Errorf("%s: %w\n%s", cmd.Args[0], process.err, lastLines(log))
			}
			return nil
		}
	}
}

func (p pack) progress(dir string) {
	say("fetch: %s %s … %d MB", p.name, p.version, folderSize(dir)>>20)
}

func folderSize(dir string) int64 {
	var size int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // npm moves files while we count
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}

// checkIntegrity compares what npm has installed, as its own record says, with the pinned checksum.
func (p pack) checkIntegrity(staging string) error {
	text, err := os.ReadFile(filepath.Join(staging, "node_modules", ".package-lock.json"))
	if err != nil {
		return fmt.Errorf("npm installed nothing for this platform: %w", err)
	}
	var record struct {
		Packages map[string]struct{ Integrity string }
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return err
	}
	if got := record.Packages["node_modules/"+p.name].Integrity; got != p.integrity {
		return fmt.Errorf("npm installed a package with checksum %q, wanted %q", got, p.integrity)
	}
	return nil
}

// hydrateSymlinks runs the package's own script for its library links, which npm leaves out. It works on the folder
// it is started in.
func (f *fetcher) hydrateSymlinks(dir string) error {
	script := filepath.Join("scripts", "hydrate-symlinks.js")
	if _, err := os.Stat(filepath.Join(dir, script)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	cmd := exec.Command("node", script)
	cmd.Dir = dir
	return f.run(cmd, filepath.Join(filepath.Dir(dir), "hydrate.log"), func() {})
}

// openToAll lets every user read the package, whatever the umask: root's Postgres runs as nobody.
func openToAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
