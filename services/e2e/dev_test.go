package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/internal/testenv"
)

// repository is the folder that `make` is for.
func repository(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	must(t, err)
	if _, err := os.Stat(filepath.Join(dir, "Makefile")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// playground is a folder and addresses for `make dev`, which keep it apart from every other.
type playground struct {
	data                                             string
	control, decision, audit, gateway, example, nats string // HOST:PORT
}

func newPlayground(t *testing.T) *playground {
	t.Helper()
	addrs := freeAddrs(t, 6)
	return &playground{
		data:    filepath.Join(t.TempDir(), "data"),
		control: addrs[0], decision: addrs[1], audit: addrs[2], nats: addrs[3], gateway: addrs[4], example: addrs[5],
	}
}

// freeAddrs are addresses that were free a moment ago, with ports that the kernel does not give to connections.
func freeAddrs(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for len(addrs) < n {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		if err != nil {
			continue
		}
		defer l.Close()
		addrs = append(addrs, addr)
	}
	return addrs
}

// environ is that of a user who has set nothing but what the playground needs: no server of the tests, no setting of a make
// around them.
func (p *playground) environ() []string {
	var env []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if (!strings.HasPrefix(name, "VERDICT_") || name == "VERDICT_CACHE_DIR") && !strings.HasPrefix(name, "MAKE") &&
			name != "MFLAGS" && name != "GOWORK" {
			env = append(env, pair)
		}
	}
	return append(env, "DATA="+p.data, "PORTS=free", "VERDICT_CONTROL_ADDR="+p.control, "VERDICT_DECISION_ADDR="+p.decision,
		"VERDICT_AUDIT_ADDR="+p.audit, "VERDICT_GATEWAY_ADDR="+p.gateway, "VERDICT_EXAMPLE_ADDR="+p.example, "VERDICT_NATS_ADDR="+p.nats, "VERDICT_QUERY_URL=http://"+p.audit)
}

// command is a command of a user in the folder of the repository.
func (p *playground) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = repository(t), p.environ()
	return cmd
}

// text collects what a process prints while it runs.
type text struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *text) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *text) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// devRun is a `make dev`.
type devRun struct {
	*playground

	cmd       *exec.Cmd
	out, errs text
	done      chan struct{} // closed when make has ended
}

// dev runs the target in a group of processes of its own, as a shell does.
func (p *playground) dev(t *testing.T) *devRun {
	t.Helper()
	r := &devRun{playground: p}
	r.cmd = p.command(t, "make", "dev")
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.start(t)
	return r
}

func (r *devRun) start(t testing.TB) {
	t.Helper()
	r.done = make(chan struct{})
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	r.cmd.WaitDelay = 10 * time.Second // what would outlive make holds its output open
	must(t, r.cmd.Start())
	go func() { defer close(r.done); _ = r.cmd.Wait() }()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
		if t.Failed() {
			t.Logf("make dev printed:\n%s\n%s", &r.out, &r.errs)
		}
	})
}

// serving returns when all of it runs, which takes minutes where nothing has been built.
func (r *devRun) serving(t *testing.T) {
	t.Helper()
	r.until(t, "it serves", func() error { return testenv.Contains(r.out.String(), "\nserving;") })
}

// until returns when something has come that happens in a run.
func (r *devRun) until(t *testing.T, what string, come func() error) {
	t.Helper()
	testenv.Within(t, 5*time.Minute, what, func() error {
		select {
		case <-r.done:
			t.Fatalf("make dev ended before %s: %v\n%s", what, r.cmd.ProcessState, &r.errs)
		default:
		}
		return come()
	})
}

// wantStatus waits for make's end.
func (r *devRun) wantStatus(t *testing.T, want string) {
	t.Helper()
	testenv.Eventually(t, "the end of make", func() error {
		select {
		case <-r.done:
			return nil
		default:
			return errNotYet
		}
	})
	if got := r.cmd.ProcessState.String(); got != want {
		t.Errorf("make dev ends with %s, want %s\n%s", got, want, &r.errs)
	}
}

// shown is what the run printed of ids and answers, or a failure when it does not look as the README has it.
func (r *devRun) shown(t *testing.T) []string {
	t.Helper()
	form := regexp.MustCompile(`^engine (RefundEngine-\w{10}), attached to gateway (arn:\S+)
policy (refund_limit-\w{10}): refunds of less than 1000

tools of the agent: RefundTarget___process_refund
refund of  500: Refund of \$500 processed successfully
refund of 2000: Tool Execution Denied: .* \[No policy applies to the request \(denied by default\)\.\]

SELECT .*
FROM decisions WHERE decision_id IN \('(\w{39})', '(\w{39})'\) .*

recorded_at +decision +amount +reason
\S+ +ALLOW +500 .*
\S+ +DENY +2000 .*

control .*
`)
	found := form.FindStringSubmatch(r.out.String())
	if found == nil {
		t.Fatalf("make dev prints:\n%s", &r.out)
	}
	return found[1:]
}

