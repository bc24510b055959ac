package snapshot_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// member is a context whose input is a refund with one more member.
func member(name string, v snapshot.Value) snapshot.Value {
	input := snapshot.Object([]snapshot.Member{{Name: "orderId", Value: snapshot.String("o")}, {Name: name, Value: v}})
	return snapshot.Object([]snapshot.Member{{Name: "input", Value: input}})
}

func TestTyping(t *testing.T) {
	const now = `"system":{"now":{"__extn":{"fn":"datetime","arg":"2026-03-01T12:00:00.123Z"}}}`
	decimal := func(s string) string { return `{"__extn":{"fn":"decimal","arg":"` + s + `"}}` }
	for literal, want := range map[string]string{
		`"amount": 450`: `450`, `"amount": -0`: `0`, `"amount": 5.0`: `5`, `"amount": 50e-1`: `5`, `"amount": 1e3`: `1000`,
		`"amount": 9223372036854775807`: `9223372036854775807`, `"amount": -9223372036854775808`: `-9223372036854775808`,
		`"amount": 922337203685477580.7e1`: `9223372036854775807`, `"amount": 0e999999999999999999999`: `0`,
		`"amount": 9007199254740993`: `9007199254740993`,

		`"price": 5`: decimal("5.0"), `"price": 1.23456`: decimal("1.2345"), `"price": -1.23456`: decimal("-1.2345"),
		`"price": -0.00001`: decimal("0.0"), `"price": 0.1e1`: decimal("1.0"), `"price": 1e-999999999999999999999`: decimal("0.0"),
		`"price": 922337203685477.58079`: decimal("922337203685477.5807"), `"price": -922337203685477.5808`: decimal("-922337203685477.5808"),

		`"urgent": false`: `false`, `"labels": []`: `[]`, `"labels": ["a", "a"]`: `["a"]`,
		`"address": {"city": "B", "zip": 1}`: `{"city":"B","zip":1}`,
		`"any": [1, 1.0, 1e0]`:               `[1]`, `"any": ["x"]`: `["x"]`, `"any": [{"a": [true]}]`: `[{"a":[true]}]`, `"any": [0.5]`: `[` + decimal("0.5") + `]`,
		`"matrix": [[1, 2], [2, 1]]`: `[[1,2]]`,
	} {
		input := `{"orderId": "o", ` + literal + `}`
		d := newWorld(t, permitAll).ask(withInput(input))
		wantCode(t, d, snapshot.CodeAllowed)
		if err := snapshot.CheckArguments(refundTool().InputSchema, []byte(input)); err != nil {
			t.Errorf("%s: as arguments: %v", input, err)
		}
		name, _, _ := strings.Cut(literal, ":")
		members := []string{name + ":" + want, `"orderId":"o"`}
		slices.Sort(members)
		if got, want := string(d.ContextJSON()), `{"input":{`+strings.Join(members, ",")+`},`+now+`}`; got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", literal, got, want)
		}
	}
}

