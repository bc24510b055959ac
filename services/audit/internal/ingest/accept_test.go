package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// sent is a batch that a node sends.
type sent struct {
	node        string
	boot        byte
	first, last uint64
	closes      bool
	bad         uint64 // this record is bad
	names       byte   // the opening record names this boot
}

func (s sent) encode(t testing.TB) []byte {
	t.Helper()
	boot := stream.Boot{s.boot}
	b := stream.Batch{Node: s.node, Boot: boot, FirstSeq: s.first, LastSeq: s.last, GivenOut: s.last}
	for seq := s.first; seq <= s.last; seq++ {
		r := &decisionv1.DecisionRecord{Version: 1, Node: s.node, Boot: boot[:], Seq: seq}
		switch {
		case seq == s.bad:
			r.Seq += 100
		case seq == 1 && s.names != 0:
			before := stream.Boot{s.names}
			r.What = &decisionv1.DecisionRecord_Opened{Opened: &decisionv1.BootOpened{PreviousBoot: before[:]}}
		case seq == s.last && s.closes:
			r.What = &decisionv1.DecisionRecord_Closed{Closed: &decisionv1.BootClosed{}}
		}
		data, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		b.Records = append(b.Records, data)
	}
	data, err := stream.EncodeBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (s sent) message(t testing.TB, sequence uint64) message {
	t.Helper()
	return decode(0, stream.DecisionSubject(0, s.node, stream.Boot{s.boot}), s.encode(t), sequence, time.Unix(int64(sequence), 0), 1)
}

// table is what ClickHouse does with blocks of one stream.
type table struct {
	tokens map[uint64]bool
	rows   map[stream.Boot][]row
}

type row struct{ seq, sequence uint64 }

func newTable() *table { return &table{tokens: map[uint64]bool{}, rows: map[stream.Boot][]row{}} }

func (d *table) lastSeq(_ context.Context, boot stream.Boot, before uint64) (last uint64, _ error) {
	for _, r := range d.rows[boot] {
		if r.sequence < before {
			last = max(last, r.seq)
		}
	}
	return last, nil
}

func (d *table) insert(first uint64, rows []store.Row) {
	if len(rows) == 0 || d.tokens[first] {
		return
	}
	d.tokens[first] = true
	for _, r := range rows {
		boot := stream.Boot(r.Record.GetBoot())
		d.rows[boot] = append(d.rows[boot], row{r.Record.GetSeq(), r.Sequence})
	}
}

func (d *table) seqs(boot stream.Boot) (out []uint64) {
	for _, r := range d.rows[boot] {
		out = append(out, r.seq)
	}
	return out
}

// blockOf is a block of these batches.
func blockOf(t testing.TB, first uint64, batches ...sent) *block {
	t.Helper()
	b := &block{first: first}
	for i, s := range batches {
		b.last = first + uint64(i)
		b.batches = append(b.batches, s.message(t, b.last).batch)
	}
	return b
}

func TestAccept(t *testing.T) {
	for name, c := range map[string]struct {
		table   map[byte]uint64 // records 1 to this are in the table
		marks   map[byte]uint64
		batches []sent
		rows    []uint64
		seen    uint64 // how far boot 1 is said to be
		after   map[byte]uint64
		dropped map[string]int
		rejects []string
	}{
		"a new boot":            {batches: []sent{{"n", 1, 1, 3, false, 0, 0}}, rows: []uint64{1, 2, 3}, seen: 3, after: map[byte]uint64{1: 3}},
		"the next":              {marks: map[byte]uint64{1: 3}, batches: []sent{{"n", 1, 4, 5, false, 0, 0}}, rows: []uint64{4, 5}, seen: 5, after: map[byte]uint64{1: 5}},
		"the same again":        {marks: map[byte]uint64{1: 3}, batches: []sent{{"n", 1, 1, 3, false, 0, 0}}, seen: 3, after: map[byte]uint64{1: 3}, dropped: map[string]int{"known": 3}},
		"half of it again":      {marks: map[byte]uint64{1: 3}, batches: []sent{{"n", 1, 2, 5, false, 0, 0}}, rows: []uint64{4, 5}, seen: 5, after: map[byte]uint64{1: 5}, dropped: map[string]int{"known": 2}},
		"too early":             {marks: map[byte]uint64{1: 3}, batches: []sent{{"n", 1, 5, 6, false, 0, 0}}, seen: 3, after: map[byte]uint64{1: 3}, dropped: map[string]int{"gap": 2}},
		"begins too late":       {batches: []sent{{"n", 1, 2, 3, false, 0, 0}}, dropped: map[string]int{"gap": 2}},
		"early, then right":     {batches: []sent{{"n", 1, 3, 4, false, 0, 0}, {"n", 1, 1, 4, false, 0, 0}}, rows: []uint64{1, 2, 3, 4}, seen: 4, after: map[byte]uint64{1: 4}, dropped: map[string]int{"gap": 2}},
		"closed":                {marks: map[byte]uint64{1: 3}, batches: []sent{{"n", 1, 4, 5, true, 0, 0}}, rows: []uint64{4, 5}, seen: 5},
		"closed, again":         {table: map[byte]uint64{1: 5}, batches: []sent{{"n", 1, 4, 5, true, 0, 0}}, seen: 5, dropped: map[string]int{"known": 2}},
		"closed and again":      {marks: map[byte]uint64{1: 3}, batches: []sent{{"n", 1, 4, 5, true, 0, 0}, {"n", 1, 4, 5, true, 0, 0}}, rows: []uint64{4, 5}, seen: 5, dropped: map[string]int{"known": 2}},
		"goes on though closed": {table: map[byte]uint64{1: 5}, batches: []sent{{"n", 1, 6, 6, false, 0, 0}}, rows: []uint64{6}, seen: 6, after: map[byte]uint64{1: 6}},
		"a bad record":          {batches: []sent{{"n", 1, 1, 3, false, 2, 0}}, rows: []uint64{1, 3}, seen: 3, after: map[byte]uint64{1: 3}, rejects: []string{"record 2 of boot"}},
		"a bad last record":     {batches: []sent{{"n", 1, 1, 3, false, 3, 0}}, rows: []uint64{1, 2}, seen: 3, after: map[byte]uint64{1: 3}, rejects: []string{"record 3 of boot"}},
		"another node's boot": {
			marks: map[byte]uint64{1: 3}, batches: []sent{{"m", 1, 4, 5, false, 0, 0}, {"n", 1, 4, 4, false, 0, 0}}, rows: []uint64{4}, seen: 4,
			after: map[byte]uint64{1: 4}, rejects: []string{"node m sends records 4 to 5"},
		},
		"names itself":       {batches: []sent{{"n", 1, 1, 1, false, 0, 1}}, rows: []uint64{1}, seen: 1, after: map[byte]uint64{1: 1}},
		"two boots":          {batches: []sent{{"n", 1, 1, 2, false, 0, 0}, {"m", 2, 1, 1, false, 0, 0}}, rows: []uint64{1, 2, 1}, seen: 2, after: map[byte]uint64{1: 2, 2: 1}},
		"nothing but a tick": {marks: map[byte]uint64{1: 3}, after: map[byte]uint64{1: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTable()
			for boot, last := range c.table {
				for seq := range last {
					d.rows[stream.Boot{boot}] = append(d.rows[stream.Boot{boot}], row{seq: seq + 1})
				}
			}
			var marks []store.Mark
			for boot, seq := range c.marks {
				marks = append(marks, store.Mark{Node: "n", Boot: stream.Boot{boot}, Seq: seq})
			}
			got, err := newAcceptor(marks, d.lastSeq).accept(t.Context(), blockOf(t, 10, c.batches...))
			if err != nil {
				t.Fatal(err)
			}
			check(t, got, c.rows, c.after, c.dropped, c.rejects)
			if seq := got.seen["n"][stream.Boot{1}]; seq != c.seen {
				if _, silent := got.seen["n"]; silent || len(c.batches) > 0 {
					t.Errorf("boot 1 is said to be at %d, want %d", seq, c.seen)
				}
			}
		})
	}
}

func check(t *testing.T, got accepted, rows []uint64, after map[byte]uint64, dropped map[string]int, rejects []string) {
	t.Helper()
	var seqs []uint64
	for _, r := range got.rows {
		seqs = append(seqs, r.Record.GetSeq())
	}
	if !slices.Equal(seqs, rows) {
		t.Errorf("it takes %v, want %v", seqs, rows)
	}
	marks := map[byte]uint64{}
	for _, m := range got.marks {
		marks[m.Boot[0]] = m.Seq
	}
	if !maps.Equal(marks, after) {
		t.Errorf("the marks are %v, want %v", marks, after)
	}
	maps.DeleteFunc(got.dropped, func(_ string, n int) bool { return n == 0 })
	if !maps.Equal(got.dropped, dropped) {
		t.Errorf("it drops %v, want %v", got.dropped, dropped)
	}
	if len(got.rejects) != len(rejects) {
		t.Fatalf("it rejects %v, want %v", got.rejects, rejects)
	}
	for i, r := range got.rejects {
		if !strings.Contains(r.Reason, rejects[i]) || len(r.Data) == 0 {
			t.Errorf("it rejects %q with %d bytes, want %q", r.Reason, len(r.Data), rejects[i])
		}
	}
}

// A boot that did not close leaves its mark behind once the next boot on its disk has named it, and what it sent is in the table.
// It keeps the mark while that says more than the table does.
func TestNamedBoots(t *testing.T) {
	for name, c := range map[string]struct {
		bad   uint64
		after map[byte]uint64
	}{
		"whole":             {after: map[byte]uint64{2: 2}},
		"a bad last record": {bad: 3, after: map[byte]uint64{1: 3, 2: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTable()
			a := newAcceptor(nil, d.lastSeq)
			first, err := a.accept(t.Context(), blockOf(t, 1, sent{"n", 1, 1, 3, false, c.bad, 0}, sent{"n", 2, 1, 1, false, 0, 1}))
			if err != nil {
				t.Fatal(err)
			}
			if len(first.marks) != 2 {
				t.Errorf("before they have landed the marks are %v", first.marks)
			}
			d.insert(1, first.rows)
			second, err := a.accept(t.Context(), blockOf(t, 3, sent{"n", 2, 2, 2, false, 0, 0}))
			if err != nil {
				t.Fatal(err)
			}
			check(t, second, []uint64{2}, c.after, nil, nil)
		})
	}
}

// A block that has landed, and whose progress was not saved, is accepted as it was the first time: a batch that came too early
// in it does not fit now that the table has what it lacked.
func TestAcceptedAgain(t *testing.T) {
	d := newTable()
	b := blockOf(t, 5, sent{"n", 1, 2, 4, false, 0, 0}, sent{"n", 1, 1, 1, false, 0, 0})
	for range 2 {
		got, err := newAcceptor(nil, d.lastSeq).accept(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		check(t, got, []uint64{1}, map[byte]uint64{1: 1}, map[string]int{"gap": 3}, nil)
		d.insert(b.first, got.rows)
	}
}

func TestAcceptPassesErrors(t *testing.T) {
	away := errors.New("away")
	a := newAcceptor(nil, func(context.Context, stream.Boot, uint64) (uint64, error) { return 0, away })
	if _, err := a.accept(t.Context(), blockOf(t, 1, sent{"n", 1, 1, 1, false, 0, 0})); !errors.Is(err, away) {
		t.Errorf("it says %v", err)
	}
}

// What cannot be read is kept with the reason, and moves nothing.
func TestRejectedFrames(t *testing.T) {
	good := sent{"n", 1, 1, 2, false, 0, 0}
	for name, c := range map[string]struct {
		subject string
		data    []byte
		says    string
	}{
		"junk":              {stream.DecisionSubject(0, "n", stream.Boot{1}), []byte("junk"), "not a batch"},
		"nothing":           {stream.DecisionSubject(0, "n", stream.Boot{1}), nil, "not a batch"},
		"another node":      {stream.DecisionSubject(0, "m", stream.Boot{1}), good.encode(t), "says that it is of node n"},
		"another boot":      {stream.DecisionSubject(0, "n", stream.Boot{2}), good.encode(t), "says that it is of node n"},
		"another partition": {stream.DecisionSubject(1, "n", stream.Boot{1}), good.encode(t), "says that it is of node n"},
		"a longer subject":  {stream.DecisionSubject(0, "n", stream.Boot{1}) + ".x", good.encode(t), "says that it is of node n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := decode(0, c.subject, c.data, 7, time.Unix(7, 0), 1)
			b := &block{first: 7, last: 7, batches: []*batch{m.batch}}
			got, err := newAcceptor(nil, newTable().lastSeq).accept(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.rejects) != 1 || !strings.Contains(got.rejects[0].Reason, c.says) || string(got.rejects[0].Data) != string(c.data) {
				t.Errorf("it rejects %v", got.rejects)
			}
			if len(got.rows)+len(got.marks)+len(got.seen) != 0 || got.rejects[0].Sequence != 7 {
				t.Errorf("it takes %+v", got)
			}
		})
	}
}

func TestRejectedRecords(t *testing.T) {
	boot := stream.Boot{1}
	frame := &stream.Batch{Node: "n", Boot: boot}
	good := func() *decisionv1.DecisionRecord {
		return &decisionv1.DecisionRecord{Version: 1, Node: "n", Boot: boot[:], Seq: 4}
	}
	for name, c := range map[string]struct {
		change func(*decisionv1.DecisionRecord)
		says   string
	}{
		"good":    {func(*decisionv1.DecisionRecord) {}, ""},
		"version": {func(r *decisionv1.DecisionRecord) { r.Version = 2 }, "upgrade audit"},
		"node":    {func(r *decisionv1.DecisionRecord) { r.Node = "m" }, "node \"m\""},
		"boot":    {func(r *decisionv1.DecisionRecord) { r.Boot = boot[:15] }, "its batch says"},
		"seq":     {func(r *decisionv1.DecisionRecord) { r.Seq = 5 }, "number 5"},
		"huge":    {func(r *decisionv1.DecisionRecord) { r.Node = strings.Repeat("m", 1<<20) }, "its batch says"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			c.change(r)
			data, err := proto.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			got := decodeRecord(frame, 4, data)
			switch {
			case c.says == "" && (got.err != nil || got.DecisionRecord == nil):
				t.Errorf("it is refused: %v", got.err)
			case c.says != "" && (got.err == nil || !strings.Contains(got.err.Error(), c.says) || len(got.err.Error()) > 500 || len(got.data) != len(data)):
				t.Errorf("it says %v", got.err)
			}
		})
	}
	if got := decodeRecord(frame, 4, []byte{0xff}); got.err == nil {
		t.Error("what is no message was taken")
	}
}

