package snapshot_test

import (
	"fmt"
	"strings"
)

// expressions writes random expressions about the tool process_refund: every operator and every type of Cedar, mostly of the
// type that is wanted, at the edges of what they take.
type expressions struct{ d dice }

// grammar is how one type is written.
type grammar struct {
	leaves []string
	nested []func(x expressions, depth int) string
}

func (x expressions) write(g *grammar, depth int) string {
	if depth <= 0 || x.d.IntN(3) == 0 {
		return pick(x.d, g.leaves...)
	}
	return "(" + pick(x.d, g.nested...)(x, depth-1) + ")"
}

// operand is an expression of the wanted type, or now and then of any.
func (x expressions) operand(g *grammar, depth int) string {
	if x.d.IntN(25) == 24 {
		g = pick(x.d, grammars...)
	}
	return x.write(g, depth)
}

// form is a way to write an expression out of others: each % in the format is one.
func form(format string, of ...*grammar) func(expressions, int) string {
	return func(x expressions, depth int) string {
		args := make([]any, len(of))
		for i, g := range of {
			args[i] = x.operand(g, depth)
		}
		return fmt.Sprintf(strings.ReplaceAll(format, "%", "%s"), args...)
	}
}

// forms are several.
func forms(of []*grammar, formats ...string) (all []func(expressions, int) string) {
	for _, format := range formats {
		all = append(all, form(format, of...))
	}
	return all
}

// calls are calls of an extension's constructor with a literal. Those with what it takes come more often than the odd ones.
func calls(name string, usual, odd []string) (all []string) {
	for range 4 {
		for _, argument := range usual {
			all = append(all, fmt.Sprintf("%s(%q)", name, argument))
		}
	}
	for _, argument := range odd {
		all = append(all, fmt.Sprintf("%s(%q)", name, argument))
	}
	return all
}

var (
	truths, longs, texts, sets, records, entities      grammar
	decimals, addresses, datetimes, durations, anyType grammar

	grammars = []*grammar{&truths, &longs, &texts, &sets, &records, &entities, &decimals, &addresses, &datetimes, &durations}
)

func init() { //nolint:gochecknoinits // the grammars are made of each other
	initTruths()
	initValues()
	initExtensions()
	for _, g := range grammars {
		anyType.nested = append(anyType.nested, func(x expressions, depth int) string { return x.write(g, depth) })
		anyType.leaves = append(anyType.leaves, g.leaves[0])
		g.nested = append(g.nested, form("if % then % else %", &truths, g, g), form("{a: %}.a", g), form(`{"b c": 1, d: %}["d"]`, g))
	}
}

func initTruths() {
	truths.leaves = []string{
		"true", "false", "context.input.urgent", "context.input has amount", "context.input has address.city", "context has system.now.x",
		"context.input has nothing.at.all", `principal has id`, `resource has "id"`, `principal.hasTag("role")`, `principal.hasTag("")`,
		"principal is AgentCore::OAuthUser", "resource is AgentCore::Gateway", "action is Action", "context.system has now",
	}
	same := func(g *grammar) []func(expressions, int) string { return forms([]*grammar{g, g}, "% == %", "% != %") }
	ordered := func(g *grammar) []func(expressions, int) string {
		return forms([]*grammar{g, g}, "% < %", "% <= %", "% > %", "% >= %")
	}
	for _, g := range append(grammars, &anyType) {
		truths.nested = append(truths.nested, same(g)...)
	}
	for _, g := range []*grammar{&longs, &longs, &datetimes, &durations} {
		truths.nested = append(truths.nested, ordered(g)...)
	}
	both := forms([]*grammar{&truths, &truths}, "% && %", "% || %", "% && %", "% || %")
	truths.nested = append(append(append(truths.nested, both...), both...), form("!%", &truths), form("!!%", &truths))
	truths.nested = append(truths.nested, forms([]*grammar{&texts},
		`% like "*"`, `% like ""`, `% like "o-*"`, `% like "*1*"`, `% like "\**"`, `% like "*\u{1F600}"`, `% like "**a*b"`, `principal.hasTag(%)`)...)
	truths.nested = append(truths.nested, forms([]*grammar{&sets, &sets}, "%.containsAll(%)", "%.containsAny(%)", "%.contains(%)")...)
	truths.nested = append(truths.nested, form("%.isEmpty()", &sets), form("%.contains(%)", &sets, &anyType), form("[%, %].contains(%)", &anyType, &anyType, &anyType))
	truths.nested = append(truths.nested, forms([]*grammar{&records}, "% has city", `% has "b c"`, "% has address.city", "% has a.a", "%.urgent")...)
	truths.nested = append(truths.nested, forms([]*grammar{&entities, &entities}, "% in %", "% in [%]", "% is AgentCore::OAuthUser in %", "% is Action in %")...)
	truths.nested = append(truths.nested, form("% in [%, %]", &entities, &entities, &entities), form("% in %", &entities, &sets))
	truths.nested = append(truths.nested, forms([]*grammar{&entities}, "% is AgentCore::Gateway", "% has id", `% has "a"`, `%.hasTag("team")`)...)
	truths.nested = append(truths.nested, forms([]*grammar{&decimals, &decimals},
		"%.lessThan(%)", "%.lessThanOrEqual(%)", "%.greaterThan(%)", "%.greaterThanOrEqual(%)")...)
	truths.nested = append(truths.nested, forms([]*grammar{&addresses}, "%.isIpv4()", "%.isIpv6()", "%.isLoopback()", "%.isMulticast()")...)
	truths.nested = append(truths.nested, form("%.isInRange(%)", &addresses, &addresses), form("%.isInRange(%)", &addresses, &addresses),
		form("%.toTime() >= %", &datetimes, &durations), form("%.toDate() <= %", &datetimes, &datetimes), form(`%.durationSince(%.toDate()) < duration("12h")`, &datetimes, &datetimes))
}