func TestArgumentsThatDoNotFit(t *testing.T) {
	w := newWorld(t, permitAll)
	list := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	for input, want := range map[string]string{
		`null`:                              "argument_type: context.input has to be an object and is null",
		`[]`:                                "argument_type: context.input has to be an object and is an array",
		`{}`:                                "argument_missing: context.input.orderId is required",
		`{"orderId": null}`:                 "argument_type: context.input.orderId has to be a string and is null",
		`{"orderId": 5}`:                    "argument_type: context.input.orderId has to be a string and is a number",
		`{"orderId": "o", "x": 1}`:          "argument_undeclared: context.input.x is not in the tool's schema",
		`{"orderId": "o", "OrderId": 1}`:    "argument_undeclared: context.input.OrderId",
		`{"orderId": "o", "amount": null}`:  "argument_type: context.input.amount has to be an integer and is null",
		`{"orderId": "o", "amount": "450"}`: "argument_type: context.input.amount has to be an integer and is a string",
		`{"orderId": "o", "amount": true}`:  "argument_type: context.input.amount has to be an integer and is a boolean",
		`{"orderId": "o", "amount": 1.5}`:   "argument_type: context.input.amount has to be an integer and is a number with a fraction",
		`{"orderId": "o", "amount": 1e-1}`:  "argument_type: context.input.amount",
		`{"orderId": "o", "amount": 9223372036854775808}`:                                  "number_too_large: context.input.amount is beyond the integers of 64 bits",
		`{"orderId": "o", "amount": -9223372036854775809}`:                                 "number_too_large: context.input.amount",
		`{"orderId": "o", "amount": 1e19}`:                                                 "number_too_large: context.input.amount",
		`{"orderId": "o", "amount": 1e99999999999999999999}`:                               "number_too_large: context.input.amount",
		`{"orderId": "o", "price": 922337203685477.5808}`:                                  "number_too_large: context.input.price is beyond Cedar's decimals",
		`{"orderId": "o", "price": 1e400}`:                                                 "number_too_large: context.input.price",
		`{"orderId": "o", "price": "1"}`:                                                   "argument_type: context.input.price has to be a number and is a string",
		`{"orderId": "o", "urgent": "true"}`:                                               "argument_type: context.input.urgent has to be a boolean and is a string",
		`{"orderId": "o", "urgent": 1}`:                                                    "argument_type: context.input.urgent",
		`{"orderId": "o", "labels": "a"}`:                                                  "argument_type: context.input.labels has to be an array and is a string",
		`{"orderId": "o", "labels": ["a", 1]}`:                                             "argument_type: context.input.labels[1] has to be a string and is a number",
		`{"orderId": "o", "labels": [null]}`:                                               "argument_type: context.input.labels[0] has to be a string and is null",
		`{"orderId": "o", "any": [{"a": [null]}]}`:                                         "argument_type: context.input.any[0].a[0] is null",
		`{"orderId": "o", "any": [1e30]}`:                                                  "number_too_large: context.input.any[0]",
		`{"orderId": "o", "address": {}}`:                                                  "argument_missing: context.input.address.city is required",
		`{"orderId": "o", "address": {"city": "B", "x": 1}}`:                               "argument_undeclared: context.input.address.x",
		`{"orderId": "o", "address": {"city": 1}}`:                                         "argument_type: context.input.address.city",
		`{"orderId": "o", "labels": ` + list(snapshot.MaxElements+1, `"a"`) + `}`:          "argument_too_large: context.input.labels has 1001 elements and may have 1000",
		`{"orderId": "o", "matrix": ` + list(snapshot.MaxNestedElements+1, `[1]`) + `}`:    "argument_too_large: context.input.matrix has 201 elements and may have 200",
		`{"orderId": "o", "any": ` + list(snapshot.MaxNestedElements+1, `{"a":[1]}`) + `}`: "argument_too_large: context.input.any has 201 elements",
		`{"orderId": "o", "matrix": ` + list(50, list(120, "1")) + `}`:                     "argument_too_large: context.input.matrix[41] is where there are more than 5000 values",
		`{"orderId": "o", "any": ` + list(900, `{"a":1,"b":{"c":1,"d":1,"e":1}}`) + `}`:    "argument_too_large: context.input.any is where there are more than 5000 values",
	} {
		d := w.ask(withInput(input))
		code, _, _ := strings.Cut(want, ":")
		wantCode(t, d, code)
		if got := d.ReasonCode + ": " + strings.TrimPrefix(d.Reason, "Policy evaluation denied: "); !strings.HasPrefix(got, want) {
			t.Errorf("%.100s:\ngot  %s\nwant %s…", input, got, want)
		}
		if d.ContextJSON() != nil {
			t.Errorf("%.100s: there is a context", input)
		}
		_, reason, _ := strings.Cut(want, "context.input")
		if err := snapshot.CheckArguments(refundTool().InputSchema, []byte(input)); err == nil || !strings.HasPrefix(err.Error(), "arguments"+reason) {
			t.Errorf("%.100s: as arguments: %v", input, err)
		}
	}
	for _, broken := range []string{``, `{`, `{"orderId": "o", "orderId": "o"}`, `{"orderId": "o"} x`} {
		if err := snapshot.CheckArguments(refundTool().InputSchema, []byte(broken)); err == nil {
			t.Errorf("%s is taken for arguments", broken)
		}
	}
}

