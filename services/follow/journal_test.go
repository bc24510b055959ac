package follow

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

func serialized(t testing.TB, events ...*eventv1.PolicyEvent) [][]byte {
	t.Helper()
	var all [][]byte
	for _, ev := range events {
		data, err := proto.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	return all
}

// file is a state file: the state of position 3, a proof, and the events up to the head of h, a command at a time.
func file(t testing.TB, h *history) []byte {
	t.Helper()
	data, err := startFile(h.states[3])
	if err != nil {
		t.Fatal(err)
	}
	data = appendProof(data, proof{wall: 1, boot: 2})
	for i := 3; i < len(h.events); i++ {
		data = appendFrame(data, frameEvent, serialized(t, h.events[i])[0])
		if h.states[i+1].Whole {
			data = appendProof(data, proof{wall: int64(i), boot: 2})
		}
	}
	return data
}

func encoded(t testing.TB, s *policy.State) []byte {
	t.Helper()
	data, err := stream.EncodeState(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func open(t testing.TB, dir string) (*journal, saved, prometheus.Counter) {
	t.Helper()
	failures := prometheus.NewCounter(prometheus.CounterOpts{Name: "failures_total", Help: "of a test"})
	j, s, err := openJournal(dir, testenv.Logger(t), failures)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.close)
	return j, s, failures
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func reopened(t testing.TB, j *journal, want *policy.State) saved {
	t.Helper()
	j.close()
	again, s, _ := open(t, j.dir)
	again.close()
	if s.state == nil || !bytes.Equal(encoded(t, s.state), encoded(t, want)) {
		t.Errorf("opened again it holds position %d, want %d", position(s.state), want.Position)
	}
	return s
}

// Promise 4: a process may be killed at any byte of a write. What is left holds the whole commands that were written, and the
// file goes on from there.
func TestTornAtEveryByte(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(4) // 1..9
	whole := file(t, h)
	reference, err := parse(whole)
	if err != nil || reference.state.Position != 9 || reference.cut != nil || reference.good != int64(len(whole)) {
		t.Fatal(reference, err)
	}
	dir := t.TempDir()
	last := uint64(3)
	for cut := int(reference.first); cut <= len(whole); cut++ {
		s, err := parse(whole[:cut])
		if err != nil || !s.state.Whole || s.state.Hash != h.states[s.state.Position].Hash || s.state.Position < last || s.good > int64(cut) {
			t.Fatalf("cut at %d of %d: position %d, %v", cut, len(whole), position(s.state), err)
		}
		if last = s.state.Position; cut%7 != 0 { // the disk is slower than the parser
			continue
		}
		write(t, filepath.Join(dir, fileName), whole[:cut])
		j, got, _ := open(t, dir)
		if got.state.Position != last {
			t.Fatalf("cut at %d: opened at %d", cut, got.state.Position)
		}
		j.add(h.states[9], serialized(t, h.events[last:]...))
		j.write(j.take())
		reopened(t, j, h.states[9])
	}
	if last != 9 {
		t.Errorf("the whole file ends at %d", last)
	}
	for cut := range int(reference.first) {
		if _, err := parse(whole[:cut]); !errors.Is(err, errDamaged) {
			t.Fatalf("cut at %d, within the first state: %v", cut, err)
		}
	}
}

// A file of which one bit changed is set aside, or holds less; never something else.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(4)
	whole := file(t, h)
	for i := range whole {
		for bit := range 8 {
			data := bytes.Clone(whole)
			data[i] ^= 1 << bit
			s, err := parse(data)
			if err == nil && (!s.state.Whole || s.state.Hash != h.states[s.state.Position].Hash) || err != nil && !errors.Is(err, errDamaged) {
				t.Fatalf("bit %d of byte %d: position %d, %v", bit, i, position(s.state), err)
			}
			if err == nil && s.state.Position > 3 && i < len(whole)/3 {
				t.Fatalf("bit %d of byte %d: damage in the middle was not seen", bit, i)
			}
		}
	}
}

// What a frame holds is checked, whatever its checksum says.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(4)
	other := h.branch(3)
	other.do(alice, policy.CreateEngine{ID: "X-0123456789", Name: "X"})
	other.engines(1)
	start := file(t, h.branch(3))
	events := func(log *history, from, to int) []byte {
		data := bytes.Clone(start)
		for _, ev := range serialized(t, log.events[from:to]...) {
			data = appendFrame(data, frameEvent, ev)
		}
		return data
	}
	begun, err := startFile(policy.Empty())
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		data []byte
		want int // position; 0 for a file that is set aside
	}{
		"good":                          {events(h, 3, 9), 9},
		"zeros at the end":              {append(events(h, 3, 7), make([]byte, 4096)...), 7},
		"an event of a later version":   {appendFrame(events(h, 3, 7), frameEvent, serialized(t, h.branch(7).later(otherType))[0]), 7},
		"empty":                         {nil, 0},
		"another format":                {bytes.Replace(events(h, 3, 9), []byte("/1\n"), []byte("/2\n"), 1), 0},
		"nothing but the magic":         {[]byte(fileMagic), 0},
		"no state first":                {appendProof([]byte(fileMagic), proof{}), 0},
		"a state that is none":          {appendFrame([]byte(fileMagic), frameState, []byte("junk")), 0},
		"a log that has not begun":      {begun, 0},
		"two states":                    {appendFrame(events(h, 3, 9), frameState, encoded(t, h.states[9])), 0},
		"an event that is none":         {appendFrame(events(h, 3, 9), frameEvent, []byte("junk")), 0},
		"a gap":                         {events(h, 5, 9), 0},
		"another history":               {events(other, 5, 7), 0},
		"a frame of no kind":            {appendFrame(events(h, 3, 9), 9, nil), 0},
		"a proof in the middle":         {appendProof(events(h, 3, 4), proof{}), 0},
		"a short proof":                 {appendFrame(events(h, 3, 9), frameProof, make([]byte, 8)), 0},
		"junk between the frames":       {append(append(events(h, 3, 5), "junk, and more of it"...), events(h, 5, 9)[len(start):]...), 0},
		"junk at the end":               {append(events(h, 3, 5), "this is no end of a frame"...), 0},
		"a part of a frame at the end":  {events(h, 3, 9)[:len(events(h, 3, 9))-1], 7},
		"a part of a header at the end": {append(events(h, 3, 9), 1, 0, 0), 9},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, fileName), test.data)
			j, s, _ := open(t, dir)
			if position(s.state) != uint64(test.want) {
				t.Errorf("position %d, want %d", position(s.state), test.want)
			}
			aside, err := os.ReadFile(j.path() + ".bad")
			if bad := err == nil; bad != (test.want == 0) || bad && !bytes.Equal(aside, test.data) {
				t.Errorf("set aside: %v, want %v", bad, test.want == 0)
			}
			j.add(h.states[9], nil)
			j.write(j.take())
			reopened(t, j, h.states[9])
		})
	}
}

