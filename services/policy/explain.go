package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// The messages of cedar-go's type-checker that more can be said about. Its wording is kept: it is that of Cedar, which
// people search for.
var (
	missingAttribute = regexp.MustCompile("^attribute `([^`]*)` in context for ")
	missingOnEntity  = regexp.MustCompile("^attribute `([^`]*)` on entity type `" + typeOAuthUser + "` not found$")
	optionalInput    = regexp.MustCompile("access to optional attribute `([^`]*)` in context for ")
	unsafeTag        = regexp.MustCompile("access to tag `(.*)` on entity type `(.*)`$")
)

// internalNames are names that the type-checker gives to types which have none in Cedar.
var internalNames = strings.NewReplacer(
	"Set<__cedar::internal::AnyEntity>", "a set of entities",
	"__cedar::internal::AnyEntity", "an entity",
	"__cedar::internal::OpenRecord{}", "a record",
	"Set<__cedar::internal::Any>", "a set",
	"__cedar::internal::True", "Bool",
	"__cedar::internal::False", "Bool",
	"__cedar::internal::Never", "nothing",
	"__cedar::internal::Union", "one of ",
)

// explain makes a message of the type-checker about the action of a group into a text for the author of the
// statement: it marks where the action is named, and adds what to write instead.
func (v *validation) explain(message string, g group) string {
	message = internalNames.Replace(strings.ReplaceAll(message, actionUID(g.action.id).String(), actionMark))
	if found := missingAttribute.FindStringSubmatch(message); found != nil {
		return v.explainMissing(message, found[1], g)
	}
	if found := missingOnEntity.FindStringSubmatch(message); found != nil {
		return message + "; claims are tags: `principal.hasTag(\"" + found[1] + "\") && principal.getTag(\"" + found[1] +
			"\") == …`"
	}
	if found := optionalInput.FindStringSubmatch(message); found != nil {
		path := "context." + found[1]
		dot := strings.LastIndexByte(path, '.')
		return message + "; test it first: `" + path[:dot] + " has " + path[dot+1:] + " && …`"
	}
	if found := unsafeTag.FindStringSubmatch(message); found != nil {
		if !HasTags(found[2]) {
			return message + ", which has no tags; scope the policy to `principal is " + typeOAuthUser + "`"
		}
		return message + "; test it first: `principal.hasTag(" + found[1] + ") && …`"
	}
	return message + v.advice(message)
}

// explainMissing prints the whole path of a member that there is not, of which the type-checker knows only the last
// name, and the name that was probably meant.
func (v *validation) explainMissing(message, name string, g group) string {
	for _, path := range v.survey.paths {
		length, instead, ok := missingMember(g.action.input, path)
		if !ok || path[length-1] != name {
			continue
		}
		message = strings.Replace(message, "`"+name+"`", "`"+strings.Join(path[:length], ".")+"`", 1)
		if length == 1 && hasMember(g.action.input, name) {
			return message + ": did you mean `context.input." + name + "`?"
		}
		if near, ok := nearest(name, instead); ok {
			return message + ": did you mean `" + near + "`?"
		}
		break
	}
	if v.scope.action.kind != scopeEqual {
		return message + "; name only tools that have it, or test it first with `has`"
	}
	return message
}

// advice is what to write instead of an expression whose types do not fit.
func (v *validation) advice(message string) string {
	switch {
	case strings.HasSuffix(message, "expected datetime, or duration, or Long but saw decimal"):
		return `; compare decimals with .lessThan(decimal("5.0")), .lessThanOrEqual, .greaterThan, .greaterThanOrEqual`
	case strings.Contains(message, "Long and decimal are not compatible"):
		return `; a JSON number is a decimal: write decimal("5.0")`
	case strings.Contains(message, "an entity but saw ") && v.survey.usesIn,
		strings.Contains(message, "a set of entities, or an entity but saw ") && v.survey.usesIn:
		return "; `in` is for entities: to look for a value in a set write `[\"a\", \"b\"].contains(…)`"
	case strings.HasPrefix(message, "the types ") && strings.Contains(message, string(opaque)),
		strings.HasSuffix(message, "but saw "+string(opaque)):
		return "; the tool's schema does not say the type of this value"
	}
	return ""
}