// The hash of a set is the sum of its elements' hashes, and a number is its own: all sets {n, -n} collide, and cedar-go takes
// minutes for a set of tens of thousands of them. They are refused before a set is made, wherever they stand.
func TestSetsBuiltToCollide(t *testing.T) {
	w := newWorld(t, permitAll)
	list := func(n int, element func(i int) string) string {
		elements := make([]string, n)
		for i := range elements {
			elements[i] = element(i + 1)
		}
		return "[" + strings.Join(elements, ",") + "]"
	}
	pair := func(i int) string { return fmt.Sprintf("[%d,-%d]", i, i) }
	colliding := list(30_000, pair)
	for _, input := range []string{
		`{"orderId": "o", "matrix": ` + colliding + `}`, `{"orderId": "o", "any": ` + colliding + `}`,
		`{"orderId": "o", "any": [` + colliding + `]}`, `{"orderId": "o", "any": [{"a": ` + colliding + `}]}`,
		`{"orderId": "o", "any": [[[` + colliding + `]]]}`,
		`{"orderId": "o", "any": ` + list(20_000, func(i int) string { return `{"a":` + pair(i) + `}` }) + `}`,
		`{"orderId": "o", "any": ` + list(150, func(int) string { return list(150, pair) }) + `}`,
	} {
		wantCode(t, w.ask(withInput(input)), snapshot.CodeArgumentTooLarge)
	}
	wantCode(t, w.ask(withInput(`{"orderId": "o", "matrix": `+list(snapshot.MaxNestedElements, pair)+`}`)), snapshot.CodeAllowed)
}

func TestContextHoldsTheInputOnly(t *testing.T) {
	w := newWorld(t, permitAll)
	for text, member := range map[string]string{
		`{"input": {"orderId": "o"}, "system": {"now": 1}}`: "context.system", `{"input": {"orderId": "o"}, "sessionId": "s"}`: "context.sessionId",
		`{"Input": {"orderId": "o"}}`: "context.Input", `{"": 1}`: "context.",
	} {
		d := w.ask(with(func(r *snapshot.Request) { r.Context = context(text) }))
		wantCode(t, d, snapshot.CodeArgumentUndeclared)
		if !strings.Contains(d.Reason, member+" is not a member") {
			t.Error(d.Reason)
		}
	}
	for _, text := range []string{`{}`, `{"input": {}}`} {
		wantCode(t, w.ask(with(func(r *snapshot.Request) { r.Context = context(text) })), snapshot.CodeArgumentMissing)
		wantCode(t, w.ask(with(func(r *snapshot.Request) { r.Context, r.Action.ID = context(text), "Other___ping" })), snapshot.CodeAllowed)
	}
	wantCode(t, w.ask(with(func(r *snapshot.Request) { r.Context, r.Action.ID = snapshot.Value{}, "Other___ping" })), snapshot.CodeAllowed)
}

