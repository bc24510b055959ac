// Package e2e runs the services together, as the built binaries, with the race detector in them where the tests have it.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/control/v1/controlv1connect"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

var bin string // the folder of the binaries

func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set(strconv.Itoa(3 * runtime.GOMAXPROCS(0))) // a number; most of the time tests wait for processes
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "verdict-e2e-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", slices.Concat([]string{"build", "-o", dir}, buildFlags, []string{"../cmd/..."})...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	return m.Run()
}

// site is a database, a NATS and keys, as an operator sets them up: with the tool.
type site struct {
	testenv.Database
	nats    *testenv.NATS // which knows the users of the services alone
	keys    string        // the folder of their keys
	environ []string
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{}
	s.Database = testenv.NewDatabase(t, func(ctx context.Context, owner string) error {
		out, err := exec.CommandContext(ctx, filepath.Join(bin, "verdict"), "migrate", "--owner-url", owner).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	dir := t.TempDir()
	s.keys = filepath.Join(dir, "nats-keys")
	s.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=halt_on_error=1", "VERDICT_CONTROL_LOG_LEVEL=warn",
		"VERDICT_POSTGRES_URL=" + s.URL, "VERDICT_CONTROL_NATS_KEY=" + s.natsKey("control"),
		"VERDICT_AUDIT_NATS_KEY=" + s.natsKey("audit"), "VERDICT_DECISION_NATS_KEY=" + s.natsKey("decision"),
		"VERDICT_SIGNING_KEY=" + filepath.Join(dir, "signing-key.pem"), "VERDICT_TRUSTED_KEYS=" + filepath.Join(dir, "trusted-keys.json"),
	}
	if out, code := s.verdict(t, "keygen"); code != 0 {
		t.Fatal(out)
	}
	s.nats = s.newNATS(t)
	s.environ = append(s.environ, "VERDICT_NATS_URL="+s.nats.URL())
	return s
}

// newNATS is a server as the tool configures it: with a user for each service.
func (s *site) newNATS(t testing.TB) *testenv.NATS {
	t.Helper()
	config, code := s.verdict(t, "nats-config", "--nats-keys", s.keys)
	if code != 0 {
		t.Fatal(config)
	}
	return testenv.NewSecuredNATS(t, config)
}

// natsKey is the file of a user's key.
func (s *site) natsKey(user string) string { return stream.NATSKeyFile(s.keys, user) }

// followerConn is how a gateway that follows policies is connected.
func (s *site) followerConn(t testing.TB) *nats.Conn {
	t.Helper()
	conn, err := stream.Connect(stream.Connection{URL: s.nats.URL(), Name: t.Name(), KeyFile: s.natsKey("gateway")})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// setting is the value of a variable that the services are given.
func (s *site) setting(t testing.TB, name string) string {
	t.Helper()
	for _, entry := range s.environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	t.Fatalf("%s is not set", name)
	return ""
}

// verdict runs the tool and returns what it printed and its exit status.
func (s *site) verdict(t testing.TB, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "verdict"), args...)
	cmd.Env = s.environ
	out, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// daemon is a running binary.
type daemon struct {
	controlv1connect.ControlServiceClient
	cmd  *exec.Cmd
	url  string
	log  *bytes.Buffer // complete once the process has ended
	done chan struct{} // closed when the process has ended
}

func (s *site) control(t testing.TB) *daemon {
	t.Helper()
	addr := filepath.Join(t.TempDir(), "addr")
	d := &daemon{log: &bytes.Buffer{}, done: make(chan struct{})}
	d.cmd = exec.Command(filepath.Join(bin, "control"), "--addr", "127.0.0.1:0", "--addr-file", addr)
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = s.environ, d.log, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(d.done); _ = d.cmd.Wait() }()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.done
		if strings.Contains(d.log.String(), "DATA RACE") || t.Failed() {
			t.Errorf("control printed:\n%s", d.log)
		}
	})
	testenv.Eventually(t, "control's start", func() error {
		select {
		case <-d.done:
			t.Fatalf("control ended: %s", d.log)
		default:
		}
		data, err := os.ReadFile(addr)
		d.url = "http://" + string(data)
		return err
	})
	d.ControlServiceClient = controlv1connect.NewControlServiceClient(http.DefaultClient, d.url)
	return d
}