// nearest finds the name that was most likely meant by one that there is not: the same letters and digits, or a few
// edits away.
func nearest(name string, names []string) (string, bool) {
	plain := letters(name)
	for _, candidate := range names {
		if letters(candidate) == plain {
			return candidate, true
		}
	}
	best, limit := "", min(5, max(1, (len(plain)+1)/3))
	for _, candidate := range names {
		if d := distance(name, candidate, limit); d <= limit {
			best, limit = candidate, d-1
		}
	}
	return best, best != ""
}

// sameTool finds the action whose tool an id ends with, whatever target the id names; the longest when several do.
func sameTool(id string, actions []string) (string, bool) {
	plain, best, length := letters(id), "", 0
	for _, action := range actions {
		_, tool, ok := strings.Cut(action, actionSeparator)
		if tail := letters(tool); ok && len(tail) > length && strings.HasSuffix(plain, tail) {
			best, length = action, len(tail)
		}
	}
	return best, best != ""
}

// letters are the letters and digits of a name in lower case.
func letters(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
}

// distance is the number of edits between two names, or limit+1 for any more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			edit := 1
			if a[i] == b[j] {
				edit = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+edit, row[j]+1, row[j+1]+1)
		}
		if slices.Min(row) > limit {
			return limit + 1
		}
	}
	return row[len(b)]
}

// findings are texts about actions: a text holds actionMark where it names the action, and is said once for all
// actions that it is true of. A text without actions is about none of them.
type findings struct {
	order   []string
	actions map[string]map[string]bool
}

const actionMark = "\x00"

func (f *findings) add(text string, actions []string) {
	if f.actions == nil {
		f.actions = map[string]map[string]bool{}
	}
	if f.actions[text] == nil {
		f.order = append(f.order, text)
		f.actions[text] = map[string]bool{}
	}
	for _, a := range actions {
		f.actions[text][a] = true
	}
}

// reasons writes the findings out; selected is how many actions the statement selects.
func (f *findings) reasons(selected int) []string {
	var reasons []string
	for _, text := range f.order {
		actions := f.actions[text]
		all := len(actions) == selected || len(actions) == 0
		later := actions[unknownTool]
		delete(actions, unknownTool)
		names := actionNames(slices.Sorted(maps.Keys(actions)), later)
		switch {
		case strings.Contains(text, actionMark):
			text = strings.ReplaceAll(text, actionMark, names)
		case !all:
			text += fmt.Sprintf(" (for %s)", names)
		}
		reasons = append(reasons, text)
	}
	return reasons
}

// actionNames names the first action in full and a few more of them, and last any tool that there is not yet.
func actionNames(ids []string, later bool) string {
	if len(ids) == 0 {
		return actionUID(unknownTool).String() + " (any tool that is added later)"
	}
	name := actionUID(ids[0]).String()
	if len(ids) > 1 {
		name += fmt.Sprintf(" and %d more (%s)", len(ids)-1, listed(ids[1:], 5))
	}
	if later {
		name += " and any tool that is added later"
	}
	return name
}

// bounded keeps reasons within what a status may hold.
func bounded(reasons []string) []string {
	if len(reasons) > maxReasons {
		more := fmt.Sprintf("and %d more reasons", len(reasons)-maxReasons+1)
		reasons = append(slices.Clip(reasons[:maxReasons-1]), more)
	}
	for i, r := range reasons {
		reasons[i] = clip(r, maxReason)
	}
	return reasons
}

// unique drops what has come before.
func unique(texts []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(texts, func(t string) bool {
		defer func() { seen[t] = true }()
		return seen[t]
	})
}

// listed is the first n names, and how many there are besides.
func listed(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}
