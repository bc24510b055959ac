package main

import (
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const (
	superviseCommand = "supervise" // hidden: only the front starts it
	parentPoll       = 250 * time.Millisecond
)

var forwarded = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// front is the process the user started. It holds the lifeline, a pipe whose other end the supervisor reads: the end of
// the front, however it comes, is the end of the pipe, and so of the run. It returns the exit status of the command.
func front(args []string) int {
	if _, err := parseOptions(args, nil); err != nil {
		return usageError(err)
	}
	parent := os.Getppid()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded...)
	family := newFamily()
	supervisor, lifeline, err := startSupervisor(family, args)
	if err != nil {
		say("%v", err)
		return exitFailed
	}
	poll := time.NewTicker(parentPoll)
	defer poll.Stop()
	for {
		select {
		case s := <-signals:
			supervisor.signal(s.(syscall.Signal))
		case <-poll.C:
			if os.Getppid() != parent {
				lifeline.Close()
			}
		case <-supervisor.done:
			family.killAll()
			if supervisor.state == nil || !supervisor.state.Exited() {
				say("its supervisor ended early: %v", supervisor.err)
			}
			return supervisor.exitStatus()
		}
	}
}

func startSupervisor(family *family, args []string) (*process, *os.File, error) {
	group := strconv.Itoa(terminalGroup())
	cmd, err := selfCommand(append([]string{superviseCommand, "--terminal-group", group}, args...)...)
	if err != nil {
		return nil, nil, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	// A group of its own: a signal for the whole group reaches the supervisor once, through the front.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := family.start(cmd)
	if err != nil {
		return nil, nil, errors.Join(err, ours.Close())
	}
	return p, ours, nil
}
