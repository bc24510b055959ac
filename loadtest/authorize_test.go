package main

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/verdict-io/verdict/loadtest/internal/baseline"
	"github.com/verdict-io/verdict/loadtest/internal/cpu"
	"github.com/verdict-io/verdict/loadtest/internal/drive"
	"github.com/verdict-io/verdict/loadtest/internal/refund"
	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == baseline.Verb {
		os.Exit(report(dispatch(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr), os.Stderr))
	}
	os.Exit(m.Run())
}

// verdict is control and decision in one, with the refund example decided by hand.
type verdict struct {
	controlv1connect.UnimplementedControlServiceHandler
	decisionv1connect.UnimplementedDecisionServiceHandler
	lie   func(n uint64, answer *decisionv1.AuthorizeResponse) // changes the n-th answer
	asked atomic.Uint64
}

func (*verdict) ListGateways(context.Context, *controlv1.ListGatewaysRequest) (*controlv1.ListGatewaysResponse, error) {
	return &controlv1.ListGatewaysResponse{Gateways: []*controlv1.Gateway{{
		Name: "refund-gw", GatewayArn: "arn:gw", Definition: &eventv1.GatewayDefinition{
			PolicyEngineConfiguration: &eventv1.GatewayPolicyEngineConfiguration{PolicyEngineId: "e", Mode: eventv1.EngineMode_ENGINE_MODE_ENFORCE},
		},
	}}}, nil
}

func (*verdict) ListGatewayTargets(context.Context, *controlv1.ListGatewayTargetsRequest) (*controlv1.ListGatewayTargetsResponse, error) {
	return &controlv1.ListGatewayTargetsResponse{Targets: []*controlv1.GatewayTarget{{Name: "RefundTarget"}}}, nil
}

func (*verdict) ListPolicies(context.Context, *controlv1.ListPoliciesRequest) (*controlv1.ListPoliciesResponse, error) {
	return &controlv1.ListPoliciesResponse{Policies: []*controlv1.Policy{{Name: "refund_limit", PolicyId: "p", InForce: &eventv1.PolicyBody{}}}}, nil
}

func (v *verdict) Authorize(_ context.Context, r *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error) {
	context := []byte(r.GetContextJson())
	if r.GetContext() != nil {
		context, _ = r.GetContext().MarshalJSON() // what is missing is an amount of 0
	}
	var arguments struct{ Input struct{ Amount int } }
	if err := json.Unmarshal(context, &arguments); err != nil || r.GetResource().GetId() != "arn:gw" {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%v: %w", r, err))
	}
	n := v.asked.Add(1)
	var id [24]byte
	binary.BigEndian.PutUint64(id[16:], n)
	answer := &decisionv1.AuthorizeResponse{
		Decision: decisionv1.Decision_DECISION_DENY, Mode: decisionv1.Mode_MODE_ENFORCE, PolicyEngineId: "e", Revision: "9", Reason: "Denied.",
		DecisionId: strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:])),
	}
	if arguments.Input.Amount < 1000 {
		answer.Decision, answer.Proceed, answer.DeterminingPolicies = decisionv1.Decision_DECISION_ALLOW, true, []string{"p"}
	}
	if v.lie != nil {
		v.lie(n, answer)
	}
	return answer, nil
}

func (v *verdict) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(controlv1connect.NewControlServiceHandler(v))
	mux.Handle(decisionv1connect.NewDecisionServiceHandler(v))
	return mux
}

// serve serves v in this process and returns its URL.
func (v *verdict) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: v.handler()}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return "http://" + listener.Addr().String()
}

// loadtest runs the command and returns what it printed.
func loadtest(t *testing.T, url string, args ...string) (string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"authorize", "--url", url, "--control-url", url}, args...)
	err := dispatch(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	return stdout.String() + stderr.String(), err
}

// lines of a file, sorted.
func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	slices.Sort(out)
	return out
}

