package decisionlog

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// childVariable names what the test's program does instead of testing, when a test starts it again.
const childVariable = "VERDICT_DECISIONLOG_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		os.Exit(m.Run())
	case "record":
		recordForEver()
	case "limited":
		recordLimited()
	}
}

// startChild starts the test's program again.
func startChild(t *testing.T, what, dir, url string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+what, "SPOOL="+dir, "NATS="+url)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // it may have ended
	return cmd, bufio.NewScanner(out)
}

func openChild() *Writer {
	conn, err := nats.Connect(os.Getenv("NATS"))
	if err != nil {
		fail(err)
	}
	w, err := Open(Config{
		Dir: os.Getenv("SPOOL"), Node: "node-1", Build: "v1", Partitions: 1, SegmentBytes: 1 << 20, SpoolBytes: 1 << 30, Conn: conn,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Sync: 5 * time.Millisecond,
	})
	if err != nil {
		fail(err)
	}
	return w
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// recordForEver records from several goroutines and prints each number once Record has returned it.
func recordForEver() {
	w := openChild()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				request := fmt.Sprint(g, "-", i)
				id, err := w.Record(detail(request), time.Now())
				if err != nil {
					fail(err)
				}
				fmt.Fprintln(os.Stdout, id.Seq, request) // one write
			}
		})
	}
	wg.Wait()
}

// A process that is killed under load loses nothing: every number that was given out before is in the spool, with the decision that
// it was given for, without a gap; and the word that says how many there were is exact.
func TestKilledProcess(t *testing.T) {
	b := newBench(t)
	for _, printed := range []int{1, 2000, 20000} {
		dir := filepath.Join(t.TempDir(), "spool")
		cmd, lines := startChild(t, "record", dir, b.nats.URL())
		given := map[uint64]string{}
		for len(given) < printed && lines.Scan() {
			note(t, given, lines.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what was printed before it died
			note(t, given, lines.Text())
		}
		r := left(t, dir)
		if len(r.boots) != 1 || len(r.damaged) > 0 {
			t.Fatalf("%d boots, %v", len(r.boots), r.damaged)
		}
		boot := r.boots[0]
		all := records(t, boot)
		for seq, request := range given {
			if seq > boot.last {
				t.Fatalf("number %d was given out, and %d is the last in the spool", seq, boot.last)
			}
			if got := all[seq-1].GetDecision().GetRequestId(); got != request {
				t.Fatalf("number %d was given for %s and holds %s", seq, request, got)
			}
		}
		if boot.bound != boot.last || boot.closed {
			t.Errorf("bound %d, last record %d, closed %t", boot.bound, boot.last, boot.closed)
		}
		t.Logf("killed after %d numbers were printed, %d are in the spool, in %d segments", len(given), boot.last, len(boot.segments))
	}
}

// note reads what the child printed; a line that was cut off by its death counts for nothing.
func note(t *testing.T, given map[uint64]string, line string) {
	t.Helper()
	var seq uint64
	var request string
	if n, err := fmt.Sscan(line, &seq, &request); err != nil || n != 2 {
		return
	}
	if before, ok := given[seq]; ok {
		t.Fatalf("number %d was given twice, for %s and for %s", seq, before, request)
	}
	given[seq] = request
}

// recordLimited records until the disk takes no more, then until it does again, and says how that went.
func recordLimited() {
	signal.Ignore(syscall.SIGXFSZ)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		fail(err)
	}
	w := openChild()
	full := unix.Rlimit{Cur: 512 << 10, Max: limit.Max} // less than a segment
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		fail(err)
	}
	given := recordUntil(w, func(err error) bool { return errors.Is(err, ErrFull) })
	status := w.Status()
	files, err := filepath.Glob(filepath.Join(w.own.dir, "*"))
	if err != nil {
		fail(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		fail(err)
	}
	again := recordUntil(w, func(err error) bool { return err == nil })
	fmt.Fprintf(os.Stdout, "%d %t %d %d\n", given, errors.Is(status, ErrFull), len(files), again)
}

// recordUntil records until an outcome, and returns the last number that it got.
func recordUntil(w *Writer, done func(error) bool) (last uint64) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		id, err := w.Record(detail("r"), time.Now())
		if err == nil {
			last = id.Seq
		} else if !errors.Is(err, ErrFull) {
			fail(err)
		}
		if done(err) {
			return last
		}
	}
	return math.MaxUint64
}