// A float64 is all that a google.protobuf.Struct has of a number.
func TestFloats(t *testing.T) {
	w := newWorld(t, permitAll)
	for _, test := range []struct {
		member string
		number float64
		code   string
		want   string
	}{
		{"amount", 450, snapshot.CodeAllowed, `"amount":450`},
		{"amount", 1<<53 - 1, snapshot.CodeAllowed, `"amount":9007199254740991`},
		{"amount", -(1<<53 - 1), snapshot.CodeAllowed, `"amount":-9007199254740991`},
		{"amount", 1 << 53, snapshot.CodeNumberTooLarge, "send the arguments as `contextJson`"},
		{"amount", -(1 << 53), snapshot.CodeNumberTooLarge, "send the arguments as `contextJson`"},
		{"amount", math.NaN(), snapshot.CodeNumberTooLarge, ""},
		{"amount", math.Inf(-1), snapshot.CodeNumberTooLarge, ""},
		{"amount", 0.5, snapshot.CodeArgumentType, "a fraction"},
		{"price", 0.1, snapshot.CodeAllowed, `"arg":"0.1"`},
		{"price", 1.1 + 2.2, snapshot.CodeAllowed, `"arg":"3.3"`},
		{"price", 4.35, snapshot.CodeAllowed, `"arg":"4.35"`},
		{"price", -1e-9, snapshot.CodeAllowed, `"arg":"0.0"`},
		{"price", 1 << 53, snapshot.CodeNumberTooLarge, "contextJson"},
		{"price", 1 << 50, snapshot.CodeNumberTooLarge, "decimals"},
		{"price", math.NaN(), snapshot.CodeNumberTooLarge, ""},
	} {
		d := w.ask(with(func(r *snapshot.Request) { r.Context = member(test.member, snapshot.Float(test.number)) }))
		wantCode(t, d, test.code)
		if !strings.Contains(string(d.ContextJSON())+d.Reason, test.want) {
			t.Errorf("%s %v: %s %s", test.member, test.number, d.ContextJSON(), d.Reason)
		}
	}
	opened := snapshot.Array([]snapshot.Value{snapshot.Float(1 << 53)})
	wantCode(t, w.ask(with(func(r *snapshot.Request) { r.Context = member("any", opened) })), snapshot.CodeNumberTooLarge)
}

func TestMemberThatStandsTwice(t *testing.T) {
	w := newWorld(t, permitAll)
	wantCode(t, w.ask(with(func(r *snapshot.Request) { r.Context = member("orderId", snapshot.String("x")) })), snapshot.CodeArgumentType)
	input := snapshot.Member{Name: "input", Value: snapshot.Object([]snapshot.Member{{Name: "orderId", Value: snapshot.String("o")}})}
	wantCode(t, w.ask(with(func(r *snapshot.Request) { r.Context = snapshot.Object([]snapshot.Member{input, input}) })), snapshot.CodeArgumentType)
}

func TestValueThatIsTooDeepForACedarSet(t *testing.T) {
	deep := snapshot.Null()
	for range 1000 {
		deep = snapshot.Array([]snapshot.Value{deep})
	}
	wantCode(t, newWorld(t, permitAll).ask(with(func(r *snapshot.Request) { r.Context = member("any", deep) })), snapshot.CodeArgumentTooLarge)
}

func TestNow(t *testing.T) {
	w := newWorld(t, `permit(principal, action, resource is AgentCore::Gateway) when { context.system.now < datetime("2026-03-01T12:00:00.124Z") };`)
	for now, code := range map[int64]string{
		noon: snapshot.CodeAllowed, noon/1000*1000 + 999: snapshot.CodeAllowed, noon + 1000: snapshot.CodeDefaultDeny,
		-1: snapshot.CodeAllowed, math.MinInt64: snapshot.CodeAllowed, math.MaxInt64: snapshot.CodeDefaultDeny,
	} {
		d := w.ask(with(func(r *snapshot.Request) { r.Now = now }))
		wantCode(t, d, code)
		if now == -1 && !strings.Contains(string(d.ContextJSON()), "1969-12-31T23:59:59.999Z") {
			t.Errorf("got %s", d.ContextJSON())
		}
	}
}

