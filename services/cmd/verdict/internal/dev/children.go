package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// orderlyGrace is how long a service has to end when it is asked to.
const orderlyGrace = 15 * time.Second

// child is a service that runs as a process of its own, below a holder that ends it when this process is gone.
type child struct {
	name     string
	log      string // file
	addrFile string
	lifeline io.Closer // the holder sees it close, however this process ends
	cmd      *exec.Cmd
	ended    chan struct{}
	err      error // final when ended is closed
}

// startChild starts a service whose program lies beside this one.
func startChild(dir, name, addr string, environ []string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: name, log: filepath.Join(dir, name+".log"), addrFile: filepath.Join(dir, name+".addr"), ended: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	_ = os.Remove(c.addrFile) // a stale one would name another's port
	c.lifeline = ours
	program := filepath.Join(filepath.Dir(self), name)
	c.cmd = exec.Command(self, HoldVerb, program, "--addr", addr, "--addr-file", c.addrFile) //nolint:gosec,noctx // programs that lie together
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr, c.cmd.ExtraFiles = environ, log, log, []*os.File{theirs}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for `verdict dev`, which ends them in order
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), ours.Close())
	}
	go func() {
		defer close(c.ended)
		c.err = c.cmd.Wait()
	}()
	return c, nil
}

// ready is where the service answers, once it can.
func (c *child) ready(ctx context.Context) (url string, err error) {
	for {
		if addr, err := os.ReadFile(c.addrFile); err == nil {
			url = "http://" + string(addr)
			if c.answers(ctx, url) {
				return url, nil
			}
		}
		select {
		case <-ctx.Done():
			return url, &loggedError{c.name, c.log, context.Cause(ctx)}
		case <-c.ended:
			return url, c.failure()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// answers says whether the service is ready by its own account.
func (c *child) answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// loggedError is what went wrong with a service whose log says more.
type loggedError struct {
	name, log string
	err       error
}

func (e *loggedError) Error() string { return fmt.Sprintf("%s: %v; see %s", e.name, e.err, e.log) }
func (e *loggedError) Unwrap() error { return e.err }

var errEnded = errors.New("it ended, and should run until `verdict dev` ends")

// failure says why a service ended that should not have.
func (c *child) failure() error {
	<-c.ended
	err := errEnded
	if c.err != nil {
		err = fmt.Errorf("%w: %w", errEnded, c.err)
	}
	return &loggedError{c.name, c.log, err}
}

// tail is the last lines of a file.
func tail(path string) string {
	const mostBytes, mostLines = 4 << 10, 8
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data[max(0, len(data)-mostBytes):]), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-mostLines):], "\n")
}

// stop ends the service in its orderly way, or else at once.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-c.ended:
	case <-time.After(orderlyGrace):
	}
	_ = c.lifeline.Close()
	<-c.ended
}
