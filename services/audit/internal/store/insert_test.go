package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

func one[T any](t *testing.T, ch testenv.ClickHouse, sql string) (v T) {
	t.Helper()
	if err := connect(t, ch, "").QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// Every field of the contract comes out as it went in: each alone, set and empty, with what a later version may send.
func TestRecordComesOutAsItWentIn(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	boot := stream.Boot{1, 2, 3}
	full := decided(boot, 1, accountA)
	everyFieldIsSet(t, full.ProtoReflect())
	variants := []func(*decisionv1.DecisionDetail){
		func(*decisionv1.DecisionDetail) {},
		func(d *decisionv1.DecisionDetail) { *d = decisionv1.DecisionDetail{Account: accountA} },
		func(d *decisionv1.DecisionDetail) {
			d.Principal, d.Action, d.Resource = &decisionv1.Principal{}, &decisionv1.Entity{}, &decisionv1.Entity{}
		},
		func(d *decisionv1.DecisionDetail) {
			d.LogOnly, d.Settings = &decisionv1.LogOnlyFindings{}, &eventv1.Settings{}
		},
		func(d *decisionv1.DecisionDetail) { d.Settings.RedactedPaths = &eventv1.RedactedPaths{} },
		func(d *decisionv1.DecisionDetail) { d.Settings.RedactedPaths = nil },
		func(d *decisionv1.DecisionDetail) {
			d.Settings.StrictForbids, d.StalenessUs = new(false), new(uint64(0))
		},
		func(d *decisionv1.DecisionDetail) {
			d.Decision, d.Mode, d.EngineSource, d.Settings.OnStale = 77, 88, -9, 99
		},
		func(d *decisionv1.DecisionDetail) { d.NowUs = 1 << 62 },
		func(d *decisionv1.DecisionDetail) { d.NowUs = -1 << 62 },
		func(d *decisionv1.DecisionDetail) { d.ProtoReflect().SetUnknown(protoreflect.RawFields{0xf8, 0x07, 1}) },
		func(d *decisionv1.DecisionDetail) {
			d.Errors[1].ProtoReflect().SetUnknown(protoreflect.RawFields{0xf8, 0x07, 1})
		},
		func(d *decisionv1.DecisionDetail) {
			d.Settings.ProtoReflect().SetUnknown(protoreflect.RawFields{0xf8, 0x07, 1})
		},
		func(d *decisionv1.DecisionDetail) {
			d.Principal.Tags, d.Principal.Id = map[string]string{"": "", "a\x00'\\`": "\u2028"}, "\x00'\\\""
		},
		func(d *decisionv1.DecisionDetail) { d.LatencyNs, d.Revision = 1<<64-1, 1<<64-1 },
	}
	var records []*decisionv1.DecisionRecord
	for i, change := range variants {
		r := decided(boot, uint64(i)+1, accountA)
		change(r.GetDecision())
		records = append(records, r)
	}
	late := decided(boot, 1<<64-1, accountA)
	late.RecordedAtUs = 1 << 62
	records = append(records, late)
	if err := s.Insert(t.Context(), block(1, records...)); err != nil {
		t.Fatal(err)
	}
	for i, want := range records {
		got, err := s.Decision(t.Context(), accountA, stream.DecisionID{Boot: boot, Seq: want.GetSeq()})
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%d: %s", i, diff)
		}
	}
}

// everyFieldIsSet finds a field that the test above would not see when the table forgot it.
func everyFieldIsSet(t *testing.T, m protoreflect.Message) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) && f.ContainingOneof() == nil {
			t.Errorf("decided() leaves %s empty", f.FullName())
		}
		if f.Message() != nil && !f.IsMap() && !f.IsList() && m.Has(f) {
			everyFieldIsSet(t, m.Get(f).Message())
		}
	}
}