// Cedar's JSON keeps these names for itself, so that such a context can be decided on but not be written down.
func TestReservedNames(t *testing.T) {
	w := emptyWorld(t)
	w.engine("Refunds")
	w.gateway("Refund", "Refunds", policy.ModeEnforce)
	w.target("Refund", "target0001", "RefundTarget", policy.Tool{
		Name: "process_refund", InputSchema: object(map[string]*policy.Schema{"__extn": of(policy.SchemaString)}),
	})
	w.policy("p", `permit(principal, action, resource is AgentCore::Gateway) when { context.input has "__extn" };`, policy.EnforcementActive)
	d := w.ask(withInput(`{"__extn": "x"}`))
	wantCode(t, d, snapshot.CodeAllowed)
	if text := d.ContextJSON(); text != nil {
		t.Errorf("got %s", text)
	}
}

// FuzzDecimal compares numbers with math/big.
func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"0", "-0.0", "1.23456", "922337203685477.5807", "1e18", "123e-5", "9223372036854775807", "-9.9999999e-1", "1E2", "10000000000000000000e-1"} {
		f.Add(s)
	}
	w := newWorld(f, permitAll)
	f.Fuzz(func(t *testing.T, literal string) {
		w.t = t
		if !json.Valid([]byte(literal)) || !isNumber(literal) {
			return
		}
		exact, ok := new(big.Rat).SetString(literal)
		if !ok {
			t.Fatalf("math/big does not read %s", literal)
		}
		scaled := new(big.Rat).Mul(exact, big.NewRat(10_000, 1))
		cut := new(big.Int).Quo(scaled.Num(), scaled.Denom())
		d := w.ask(withInput(`{"orderId": "o", "price": ` + literal + `}`))
		if d.Allow != cut.IsInt64() {
			t.Fatalf("%s: %s", literal, d.Reason)
		}
		if d.Allow {
			want, err := cedar.NewDecimal(cut.Int64(), -4)
			if err != nil || !strings.Contains(string(d.ContextJSON()), `"arg":"`+want.String()+`"`) {
				t.Errorf("%s: got %s, want %s", literal, d.ContextJSON(), want)
			}
		}
		d = w.ask(withInput(`{"orderId": "o", "amount": ` + literal + `}`))
		if fits := exact.IsInt() && exact.Num().IsInt64(); d.Allow != fits || fits && !strings.Contains(string(d.ContextJSON()), `"amount":`+exact.Num().String()+",") {
			t.Errorf("%s: %s %s", literal, d.ContextJSON(), d.Reason)
		}
	})
}

// isNumber keeps big.Rat from exponents that it would spend years on.
func isNumber(s string) bool {
	_, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	return len(exponent) <= 4 && len(s) < 1000 && strings.Trim(s, "0123456789+-.eE") == ""
}

// cedarType is the type that statements are checked against; ok is false where it is unknown.
func cedarType(s *policy.Schema) (_ resolved.IsType, ok bool) {
	switch {
	case s == nil:
		return nil, false
	case s.Type == policy.SchemaObject:
		record := resolved.RecordType{}
		for name, p := range s.Properties {
			member, ok := cedarType(p)
			if !ok {
				return nil, false
			}
			record[cedar.String(name)] = resolved.Attribute{Type: member, Optional: !slices.Contains(s.Required, name)}
		}
		return record, true
	case s.Type == policy.SchemaArray:
		items, ok := cedarType(s.Items)
		return resolved.SetType{Element: items}, ok
	}
	return map[policy.SchemaType]resolved.IsType{
		policy.SchemaString: resolved.StringType{}, policy.SchemaInteger: resolved.LongType{},
		policy.SchemaBoolean: resolved.BoolType{}, policy.SchemaNumber: resolved.ExtensionType("decimal"),
	}[s.Type], true
}

