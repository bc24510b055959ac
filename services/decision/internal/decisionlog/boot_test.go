package decisionlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// spoolOf is the spool of a boot with an opening record and n short decisions, which was killed; and its one segment.
func spoolOf(t testing.TB, n int) (dir, segment string) {
	t.Helper()
	w := open(t, newBench(t).config(t))
	for range n {
		if _, err := w.Record(&decisionv1.DecisionDetail{Account: "000000000000", RequestId: "r"}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	dir = killed(t, w.cfg.Dir)
	return dir, filepath.Join(dir, w.own.boot.String(), segmentName(1))
}

// However a segment was torn, at whatever byte: the records before the tear are there, in order, and none from behind it.
func TestTornSegment(t *testing.T) {
	dir, path := spoolOf(t, 4)
	r := left(t, dir)
	prefix, end := r.boots[0].prefix, r.boots[0].segments[0].end
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int // of the records
	for at := 0; at < end; {
		record := readFrame(whole, at)
		ends = append(ends, at+frameHead+len(record))
		at += frameSize(len(record))
	}
	if len(ends) != 5 {
		t.Fatalf("%d frames", len(ends))
	}
	for at := range end {
		for name, torn := range map[string][]byte{
			"cut off":     whole[:at],
			"zeros":       append(slices.Clone(whole[:at]), make([]byte, len(whole)-at)...),
			"a bit":       flip(whole, at),
			"a page lost": slices.Concat(whole[:at], make([]byte, min(64, len(whole)-at)), whole[at+min(64, len(whole)-at):]),
		} {
			s := &segment{mapped: &mapped{data: torn}}
			if err := s.scan(prefix, 0); err != nil {
				t.Fatal(err)
			}
			want := uint64(0) // records that are as they were, up to the first that is not
			for want < 5 && bytes.HasPrefix(torn, whole[:ends[want]]) {
				want++
			}
			if s.last != want && (name != "a bit" || !isPadding(ends, at)) {
				t.Fatalf("%s at byte %d: the last record is %d, want %d", name, at, s.last, want)
			}
			if s.last > 0 && s.first != 1 {
				t.Fatalf("%s at byte %d: the first record is %d", name, at, s.first)
			}
		}
	}
}

// isPadding reports whether a byte stands between two records and so belongs to none.
func isPadding(ends []int, at int) bool {
	return slices.ContainsFunc(ends, func(end int) bool { return at >= end && at < (end+7)&^7 })
}

func flip(data []byte, at int) []byte {
	data = slices.Clone(data)
	data[at] ^= 0x10
	return data
}

// A tear in the middle of a spool loses what is behind it, in later segments too, and the bound says how much that may be.
func TestTornBoot(t *testing.T) {
	b := newBench(t)
	w := open(t, b.config(t))
	record(t, w, 4000)
	dir := killed(t, w.cfg.Dir)
	second := filepath.Join(dir, w.own.boot.String(), segmentName(2))
	data, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for range 10 {
		at += frameSize(len(readFrame(data, at)))
	}
	if err := os.WriteFile(second, flip(data, at+100), 0o600); err != nil {
		t.Fatal(err)
	}
	boot := left(t, dir).boots[0]
	want := w.own.segments[1].first + 9
	if boot.last != want || boot.bound != 4001 || len(boot.segments) < 3 {
		t.Fatalf("the last record is %d, want %d; bound %d; %d segments", boot.last, want, boot.bound, len(boot.segments))
	}
	b.makeStream(t, 0)
	cfg := b.config(t)
	cfg.Dir = dir
	next := start(t, cfg)
	a := newAudit(b, 0)
	a.follow(t, boot.boot, want)
	a.confirmed(t, next)
	if a.givenOut[boot.boot] != 4001 {
		t.Errorf("its batches say that %d numbers were given out", a.givenOut[boot.boot])
	}
	if got := a.table[stream.DecisionID{Boot: next.own.boot, Seq: 1}].GetOpened(); string(got.GetPreviousBoot()) != string(boot.boot[:]) || got.GetPreviousGivenOut() != 4001 {
		t.Errorf("the next boot opens with %v", got)
	}
	testenv.Eventually(t, "its folder goes away", func() error {
		if _, err := os.Stat(filepath.Join(dir, boot.boot.String())); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("it is still there: %w", err)
		}
		return nil
	})
}

// A segment that is gone from the middle ends what can be read.
func TestMissingSegment(t *testing.T) {
	w := open(t, newBench(t).config(t))
	record(t, w, 4000)
	for n, want := range map[int]uint64{2: w.own.segments[0].last, 3: w.own.segments[1].last} {
		dir := killed(t, w.cfg.Dir)
		path := filepath.Join(dir, w.own.boot.String(), segmentName(n))
		if err := os.Truncate(path, 0); err != nil { // a file whose content did not get to the disk
			t.Fatal(err)
		}
		if got := left(t, dir).boots[0].last; got != want {
			t.Errorf("without segment %d the last record is %d, want %d", n, got, want)
		}
	}
	dir := killed(t, w.cfg.Dir)
	if err := os.Truncate(filepath.Join(dir, w.own.boot.String(), segmentName(1)), 0); err != nil {
		t.Fatal(err)
	}
	if r := left(t, dir); len(r.boots) != 0 || len(r.damaged) != 1 || r.previousBound != 4001 {
		t.Errorf("without its first segment: %d boots, %v, bound %d", len(r.boots), r.damaged, r.previousBound)
	}
}

// The bound is the exact number while the machine runs, and what was reserved when the machine died.
func TestBound(t *testing.T) {
	b := newBench(t)
	w := open(t, b.config(t))
	record(t, w, 9)
	w.mu.Lock()
	reserved := w.reserved
	w.mu.Unlock()
	running := killed(t, w.cfg.Dir)
	closeNow(t, w)
	closed := killed(t, w.cfg.Dir)
	for _, c := range []struct {
		name, dir, machine string
		bound              uint64
		closed             bool
	}{
		{"the same machine", running, machineBoot(), 10, false},
		{"the machine began anew", running, "another", reserved, false},
		{"the machine does not say", running, "", reserved, false},
		{"closed, the same machine", closed, machineBoot(), 11, true},
		{"closed, the machine began anew", closed, "another", 11, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := recoverSpool(c.dir, c.machine)
			if err != nil {
				t.Fatal(err)
			}
			boot := r.boots[0]
			defer boot.unmap() //nolint:errcheck // a test
			if boot.bound != c.bound || boot.closed != c.closed {
				t.Errorf("bound %d, closed %t; want %d, %t", boot.bound, boot.closed, c.bound, c.closed)
			}
			want := c.bound
			if c.closed {
				want = 0
			}
			if exact := c.bound == 10; r.previousBound != want || r.previousExact != exact {
				t.Errorf("the next opening record would say %d, exact %t; want %d, %t", r.previousBound, r.previousExact, want, exact)
			}
		})
	}
	silent := header{boot: stream.Boot{1}, node: "n"} // neither then nor now did the machine say
	page := make([]byte, headerSize)
	silent.encode(page)
	storeWord(page, wordReserved, reserved)
	if got, exact := boundOf(silent, page, "", 1); got != reserved || exact {
		t.Errorf("bound %d on a machine that does not say, exact %t, want %d", got, exact, reserved)
	}
	if reserved < reserveBlock {
		t.Errorf("%d numbers are reserved", reserved)
	}
}