// Any stream of batches, cut anywhere, with an ingester that dies before or after its INSERT landed, or before or after it
// saved, puts into the table what a simple reader of the stream takes: each record once, right behind the one before.
func FuzzAccept(f *testing.F) {
	f.Add([]byte{0, 1, 3, 0, 1, 9, 1, 2, 5, 40, 7, 3, 2, 2, 2, 0, 0, 0})
	f.Add([]byte("A1yB0!A1\x11A1c00#A1zA0200A000000000000000000000000000000000000")) // an early batch in a block that has landed
	f.Add([]byte(strings.Repeat("\x11\x02\x83\x45\x20\x03\x05\x91", 8)))
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 300 {
			return
		}
		d, model := newTable(), map[stream.Boot]uint64{}
		var saved store.Progress
		var batches []sent
		var fates []byte
		for ; len(program) >= 3; program = program[3:] {
			s := sent{node: "n", boot: program[0]%3 + 1, first: uint64(program[1]%16) + 1, closes: program[0]&8 != 0}
			s.last = s.first + uint64(program[2]%5)
			if program[0]&16 != 0 {
				s.names = program[2]%3 + 1
			}
			if program[0]&32 != 0 && !(s.closes && s.last == s.first) {
				s.bad = s.first
			}
			batches, fates = append(batches, s), append(fates, program[2]/5)
		}
		want := map[stream.Boot][]uint64{}
		for _, s := range batches {
			boot := stream.Boot{s.boot}
			for seq := s.first; s.first <= model[boot]+1 && seq <= s.last; seq++ {
				if seq > model[boot] {
					model[boot] = seq
					if seq != s.bad {
						want[boot] = append(want[boot], seq)
					}
				}
			}
		}
		runAll(t, d, &saved, batches, fates)
		for boot, seqs := range want {
			if diff := cmp.Diff(seqs, d.seqs(boot)); diff != "" {
				t.Fatalf("boot %s: %s\n%+v", boot, diff, batches)
			}
		}
		if len(want) != len(d.rows) {
			t.Fatalf("the table has %d boots, want %d", len(d.rows), len(want))
		}
		for _, m := range saved.Marks {
			if m.Seq != model[m.Boot] {
				t.Fatalf("the mark of %s is %d, want %d", m.Boot, m.Seq, model[m.Boot])
			}
		}
	})
}