func TestDecisionOfAnother(t *testing.T) {
	t.Parallel()
	s, _ := twoAccounts(t)
	for _, test := range []struct {
		account string
		id      stream.DecisionID
		found   bool
	}{
		{accountA, stream.DecisionID{Boot: stream.Boot{1}, Seq: 3}, true},
		{accountA, stream.DecisionID{Boot: stream.Boot{1}, Seq: 4}, false},
		{accountB, stream.DecisionID{Boot: stream.Boot{1}, Seq: 3}, false},
		{accountB, stream.DecisionID{Boot: stream.Boot{2}, Seq: 5}, true},
		{"", stream.DecisionID{Boot: stream.Boot{1}, Seq: 3}, false},
		{"x' OR '1", stream.DecisionID{Boot: stream.Boot{1}, Seq: 3}, false},
	} {
		_, err := s.Decision(t.Context(), test.account, test.id)
		if found := err == nil; found != test.found || !found && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// A search by id reads the index, not the table.
func TestDecisionIsFoundByIndex(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, migrate)
	s := open(t, ch)
	b := store.Block{StreamID: "s", FirstSequence: 1}
	for seq := range uint64(50_000) {
		r := decided(stream.Boot{1 + 2*byte(seq%2)}, seq+1, accountA)
		r.RecordedAtUs += int64(seq)
		b.Rows = append(b.Rows, store.Row{Record: r, Sequence: 1, StoredAt: storedAt})
	}
	if err := s.Insert(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	id := stream.DecisionID{Boot: stream.Boot{1}, Seq: 33_331}
	for _, where := range []string{"decision_id = '" + id.String() + "'", "account = '" + accountA + "' AND decision_id = '" + id.String() + "'"} {
		marks := one[uint64](t, ch, "SELECT sum(marks) FROM (EXPLAIN ESTIMATE SELECT reason FROM decisions WHERE "+where+")")
		if marks != 1 {
			t.Errorf("%s reads %d granules of 7, want 1", where, marks)
		}
	}
	if marks := one[uint64](t, ch, "SELECT sum(marks) FROM (EXPLAIN ESTIMATE SELECT stored_at FROM decisions WHERE stream_id = 's' AND stream_sequence > 1)"); marks != 0 {
		t.Errorf("what landed behind the last message: %d granules read", marks)
	}
	if marks := one[uint64](t, ch, "SELECT sum(marks) FROM (EXPLAIN ESTIMATE SELECT max(seq) FROM decisions WHERE boot = '"+stream.Boot{2}.String()+"')"); marks != 0 {
		t.Errorf("a boot that is not there: %d granules read", marks)
	}
}

// A block is there once, however often and by how many it is inserted, and is one part.
func TestBlockLandsOnce(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, migrate)
	s := open(t, ch)
	var records []*decisionv1.DecisionRecord
	for seq := range uint64(1000) {
		records = append(records, decided(stream.Boot{1}, seq+1, accountA))
	}
	b := block(5, records...)
	b.Rejects = []store.Reject{{Sequence: 5, StoredAt: storedAt, Reason: "r", Data: []byte("d")}}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			testenv.Eventually(t, "an insert", func() error { return s.Insert(t.Context(), b) }) // one at a time is let in
		})
	}
	all.Wait()
	if err := s.Insert(t.Context(), b); err != nil {
		t.Error(err)
	}
	if n := one[uint64](t, ch, "SELECT count() FROM decisions"); n != 1000 {
		t.Errorf("%d rows, want 1000", n)
	}
	if n := one[uint64](t, ch, "SELECT count() FROM rejects"); n != 1 {
		t.Errorf("%d rejects, want 1", n)
	}
	if n := one[uint64](t, ch, "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'decisions'"); n != 1 {
		t.Errorf("%d parts, want 1", n)
	}
	next := block(6, decided(stream.Boot{1}, 1001, accountA))
	if err := s.Insert(t.Context(), next); err != nil {
		t.Error(err)
	}
	if n := one[uint64](t, ch, "SELECT count() FROM decisions"); n != 1001 {
		t.Errorf("with the next block %d rows, want 1001", n)
	}
}

// The largest block is one part too, though ClickHouse would cut and gather by its own measure.
func TestLargeBlockIsOnePart(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, migrate)
	s := open(t, ch)
	var records []*decisionv1.DecisionRecord
	for seq := range uint64(180) { // a little more than the 64 MiB at which the ingester ends a block
		r := decided(stream.Boot{1}, seq+1, accountA)
		r.GetDecision().ContextJson = fmt.Sprintf("%0*d", stream.MaxRecord-2000, seq)
		records = append(records, r)
	}
	// As the ingester does: on a busy machine ClickHouse may not wait for all of it.
	testenv.Within(t, 3*time.Minute, "the insert", func() error { return s.Insert(t.Context(), block(1, records...)) })
	if n := one[uint64](t, ch, "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'decisions'"); n != 1 {
		t.Errorf("%d parts, want 1", n)
	}
	if n := one[uint64](t, ch, "SELECT count() FROM decisions"); n != 180 {
		t.Errorf("%d rows, want 180", n)
	}
}

