package policy_test

import (
	"fmt"
	"testing"

	"github.com/verdict-io/verdict/services/policy"
)

func numbered(n int) string { return fmt.Sprintf("n%d", n) }

// Every quota allows as many as it says, refuses one more, and allows that one again when another is gone.
func TestQuotas(t *testing.T) {
	t.Parallel()
	targetID := func(i int) string { return fmt.Sprintf("%010d", i) }
	for name, c := range map[string]struct {
		limit  int
		what   string
		create func(t *testing.T, i int) policy.Command
		remove policy.Command
	}{
		"engines": {
			1000, "policy engines in this account",
			func(_ *testing.T, i int) policy.Command { return createEngine(numbered(i)) },
			policy.DeleteEngine{ID: engineID(numbered(7))},
		},
		"policies": {
			1000, "policies in this engine",
			func(t *testing.T, i int) policy.Command {
				t.Helper()
				return createPolicy(t, "E", numbered(i), permitAll)
			},
			policy.DeletePolicy{EngineID: engineID("E"), ID: policyID(numbered(7))},
		},
		"gateways": {
			1000, "gateways in this account",
			func(_ *testing.T, i int) policy.Command { return createGateway(numbered(i), "") },
			policy.DeleteGateway{ID: gatewayID(numbered(7))},
		},
		"targets": {
			100, "targets of this gateway",
			func(_ *testing.T, i int) policy.Command { return createTarget("G", targetID(i), numbered(i)) },
			policy.DeleteTarget{GatewayID: gatewayID("G"), ID: targetID(7)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := emptyWorld(t)
			first := 0
			switch name { // each room has its holder
			case "engines":
				w.do(bob, createEngine("E"))
			case "policies":
				w.do(alice, createEngine("E"))
			case "gateways":
				w.do(bob, createGateway("G", ""))
			case "targets":
				w.do(alice, createGateway("G", ""))
			}
			for ; first < c.limit; first++ {
				w.do(alice, c.create(t, first))
			}
			if name == "policies" {
				w.do(alice, w.examined(alice, policy.PolicyRef(engineID("E"), policyID(numbered(7)))))
			}
			_, err := w.decide(alice, c.create(t, first), config())
			refusal{policy.ErrQuota, "quota", "", fmt.Sprintf("the limit of %d %s is reached", c.limit, c.what)}.check(t, err)
			w.do(alice, c.remove)
			w.do(alice, c.create(t, first))
		})
	}
}

func TestTagQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref := policy.EngineRef(engineID("Spare"))
	tags := map[string]string{}
	for i := range 50 {
		tags[numbered(i)] = "x"
	}
	w.do(alice, policy.AddTags{Of: ref, Tags: tags})
	w.do(alice, policy.AddTags{Of: ref, Tags: map[string]string{numbered(0): "y"}})
	_, err := w.decide(alice, policy.AddTags{Of: ref, Tags: map[string]string{"more": ""}}, config())
	refusal{policy.ErrQuota, "tag_count", "tags", "would have 51 tags; at most 50 are allowed"}.check(t, err)
}

const gate = "arn:aws:bedrock-agentcore:us-east-1:111111111111:gateway/"

