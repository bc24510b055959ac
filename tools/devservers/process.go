package main

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// family starts processes, waits for them, and ends all of them and of theirs.
//
// Processes are started from one operating system thread that lives as long as the program: the kernel sends a child's
// parent-death signal when the thread that started it ends, not when the process does.
type family struct {
	thread chan func()

	mu    sync.Mutex
	known map[int]bool // processes somebody waits for; the reaper leaves them alone
}

// newFamily makes this process the one that orphaned descendants fall to, and reaps them.
func newFamily() *family {
	f := &family{thread: make(chan func()), known: map[int]bool{}}
	go func() {
		runtime.LockOSThread()
		for run := range f.thread {
			run()
		}
	}()
	adoptOrphans()
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			f.reapOrphans()
		}
	}()
	return f
}

// process is a started child. state and err may be read once done is closed.
type process struct {
	pid   int
	done  chan struct{}
	state *os.ProcessState
	err   error
}

func (f *family) start(cmd *exec.Cmd) (*process, error) {
	started := make(chan error)
	f.thread <- func() {
		f.mu.Lock() // from here to known: a child that ends at once is not an orphan
		defer f.mu.Unlock()
		err := cmd.Start()
		if err == nil {
			f.known[cmd.Process.Pid] = true
		}
		started <- err
	}
	if err := <-started; err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		p.state = cmd.ProcessState
		f.mu.Lock()
		delete(f.known, p.pid)
		f.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// reapOrphans collects adopted processes that have ended, so that nobody takes a zombie for a living process.
func (f *family) reapOrphans() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range descendants(os.Getpid()) {
		if p.zombie && p.parent == os.Getpid() && !f.known[p.pid] {
			_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// killAll kills every descendant and returns when none is left, or after two seconds.
func (f *family) killAll() {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		f.reapOrphans()
		living := 0
		for _, p := range descendants(os.Getpid()) {
			if !p.zombie {
				living++
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
		if living == 0 {
			return
		}
	}
}

// selfCommand runs this very program with other arguments, also when its file has been replaced by a new build since.
func selfCommand(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	if runtime.GOOS == "linux" {
		cmd.Path = "/proc/self/exe"
	}
	return cmd, nil
}

// relative is a descendant of this process.
type relative struct {
	pid, parent int
	zombie      bool
}

// signal does nothing to a process that has ended, whose pid may be another's by now.
func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(p.pid, s)
	}
}

// within says whether the process ended within d.
func (p *process) within(d time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(d):
		return false
	}
}

// stop asks the process to end with s, kills it after grace, and returns when it has ended. With SIGKILL no grace is
// needed.
func (p *process) stop(s syscall.Signal, grace time.Duration) {
	p.signal(s)
	if !p.within(grace) {
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// exitStatus is the status a shell would report.
func (p *process) exitStatus() int {
	if p.state == nil {
		return exitFailed
	}
	status, ok := p.state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return exitSignalled + int(status.Signal())
	}
	return p.state.ExitCode()
}
