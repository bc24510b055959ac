package dev

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// HoldVerb is the hidden verb of verdict that Hold implements.
const HoldVerb = "hold"

const (
	// lifelineFD is the end of a pipe that a holder reads: nothing is ever written to it.
	lifelineFD = 3
	// orphanGrace is how long a service has to end when `verdict dev` is gone.
	orphanGrace = 2 * time.Second
)

// Hold runs a program in a group of processes of its own, passes signals on to it, and ends it when whoever started the holder is
// gone, even by kill -9. It returns the program's exit status, and is to be called once, by the main goroutine.
func Hold(args []string, signals <-chan os.Signal) (int, error) {
	cmd, err := startHeld(args)
	if err != nil {
		return 1, err
	}
	orphaned := make(chan struct{})
	go func() {
		_, _ = os.NewFile(lifelineFD, "lifeline").Read(make([]byte, 1))
		close(orphaned)
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the status is in ProcessState
	}()
	var kill <-chan time.Time
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case <-orphaned:
			orphaned = nil
			_ = cmd.Process.Signal(syscall.SIGTERM)
			kill = time.After(orphanGrace)
		case <-kill:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		case <-ended:
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				return code, nil
			}
			return 1, nil // a signal ended it
		}
	}
}

// startHeld starts the program so that, where the kernel can do it, it ends with its holder too. The kernel goes by the thread
// that started it: the caller's stays what it is for good.
func startHeld(args []string) (*exec.Cmd, error) {
	syscall.CloseOnExec(lifelineFD)
	runtime.LockOSThread()
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // to run what it is told is what it is for
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = dieWithHolder(&syscall.SysProcAttr{Setpgid: true})
	return cmd, cmd.Start()
}