func TestAuthorizeComparesEveryCodecWithTheBaseline(t *testing.T) {
	v := &verdict{}
	out, err := loadtest(t, v.serve(t), "--codec", "json,json-text,binary", "--requests", "200", "--rounds", "2", "--connections", "2")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 4 {
			got = append(got, strings.Join(fields[:5], " "))
		}
	}
	want := []string{
		"codec side requests errors retries", "json decision 200 0 0", "json baseline 200 0 0", "json-text decision 200 0 0",
		"json-text baseline 200 0 0", "binary decision 200 0 0", "binary baseline 200 0 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("printed:\n%s", out)
	}
	if n := v.asked.Load(); n != 3*(1+2*warmUp+200) {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestAWrongAnswerIsShownAndEndsTheRun(t *testing.T) {
	for name, test := range map[string]struct {
		lie  func(uint64, *decisionv1.AuthorizeResponse)
		says string
	}{
		"decision": {func(n uint64, a *decisionv1.AuthorizeResponse) {
			if n == 700 {
				a.Decision, a.Proceed = 3-a.Decision, !a.Proceed
			}
		}, "decision must be"},
		"the same id again": {func(n uint64, a *decisionv1.AuthorizeResponse) {
			if n == 700 {
				a.DecisionId = strings.Repeat("a", 38) + "i" // number 1
			}
		}, "given to two decisions"},
		"no id": {func(n uint64, a *decisionv1.AuthorizeResponse) {
			if n == 700 {
				a.DecisionId = ""
			}
		}, "decisionId"},
		"the first": {func(_ uint64, a *decisionv1.AuthorizeResponse) { a.Revision = "" }, "revision"},
	} {
		t.Run(name, func(t *testing.T) {
			ids := filepath.Join(t.TempDir(), "ids")
			v := &verdict{lie: test.lie}
			_, err := loadtest(t, v.serve(t), "--requests", "5000", "--connections", "2", "--keep-going", "--max-errors", "10", "--ids", ids)
			if !errors.Is(err, refund.ErrWrong) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "order-") {
				t.Fatalf("the run ended with %v", err)
			}
			if got := report(err, &bytes.Buffer{}); got != 1 {
				t.Errorf("the exit status is %d", got)
			}
			// The other connection goes on until it hears of it.
			if asked := v.asked.Load(); asked > 1000 {
				t.Errorf("%d requests were sent, though the 700th or an earlier one was answered wrong", asked)
			}
		})
	}
}

func TestIDsHasALineForEachAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ids")
	var mu sync.Mutex
	var want []string
	v := &verdict{lie: func(_ uint64, a *decisionv1.AuthorizeResponse) {
		mu.Lock()
		defer mu.Unlock()
		want = append(want, a.GetDecisionId()+" "+strings.TrimPrefix(a.GetDecision().String(), "DECISION_"))
	}}
	if err := os.WriteFile(path, []byte("of an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadtest(t, v.serve(t), "--requests", "500", "--keep-going", "--ids", path); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if got := lines(t, path); len(got) != 500 || !slices.Equal(got, want) {
		t.Errorf("%d lines of 500 answers", len(got))
	}
}

// The server goes away after 300 requests, whose last ones it may have decided without answering, and comes back.
func TestKeepGoingSurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ids")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first, second := &http.Server{}, &http.Server{}
	t.Cleanup(func() { first.Close(); second.Close() })
	gone, closed := make(chan struct{}), make(chan struct{})
	v := &verdict{lie: func(n uint64, _ *decisionv1.AuthorizeResponse) {
		if n == 300 {
			close(gone)
		}
		if n >= 300 {
			<-closed // so that some are decided and cannot be answered
		}
	}}
	first.Handler, second.Handler = v.handler(), v.handler()
	restarted := make(chan error, 1)
	go func() { _ = first.Serve(listener) }()
	go func() {
		<-gone
		first.Close()
		close(closed)
		again, err := net.Listen("tcp", listener.Addr().String())
		restarted <- err
		if err == nil {
			_ = second.Serve(again)
		}
	}()
	out, err := loadtest(t, "http://"+listener.Addr().String(), "--requests", "2000", "--keep-going", "--ids", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	if got := slices.Compact(lines(t, path)); len(got) != 2000 {
		t.Errorf("%d different lines of 2000 answers", len(got))
	}
	if fields := strings.Fields(strings.Split(out, "\n")[1]); fields[2] != "2000" || fields[3] != "0" || fields[4] == "0" {
		t.Errorf("printed:\n%s", out)
	}
}

func TestErrorsBeyondTheBoundEndTheRun(t *testing.T) {
	v := &verdict{}
	url := v.serve(t)
	broken := &http.Server{Handler: http.NotFoundHandler()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = broken.Serve(listener) }()
	defer broken.Close()
	_, err = loadtest(t, url, "--url", "http://"+listener.Addr().String(), "--requests", "100", "--keep-going", "--max-errors", "20")
	if !errors.Is(err, drive.ErrTooMany) {
		t.Errorf("the run ended with %v", err)
	}
}

