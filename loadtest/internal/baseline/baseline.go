// Package baseline is the least that a Connect server does for an Authorize: it decodes the request and encodes an answer that
// was made before. It runs in a process of its own, so that its processor time can be compared with a decision server's, and
// ends with the process that started it, however that ends.
package baseline

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
)

// Verb is the first argument with which a program that calls Start must call Serve.
const Verb = "baseline"

// Child is the process of a baseline.
type Child struct {
	URL string // without a path
	PID int

	cmd      *exec.Cmd
	lifeline io.Closer
}

// Start starts this same program as a baseline that gives answer to everything, and returns when it listens.
func Start(answer *decisionv1.AuthorizeResponse) (*Child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	raw, err := proto.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	cmd := exec.Command(program, Verb, base64.StdEncoding.EncodeToString(raw)) //nolint:gosec,noctx // itself; Close ends it
	cmd.Stderr = os.Stderr
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	child := &Child{PID: cmd.Process.Pid, cmd: cmd, lifeline: lifeline}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("baseline: it did not say where it listens: %w", errors.Join(err, child.Close()))
	}
	child.URL = "http://" + strings.TrimSpace(line)
	return child, nil
}

// Close ends the baseline and waits for its end.
func (c *Child) Close() error {
	_ = c.lifeline.Close() // Wait would do it too
	return c.cmd.Wait()
}

// Serve is a baseline: args[0] is what Start made of the answer, the address goes to stdout, and it returns when stdin or ctx ends.
func Serve(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	answer, err := parseAnswer(args)
	if err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	signal.Ignore(os.Interrupt) // Ctrl-C reaches the whole group; whoever started this one ends it
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	server := &http.Server{Handler: handler(answer), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintln(stdout, listener.Addr())
	orphaned := make(chan struct{})
	go func() {
		defer close(orphaned)
		_, _ = io.Copy(io.Discard, stdin) // any end of it is the end
	}()
	select {
	case <-ctx.Done():
	case <-orphaned:
	case err := <-served:
		return fmt.Errorf("baseline: %w", err)
	}
	return server.Close()
}

func parseAnswer(args []string) (*decisionv1.AuthorizeResponse, error) {
	if len(args) != 1 {
		return nil, errors.New("it takes one argument, the answer, and is started by `loadtest authorize`")
	}
	raw, err := base64.StdEncoding.DecodeString(args[0])
	if err != nil {
		return nil, err
	}
	answer := &decisionv1.AuthorizeResponse{}
	return answer, proto.Unmarshal(raw, answer)
}

// handler is a Connect handler with Connect's own codecs that answers every Authorize alike.
func handler(answer *decisionv1.AuthorizeResponse) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(decisionv1connect.NewDecisionServiceHandler(&fixed{answer: answer}))
	return mux
}

type fixed struct {
	decisionv1connect.UnimplementedDecisionServiceHandler
	answer *decisionv1.AuthorizeResponse
}

// Authorize implements DecisionService.
func (f *fixed) Authorize(context.Context, *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error) {
	return f.answer, nil
}
