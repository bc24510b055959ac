package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/policy"
)

func settings(change func(*policy.Settings)) policy.Settings {
	var s policy.Settings
	change(&s)
	return s
}

// Each row is a command that is right but for one thing.
func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	const (
		namePattern    = "^[A-Za-z][A-Za-z0-9_]*$"
		gatewayPattern = "^([0-9a-zA-Z][-]?){1,48}$"
		targetPattern  = "^([0-9a-zA-Z][-]?){1,100}$"
	)
	invalid := func(reason, field, text string) refusal { return refusal{policy.ErrInvalid, reason, field, text} }
	engine := func(change func(*policy.CreateEngine)) policy.Command { c := createEngine("E"); change(&c); return c }
	pol := func(change func(*policy.CreatePolicy)) policy.Command {
		c := createPolicy(t, "E", "p", permitAll)
		change(&c)
		return c
	}
	gateway := func(change func(*policy.CreateGateway)) policy.Command {
		c := createGateway("g", "")
		change(&c)
		return c
	}
	target := func(change func(*policy.CreateTarget)) policy.Command {
		c := createTarget("g", "target0001", "t")
		change(&c)
		return c
	}
	tags := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[numbered(i)] = ""
		}
		return m
	}
	set := func(change func(*policy.Settings)) policy.Command {
		return policy.SetAccountSettings{Settings: settings(change)}
	}
	paths := func(p ...string) policy.Command { return set(func(s *policy.Settings) { s.RedactedPaths = &p }) }
	bound := func(d time.Duration) policy.Command { return set(func(s *policy.Settings) { s.StalenessBound = &d }) }

	for name, c := range map[string]struct {
		command policy.Command
		want    refusal
	}{
		"engine without name":    {engine(func(c *policy.CreateEngine) { c.Name = "" }), invalid("required", "name", "name is required")},
		"engine with hyphen":     {engine(func(c *policy.CreateEngine) { c.Name = "a-b" }), invalid("pattern", "name", namePattern)},
		"engine from a digit":    {engine(func(c *policy.CreateEngine) { c.Name = "1a" }), invalid("pattern", "name", namePattern)},
		"engine with newline":    {engine(func(c *policy.CreateEngine) { c.Name = "a\n" }), invalid("pattern", "name", namePattern)},
		"engine name too long":   {engine(func(c *policy.CreateEngine) { c.Name = strings.Repeat("a", 49) }), invalid("length", "name", "1 to 48")},
		"engine name not UTF-8":  {engine(func(c *policy.CreateEngine) { c.Name = "a\xff" }), invalid("encoding", "name", "UTF-8")},
		"engine without id":      {engine(func(c *policy.CreateEngine) { c.ID = "" }), invalid("pattern", "id", "is not the id of a engine")},
		"engine with wild id":    {engine(func(c *policy.CreateEngine) { c.ID = "E-012345678>" }), invalid("pattern", "id", "")},
		"engine of another name": {engine(func(c *policy.CreateEngine) { c.ID = engineID("F") }), invalid("pattern", "id", "")},
		"engine description":     {engine(func(c *policy.CreateEngine) { c.Definition.Description = strings.Repeat("é", 4097) }), invalid("length", "description", "it has 4097")},
		"engine key":             {engine(func(c *policy.CreateEngine) { c.Definition.EncryptionKeyARN = "arn:aws:kms:x" }), invalid("pattern", "encryptionKeyArn", "^arn:aws")},
		"engine tags":            {engine(func(c *policy.CreateEngine) { c.Tags = tags(51) }), invalid("count", "tags", "0 to 50 entries; it has 51")},
		"engine tag key":         {engine(func(c *policy.CreateEngine) { c.Tags = map[string]string{"a*": ""} }), invalid("pattern", "tags", "a key of tags")},
		"engine tag without key": {engine(func(c *policy.CreateEngine) { c.Tags = map[string]string{"": "x"} }), invalid("required", "tags", "")},
		"engine tag value":       {engine(func(c *policy.CreateEngine) { c.Tags = map[string]string{"a": "*"} }), invalid("pattern", "tags.a", "")},
		"engine new description": {policy.UpdateEngine{Description: new(strings.Repeat("x", 4097))}, invalid("length", "description", "4097")},

		"policy without name":        {pol(func(c *policy.CreatePolicy) { c.Name = "" }), invalid("required", "name", "")},
		"policy with hyphen":         {pol(func(c *policy.CreatePolicy) { c.Name = "a-b" }), invalid("pattern", "name", namePattern)},
		"policy with wild id":        {pol(func(c *policy.CreatePolicy) { c.ID = "p.*-0123456789" }), invalid("pattern", "id", "is not the id of a policy")},
		"policy of another name":     {pol(func(c *policy.CreatePolicy) { c.ID = policyID("q") }), invalid("pattern", "id", "")},
		"policy without statement":   {pol(func(c *policy.CreatePolicy) { c.Statement = policy.Statement{} }), invalid("required", "definition", "definition is required")},
		"policy without language":    {pol(func(c *policy.CreatePolicy) { c.Language = "" }), invalid("required", "definition", "cedar or policy")},
		"policy in another language": {pol(func(c *policy.CreatePolicy) { c.Language = "rego" }), invalid("enum", "definition", "cedar or policy")},
		"policy mode":                {pol(func(c *policy.CreatePolicy) { c.Enforcement = "MONITOR" }), invalid("enum", "enforcementMode", "ACTIVE or LOG_ONLY")},
		"policy validation":          {pol(func(c *policy.CreatePolicy) { c.Validation = "NONE" }), invalid("enum", "validationMode", "IGNORE_ALL_FINDINGS")},
		"policy description":         {pol(func(c *policy.CreatePolicy) { c.Description = "\xff" }), invalid("encoding", "description", "")},
		"policy tags":                {pol(func(c *policy.CreatePolicy) { c.Tags = tags(51) }), invalid("count", "tags", "")},
		"policy update of nothing":   {policy.UpdatePolicy{}, invalid("required", "", "there is nothing to change")},
		"policy update unparsed":     {policy.UpdatePolicy{Language: policy.LanguageCedar, Statement: &policy.Statement{}}, invalid("required", "definition", "")},
		"policy update language":     {policy.UpdatePolicy{Statement: new(parse(t, permitAll))}, invalid("required", "definition", "")},
		"policy update mode":         {policy.UpdatePolicy{Enforcement: "OFF"}, invalid("enum", "enforcementMode", "")},
		"policy update validation":   {policy.UpdatePolicy{Validation: "OFF"}, invalid("enum", "validationMode", "")},
		"policy new description":     {policy.UpdatePolicy{Description: new(strings.Repeat("x", 4097))}, invalid("length", "description", "")},

		"gateway without name":       {gateway(func(c *policy.CreateGateway) { c.Name = "" }), invalid("required", "name", "")},
		"gateway with underscore":    {gateway(func(c *policy.CreateGateway) { c.Name = "a_b" }), invalid("pattern", "name", gatewayPattern)},
		"gateway with two hyphens":   {gateway(func(c *policy.CreateGateway) { c.Name = "a--b" }), invalid("pattern", "name", gatewayPattern)},
		"gateway name too long":      {gateway(func(c *policy.CreateGateway) { c.Name = strings.Repeat("a", 49) }), invalid("length", "name", "")},
		"gateway id in capitals":     {gateway(func(c *policy.CreateGateway) { c.ID = "G-0123456789" }), invalid("pattern", "id", "is not the id of a gateway")},
		"gateway definition":         {gateway(func(c *policy.CreateGateway) { c.Definition = policy.GatewayDefinition{} }), invalid("required", "definition.authorizerType", "")},
		"gateway tags":               {gateway(func(c *policy.CreateGateway) { c.Tags = tags(51) }), invalid("count", "tags", "")},
		"gateway new definition":     {policy.UpdateGateway{}, invalid("required", "definition.authorizerType", "")},
		"attach without mode":        {policy.AttachEngine{}, invalid("required", "mode", "ENFORCE or LOG_ONLY")},
		"attach in unknown mode":     {policy.AttachEngine{Mode: "MONITOR"}, invalid("enum", "mode", "ENFORCE or LOG_ONLY")},
		"target without name":        {target(func(c *policy.CreateTarget) { c.Name = "" }), invalid("required", "name", "")},
		"target with underscore":     {target(func(c *policy.CreateTarget) { c.Name = "a_b" }), invalid("pattern", "name", targetPattern)},
		"target name too long":       {target(func(c *policy.CreateTarget) { c.Name = strings.Repeat("a", 101) }), invalid("length", "name", "")},
		"target id":                  {target(func(c *policy.CreateTarget) { c.ID = "target-001" }), invalid("pattern", "id", "is not the id of a target")},
		"target id too long":         {target(func(c *policy.CreateTarget) { c.ID = "target00010" }), invalid("pattern", "id", "")},
		"target definition":          {target(func(c *policy.CreateTarget) { c.Definition = policy.TargetDefinition{} }), invalid("union", "definition.targetConfiguration", "")},
		"target new definition":      {policy.UpdateTarget{}, invalid("union", "definition.targetConfiguration", "")},
		"no tags to add":             {policy.AddTags{}, invalid("required", "tags", "must not be empty")},
		"too many tags to add":       {policy.AddTags{Tags: tags(51)}, invalid("count", "tags", "")},
		"no tags to remove":          {policy.RemoveTags{}, invalid("required", "tagKeys", "must not be empty")},
		"bad tag to remove":          {policy.RemoveTags{Keys: []string{"a", "*"}}, invalid("pattern", "tagKeys[1]", "")},
		"staleness too short":        {bound(99 * time.Millisecond), invalid("range", "settings.stalenessBoundMs", "100 to 86400000; it is 99")},
		"staleness below zero":       {bound(-time.Second), invalid("range", "settings.stalenessBoundMs", "it is -1000")},
		"staleness too long":         {bound(24*time.Hour + time.Millisecond), invalid("range", "settings.stalenessBoundMs", "86400001")},
		"staleness in microseconds":  {bound(100*time.Millisecond + 1), invalid("range", "settings.stalenessBoundMs", "")},
		"stale action":               {set(func(s *policy.Settings) { s.OnStale = "ALLOW" }), invalid("enum", "settings.onStale", "SERVE or DENY")},
		"redaction without path":     {paths(""), invalid("required", "settings.redactedPaths.paths[0]", "")},
		"redaction of the decision":  {paths("/principal/id"), invalid("pattern", "settings.redactedPaths.paths[0]", "")},
		"redaction of all":           {paths("/context"), invalid("pattern", "settings.redactedPaths.paths[0]", "")},
		"redaction not in order":     {paths("/context/b", "/context/a"), invalid("order", "settings.redactedPaths.paths", "sorted")},
		"redaction twice":            {paths("/context/a", "/context/a"), invalid("duplicate", "settings.redactedPaths.paths[1]", "")},
		"redaction of too much":      {paths(make([]string, 101)...), invalid("count", "settings.redactedPaths.paths", "0 to 100")},
		"settings of an engine, too": {policy.SetEngineSettings{Settings: settings(func(s *policy.Settings) { s.OnStale = "ALLOW" })}, invalid("enum", "settings.onStale", "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.check(t, c.command.Check())
		})
	}
}