// randomSchema is an object's, and randomValue mostly fits it.
func randomSchema(d dice, depth int) *policy.Schema {
	s := object(map[string]*policy.Schema{})
	for i := range d.IntN(4) {
		name := fmt.Sprintf("m%d", i)
		t := of(pick(d, policy.SchemaString, policy.SchemaInteger, policy.SchemaNumber, policy.SchemaBoolean, policy.SchemaArray, policy.SchemaObject))
		switch {
		case t.Type == policy.SchemaArray && d.IntN(4) > 0:
			t.Items = of(pick(d, policy.SchemaString, policy.SchemaInteger, policy.SchemaNumber, policy.SchemaArray))
		case t.Type == policy.SchemaObject && depth > 0:
			t = randomSchema(d, depth-1)
		}
		if s.Properties[name] = t; d.IntN(2) == 0 {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

func randomValue(d dice, s *policy.Schema, depth int) snapshot.Value {
	if s == nil || d.IntN(40) == 39 {
		s = of(pick(d, policy.SchemaString, policy.SchemaInteger, policy.SchemaNumber, policy.SchemaBoolean, "null"))
	}
	switch s.Type {
	case policy.SchemaString:
		return snapshot.String(pick(d, "", "a", "ä\x00"))
	case policy.SchemaBoolean:
		return snapshot.Bool(d.IntN(2) == 0)
	case policy.SchemaInteger, policy.SchemaNumber:
		return pick(d, snapshot.Float(1), context("1.0"), context("-7"), snapshot.Float(0.5), context("1e3"), context("1.23456"), context("1e30"))
	case policy.SchemaArray:
		elems := make([]snapshot.Value, d.IntN(3))
		for i := range elems {
			elems[i] = randomValue(d, s.Items, depth+1)
		}
		return snapshot.Array(elems)
	case policy.SchemaObject:
		var members []snapshot.Member
		for i := range 4 {
			name := fmt.Sprintf("m%d", i)
			if p, ok := s.Properties[name]; ok && (slices.Contains(s.Required, name) || d.IntN(3) > 0) && d.IntN(40) < 39 || d.IntN(40) == 39 {
				members = append(members, snapshot.Member{Name: name, Value: randomValue(d, p, depth+1)})
			}
		}
		return snapshot.Object(members)
	}
	return snapshot.Null()
}

// What typing accepts is of the type that statements were checked against: cedar-go's validator says so.
func FuzzType(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte("any bytes make a schema and a value"))
	for i := range byte(60) {
		f.Add([]byte{3, i % 6, i, 5, i * 7, i * 11, i * 13, 2, i * 17, 4, i * 19, 1, i * 23, 0, 5, 3, i * 29, 2, i * 31, 4, i * 37})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &bytesDice{data}
		schema := randomSchema(d, 3)
		input := randomValue(d, schema, 0)
		typed, ok, code := snapshot.Typed(schema, input, noon)
		if !ok {
			if code == "" {
				t.Fatal("refused without a word")
			}
			return
		}
		if again, _, _ := snapshot.Typed(schema, input, noon); !again.Equal(typed) {
			t.Fatalf("%s, then %s", typed, again)
		}
		inputType, known := cedarType(schema)
		if !known {
			return
		}
		uid := action("T___t")
		err := validate.New(&resolved.Schema{
			Entities: map[cedar.EntityType]resolved.Entity{policy.TypeOAuthUser: {Name: policy.TypeOAuthUser}, policy.TypeGateway: {Name: policy.TypeGateway}},
			Actions: map[cedar.EntityUID]resolved.Action{uid: {Entity: cedar.Entity{UID: uid}, AppliesTo: &resolved.AppliesTo{
				Principals: []cedar.EntityType{policy.TypeOAuthUser}, Resources: []cedar.EntityType{policy.TypeGateway},
				Context: resolved.RecordType{
					"input":  {Type: inputType},
					"system": {Type: resolved.RecordType{"now": {Type: resolved.ExtensionType("datetime")}}},
				},
			}}},
		}).Request(cedar.Request{
			Principal: cedar.NewEntityUID(policy.TypeOAuthUser, "u"), Action: uid, Resource: cedar.NewEntityUID(policy.TypeGateway, "g"), Context: typed,
		})
		if err != nil {
			t.Fatalf("%s of %s: %v", typed, input.Text(), err)
		}
	})
}
