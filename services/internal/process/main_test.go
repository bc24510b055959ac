package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary stand in for a daemon: PROCESS_TEST_MAIN says which.
func TestMain(m *testing.M) {
	switch os.Getenv("PROCESS_TEST_MAIN") {
	case "":
		os.Exit(m.Run())
	case "orderly": // ends at the first signal
		Main(func(ctx context.Context) error {
			fmt.Println("up")
			<-ctx.Done()
			return nil
		})
	case "stuck": // does not
		Main(func(ctx context.Context) error {
			fmt.Println("up")
			<-ctx.Done()
			fmt.Println("stuck")
			select {}
		})
	case "serving": // a whole process
		Main(func(ctx context.Context) error {
			p, err := New("test", Common{Addr: "127.0.0.1:0"})
			if err != nil {
				return err
			}
			p.Go("ready", func(ctx context.Context) error {
				fmt.Println("up")
				<-ctx.Done()
				return nil
			})
			return p.Run(ctx)
		})
	}
}

func startMain(t *testing.T, which string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "PROCESS_TEST_MAIN="+which)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect(t, lines, "up")
	return cmd, lines
}

func expect(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Fatalf("%q, want %q: %v", lines.Text(), want, lines.Err())
	}
}

func TestTheFirstSignalEndsInOrder(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"orderly", "serving"} {
		for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
			cmd, _ := startMain(t, which)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s after %s: %v", which, sig, err)
			}
		}
	}
}

func TestTheSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	cmd, lines := startMain(t, "stuck")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expect(t, lines, "stuck")
	// The second may come before the first has given signals back their default, and is then lost.
	for cmd.Process.Signal(syscall.SIGTERM) == nil {
		if processGone(cmd) {
			break
		}
	}
	err := cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatalf("ended with %v", err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v", err)
	}
}

// processGone says whether the process has ended, without reaping it.
func processGone(cmd *exec.Cmd) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err            error
		code           int
		stdout, stderr string
	}{
		{nil, 0, "", ""},
		{fmt.Errorf("x: %w", &HelpRequest{Text: "help\n"}), 0, "help\n", ""},
		{Usagef("unknown flag --x"), 2, "", "error: unknown flag --x\n"},
		{errors.Join(errors.New("a"), errors.New("b")), 1, "", "error: a; b\n"},
	} {
		var stdout, stderr strings.Builder
		if code := exitCode(tt.err, &stdout, &stderr); code != tt.code || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
			t.Errorf("%v: %d %q %q", tt.err, code, stdout.String(), stderr.String())
		}
	}
}
