package snapshot

import (
	"encoding/json"
	"testing"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/google/go-cmp/cmp"
)

// What is written is what cedar-go writes, and is refused where cedar-go refuses it.
func TestAppendRecordIsCedarsJSON(t *testing.T) {
	record := func(name string, v types.Value) types.Record {
		return types.NewRecord(types.RecordMap{types.String(name): v, "z": types.Long(-1), "a": types.Boolean(true)})
	}
	decimal, err := types.NewDecimal(-12345, -2)
	if err != nil {
		t.Fatal(err)
	}
	values := []types.Value{
		types.String(""), types.String("plain text"), types.String("quote \" back \\ tab \t é \u2028 <&> \x00 😀"),
		types.Long(-1 << 63), types.Boolean(false), decimal, types.NewDatetimeFromMillis(1_700_000_000_123), types.NewDatetimeFromMillis(-1),
		types.NewSet(), types.NewSet(types.Long(1), types.String("two"), record("in set", decimal)), types.NewRecord(nil),
		record("deep", record("deeper", types.NewSet(types.NewSet(types.Long(3))))),
		record("__entity", types.Long(1)), record("x", record("__extn", types.Long(1))), types.NewSet(record("__extn", types.Long(1))),
	}
	for _, v := range values {
		for _, name := range []string{"plain", "né\"w", "\n"} {
			r := record(name, v)
			got, ok := appendRecord([]byte("before"), r)
			oracle, err := r.MarshalJSON()
			if ok != (err == nil) {
				t.Errorf("%v: written: %v; cedar-go: %v", r, ok, err)
			}
			if !ok {
				continue
			}
			var a, b any
			if err := json.Unmarshal(got[len("before"):], &a); err != nil {
				t.Fatalf("%s: %v", got, err)
			}
			if err := json.Unmarshal(oracle, &b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(b, a); diff != "" {
				t.Errorf("%v: %s", r, diff)
			}
		}
	}
}

func BenchmarkContextJSON(b *testing.B) {
	system := types.NewRecord(types.RecordMap{"now": types.NewDatetimeFromMillis(1_700_000_000_123)})
	input := types.NewRecord(types.RecordMap{"orderId": types.String("12345"), "amount": types.Long(500)})
	r := types.NewRecord(types.RecordMap{"input": input, "system": system})
	b.Run("cedar-go", func(b *testing.B) {
		for b.Loop() {
			_, _ = r.MarshalJSON()
		}
	})
	b.Run("own", func(b *testing.B) {
		for b.Loop() {
			_, _ = appendRecord(nil, r)
		}
	})
}