// runAll ingests batches as messages 1, 2, 3, …. A fate says whether the block ends behind the message, and how often, and
// where, its ingester dies.
func runAll(t *testing.T, d *table, saved *store.Progress, batches []sent, fates []byte) {
	t.Helper()
	a := newAcceptor(nil, d.lastSeq)
	first := 0
	for last, fate := range fates {
		if fate&1 == 0 && last < len(fates)-1 {
			continue
		}
		for try := range byte(3) {
			out, err := a.accept(t.Context(), blockOf(t, uint64(first+1), batches[first:last+1]...))
			if err != nil {
				t.Fatal(err)
			}
			dies := fate >> (1 + 2*try) & 3 // 0: not; 1: before it landed; 2: landed, not saved; 3: saved
			if dies != 1 || try == 2 {
				d.insert(uint64(first+1), out.rows)
			}
			if dies == 0 || dies == 3 || try == 2 {
				saved.Sequence, saved.Marks = uint64(last+1), out.marks
			}
			if dies != 0 {
				a = newAcceptor(saved.Marks, d.lastSeq)
			}
			if saved.Sequence == uint64(last+1) {
				break
			}
		}
		first = last + 1
	}
	if int(saved.Sequence) != len(batches) {
		t.Fatal(fmt.Sprint("the progress is ", saved.Sequence))
	}
}