// What counts for a policy is what can apply to one gateway: statements scoped to it and statements scoped by type.
func TestPolicyBytes(t *testing.T) {
	t.Parallel()
	g, h := gate+"g-0123456789", gate+"h-0123456789"
	byType := len(permitAll)
	scopedSize := len(scopedTo(g, 0))
	for name, c := range map[string]struct {
		have    []string // statements
		limit   int
		command func(t *testing.T) policy.Command
		want    int // bytes refused; 0 is none
	}{
		"exactly as much as allowed": {
			[]string{permitAll, permitAll},
			3 * byType,
			func(t *testing.T) policy.Command { t.Helper(); return createPolicy(t, "E", "p", permitAll) },
			0,
		},
		"one byte more": {
			[]string{permitAll, permitAll},
			3*byType - 1,
			func(t *testing.T) policy.Command { t.Helper(); return createPolicy(t, "E", "p", permitAll) },
			3 * byType,
		},
		"another gateway does not count": {
			[]string{scopedTo(g, 100), scopedTo(g, 100)},
			2*scopedSize + 200,
			func(t *testing.T) policy.Command { t.Helper(); return createPolicy(t, "E", "p", scopedTo(h, 0)) },
			0,
		},
		"scoped by type counts for a gateway": {
			[]string{scopedTo(g, 0), permitAll},
			2*scopedSize + byType - 1,
			func(t *testing.T) policy.Command { t.Helper(); return createPolicy(t, "E", "p", scopedTo(g, 0)) },
			2*scopedSize + byType,
		},
		"scoped by type comes on top of the fullest gateway": {
			[]string{scopedTo(g, 0), scopedTo(h, 500), scopedTo(g, 10)},
			scopedSize + 499 + byType,
			func(t *testing.T) policy.Command { t.Helper(); return createPolicy(t, "E", "p", permitAll) },
			scopedSize + 500 + byType,
		},
		"an update counts in place of what it replaces": {
			[]string{permitAll, permitAll},
			2 * byType,
			func(t *testing.T) policy.Command {
				t.Helper()
				return policy.UpdatePolicy{EngineID: engineID("E"), ID: policyID(numbered(0)), Language: policy.LanguageCedar, Statement: new(parse(t, permitAll))}
			},
			0,
		},
		"an update can be too large": {
			[]string{permitAll, scopedTo(g, 0)},
			scopedSize + byType,
			func(t *testing.T) policy.Command {
				t.Helper()
				return policy.UpdatePolicy{EngineID: engineID("E"), ID: policyID(numbered(0)), Language: policy.LanguageCedar, Statement: new(parse(t, scopedTo(g, 0)))}
			},
			2 * scopedSize,
		},
		"the mode can be changed beyond the limit": {
			[]string{permitAll, permitAll},
			byType,
			func(*testing.T) policy.Command {
				return policy.UpdatePolicy{EngineID: engineID("E"), ID: policyID(numbered(0)), Enforcement: policy.EnforcementLogOnly}
			},
			0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := emptyWorld(t)
			w.do(alice, createEngine("E"))
			for i, source := range c.have {
				w.do(alice, createPolicy(t, "E", numbered(i), source))
			}
			w.work(alice)
			cfg := config()
			cfg.Limits.PolicyBytesPerGate = c.limit
			_, err := w.decide(alice, c.command(t), cfg)
			if c.want == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refusal{policy.ErrQuota, "policy_bytes", "definition", fmt.Sprintf("would have %d bytes together; the limit is %d", c.want, c.limit)}.check(t, err)
		})
	}
}

// While an update waits, nobody knows which of two statements will stay, so the longer one counts.
func TestPolicyBytesOfAnUpdateThatWaits(t *testing.T) {
	t.Parallel()
	g, h := gate+"g-0123456789", gate+"h-0123456789"
	long, short := scopedTo(g, 500), scopedTo(g, 0)
	for _, c := range []struct {
		was, next, more string
		want            int
	}{
		{long, short, short, len(long) + len(short)},
		{short, long, short, len(long) + len(short)},
		{long, scopedTo(h, 0), short, len(long) + len(short)},
		{scopedTo(h, 0), long, short, len(long) + len(short)},
		{long, permitAll, short, len(long) + len(permitAll) + len(short)}, // both, which is more than can happen
	} {
		w := emptyWorld(t)
		w.do(alice, createEngine("E"))
		w.do(alice, createGateway("g", "E"))
		w.do(alice, createGateway("h", "E"))
		w.do(alice, createTarget("g", "target0001", "T", "a"))
		w.do(alice, createTarget("h", "target0002", "T", "a"))
		w.do(alice, createPolicy(t, "E", "p", c.was))
		w.work(alice)
		w.do(alice, policy.UpdatePolicy{EngineID: engineID("E"), ID: policyID("p"), Language: policy.LanguageCedar, Statement: new(parse(t, c.next))})
		cfg := config()
		cfg.Limits.PolicyBytesPerGate = c.want
		if _, err := w.decide(alice, createPolicy(t, "E", "q", c.more), cfg); err != nil {
			t.Errorf("%d bytes are refused: %v", c.want, err)
		}
		cfg.Limits.PolicyBytesPerGate--
		_, err := w.decide(alice, createPolicy(t, "E", "q", c.more), cfg)
		refusal{policy.ErrQuota, "policy_bytes", "definition", fmt.Sprintf("would have %d bytes", c.want)}.check(t, err)
	}
}