// A disk that takes no more is an error of Record and of Status, leaves no half of a file behind and takes no number; when it takes
// more again, so does Record.
func TestDiskFull(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join(t.TempDir(), "spool")
	cmd, lines := startChild(t, "limited", dir, b.nats.URL())
	lines.Scan()
	var given, again uint64
	var told bool
	var files int
	if _, err := fmt.Sscan(lines.Text(), &given, &told, &files, &again); err != nil {
		t.Fatalf("%q: %v", lines.Text(), err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	r := left(t, dir)
	if got := len(records(t, r.boots[0])); !told || again != given+1 || uint64(got) != again {
		t.Errorf("full after number %d, status said so: %t; the next is %d; %d records", given, told, again, got)
	}
	if r.boots[0].made < 2 || files > 1+r.boots[0].made {
		t.Errorf("%d files while full, %d segments", files, r.boots[0].made)
	}
}

// A segment that is cut off under the map, or a disk that fails there, is an error of Record and does not kill the process.
func TestFaultUnderMap(t *testing.T) {
	w := open(t, newBench(t).config(t))
	record(t, w, 1)
	current := w.own.segments[0].path
	if err := os.Truncate(current, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Record(detail("r"), time.Now()); !errors.Is(err, ErrFull) || !errors.Is(err, errFault) {
		t.Errorf("recording onto a page that is not there: %v", err)
	}
	run(t, w)
	if err := os.Truncate(current, firstSegment); err != nil {
		t.Fatal(err)
	}
	if id := record(t, w, 1); id.Seq != 3 {
		t.Errorf("with the page there again, the next number is %d", id.Seq)
	}
}

// fillUp records until the spool is full, and returns the last number.
func fillUp(t *testing.T, w *Writer) (last uint64) {
	t.Helper()
	for range 10_000 {
		id, err := w.Record(detail("r"), time.Now())
		if errors.Is(err, ErrFull) {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		last = id.Seq
	}
	t.Fatalf("%d decisions fit %d bytes", last, w.cfg.SpoolBytes)
	return 0
}

// A spool at its limit refuses decisions, which take no number, and says why; what audit confirms makes room again.
func TestSpoolFull(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	cfg := b.config(t)
	cfg.SpoolBytes = 3 << 20
	w := open(t, cfg)
	last := fillUp(t, w)
	if err := w.Status(); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "wait for audit") {
		t.Errorf("status: %v", err)
	}
	if w.counts.full != 1 || w.used > cfg.SpoolBytes {
		t.Errorf("full %d times, %d of %d bytes used", w.counts.full, w.used, cfg.SpoolBytes)
	}
	run(t, w)
	a := newAudit(b, 0)
	a.follow(t, w.own.boot, last)
	a.confirmed(t, w)
	if id := record(t, w, 1); id.Seq != last+1 {
		t.Errorf("%d came after %d", id.Seq, last)
	}
	if err := w.Status(); err != nil {
		t.Errorf("status: %v", err)
	}
}

// A full spool still closes, and the next boot opens on it and sends it.
func TestFullSpoolRestarts(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	cfg := b.config(t)
	cfg.SpoolBytes = 3 << 20
	w := open(t, cfg)
	last := fillUp(t, w)
	closeNow(t, w)
	cfg.Registerer = nil
	for range 3 { // boots that get nowhere take little room
		closeNow(t, open(t, cfg))
	}
	next := start(t, cfg)
	a := newAudit(b, 0)
	a.follow(t, w.own.boot, last+1)
	a.confirmed(t, next)
	if a.table[stream.DecisionID{Boot: w.own.boot, Seq: last + 1}].GetClosed() == nil {
		t.Error("the full boot did not close")
	}
	record(t, next, 2000)
}

// A segment has all its room on the disk before it is used: a sparse file on a full disk would kill the process at a store to it. And
// what was never used is given back when the process is gone.
func TestRoomOnDisk(t *testing.T) {
	w := open(t, newBench(t).config(t))
	record(t, w, 200) // more than the first segment
	w.mu.Lock()
	segments := slices.Clone(w.own.segments)
	w.mu.Unlock()
	for _, s := range segments {
		var stat unix.Stat_t
		if err := unix.Stat(s.path, &stat); err != nil {
			t.Fatal(err)
		}
		if stat.Blocks*512 < s.size {
			t.Errorf("%s has %d bytes, and %d on the disk", filepath.Base(s.path), s.size, stat.Blocks*512)
		}
	}
	testenv.Eventually(t, "the next segment", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.spare == nil {
			return errors.New("it is not ready")
		}
		return nil
	})
	boot := left(t, killed(t, w.cfg.Dir)).boots[0]
	if len(boot.segments) != 2 || boot.bytes() > 200_000 {
		t.Errorf("201 records take %d bytes in %d segments", boot.bytes(), len(boot.segments))
	}
	if files, err := os.ReadDir(boot.dir); err != nil || len(files) != 3 {
		t.Errorf("%d files, %v", len(files), err)
	}
}
