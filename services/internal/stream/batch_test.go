package stream_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
)

func batch() stream.Batch {
	return stream.Batch{
		Node: "node-1", Boot: stream.Boot{1, 2, 3}, FirstSeq: 7, LastSeq: 9, GivenOut: 12,
		Records: [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("three"), 1000)},
	}
}

func TestBatchComesBack(t *testing.T) {
	want := batch()
	data, err := stream.EncodeBatch(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := stream.DecodeBatch(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	short := batch()
	short.LastSeq++
	if _, err := stream.EncodeBatch(short); err == nil {
		t.Error("a batch that lacks a record was encoded")
	}
}

func TestBatchRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*decisionv1.DecisionBatch)
		says   string
	}{
		"later version":      {func(m *decisionv1.DecisionBatch) { m.Version = 2 }, "upgrade"},
		"short boot":         {func(m *decisionv1.DecisionBatch) { m.Boot = m.Boot[1:] }, "boot has 15 bytes"},
		"number zero":        {func(m *decisionv1.DecisionBatch) { m.FirstSeq = 0 }, "numbered"},
		"numbers backwards":  {func(m *decisionv1.DecisionBatch) { m.LastSeq = 6 }, "numbered"},
		"more than given":    {func(m *decisionv1.DecisionBatch) { m.GivenOut = 8 }, "numbered"},
		"too large":          {func(m *decisionv1.DecisionBatch) { m.RecordsSize = stream.MaxBatchRecords + 1 }, "more than"},
		"node is a wildcard": {func(m *decisionv1.DecisionBatch) { m.Node = ">" }, "name of a node"},
		"size is wrong":      {func(m *decisionv1.DecisionBatch) { m.RecordsSize-- }, "bytes"},
		"not zstd":           {func(m *decisionv1.DecisionBatch) { m.Records = []byte("junk") }, "magic"},
		"other compression":  {func(m *decisionv1.DecisionBatch) { m.Compression = 9 }, "upgrade"},
		"a record less":      {func(m *decisionv1.DecisionBatch) { m.LastSeq-- }, "behind the last"},
		"a record more":      {func(m *decisionv1.DecisionBatch) { m.LastSeq++ }, "cut off"},
		"numbers past bytes": {func(m *decisionv1.DecisionBatch) { m.LastSeq, m.GivenOut = 9000, 9000 }, "are no"},
		"too many":           {func(m *decisionv1.DecisionBatch) { m.LastSeq, m.GivenOut = 1<<60, 1<<60 }, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := stream.EncodeBatch(batch())
			if err != nil {
				t.Fatal(err)
			}
			var m decisionv1.DecisionBatch
			if err := proto.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			c.change(&m)
			if data, err = proto.Marshal(&m); err != nil {
				t.Fatal(err)
			}
			if _, err = stream.DecodeBatch(data); !errors.Is(err, stream.ErrBatch) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %v, and should say %q", err, c.says)
			}
		})
	}
}

// A few bytes, compressed, that would be millions of records.
func TestBatchOfTooManyRecords(t *testing.T) {
	b := batch()
	b.Records = make([][]byte, stream.MaxBatchCount)
	b.LastSeq = b.FirstSeq + stream.MaxBatchCount - 1
	b.GivenOut = b.LastSeq + 1
	data, err := stream.EncodeBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.DecodeBatch(data); err != nil {
		t.Error(err)
	}
	b.Records, b.LastSeq = append(b.Records, nil), b.LastSeq+1
	if _, err := stream.EncodeBatch(b); err == nil {
		t.Error("a batch that nobody reads was encoded")
	}
	var m decisionv1.DecisionBatch
	if err := proto.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	m.LastSeq, m.RecordsSize, m.Records = m.GetLastSeq()+1, m.GetRecordsSize()+1, make([]byte, stream.MaxBatchCount+1)
	m.Compression = decisionv1.Compression_COMPRESSION_UNSPECIFIED
	if data, err = proto.Marshal(&m); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.DecodeBatch(data); !errors.Is(err, stream.ErrBatch) {
		t.Errorf("%v; want that it is no batch", err)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	data, err := stream.EncodeBatch(batch())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := stream.DecodeBatch(data)
		if err != nil {
			if !errors.Is(err, stream.ErrBatch) {
				t.Fatal(err)
			}
			return
		}
		again, err := stream.EncodeBatch(b)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		second, err := stream.DecodeBatch(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, second); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestDecisionID(t *testing.T) {
	id := stream.DecisionID{Boot: stream.Boot{0xff, 1, 2}, Seq: 1<<40 + 5}
	text := id.String()
	if len(text) != 39 {
		t.Errorf("%s has %d characters", text, len(text))
	}
	if got, err := stream.ParseDecisionID(text); err != nil || got != id {
		t.Errorf("%s is %v, %v", text, got, err)
	}
	if got, err := stream.ParseBoot(id.Boot.String()); err != nil || got != id.Boot {
		t.Errorf("%s is %v, %v", id.Boot, got, err)
	}
	// The last character of 39 carries three bits that are no part of the 24 bytes.
	for _, bad := range []string{"", text[1:], text + "a", strings.ToUpper(text), text[:38] + "b", strings.Repeat("1", 39), strings.Repeat("x", 1<<20)} {
		if _, err := stream.ParseDecisionID(bad); !errors.Is(err, stream.ErrDecisionID) || len(err.Error()) > 250 {
			t.Errorf("%.50q: %v", bad, err)
		}
	}
}