func TestInsertRefusesWhatIsNoBlock(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, migrate)
	s := open(t, ch)
	twoDays := block(1, decided(stream.Boot{1}, 1, accountA), decided(stream.Boot{1}, 2, accountA))
	twoDays.Rows[1].StoredAt = storedAt.AddDate(0, 0, 1)
	noBoot := block(1, decided(stream.Boot{1}, 1, accountA), &decisionv1.DecisionRecord{Seq: 1, Boot: []byte("short")})
	noSeq := block(1, decided(stream.Boot{1}, 1, accountA), decided(stream.Boot{1}, 0, accountA))
	rejects := block(1, decided(stream.Boot{1}, 1, accountA))
	rejects.Rejects = []store.Reject{{StoredAt: storedAt}, {StoredAt: storedAt.AddDate(0, 0, 1)}}
	for i, b := range []store.Block{twoDays, noBoot, noSeq, rejects} {
		if err := s.Insert(t.Context(), b); !errors.Is(err, store.ErrBlock) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := one[uint64](t, ch, "SELECT count() FROM decisions"); n != 0 {
		t.Errorf("%d rows of refused blocks", n)
	}
	if err := s.Insert(t.Context(), store.Block{StreamID: "s"}); err != nil {
		t.Errorf("an empty block: %v", err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, migrate)
	s := open(t, ch)
	if got, err := s.Progress(t.Context(), 0); err != nil || got.Epoch != 0 {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
	marks := []store.Mark{{Node: "n-1", Boot: stream.Boot{1}, Seq: 1 << 63}, {Node: "n-2", Boot: stream.Boot{2}, Seq: 2}}
	saved := []store.Progress{
		{Partition: 0, Epoch: 1, StreamID: "a", Sequence: 1 << 40, Marks: marks},
		{Partition: 0, Epoch: 2, StreamID: "b", Sequence: 7, Marks: marks[:1]},
		{Partition: 0, Epoch: 2, StreamID: "b", Sequence: 9, Marks: marks},
		{Partition: 0, Epoch: 2, StreamID: "b", Sequence: 8},
		{Partition: 1, Epoch: 3, StreamID: "c", Sequence: 1},
	}
	for _, p := range saved {
		if err := s.SaveProgress(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		for partition, want := range map[int]store.Progress{0: saved[2], 1: saved[4]} {
			if got, err := s.Progress(t.Context(), partition); err != nil || !cmp.Equal(got, want) {
				t.Errorf("%s, partition %d: %+v, %v; want %+v", when, partition, got, err, want)
			}
		}
	}
	check("saved")
	if err := connect(t, ch, "").Exec(t.Context(), "OPTIMIZE TABLE ingest_progress FINAL"); err != nil {
		t.Fatal(err)
	}
	check("merged")
	if n := one[uint64](t, ch, "SELECT count() FROM ingest_progress"); n != 3 {
		t.Errorf("%d rows after merging, want one for each epoch", n)
	}
}

func TestLastSeq(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	boot := stream.Boot{1}
	first, second := block(10, decided(boot, 1, accountA), decided(boot, 2, accountA)), block(20, decided(boot, 3, accountA))
	for _, b := range []store.Block{first, second} {
		if err := s.Insert(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		boot   stream.Boot
		stream string
		before uint64
		want   uint64
	}{
		{boot, first.StreamID, 21, 3},
		{boot, first.StreamID, 20, 2},
		{boot, first.StreamID, 10, 0},
		{boot, "another", 0, 3},
		{stream.Boot{2}, first.StreamID, 99, 0},
	} {
		if got, err := s.LastSeq(t.Context(), test.boot, test.stream, test.before); err != nil || got != test.want {
			t.Errorf("%+v: %d, %v", test, got, err)
		}
	}
}

func TestLanded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first, second := block(10, decided(stream.Boot{1}, 1, accountA)), block(20, decided(stream.Boot{1}, 2, accountA))
	second.Rows[0].StoredAt = storedAt.Add(time.Second)
	for _, b := range []store.Block{second, first} {
		if err := s.Insert(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		stream string
		after  uint64
		want   uint64
	}{
		{first.StreamID, 0, 20},
		{first.StreamID, 19, 20},
		{first.StreamID, 20, 0},
		{"another", 0, 0},
	} {
		got, at, err := s.Landed(t.Context(), test.stream, test.after)
		if err != nil || got != test.want || got != 0 && !at.Equal(second.Rows[0].StoredAt) {
			t.Errorf("%+v: %d of %v, %v", test, got, at, err)
		}
	}
}

func TestCompleteness(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	at := func(minute int) time.Time { return storedAt.Add(time.Duration(minute) * time.Minute) }
	insert := func(node string, boot byte, minute int, records ...*decisionv1.DecisionRecord) {
		t.Helper()
		b := store.Block{StreamID: node + fmt.Sprint(boot), FirstSequence: uint64(minute)}
		for _, r := range records {
			r.Node, r.Boot, r.RecordedAtUs = node, append([]byte{boot}, make([]byte, 15)...), at(minute).UnixMicro()
			b.Rows = append(b.Rows, store.Row{Record: r, GivenOut: r.GetSeq() + 2, StoredAt: storedAt})
		}
		if err := s.Insert(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	opened := func(seq uint64, previous byte, givenOut uint64) *decisionv1.DecisionRecord {
		o := &decisionv1.BootOpened{}
		if previous != 0 {
			o.PreviousBoot, o.PreviousGivenOut = append([]byte{previous}, make([]byte, 15)...), givenOut
		}
		return &decisionv1.DecisionRecord{Seq: seq, What: &decisionv1.DecisionRecord_Opened{Opened: o}}
	}
	closed := func(seq uint64) *decisionv1.DecisionRecord {
		return &decisionv1.DecisionRecord{Seq: seq, What: &decisionv1.DecisionRecord_Closed{Closed: &decisionv1.BootClosed{}}}
	}
	some := func(seqs ...uint64) (out []*decisionv1.DecisionRecord) {
		for _, seq := range seqs {
			out = append(out, decided(stream.Boot{}, seq, accountA))
		}
		return out
	}
	insert("n", 1, 0, opened(1, 0, 0))
	insert("n", 1, 1, append(some(2, 3), closed(4))...) // given out with the last batch was 6: two are lost
	insert("n", 2, 2, opened(1, 0, 0))
	insert("n", 2, 3, some(2, 3)...)
	insert("n", 3, 4, opened(1, 2, 5)) // names boot 2, which had given out 5
	bounded := opened(1, 9, 7)         // names a boot of which nothing is there, and whose machine died
	bounded.GetOpened().PreviousIsBound = true
	insert("n", 4, 6, bounded)
	insert("m", 5, 1, opened(1, 0, 0))
	insert("m", 5, 2, some(2, 2, 3)...) // twice the same
	insert("m", 6, 9, opened(1, 5, 5))
	insert("m", 7, 10, append([]*decisionv1.DecisionRecord{opened(1, 6, 3)}, some(2, 3)...)...)
	insert("m", 6, 10, some(2, 3)...) // late, and all there
	type line struct {
		Node                              string
		Boot                              byte
		Status                            store.BootStatus
		Rows, Recorded, GivenOut, Missing uint64
	}
	want := []line{
		{"m", 5, store.BootLost, 4, 3, 5, 2},
		{"m", 6, store.BootLost, 3, 3, 5, 2},
		{"m", 7, store.BootOpen, 3, 3, 5, 2},
		{"n", 1, store.BootLost, 4, 4, 6, 2},
		{"n", 2, store.BootLost, 3, 3, 5, 2},
		{"n", 3, store.BootOpen, 1, 1, 3, 2},
		{"n", 9, store.BootOpen, 0, 0, 7, 7},
		{"n", 4, store.BootOpen, 1, 1, 3, 2},
	}
	ask := func(from, to time.Time) (got []line) {
		t.Helper()
		boots, err := s.Completeness(t.Context(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range boots {
			got = append(got, line{b.Node, b.Boot[0], b.Status, b.Rows, b.Recorded, b.GivenOut, b.Missing})
		}
		return got
	}
	if diff := cmp.Diff(want, ask(time.Time{}, time.Time{})); diff != "" {
		t.Error(diff)
	}
	boots := func(lines []line) (out []byte) {
		for _, l := range lines {
			out = append(out, l.Boot)
		}
		return out
	}
	if got := boots(ask(at(5), at(7))); !cmp.Equal(got, []byte{5, 3, 9, 4}) {
		t.Errorf("alive in minutes 5 to 7: boots %v", got)
	}
	if got := boots(ask(at(-9), at(0))); !cmp.Equal(got, []byte{1}) {
		t.Errorf("alive up to minute 0: boots %v", got)
	}
}

func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, func(context.Context, string) error { return nil })
	s := open(t, ch)
	if err := s.CheckMigrated(t.Context()); !errors.Is(err, store.ErrNotMigrated) {
		t.Errorf("an empty database: %v", err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := store.Migrate(t.Context(), ch.URL, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := s.CheckMigrated(t.Context()); err != nil {
		t.Error(err)
	}
	if applied, err := store.Migrate(t.Context(), ch.URL, nil); err != nil || len(applied) != 0 {
		t.Errorf("once more: %v, %v", applied, err)
	}
	if err := s.Insert(t.Context(), block(1, decided(stream.Boot{1}, 1, accountA))); err != nil {
		t.Error(err)
	}
}