// Few lines are written at the end of the run, many within it.
func TestIDsThatCannotBeWrittenEndTheRun(t *testing.T) {
	for _, requests := range []string{"50", "5000"} {
		v := &verdict{}
		_, err := loadtest(t, v.serve(t), "--requests", requests, "--keep-going", "--ids", "/dev/full")
		if !errors.Is(err, syscall.ENOSPC) || v.asked.Load() == 5000 {
			t.Errorf("%s requests with a full disk: %v after %d answers", requests, err, v.asked.Load())
		}
	}
}

func TestServerPIDOfNobody(t *testing.T) {
	_, err := loadtest(t, (&verdict{}).serve(t), "--requests", "100", "--server-pid", "1073741824")
	if !errors.Is(err, cpu.ErrGone) || !strings.Contains(err.Error(), "--server-pid") {
		t.Errorf("the run ended with %v", err)
	}
}

// Without the process there is nothing to compare, which is no reason not to check answers.
func TestAServerWhoseProcessIsNotFoundIsNotMeasured(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &settings{addr: netip.MustParseAddrPort(listener.Addr().String())}
	listener.Close()
	var stderr bytes.Buffer
	if p, err := s.findServer(&stderr); p != nil || err != nil || !strings.Contains(stderr.String(), "--server-pid") {
		t.Errorf("found %v, %v, and said %q", p, err, &stderr)
	}
}

func TestSettingsAreRefused(t *testing.T) {
	for args, says := range map[string]string{
		"--url http://10.0.0.1:7402":             "--url",
		"--url http://localhost:7402":            "in numbers",
		"--url http://[::1]:7402":                "in numbers",
		"--url http://[::ffff:127.0.0.1]:7402":   "in numbers",
		"--url http://127.0.0.1":                 "a port",
		"--url http://127.0.0.1:7402/x":          "without a path",
		"--url https://127.0.0.1:7402":           "such as",
		"--url http://127.0.0.1:7402@10.0.0.1:1": "such as",
		"--url http://127.0.0.1:7402?x":          "such as",
		"--control-url http://example.com:80":    "--control-url",
		"--codec xml":                            "xml",
		"--codec json,":                          "--codec",
		"--connections 0":                        "--connections",
		"--connections 257":                      "--connections",
		"--duration 99ms":                        "--duration",
		"--duration 11m":                         "--duration",
		"--requests 0":                           "--requests",
		"--requests -1":                          "--requests",
		"--requests 10000001":                    "--requests",
		"--requests 4":                           "rounds",
		"--requests 10 --duration 1s":            "two ways",
		"--rounds 0":                             "--rounds",
		"--rounds 101":                           "--rounds",
		"--max-errors -1":                        "--max-errors",
		"--server-pid -1":                        "--server-pid",
		"--keep-going --rounds 2":                "--keep-going",
		"--keep-going --server-pid 1":            "--keep-going",
		"--nothing":                              "nothing",
		"more":                                   "more",
	} {
		err := dispatch(t.Context(), append([]string{"authorize"}, strings.Fields(args)...), nil, &bytes.Buffer{}, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), says) || report(err, &bytes.Buffer{}) != 2 {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestHelpNamesEverySetting(t *testing.T) {
	var out bytes.Buffer
	if err := dispatch(t.Context(), []string{"authorize", "--help"}, nil, &out, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"--url URL", "--codec CODECS", "--requests N", "--keep-going", "(http://127.0.0.1:7402)"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%s is not in\n%s", name, &out)
		}
	}
}

func TestUnknownVerb(t *testing.T) {
	if err := dispatch(t.Context(), []string{"authorise"}, nil, nil, nil); report(err, &bytes.Buffer{}) != 2 {
		t.Errorf("it is taken: %v", err)
	}
}

func TestRoundsShareAllThatWasAskedFor(t *testing.T) {
	s := &settings{requests: 103, rounds: 5}
	total := 0
	for i := range s.rounds {
		total += s.limit(i).Requests
	}
	if total != 103 {
		t.Errorf("the rounds have %d requests of 103", total)
	}
	s = &settings{duration: 10 * time.Second, rounds: 5}
	if limit := s.limit(0); limit != (drive.Limit{Duration: 2 * time.Second}) {
		t.Errorf("a round of 10 s in 5 rounds is %+v", limit)
	}
}
