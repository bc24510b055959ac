package policy_test

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/verdict-io/verdict/services/policy"
)

const millisOfDay = 86_400_000

// moments are milliseconds since 1970 at which a day begins or ends, and the first and the last of all.
func moments() []int64 {
	var all []int64
	firstDay := int64(math.MinInt64 / millisOfDay * millisOfDay) // the first day that begins at all
	for _, midnight := range []int64{0, -millisOfDay, millisOfDay, -2 * millisOfDay, 20_000 * millisOfDay, -20_000 * millisOfDay, firstDay} {
		all = append(all, midnight-1, midnight, midnight+1, midnight+millisOfDay/2)
	}
	return append(all, math.MinInt64, math.MinInt64+1, math.MaxInt64-1, math.MaxInt64)
}

// floor is the midnight before a moment, and the time since; ok is false when there is no such midnight.
func floor(millis int64) (date, time int64, ok bool) {
	day := big.NewInt(millisOfDay)
	whole, rest := new(big.Int).DivMod(big.NewInt(millis), day, new(big.Int)) // Euclid's: the rest is not negative
	whole.Mul(whole, day)
	return whole.Int64(), rest.Int64(), whole.IsInt64()
}

// evaluate runs a condition as Statement.Compile has it, and as Exact has it.
func evaluate(t *testing.T, condition string, request cedar.Request) (holds, fails bool) {
	t.Helper()
	text := "permit(principal, action, resource is AgentCore::Gateway) when { " + condition + " };"
	statement, err := policy.ParseStatement(text)
	if err != nil {
		t.Fatal(err)
	}
	var plain cedar.Policy
	if err := plain.UnmarshalCedar([]byte(text)); err != nil {
		t.Fatal(err)
	}
	exact, err := policy.Exact(&plain)
	if err != nil {
		t.Fatal(err)
	}
	request.Resource = cedar.NewEntityUID(policy.TypeGateway, "g")
	compiled, stated := statement.Compile()
	if string(stated.MarshalCedar()) != string(plain.MarshalCedar()) {
		t.Errorf("%s became %s", text, stated.MarshalCedar())
	}
	for i, p := range []*cedar.Policy{compiled, exact} {
		set := cedar.NewPolicySet()
		set.Add("p", p)
		decision, diagnostic := cedar.Authorize(set, nil, request)
		allowed, failed := bool(decision), len(diagnostic.Errors) > 0
		if i > 0 && (allowed != holds || failed != fails) {
			t.Errorf("%s: compiled %v, error %v; exact %v, error %v", condition, holds, fails, allowed, failed)
		}
		holds, fails = allowed, failed
	}
	return holds, fails
}

// A date is the midnight before, and a time of day is not negative, also before 1970, where cedar-go 1.9.0 rounds towards 1970.
func TestDatesBefore1970(t *testing.T) {
	t.Parallel()
	for _, millis := range moments() {
		date, time, ok := floor(millis)
		at := fmt.Sprintf(`datetime("1970-01-01").offset(duration("%dms")).offset(duration("%dms"))`, millis/2, millis-millis/2)
		for condition, want := range map[string]bool{
			fmt.Sprintf(`%s.toTime() == duration("%dms")`, at, time):                                                   true,
			fmt.Sprintf(`%s.toTime() < duration("0ms")`, at):                                                           false,
			fmt.Sprintf(`context.at.toTime().toMilliseconds() == %d`, time):                                            true,
			fmt.Sprintf(`[{a: [if true then -context.at.toTime().toMilliseconds() else 0]}] == [{a: [%d]}]`, 0-time):   true,
			fmt.Sprintf(`context.at.toTime().toMilliseconds() == %d || context.at.toTime() == duration("1ms")`, -time): time <= 1,
		} {
			if got, fails := evaluate(t, condition, requestAt(millis)); got != want || fails {
				t.Errorf("%s is %v, error %v; want %v", condition, got, fails, want)
			}
		}
		for _, of := range []string{at, "context.at"} {
			condition := fmt.Sprintf(`%s.toDate() == datetime("1970-01-01").offset(duration("%dms"))`, of, date)
			if got, fails := evaluate(t, condition, requestAt(millis)); got != ok || fails == ok {
				t.Errorf("%s is %v, error %v; there is such a midnight: %v", condition, got, fails, ok)
			}
		}
	}
}

func requestAt(millis int64) cedar.Request {
	return cedar.Request{Context: cedar.NewRecord(cedar.RecordMap{"at": cedar.NewDatetimeFromMillis(millis)})}
}

