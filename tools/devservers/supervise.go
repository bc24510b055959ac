package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	lifelineFD = 3
	cmdGrace   = 1500 * time.Millisecond // what a command has after SIGTERM when its run is over

	// What Postgres has for an orderly shutdown: time for its checkpoint when the command has ended, and little when
	// nobody waits for the end any more. After a kill it recovers when it starts again.
	orderlyGrace = 15 * time.Second
	hastyGrace   = 1500 * time.Millisecond
)

// server is one database of a run.
type server interface {
	// start returns when the server answers, with the variables that name it.
	start(context.Context) ([]string, error)
	// failed gives an error when the server is lost for good.
	failed() <-chan error
	// stop returns when the server has ended, which takes little more than grace; also for one that never started.
	stop(grace time.Duration)
}

// supervisor is the process that does a run's work. Only the goroutine of supervise uses it.
type supervisor struct {
	options       options
	terminalGroup int // the process group that has the terminal, or 0
	family        *family
	servers       []server
	signals       chan os.Signal
	frontGone     chan struct{}
}

var errFrontGone = errors.New("devservers or its parent was killed")

// supervise returns the exit status of the command.
func supervise(args []string) int {
	s := &supervisor{signals: make(chan os.Signal, 8), frontGone: make(chan struct{})}
	signal.Notify(s.signals, forwarded...)
	o, err := parseOptions(args, func(fs *flag.FlagSet) { fs.IntVar(&s.terminalGroup, "terminal-group", 0, "") })
	if err != nil {
		return usageError(err)
	}
	s.options = o
	syscall.CloseOnExec(lifelineFD)
	go func() {
		_, _ = os.NewFile(lifelineFD, "lifeline").Read(make([]byte, 1)) // ends with the front
		close(s.frontGone)
	}()
	s.family = newFamily()
	status, err := s.run()
	if err != nil {
		say("%v", err)
	}
	return status
}

func (s *supervisor) run() (int, error) {
	place, err := openPlace(s.options.data)
	if err != nil {
		return exitFailed, err
	}
	defer place.close()
	defer s.stopAll()
	env, err := s.startServers(place)
	if err != nil {
		if sig, ok := errors.AsType[signalError](err); ok {
			return exitSignalled + int(sig.Signal), nil
		}
		return exitFailed, err
	}
	return s.runCommand(env)
}

// signalError is the cause of a start that the user broke off.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string { return e.String() }

func (s *supervisor) startServers(place *place) ([]string, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	s.chooseServers(place)
	var wg sync.WaitGroup
	envs := make([][]string, len(s.servers))
	for i, server := range s.servers {
		wg.Go(func() {
			env, err := server.start(ctx)
			if err != nil {
				cancel(err) // the first error is the cause of the others
			}
			envs[i] = env
		})
	}
	started := make(chan struct{})
	go func() { wg.Wait(); close(started) }()
	select {
	case sig := <-s.signals:
		cancel(signalError{sig.(syscall.Signal)})
	case <-s.frontGone:
		cancel(errFrontGone)
	case <-started:
	}
	<-started
	var all []string
	for _, env := range envs {
		all = append(all, env...)
	}
	return all, context.Cause(ctx)
}

func (s *supervisor) chooseServers(place *place) {
	ports := newPorts(s.options.freePorts)
	if s.options.wants("postgres", postgresURL) {
		s.servers = append(s.servers, newPostgres(s.family, place, ports))
	}
	if s.options.wants("clickhouse", clickhouseURL) {
		s.servers = append(s.servers, newClickhouse(s.family, place, ports, s.options.clickhouseUsers))
	} else if s.options.clickhouseUsers != "" {
		say("--clickhouse-users is not used: this run starts no ClickHouse")
	}
}

func (s *supervisor) runCommand(env []string) (int, error) {
	cmd := exec.Command(s.options.cmd[0], s.options.cmd[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = dieWithParent(&syscall.SysProcAttr{Setpgid: true, Pgid: s.terminalGroup})
	command, err := s.family.start(cmd)
	if err != nil {
		return exitFailed, err
	}
	lost := s.firstFailure()
	for {
		select {
		case sig := <-s.signals:
			s.forward(command, sig.(syscall.Signal))
		case <-command.done:
			s.killGroup(command)
			return command.exitStatus(), nil
		case err := <-lost:
			s.endCommand(command)
			return exitFailed, fmt.Errorf("the run ends: %w", err)
		case <-s.frontGone:
			s.endCommand(command)
			return exitFailed, errFrontGone
		}
	}
}

// firstFailure gives the first error of any server.
func (s *supervisor) firstFailure() <-chan error {
	first := make(chan error, len(s.servers))
	for _, server := range s.servers {
		go func() {
			if err, ok := <-server.failed(); ok {
				first <- err
			}
		}()
	}
	return first
}

// forward passes a signal on to the command's group. A command in the terminal's group has had the terminal's signals.
func (s *supervisor) forward(command *process, sig syscall.Signal) {
	if s.terminalGroup == 0 {
		_ = syscall.Kill(-command.pid, sig)
	} else if sig == syscall.SIGTERM {
		command.signal(sig)
	}
}

// endCommand gives the command a moment to end by itself.
func (s *supervisor) endCommand(command *process) {
	s.forward(command, syscall.SIGTERM)
	if !command.within(cmdGrace) {
		command.signal(syscall.SIGKILL)
	}
	s.killGroup(command)
}

// killGroup ends what the command left in its group. On Linux stopAll then finds what has left the group, too.
func (s *supervisor) killGroup(command *process) {
	if s.terminalGroup == 0 {
		_ = syscall.Kill(-command.pid, syscall.SIGKILL)
	}
}

func (s *supervisor) stopAll() {
	grace := orderlyGrace
	select {
	case <-s.frontGone:
		grace = hastyGrace
	default:
	}
	var wg sync.WaitGroup
	for _, server := range s.servers {
		wg.Go(func() { server.stop(grace) })
	}
	wg.Wait()
	s.family.killAll()
}