// Promise 1 with processes: two of them append, one is killed in the middle and starts again; names are taken once, every
// answer of success is true, and fsck finds the log and the stream whole.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const writers, each = 6, 25
	var current [2]atomic.Pointer[daemon]
	current[0].Store(s.control(t))
	current[1].Store(s.control(t))
	var wins sync.Map // name → id, of the answers that said so
	var group sync.WaitGroup
	half := make(chan struct{})
	var progress atomic.Int32
	for w := range writers {
		group.Go(func() {
			for i := range each {
				name := fmt.Sprintf("E%d", i)
				resp, err := current[w%2].Load().CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: name})
				if err == nil {
					if before, twice := wins.LoadOrStore(name, resp.GetPolicyEngine().GetPolicyEngineId()); twice {
						t.Errorf("%s was made twice: %v and %v", name, before, resp.GetPolicyEngine().GetPolicyEngineId())
					}
				} else if refused, ok := errors.AsType[*connect.Error](err); ok && connect.IsWireError(refused) && refused.Code() != connect.CodeAlreadyExists {
					t.Errorf("%s: %v", name, err) // an answer; a connection that broke is what a killed process leaves
				}
				if progress.Add(1) == writers*each/2 {
					close(half)
				}
			}
		})
	}
	<-half
	killed := current[1].Load()
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-killed.done
	current[1].Store(s.control(t))
	group.Wait()
	s.wantEngines(t, current[0].Load(), &wins, each)
	testenv.Eventually(t, "the stream", func() error {
		out, code := s.verdict(t, "fsck")
		if code != 0 {
			t.Fatalf("fsck exits %d: %s", code, out)
		}
		if !strings.Contains(out, "are the log's") {
			return errors.New(out)
		}
		return nil
	})
}

// wantEngines wants every answer of success to be true, and every name to be there.
func (s *site) wantEngines(t *testing.T, d *daemon, wins *sync.Map, names int) {
	t.Helper()
	list, err := d.ListPolicyEngines(t.Context(), &controlv1.ListPolicyEnginesRequest{PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.GetPolicyEngines()) != names {
		t.Errorf("%d engines, want %d", len(list.GetPolicyEngines()), names)
	}
	ids := map[string]string{}
	for _, e := range list.GetPolicyEngines() {
		ids[e.GetName()] = e.GetPolicyEngineId()
	}
	wins.Range(func(name, id any) bool {
		if ids[name.(string)] != id {
			t.Errorf("an answer said that %v is %v; it is %v", name, id, ids[name.(string)])
		}
		return true
	})
}

// A row changed by hand, as superuser: fsck exits 1 and names the position.
func TestFsckExit(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.control(t)
	if _, err := d.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "E"}); err != nil {
		t.Fatal(err)
	}
	if out, code := s.verdict(t, "fsck"); code != 0 {
		t.Fatalf("fsck exits %d: %s", code, out)
	}
	owner, err := pgx.Connect(t.Context(), s.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.Background())
	for _, statement := range []string{
		"SET session_replication_role = replica",
		"UPDATE verdict.events SET body = set_byte(body, 60, get_byte(body, 60) # 1) WHERE position = 2",
	} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	out, code := s.verdict(t, "fsck")
	if code != 1 || !strings.Contains(out, "position 2") {
		t.Errorf("fsck exits %d: %s", code, out)
	}
}

// SIGTERM: an orderly end with status 0, whatever is under way.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.control(t)
	load, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	var group sync.WaitGroup
	answered := make(chan struct{}, 1000)
	for w := range 4 {
		group.Go(func() {
			for i := 0; load.Err() == nil; i++ {
				_, err := d.CreatePolicyEngine(load, &controlv1.CreatePolicyEngineRequest{Name: fmt.Sprintf("E%d_%d", w, i)})
				if err != nil {
					if code := connect.CodeOf(err); !slices.Contains([]connect.Code{connect.CodeUnavailable, connect.CodeCanceled}, code) {
						t.Errorf("during the shutdown: %v", err)
					}
					return
				}
				select {
				case answered <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 20 {
		<-answered
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-d.done
	stop()
	group.Wait()
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("control exits %d: %s", code, d.log)
	}
}

// The help lists every setting with its variable and default, and what is not known is refused.
func TestHelp(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "control"), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--addr", "VERDICT_CONTROL_ADDR", "127.0.0.1:7401", "--postgres-url", "VERDICT_POSTGRES_URL", "--signing-key", "--region", "us-east-1"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("--help does not say %s:\n%s", want, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "control"), "--signing-kee", "x")
	text, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(text), "did you mean --signing-key?") {
		t.Errorf("an unknown flag: exits %d: %s", cmd.ProcessState.ExitCode(), text)
	}
}