// What cannot be evaluated fails as it does in cedar-go, and no call is too deep in an expression to be found.
func TestDatesAnywhere(t *testing.T) {
	t.Parallel()
	const date = `datetime("1969-12-31T23:59:59.999Z").toDate()`
	for condition, want := range map[string]bool{
		`datetime("1969-12-31T12:00:00Z").toDate().toDate().toTime() == duration("0ms")`:                      true,
		`context has a || !(` + date + ` < datetime("1969-12-31"))`:                                           true,
		`[1, 2].contains(-(` + date + `.toTime().toMilliseconds() - 1))`:                                      true,
		`if ` + date + ` < datetime("1970-01-01") then true else false`:                                       true,
		`{d: ` + date + `}.d <= datetime("1969-12-31")`:                                                       true,
		`{d: ` + date + `} has d && [` + date + `].containsAll([datetime("1969-12-31")])`:                     true,
		date + `.durationSince(` + date + `.offset(duration("1h"))).toHours() * 2 + 1 == -1`:                  true,
		`!(` + date + ` != datetime("1969-12-31")) && [[` + date + `]].containsAny([[` + date + `]])`:         true,
		`"x" like "*" && ` + date + ` >= datetime("1969-12-31") && datetime("1969-12-31") >= ` + date:         true,
		`(if ` + date + ` > datetime("1969-12-30") then "yes" else "no") like "y*" && ![].isEmpty() == false`: true,
	} {
		if got, fails := evaluate(t, condition, cedar.Request{}); got != want || fails {
			t.Errorf("%s is %v, error %v", condition, got, fails)
		}
	}
	for _, condition := range []string{`"x".toDate() == 1`, `context.missing.toTime() == 1`, `duration("1h").toDate() == 1`} {
		if got, fails := evaluate(t, condition, cedar.Request{}); got || !fails {
			t.Errorf("%s is %v, error %v; want an error", condition, got, fails)
		}
	}
}

// Literals that cedar-go 1.9.0 takes and Cedar does not fail, wherever they stand; the one that it does not take is right.
func TestLiteralsOfExtensions(t *testing.T) {
	t.Parallel()
	const shortest = `datetime("1970-01-01").offset(duration("-9223372036854775807ms")).offset(duration("-1ms")).durationSince(datetime("1970-01-01"))`
	for condition, want := range map[string]bool{
		`duration("-9223372036854775808ms") == ` + shortest:                                 true,
		`duration("-106751991167d7h12m55s808ms") == duration("-106751991167d432m55808ms")`:  true,
		`duration("-0d00009223372036854775808ms").toMilliseconds() == -9223372036854775808`: true,
		`duration("-106751991167d7h12m55s807ms") < ` + shortest:                             false,
		`duration("-9223372036854775808ms") < duration("-9223372036854775807ms")`:           true,
		`decimal("-1.5").lessThan(decimal("1.5"))`:                                          true,
		`datetime("2026-03-01T00:00:00+0100") < datetime("2026-03-01")`:                     true,
	} {
		if got, fails := evaluate(t, condition, cedar.Request{}); got != want || fails {
			t.Errorf("%s is %v, error %v", condition, got, fails)
		}
	}
	for _, literal := range []string{
		`decimal("+1.5")`, `decimal("++1.5")`, `decimal("+")`, `datetime("+002026003-01-01")`, `datetime("-000000001-01-01T00:00:00Z")`, `datetime("+")`,
		`datetime("--000000001-01-01")`, `duration("-9223372036854775809ms")`, `duration("9223372036854775808ms")`, `duration("-9223372036854775808s")`, `duration("-")`,
		`duration("+9223372036854775808ms")`, `duration("-808ms9223372036854775000ms")`,
	} {
		for _, condition := range []string{literal + " == 1", "[1, [" + literal + "]] == []", "principal.hasTag({a: " + literal + "}.a)", "!(1 == " + literal + ")"} {
			if got, fails := evaluate(t, condition, cedar.Request{}); got || !fails {
				t.Errorf("%s is %v, error %v; want an error", condition, got, fails)
			}
		}
	}
}

// Each level of toDate() doubles what is evaluated: a statement of ten thousand characters must not hold a node for ever.
func TestDatesWithinEachOther(t *testing.T) {
	t.Parallel()
	nested := func(n int) string {
		return `permit(principal, action, resource is AgentCore::Gateway) when { context.system.now` + strings.Repeat(".toDate()", n) +
			` == datetime("2026-03-01") };`
	}
	if _, err := policy.ParseStatement(nested(4)); err != nil {
		t.Error(err)
	}
	_, err := policy.ParseStatement(nested(5))
	if refused, ok := errors.AsType[*policy.Error](err); !ok || refused.Reason != "statement_dates" {
		t.Errorf("got %v", err)
	}
	var p cedar.Policy
	if err := p.UnmarshalCedar([]byte(nested(5))); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Exact(&p); err == nil {
		t.Error("Exact takes what doubles 5 times")
	}
}
