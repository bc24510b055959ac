package policy

import (
	"regexp"
	"slices"
	"time"
)

// Check implements Command.
func (c CreateLog) Check() error {
	if c.ID == "" {
		return Invalid("required", "logId", "a log needs an id")
	}
	return CheckRegion(c.Region)
}

// Check implements Command.
func (c SetAccountSettings) Check() error { return c.Settings.check() }

// Check implements Command.
func (c CreateEngine) Check() error {
	return first(
		policyName.required("name", c.Name), checkID(KindEngine, c.Name, c.ID, policyIDPattern), c.Definition.check(), checkTags(c.Tags))
}

// Check implements Command.
func (c UpdateEngine) Check() error { return checkDescription(c.Description) }

// Check implements Command.
func (c SetEngineSettings) Check() error { return c.Settings.check() }

// Check implements Command.
func (DeleteEngine) Check() error { return nil }

// Check implements Command.
func (c CreatePolicy) Check() error {
	return first(
		policyName.required("name", c.Name), checkID(KindPolicy, c.Name, c.ID, policyIDPattern),
		description.optional("description", c.Description), checkTags(c.Tags),
		checkStatement(c.Language, c.Statement),
		checkModes(c.Enforcement, c.Validation))
}

// Check implements Command.
func (c UpdatePolicy) Check() error {
	if c.Statement != nil {
		if err := checkStatement(c.Language, *c.Statement); err != nil {
			return err
		}
	}
	if c.Statement == nil && c.Description == nil && c.Enforcement == "" && c.Validation == "" {
		return Invalid("required", "", "there is nothing to change: give a definition, description, enforcementMode or validationMode")
	}
	return first(checkDescription(c.Description), checkModes(c.Enforcement, c.Validation))
}

// Check implements Command.
func (FinishPolicy) Check() error { return nil }

// Check implements Command.
func (DeletePolicy) Check() error { return nil }

// Check implements Command.
func (c CreateGateway) Check() error {
	return first(
		gatewayName.required("name", c.Name), checkID(KindGateway, c.Name, c.ID, gatewayIDPattern), checkTags(c.Tags),
		within("definition", c.Definition.Validate()))
}

// Check implements Command.
func (c UpdateGateway) Check() error { return within("definition", c.Definition.Validate()) }

// Check implements Command.
func (c AttachEngine) Check() error { return checkEnum("mode", c.Mode, ModeEnforce, ModeLogOnly) }

// Check implements Command.
func (DetachEngine) Check() error { return nil }

// Check implements Command.
func (DeleteGateway) Check() error { return nil }

// Check implements Command.
func (c CreateTarget) Check() error {
	if slices.Contains(builtInActions, c.Name) {
		return Invalid("reserved", "name", "name must not be %s: the schema of every engine has that action; choose another name", quoted(c.Name))
	}
	return first(
		targetName.required("name", c.Name), checkID(KindTarget, c.Name, c.ID, targetIDPattern),
		within("definition", c.Definition.Validate()))
}

// builtInActions are in the schema of every engine; a target is an action too, the group of its tools.
var builtInActions = []string{"Mcp", "Http", "CallTool", "UnknownTool", "InvokeAgent", "InvokeLLM"}

// Check implements Command.
func (c UpdateTarget) Check() error { return within("definition", c.Definition.Validate()) }

// Check implements Command.
func (DeleteTarget) Check() error { return nil }

// Check implements Command.
func (c AddTags) Check() error {
	if len(c.Tags) == 0 {
		return Invalid("required", "tags", "tags is required and must not be empty")
	}
	return checkTags(c.Tags)
}

// Check implements Command.
func (c RemoveTags) Check() error {
	if len(c.Keys) == 0 {
		return Invalid("required", "tagKeys", "tagKeys is required and must not be empty")
	}
	return tagKey.list("tagKeys", c.Keys, maxTags)
}

// Check implements Command.
func (c ProposeChange) Check() error {
	if err := first(checkPattern("id", c.ID, changeIDPattern), description.optional("description", c.Description)); err != nil {
		return err
	}
	switch c.Command.(type) {
	case UpdatePolicy, DeletePolicy, UpdateGateway, AttachEngine, DetachEngine, SetEngineSettings, SetAccountSettings:
		return c.Command.Check()
	}
	return Invalid("union", "request", "give exactly one request that can weaken enforcement")
}

// Check implements Command.
func (ApproveChange) Check() error { return nil }

// Check implements Command.
func (c RejectChange) Check() error { return description.optional("reason", c.Reason) }

// first is the first refusal.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkID wants an id that NewID makes of the name. So two policies of an account, whose names differ, never have one id,
// though they are in different engines: it names their stream of events.
func checkID(kind Kind, name, id string, re *regexp.Regexp) error {
	suffix := id[max(0, len(id)-SuffixLength):]
	if re.MatchString(id) && id == NewID(kind, name, suffix) {
		return nil
	}
	return Invalid("pattern", "id", "%s is not the id of a %s", quoted(id), kind)
}

func (d *EngineDefinition) check() error {
	return first(
		description.optional("description", d.Description),
		keyARN.optional("encryptionKeyArn", d.EncryptionKeyARN))
}

func checkStatement(l Language, s Statement) error {
	if s.Text() == "" {
		return Invalid("required", "definition", "definition is required: {\"cedar\":{\"statement\":\"…\"}}")
	}
	return checkEnum("definition", l, LanguageCedar, LanguagePolicy)
}

func checkDescription(d *string) error {
	if d == nil {
		return nil
	}
	return description.optional("description", *d)
}

func checkModes(e EnforcementMode, v ValidationMode) error {
	return first(
		checkOptionalEnum("enforcementMode", e, EnforcementActive, EnforcementLogOnly),
		checkOptionalEnum("validationMode", v, FailOnAnyFindings, IgnoreAllFindings))
}

func checkTags(tags map[string]string) error {
	return checkMap("tags", tags, tagKey, tagValue, maxTags)
}

// maxStaleness is the longest bound: a node that has heard nothing for a day is not worth asking.
const maxStaleness = 24 * time.Hour

func (s Settings) check() error {
	if b := s.StalenessBound; b != nil && (*b < 100*time.Millisecond || *b > maxStaleness || *b%time.Millisecond != 0) {
		return Invalid("range", "settings.stalenessBoundMs", "settings.stalenessBoundMs must be 100 to %d; it is %d", maxStaleness.Milliseconds(), b.Milliseconds())
	}
	if err := checkOptionalEnum("settings.onStale", s.OnStale, OnStaleServe, OnStaleDeny); err != nil || s.RedactedPaths == nil {
		return err
	}
	paths := *s.RedactedPaths
	if !slices.IsSorted(paths) {
		return Invalid("order", "settings.redactedPaths.paths", "settings.redactedPaths.paths must be sorted")
	}
	return first(redactedPath.list("settings.redactedPaths.paths", paths, maxRedactedPaths), checkUnique("settings.redactedPaths.paths", paths))
}
