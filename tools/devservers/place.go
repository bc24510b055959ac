package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// place is the folder a run has for itself: the servers' data and logs. It is locked as long as the supervisor lives.
type place struct {
	dir       string
	temporary bool
	lock      *os.File
}

// owned lists what a place holds. Nothing else in the folder is ever removed.
var owned = []string{
	"postgres", "postgres.new", "postgres.log", caCert, caKey, "clickhouse", "clickhouse.log", "clickhouse.xml", "users.xml", lockName,
}

const lockName = "devservers.lock"

// inUseError says which process holds a place.
type inUseError struct{ dir, pid string }

func (e *inUseError) Error() string {
	return fmt.Sprintf("%s is in use by devservers, pid %s: end that one, or use another --data", e.dir, e.pid)
}

func openPlace(data string) (*place, error) {
	if data == "" {
		return newTemporaryPlace()
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	lock, err := lockFolder(data)
	if err != nil {
		return nil, err
	}
	p := &place{dir: data, lock: lock}
	for _, log := range []string{"postgres.log", "clickhouse.log"} { // of the run before
		if err := os.Remove(p.path(log)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return p, nil
}

// newTemporaryPlace also removes the places of runs that were killed before they could.
func newTemporaryPlace() (*place, error) {
	base, err := temporaryBase()
	if err != nil {
		return nil, err
	}
	// Held over sweep and creation, so that no run sweeps a folder that another has made and not locked yet.
	guard, err := openLock(filepath.Join(base, "sweep.lock"))
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	if err := syscall.Flock(int(guard.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	sweep(base)
	dir, err := os.MkdirTemp(base, "run-")
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	return &place{dir: dir, temporary: true, lock: lock}, nil
}

// temporaryBase refuses a folder that another user could have put there.
func temporaryBase() (string, error) {
	base := filepath.Join(os.TempDir(), "verdict-devservers-"+strconv.Itoa(os.Getuid()))
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(base)
	if err != nil {
		return "", err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s is not a folder of yours alone: remove it, or set TMPDIR", base)
	}
	return base, nil
}

func sweep(base string) {
	dirs, _ := filepath.Glob(filepath.Join(base, "run-*"))
	for _, dir := range dirs {
		lock, err := lockFolder(dir)
		if err != nil {
			continue // in use, or gone
		}
		_ = os.RemoveAll(dir)
		lock.Close()
	}
}

// lockFolder locks dir until the file is closed or this process ends. The lock is the kernel's: the pid in the file
// is only there to be named, so a file left behind locks nothing.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	for {
		f, err := openLock(path)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			pid, _ := os.ReadFile(path)
			f.Close()
			if !errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock %s: %w", path, err)
			}
			return nil, &inUseError{dir, strings.TrimSpace(string(pid))}
		}
		if !sameFile(f, path) {
			f.Close() // removed by a reset between open and lock
			continue
		}
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		_, err = fmt.Fprintln(f, os.Getpid())
		return f, err
	}
}

func openLock(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644) }

func sameFile(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(opened, named)
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// close ends the run's hold on the folder, and removes it when it is temporary. No server may be running.
func (p *place) close() {
	if p.temporary {
		if err := os.RemoveAll(p.dir); err != nil {
			say("%v (the next run removes it)", err)
		}
	}
	p.lock.Close()
}

// resetCommand removes the data of a folder that no run uses.
func resetCommand(args []string) int {
	var data string
	flags := newFlagSet("reset")
	flags.StringVar(&data, "data", "", "")
	if err := flags.Parse(args); err != nil {
		return usageError(err)
	}
	if data == "" || flags.NArg() > 0 {
		return usageError(errors.New("say which data: devservers reset --data DIR"))
	}
	if err := reset(data); err != nil {
		say("%v", err)
		return exitFailed
	}
	return 0
}

// reset removes what devservers has made in dir, and dir itself when nothing else is in it.
func reset(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, name := range owned {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if left, err := os.ReadDir(dir); err == nil && len(left) == 0 {
		return os.Remove(dir)
	}
	return nil
}