// No number is given out that the disk does not know to be reserved.
func TestReserved(t *testing.T) {
	w := open(t, newBench(t).config(t))
	w.mu.Lock()
	w.own.last, w.own.bound = reserveBlock-3, reserveBlock-3 // as if so many had been recorded
	w.mu.Unlock()
	for range 10 {
		id, err := w.Record(&decisionv1.DecisionDetail{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(w.own.page.path)
		if err != nil {
			t.Fatal(err)
		}
		if reserved := binary.NativeEndian.Uint64(page[wordReserved:]); id.Seq > reserved {
			t.Fatalf("number %d is given out, and %d are reserved", id.Seq, reserved)
		}
	}
}

// An opening record names the newest boot before it that did not close, with its last number; the boots go in the order of their
// starts; a boot that closed needs no naming.
func TestOpeningNamesPrevious(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	cfg := b.config(t)
	first := open(t, cfg)
	record(t, first, 7)
	cfg.Dir, cfg.Registerer = killed(t, first.cfg.Dir), nil
	second := open(t, cfg)
	record(t, second, 3)
	closeNow(t, second)
	third := open(t, cfg)
	record(t, third, 5)
	cfg.Dir = killed(t, cfg.Dir)
	fourth := start(t, cfg)
	record(t, fourth, 1)
	a := newAudit(b, 0)
	a.follow(t, fourth.own.boot, 2)
	for _, c := range []struct {
		boot     *boot
		last     uint64
		previous *boot
		bound    uint64
	}{
		{first.own, 8, nil, 0},
		{second.own, 5, first.own, 8},
		{third.own, 6, first.own, 8},
		{fourth.own, 2, third.own, 6},
	} {
		if err := a.all(t.Context(), c.boot.boot, c.last); err != nil { // those before were sent before
			t.Error(err)
		}
		want := &decisionv1.BootOpened{Build: "v1", PreviousGivenOut: c.bound}
		if c.previous != nil {
			want.PreviousBoot = c.previous.boot[:]
		}
		if got := a.table[stream.DecisionID{Boot: c.boot.boot, Seq: 1}].GetOpened(); !proto.Equal(got, want) {
			t.Errorf("opened with %v, want %v", got, want)
		}
	}
	a.confirmed(t, fourth)
	testenv.Eventually(t, "folders that go away", func() error {
		entries, err := filepath.Glob(filepath.Join(cfg.Dir, "*"))
		if err == nil && len(entries) != 2 { // the lock, and the boot that runs
			err = fmt.Errorf("left over: %q", entries)
		}
		return err
	})
}

// Whatever byte of a header is damaged, Open goes on with everything else, puts the boot aside and counts it. A header of a newer
// version is not damaged, and not this program's to touch.
func TestDamagedHeader(t *testing.T) {
	dir, segment := spoolOf(t, 1)
	folder := filepath.Dir(segment)
	good, err := os.ReadFile(filepath.Join(folder, headerName))
	if err != nil {
		t.Fatal(err)
	}
	for at := range headerEnd {
		if at >= 8 && at < 12 {
			continue // the version
		}
		if _, err := decodeHeader(flip(good, at)); !errors.Is(err, errDamaged) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	for _, page := range [][]byte{nil, good[:100], make([]byte, headerSize)} {
		if _, err := decodeHeader(page); !errors.Is(err, errDamaged) {
			t.Errorf("%d bytes: %v", len(page), err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, headerName), flip(good, 8), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := recoverSpool(dir, machineBoot()); err == nil || !strings.Contains(err.Error(), "version 17 of the spool") {
		t.Errorf("a newer version: %v", err)
	}
	if err := os.WriteFile(filepath.Join(folder, headerName), flip(good, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := newBench(t).config(t)
	cfg.Dir = dir
	w := open(t, cfg)
	if _, err := os.Stat(folder + suffixBad); err != nil || w.counts.damaged != 1 {
		t.Errorf("put aside: %v, counted %d", err, w.counts.damaged)
	}
	record(t, w, 1)
}

// What a process leaves that died while it made a boot, or while it deleted one, goes away; what is not a boot's stays.
func TestLeftovers(t *testing.T) {
	cfg := newBench(t).config(t)
	boot := stream.Boot{1}.String()
	for _, name := range []string{boot + suffixNew, boot + suffixGone, boot + suffixBad, "lost+found", "other" + suffixNew} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cfg.Dir, name, headerName), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := open(t, cfg)
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := []string{boot + suffixBad, "lock", "lost+found", "other" + suffixNew, w.own.boot.String()}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Whatever bytes a segment has, recovery ends, and finds records of the boot alone, numbered without a gap, in the room that there is.
func FuzzRecover(f *testing.F) {
	_, path := spoolOf(f, 3)
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	boot, err := stream.ParseBoot(filepath.Base(filepath.Dir(path)))
	if err != nil {
		f.Fatal(err)
	}
	prefix := prefixOf("node-1", boot)
	f.Add(data[:1024], uint64(0))
	f.Add(data[:300], uint64(1))
	f.Add(flip(data[:1024], 200), uint64(2))
	f.Add(append(bytes.Repeat([]byte{0xff}, 16), data[:512]...), uint64(7))
	f.Fuzz(func(t *testing.T, data []byte, next uint64) {
		s := &segment{mapped: &mapped{data: data}}
		if err := s.scan(prefix, next); err != nil {
			t.Fatal(err)
		}
		if s.end > len(data) || (s.first == 0) != (s.end == 0) {
			t.Fatalf("records %d to %d end at %d of %d", s.first, s.last, s.end, len(data))
		}
		if next != 0 && s.first != 0 && s.first != next {
			t.Fatalf("the first is %d, want %d", s.first, next)
		}
		seq := s.first
		for at := 0; at < s.end; seq++ {
			record := readFrame(data, at)
			if numberOf(record, prefix) != seq {
				t.Fatalf("record %d is not where it should be", seq)
			}
			at += frameSize(len(record))
		}
		if s.first != 0 && seq != s.last+1 {
			t.Fatalf("the last is %d, and %d was read", s.last, seq-1)
		}
		if _, err := s.clean(); err != nil {
			t.Fatal(err)
		}
	})
}
