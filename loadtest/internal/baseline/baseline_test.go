package baseline_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/verdict-io/verdict/loadtest/internal/baseline"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
)

var answer = &decisionv1.AuthorizeResponse{Decision: decisionv1.Decision_DECISION_ALLOW, Proceed: true, DecisionId: "d", Revision: "9"}

func TestMain(m *testing.M) {
	if len(os.Args) == 1 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case baseline.Verb:
		if err := baseline.Serve(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "parent": // one that does not end by itself
		child, err := baseline.Start(answer)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(child.URL)
		select {}
	default:
		os.Exit(m.Run())
	}
}

func TestChildAnswersInBothCodecsUntilClosed(t *testing.T) {
	child, err := baseline.Start(answer)
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []connect.ClientOption{connect.WithProtoJSON(), connect.WithClientOptions()} {
		client := decisionv1connect.NewDecisionServiceClient(http.DefaultClient, child.URL, option)
		got, err := client.Authorize(t.Context(), &decisionv1.AuthorizeRequest{ContextJson: "{}"})
		if err != nil || !proto.Equal(got, answer) {
			t.Errorf("it answers %v, %v", got, err)
		}
	}
	if err := child.Close(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	client := decisionv1connect.NewDecisionServiceClient(http.DefaultClient, child.URL)
	if _, err := client.Authorize(t.Context(), &decisionv1.AuthorizeRequest{}); err == nil {
		t.Error("it answers after Close")
	}
}

// The empty handler reads what it is asked: a request that is none is refused.
func TestChildDecodesTheRequest(t *testing.T) {
	child, err := baseline.Start(answer)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	response, err := http.Post(child.URL+decisionv1connect.DecisionServiceAuthorizeProcedure, "application/json", strings.NewReader(`{"principal":7}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("it answers %s", response.Status)
	}
}

// The parent and the child hold the other end of stderr, and nobody else does: it ends when both have ended.
func TestChildEndsWithAParentThatIsKilled(t *testing.T) {
	parent := exec.Command(os.Args[0], "parent")
	stderr, held, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	parent.Stderr = held
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	held.Close()
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	client := decisionv1connect.NewDecisionServiceClient(http.DefaultClient, strings.TrimSpace(url))
	if _, err := client.Authorize(t.Context(), &decisionv1.AuthorizeRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	if said, err := io.ReadAll(stderr); err != nil || len(said) > 0 {
		t.Errorf("they said %q, %v", said, err)
	}
}

func TestServeRefusesWhatIsNoAnswer(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"no base64"}, {"////"}} {
		if err := baseline.Serve(t.Context(), args, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("%q is served", args)
		}
	}
}