func initValues() {
	longs.leaves = []string{
		"context.input.amount", "0", "1", "(-1)", "500", "50", "9223372036854775807", "(-9223372036854775808)", "4611686018427387904",
		"context.input.address.zip", "context.input.nothing",
	}
	longs.nested = forms([]*grammar{&longs, &longs}, "% + %", "% - %", "% * %", "% + %", "% - %")
	longs.nested = append(longs.nested, form("-%", &longs), form("--%", &longs))
	longs.nested = append(longs.nested, forms([]*grammar{&durations},
		"%.toMilliseconds()", "%.toSeconds()", "%.toMinutes()", "%.toHours()", "%.toDays()")...)

	texts.leaves = []string{
		"context.input.orderId", `"o-1"`, `""`, `"a"`, `"*"`, `"\u{1F600}"`, `"ä\t\"\\\0"`, `"role"`, `principal["id"]`, "principal.id",
		`principal.getTag("role")`, "context.input.address.city", "resource.id", `"2026-03-01"`, `"10.0.0.1"`, `"1d"`, `"1.5"`,
	}
	texts.nested = forms([]*grammar{&texts}, "principal.getTag(%)", "principal.getTag(%)")
	texts.nested = append(texts.nested, forms([]*grammar{&entities}, "%.id", `%.getTag("role")`)...)

	sets.leaves = []string{
		"context.input.labels", "context.input.matrix", "context.input.any", "[]", "[[]]", "[1, 2]", "[2, 1, 1]", `["urgent"]`, "[[1, 2], [3]]", `[1, "a", [1]]`,
		`[AgentCore::Action::"RefundTarget", AgentCore::OAuthUser::"bob"]`,
	}
	sets.nested = append(forms([]*grammar{&anyType, &anyType}, "[%, %]", "[%, %]"), form("[%]", &anyType), form("[%, %, 1]", &longs, &longs), form("[%]", &sets))

	records.leaves = []string{"context.input.address", "context.input", "context", "context.system", "{}", `{city: "B"}`, `{a: 1, "b c": {a: 2}}`}
	records.nested = append(forms([]*grammar{&anyType, &anyType}, `{a: %, "b c": %}`, `{city: %, zip: %}`), form("{a: %}", &records), form("%.address", &records))

	entities.leaves = []string{
		"principal", "action", "resource", `AgentCore::OAuthUser::"bob"`, `AgentCore::OAuthUser::"eve"`, `AgentCore::IamEntity::"bob"`, `AgentCore::UnauthenticatedUser::"bob"`,
		`AgentCore::Action::"RefundTarget"`, `AgentCore::Action::"Mcp"`, `AgentCore::Action::"Other___ping"`, `AgentCore::Gateway::"x"`, `Nobody::"\u{0}"`,
	}
	entities.nested = []func(expressions, int) string{form("%.owner", &entities)}
}