func TestCheckAccepts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 48)
	for name, c := range map[string]policy.Command{
		"longest names":  createEngine(long),
		"longest policy": createPolicy(t, "E", long, permitAll),
		"longest gateway": policy.CreateGateway{
			ID: policy.NewID(policy.KindGateway, strings.ToUpper(long), suffix), Name: strings.ToUpper(long), Definition: gatewayTo(""),
		},
		"gateway with hyphens": createGateway("a-B-1-", ""),
		"longest target":       createTarget("g", "Target0001", strings.Repeat("a", 100)),
		"key": policy.CreateEngine{ID: engineID("E"), Name: "E", Definition: policy.EngineDefinition{
			EncryptionKeyARN: "arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef",
		}},
		"tags":             policy.AddTags{Tags: map[string]string{"aws:cost/center @1+=_.-": strings.Repeat("v", 256)}},
		"description gone": policy.UpdateEngine{Description: new("")},
		"settings unset":   policy.SetAccountSettings{},
		"settings": policy.SetEngineSettings{Settings: policy.Settings{
			StalenessBound: new(24 * time.Hour), OnStale: policy.OnStaleServe, StrictForbids: new(false),
			RedactedPaths: new([]string{"/context/input/a~1b", "/context/input/card", "/context/input/card/number", "/principal/tags/e-mail"}),
		}},
		"shortest bound":     policy.SetAccountSettings{Settings: policy.Settings{StalenessBound: new(100 * time.Millisecond)}},
		"nothing redacted":   policy.SetAccountSettings{Settings: policy.Settings{RedactedPaths: new([]string{})}},
		"defaults":           policy.SetAccountSettings{Settings: policy.Defaults()},
		"anything to finish": policy.FinishPolicy{}, "delete engine": policy.DeleteEngine{}, "delete policy": policy.DeletePolicy{},
		"delete gateway": policy.DeleteGateway{}, "delete target": policy.DeleteTarget{}, "detach": policy.DetachEngine{},
	} {
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSettingsOr(t *testing.T) {
	t.Parallel()
	none := policy.Settings{}
	if !none.IsZero() || policy.Defaults().IsZero() {
		t.Error("IsZero is wrong")
	}
	got := none.Or(policy.Defaults())
	if *got.StalenessBound != 10*time.Second || got.OnStale != policy.OnStaleServe || !*got.StrictForbids || len(*got.RedactedPaths) != 0 {
		t.Errorf("defaults are %+v", got)
	}
	engine := policy.Settings{StalenessBound: new(time.Second), OnStale: policy.OnStaleDeny, StrictForbids: new(false), RedactedPaths: new([]string{"/context/a"})}
	got = engine.Or(policy.Defaults())
	if *got.StalenessBound != time.Second || got.OnStale != policy.OnStaleDeny || *got.StrictForbids || len(*got.RedactedPaths) != 1 {
		t.Errorf("the engine's settings became %+v", got)
	}
}

func TestARNs(t *testing.T) {
	t.Parallel()
	for _, ref := range []policy.Ref{
		policy.EngineRef(engineID("E")), policy.PolicyRef(engineID("E"), policyID("p")), policy.GatewayRef(gatewayID("g")),
	} {
		arn := policy.ARN(region, alice, ref)
		if got, err := policy.ParseARN(region, alice, "resourceArn", arn); err != nil || got != ref {
			t.Errorf("%s is %v, %v", arn, got, err)
		}
		for _, elsewhere := range [][2]string{{region, bob}, {"eu-west-1", alice}} {
			_, err := policy.ParseARN(elsewhere[0], elsewhere[1], "resourceArn", arn)
			refusal{policy.ErrNotFound, "resource_not_found", "resourceArn", "there is no resource"}.check(t, err)
		}
	}
	_, err := policy.ParseARN(region, alice, "resourceArn", "arn:aws:bedrock-agentcore:us-east-1:111111111111:runtime/x")
	refusal{policy.ErrNotFound, "resource_not_found", "resourceArn", ""}.check(t, err)
	_, err = policy.ParseARN(region, alice, "resourceArn", "engine")
	refusal{policy.ErrInvalid, "pattern", "resourceArn", "must be an ARN such as"}.check(t, err)
	refusal{policy.ErrInvalid, "pattern", "region", "local"}.check(t, policy.CheckRegion("local"))
	if err := policy.CheckRegion("local-one"); err != nil {
		t.Error(err)
	}
}