// A port that is taken is one error, before anything has been started, that names the port and the cure; all of them are named.
func TestDevPortTaken(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	for _, addr := range []*string{&p.decision, &p.nats} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", anyAddr)
		must(t, err)
		defer l.Close()
		*addr = l.Addr().String()
	}
	cmd := p.command(t, filepath.Join(bin, "verdict"), "dev", "--data", p.data)
	for _, name := range []string{"VERDICT_POSTGRES_URL", "VERDICT_CLICKHOUSE_URL", "VERDICT_SIGNING_KEY", "VERDICT_TRUSTED_KEYS", "VERDICT_CLICKHOUSE_SECRET"} {
		cmd.Env = append(cmd.Env, name+"=not-reached")
	}
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 1 || strings.Count(string(out), "\n") != 1 {
		t.Errorf("exits %d with:\n%s", code, out)
	}
	must(t, testenv.Contains(string(out), p.decision+": bind: address already in use", "VERDICT_DECISION_ADDR",
		p.nats+": bind: address already in use", "VERDICT_NATS_ADDR"))
	if strings.Contains(string(out), p.control) {
		t.Errorf("control's address is free:\n%s", out)
	}
	if _, err := os.Stat(p.data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left something behind: %v", err)
	}
}

// reset runs `make reset`, and returns what it says and its exit status.
func (p *playground) reset(t *testing.T, args ...string) (string, int) {
	t.Helper()
	cmd := p.command(t, "make", append([]string{"reset"}, args...)...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// `make reset` removes what it knows and nothing else: not the files of others in the folder, and not a folder whose name is
// the beginning of this one's, up to a blank.
func TestResetLeavesForeignFiles(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	foreign := p.data
	p.data += " with blanks"
	ours := []string{"keys/signing-key.pem", "nats/x", "nats-keys/control.nk", "decision/x", "control.log", "gateway/x", "gateway.log", "issuer-key.pem", ".audit.addr-123", "servers/postgres/x", "servers/clickhouse.log"}
	theirs := []string{filepath.Join(foreign, "nats"), filepath.Join(p.data, "notes.txt"), filepath.Join(p.data, "servers", "notes.txt")}
	for _, name := range ours {
		theirs = append(theirs, filepath.Join(p.data, name))
	}
	for _, path := range theirs {
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	theirs = theirs[:3]
	out, code := p.reset(t)
	if code != 0 || !strings.Contains(out, p.data+" stays") {
		t.Errorf("make reset exits %d: %s", code, out)
	}
	var left []string
	for _, top := range []string{foreign, p.data} {
		must(t, filepath.WalkDir(top, func(path string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				left = append(left, path)
			}
			return err
		}))
	}
	if got, want := strings.Join(left, "\n"), strings.Join(theirs, "\n"); got != want {
		t.Errorf("left:\n%s\nwant:\n%s", got, want)
	}
}

// A folder without a name is not the folder that make happens to run in, nor the root of the disk.
func TestResetOfNothing(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	if out, code := p.reset(t); code != 0 {
		t.Errorf("where there is nothing, make reset exits %d: %s", code, out)
	}
	if out, code := p.reset(t, "DATA="); code != 2 || !strings.Contains(out, "DATA is empty") {
		t.Errorf("with DATA empty, make reset exits %d: %s", code, out)
	}
}

// held is `verdict hold` around a script, which says its number when it has begun.
func held(t *testing.T, script string) (holder *exec.Cmd, program int, lifeline *os.File) {
	t.Helper()
	theirs, lifeline, err := os.Pipe()
	must(t, err)
	defer theirs.Close()
	t.Cleanup(func() { _ = lifeline.Close() })
	holder = exec.Command(filepath.Join(bin, "verdict"), "hold", "sh", "-c", script)
	holder.ExtraFiles = []*os.File{theirs}
	out, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	if _, err := fmt.Fscan(out, &program); err != nil {
		t.Fatal(err)
	}
	return holder, program, lifeline
}

// A program that is held ends with whoever holds its lifeline, also when it will not, and with its holder; the holder ends with
// its status.
func TestHold(t *testing.T) {
	t.Parallel()
	const stubborn = "trap '' TERM; echo $$; exec sleep 100"
	for name, end := range map[string]func(t *testing.T, holder *exec.Cmd, lifeline *os.File){
		"the lifeline ends":    func(t *testing.T, _ *exec.Cmd, lifeline *os.File) { t.Helper(); must(t, lifeline.Close()) },
		"the holder is killed": func(t *testing.T, holder *exec.Cmd, _ *os.File) { t.Helper(); must(t, holder.Process.Kill()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holder, program, lifeline := held(t, stubborn)
			end(t, holder, lifeline)
			testenv.Within(t, 5*time.Second, "the program's end", func() error { return ended(program) })
		})
	}
	t.Run("a signal", func(t *testing.T) {
		t.Parallel()
		holder, _, _ := held(t, "trap 'exit 7' TERM; echo $$; while :; do sleep 0.01; done")
		must(t, holder.Process.Signal(syscall.SIGTERM))
		_ = holder.Wait()
		if code := holder.ProcessState.ExitCode(); code != 7 {
			t.Errorf("the holder exits %d", code)
		}
	})
}

// ended is nil when there is no such process.
func ended(pid int) error {
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%d is there: %w", pid, errNotYet)
	}
	return nil
}