// A file that only grew would be read for ever: once the events outweigh the state, it is begun anew.
func TestCompaction(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(1)
	j, _, failures := open(t, t.TempDir())
	j.add(h.states[3], nil)
	j.prove(proof{wall: 7, boot: 8})
	j.write(j.take())
	largest := int64(0)
	for range 60 {
		from := len(h.events)
		h.engines(100)
		j.add(h.head(), serialized(t, h.events[from:]...))
		j.write(j.take())
		largest = max(largest, j.size-j.first)
	}
	if largest < minCompact/2 || largest > minCompact+200_000 || testCounter(failures) != 0 {
		t.Errorf("up to %d bytes of events, %v failures", largest, testCounter(failures))
	}
	if s := reopened(t, j, h.head()); s.proof != (proof{wall: 7, boot: 8}) {
		t.Errorf("the proof is %+v", s.proof)
	}
	if names, _ := filepath.Glob(filepath.Join(j.dir, "*.tmp")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func testCounter(c prometheus.Counter) float64 {
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, _ := reg.Gather()
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

// A disk that is full: what was written stays readable, the failure is counted, and when there is room again the file is
// begun anew, since nothing may stand behind a torn end.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t).engines(4)
		j, _, failures := open(t, t.TempDir())
		j.add(h.states[3], nil)
		j.write(j.take())
		healthy := j.file
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		j.file = full
		j.add(h.states[5], serialized(t, h.events[3:5]...))
		j.write(j.take())
		_ = healthy.Close()
		if j.file != nil || testCounter(failures) != 1 {
			t.Errorf("after a full disk: %v failures", testCounter(failures))
		}
		if s, err := j.load(); err != nil || s.state.Position != 3 {
			t.Errorf("the file has %v, %v", s.state, err)
		}
		_ = j.file.Close()
		j.file = nil
		j.add(h.states[7], serialized(t, h.events[5:7]...))
		j.write(j.take())
		if j.file != nil {
			t.Error("the disk was not left alone")
		}
		pass(retryDisk)
		if err := os.Mkdir(j.path()+".tmp", 0o700); err != nil { // still no room
			t.Fatal(err)
		}
		j.write(j.take())
		if j.file != nil || testCounter(failures) != 2 {
			t.Errorf("after a second failure: %v failures", testCounter(failures))
		}
		if err := os.Remove(j.path() + ".tmp"); err != nil {
			t.Fatal(err)
		}
		pass(retryDisk)
		j.add(h.states[9], serialized(t, h.events[7:9]...))
		j.write(j.take())
		reopened(t, j, h.states[9])
	})
}

// What a slow disk does not take in time is not kept in memory: the file is begun anew from the state.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	h := newHistory(t).engines(2)
	j, _, _ := open(t, t.TempDir())
	j.add(h.states[3], nil)
	j.write(j.take())
	large := [][]byte{make([]byte, maxUnwritten/2)}
	for range 3 {
		j.add(h.states[5], large)
	}
	b := j.take()
	if len(b.frames) != 0 || !b.anew {
		t.Errorf("%d bytes wait", len(b.frames))
	}
	j.write(b)
	reopened(t, j, h.states[5])
}