func initExtensions() {
	decimals.leaves = append([]string{"context.input.price"}, calls("decimal",
		[]string{"1.5", "10.0", "-0.5", "0.0", "-0.0", "1.2345", "922337203685477.5807", "-922337203685477.5808"},
		[]string{"922337203685477.5808", "1.23456", "1", "1.", ".5", "+1.0", "01.50", "1e1", "", "-", "1.5 ", "1_0.0"})...)
	decimals.nested = forms([]*grammar{&texts}, "decimal(%)")

	addresses.leaves = calls("ip",
		[]string{
			"10.0.0.1", "10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "127.0.0.1", "127.0.0.0/8", "126.0.0.0/7", "224.0.0.1", "224.0.0.0/4", "224.0.0.0/3",
			"255.255.255.255", "::1", "::1/127", "::", "::/0", "fe80::1/64", "ff00::/8", "ff02::1", "fe00::/7", "2001:db8::1", "2001:DB8::1",
			"2001:0db8:0:0:0:0:0:1", "10.0.0.1/0",
		},
		[]string{
			"::ffff:10.0.0.1", "::10.0.0.1", "10.0.0.1/33", "10.0.0.1/08", "10.0.0.01", "010.0.0.1", "10.0.0", "10.0.0.1/", "10.0.0.1/-1", "10.0.0.1/+8",
			"fe80::1%eth0", "1::2::3", "", "::1/129", "[::1]", " 10.0.0.1", "::ffff:a00:1", "1:2:3:4:5:6:7::", "::/00", "::/064",
		})
	addresses.nested = forms([]*grammar{&texts}, "ip(%)")

	datetimes.leaves = append([]string{"context.system.now", "context.system.now"}, calls("datetime",
		[]string{
			"2026-03-01", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.123Z", "2026-03-01T13:30:00.123+0130", "2026-02-28T22:00:00-1400",
			"1969-12-31T23:59:59.999Z", "1969-12-31T12:00:00Z", "1969-12-31", "1960-02-29T01:02:03Z", "1970-01-01", "0000-01-01", "0000-02-29T06:00:00Z",
			"9999-12-31T23:59:59.999Z", "2024-02-29", "1900-06-01T00:00:00.001Z",
		},
		[]string{
			"0001-02-29", "2023-02-29", "2026-13-01", "2026-00-10", "2026-04-31", "2026-03-01T24:00:00Z", "2026-03-01T23:59:60Z", "2026-03-01T12:00:00",
			"2026-03-01T12:00:00.1Z", "2026-03-01T12:00:00.1234Z", "2026-03-01T12:00:00+2400", "2026-03-01T12:00:00+0060", "2026-03-01T12:00:00+2359",
			"2026-03-01T12:00:00-0000", "2026-03-01T12:00:00+01:30", "2026-3-1", "26-03-01", "2026-03-01t12:00:00z", "2026-03-01 12:00:00Z", "", "20260301",
			"-0001-01-01", "+2026-03-01", "+002026-03-01", "+0002026-03-01", "-000000001-01-01", "+292278994-08-17T07:12:55.807Z",
			"-292275055-05-16T16:47:04.192Z", "99999-01-01", "2026-03-01T12:00Z", "2026-03-01Z", "2026-03-01T12:00:00.123",
		})...)
	datetimes.nested = append(forms([]*grammar{&datetimes, &durations}, "%.offset(%)", "%.offset(%)", "%.offset(%)"),
		form("datetime(%)", &texts), form("%.toDate()", &datetimes), form("%.toDate()", &datetimes), form("%.toDate()", &datetimes))

	durations.leaves = calls("duration",
		[]string{
			"1d", "1h", "-1d", "0ms", "1ms", "-1ms", "1d2h3m4s5ms", "-1d2h3m4s5ms", "25h", "90m", "86400s", "20514d", "-20514d", "40000d", "-800000d",
			"9223372036854775807ms", "-9223372036854775807ms", "106751991167d7h12m55s807ms",
		},
		[]string{
			"-9223372036854775808ms", "9223372036854775808ms", "106751991167d", "106751991167d7h12m55s808ms", "-106751991167d7h12m55s808ms",
			"-106751991167d7h12m55s809ms", "106751991168d", "-106751991168d", "18446744073709551616ms", "1h1d", "1d1d", "1", "d", "", "-", "+1d", "1D", "1.5h",
			"1w", "1d ", "01h", "1ms1s", "--1d", "1d-1h", "1m1ms", "0d0h0m0s0ms", "-0ms",
		})
	durations.nested = append(forms([]*grammar{&datetimes, &datetimes}, "%.durationSince(%)", "%.durationSince(%)", "%.durationSince(%)"),
		form("%.toTime()", &datetimes), form("%.toTime()", &datetimes), form("%.toTime()", &datetimes), form("duration(%)", &texts))
}