func TestPolicyBytesByDefault(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.do(alice, createEngine("E"))
	source := scopedTo(gate+"g-0123456789", 9_800)
	for i := range (200 << 10) / len(source) {
		w.do(alice, createPolicy(t, "E", numbered(i), source))
	}
	_, err := w.decide(alice, createPolicy(t, "E", "more", source), config())
	refusal{policy.ErrQuota, "policy_bytes", "definition", "the limit is 204800"}.check(t, err)
}

// The schema of an engine is made of the tools of all gateways that it is attached to.
func TestSchemaBytes(t *testing.T) {
	t.Parallel()
	const limit = 400 << 10
	attach := policy.AttachEngine{GatewayID: gatewayID("B"), EngineID: engineID("E"), Mode: policy.ModeEnforce}
	update := policy.UpdateTarget{GatewayID: gatewayID("A"), ID: "target000A"}
	for name, c := range map[string]struct {
		a, b     int // bytes of the target of gateway A, which is attached to E, and of B
		attached bool
		command  policy.Command
		want     int // refused; 0 is none
		field    string
	}{
		"attach":                    {limit / 2, limit / 2, false, attach, 0, ""},
		"attach too much":           {limit / 2, limit/2 + 1, false, attach, limit + 1, "policyEngineId"},
		"attach in another mode":    {limit / 2, limit / 2, true, policy.AttachEngine{GatewayID: gatewayID("B"), EngineID: engineID("E"), Mode: policy.ModeLogOnly}, 0, ""},
		"update gateway too much":   {limit / 2, limit/2 + 1, false, policy.UpdateGateway{ID: gatewayID("B"), Definition: gatewayTo("E")}, limit + 1, "policyEngineId"},
		"create target":             {1000, 1000, true, createLarge("A", limit-2000), 0, ""},
		"create target too much":    {1000, 1000, true, createLarge("A", limit-1999), limit + 1, "targetConfiguration"},
		"create elsewhere":          {1000, 1000, false, createLarge("A", limit-1000), 0, ""},
		"create elsewhere too much": {1000, 1000, false, createLarge("B", limit-999), limit + 1, "targetConfiguration"},
		"update target":             {limit - 1000, 1000, true, with(update, limit-1000), 0, ""},
		"update target too much":    {1000, 1000, true, with(update, limit-999), limit + 1, "targetConfiguration"},
		"update target elsewhere":   {1000, 1000, false, with(update, limit), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := emptyWorld(t)
			w.do(alice, createEngine("E"))
			w.do(alice, createGateway("A", "E"))
			w.do(alice, createGateway("B", ""))
			w.do(alice, policy.CreateTarget{GatewayID: gatewayID("A"), ID: "target000A", Name: "A", Definition: large(c.a)})
			w.do(alice, policy.CreateTarget{GatewayID: gatewayID("B"), ID: "target000B", Name: "B", Definition: large(c.b)})
			if c.attached {
				w.do(alice, attach)
			}
			_, err := w.decide(alice, c.command, config())
			if c.want == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refusal{policy.ErrQuota, "schema_bytes", c.field, fmt.Sprintf("would have %d bytes of schema together; the limit is %d", c.want, limit)}.check(t, err)
		})
	}
}

func createLarge(gateway string, n int) policy.CreateTarget {
	return policy.CreateTarget{GatewayID: gatewayID(gateway), ID: "target000C", Name: "C", Definition: large(n)}
}

func with(u policy.UpdateTarget, n int) policy.UpdateTarget {
	u.Definition = large(n)
	return u
}