// Two nodes must not share a folder; when one ends, the other may have it.
func TestFolderIsOnes(t *testing.T) {
	t.Parallel()
	cfg := Config{Conn: noNATS(t), Dir: filepath.Join(t.TempDir(), "new", "folder"), Logger: testenv.Logger(t)}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second one: %v", err)
	}
	f.Close()
	again, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	cfg.Dir = "/dev/null/x"
	if _, err := New(cfg); err == nil {
		t.Error("a folder that cannot be made")
	}
}

// Promise 4: the state survives a restart, with what is known of its freshness; control and NATS may be down.
func TestWarmStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		first := start(t, c, dir)
		pass(3 * time.Second)
		c.set(func(s *served) { s.log.engines(2) })
		pass(3 * time.Second)
		first.want(t, 7, 2*time.Second, nil)
		c.set(func(s *served) { s.away = true })
		pass(time.Minute)
		first.stop()
		before, _ := first.Staleness()
		pass(time.Hour)
		second := start(t, c, dir)
		if d, proven := second.Staleness(); !proven || d < before+time.Hour || d > before+time.Hour+time.Second {
			t.Errorf("after a restart %v, %v; before it was %v", d, proven, before)
		}
		if s := second.last(); s == nil || s.Position != 7 || s != second.State() || second.accounts[0] != nil {
			t.Errorf("published %v", s)
		}
		if err := second.Wait(t.Context(), 7); err != nil {
			t.Error(err)
		}
		pass(time.Minute)
		if second.Status() == nil {
			t.Error("it says that all is well")
		}
		c.set(func(s *served) { s.away = false; s.log.engines(1) })
		pass(5 * time.Second)
		second.want(t, 9, 2*time.Second, nil)
		if n := c.count("ReadState"); n != 1 {
			t.Errorf("the state was read %d times", n)
		}
		if metric(t, second.reg, "events_total", "file") != 4 {
			t.Errorf("%v events came from the file", metric(t, second.reg, "events_total", "file"))
		}
	})
}

// A process that is killed leaves a file from which the next one goes on, at any moment.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newControl(newHistory(t).engines(1))
		r := start(t, c, dir)
		pass(3 * time.Second)
		for range 5 {
			c.set(func(s *served) { s.log.engines(1) })
			pass(3 * time.Second)
			copied := t.TempDir()
			data, err := os.ReadFile(filepath.Join(dir, fileName))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(copied, fileName), data)
			if _, s, _ := open(t, copied); s.state == nil || s.state.Hash != r.State().Hash {
				t.Errorf("the file is at %d, the state at %d", position(s.state), r.State().Position)
			}
		}
	})
}

// Freshness that was written down is never more than was proved, whatever the clocks did meanwhile.
func TestProofOfAnEarlierLife(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		boot, wall time.Duration // that pass between the lives
		want       time.Duration // negative for unproven
	}{
		"both clocks went on":            {time.Minute, time.Minute, time.Minute},
		"the wall clock was set forward": {time.Minute, time.Hour, time.Hour},
		"the wall clock was set back":    {time.Minute, 10 * time.Second, time.Minute},
		"… before the proof":             {time.Minute, -time.Second, -1},
		"the machine booted":             {-time.Hour, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHands()
			p := h.clock().proofOf(int64(h.boot - 5*time.Second))
			h.pass(test.boot-5*time.Second, test.wall-5*time.Second) // 5 s of it before it was written down
			got := p.on(h.clock())
			if test.want < 0 {
				if got != unproven {
					t.Errorf("%v old", h.boot-time.Duration(got))
				}
				return
			}
			if age := h.boot - time.Duration(got); age != test.want {
				t.Errorf("%v old, want %v", age, test.want)
			}
		})
	}
	if (proof{}).on(newHands().clock()) != unproven {
		t.Error("no proof is one")
	}
}

// FuzzOpenFile: any bytes are a file that is set aside, or a whole state; the part that counts, read again, is the same.
func FuzzOpenFile(f *testing.F) {
	h := newHistory(f).engines(2)
	whole := file(f, h)
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add([]byte(fileMagic))
	f.Add(appendFrame([]byte(fileMagic), frameState, encoded(f, h.states[1])))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parse(data)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Fatal(err)
			}
			return
		}
		if !s.state.Whole || s.good < s.first || s.good > int64(len(data)) || (s.cut == nil) != (s.good == int64(len(data))) {
			t.Fatalf("whole %v, good %d of %d, %v", s.state.Whole, s.good, len(data), s.cut)
		}
		again, err := parse(data[:s.good])
		if err != nil || again.cut != nil || again.good != s.good || !bytes.Equal(encoded(t, again.state), encoded(t, s.state)) {
			t.Fatalf("cut to what counts: %v, %v", again.cut, err)
		}
	})
}
