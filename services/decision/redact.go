package decision

import (
	"encoding/json"
	"maps"
	"strings"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// withheld stands in place of texts of the evaluator, which may quote what is redacted.
const withheld = "withheld, since the engine redacts its records"

// redact removes from a record what its settings say, before it leaves the node, and notes what went. What was decided it does
// not touch; a record from which something went cannot be decided again, and has no digest, from which short values could be guessed.
func redact(d *decisionv1.DecisionDetail) {
	paths := d.GetSettings().GetRedactedPaths().GetPaths()
	if len(paths) == 0 {
		return
	}
	context := readContextBack(d)
	tags := maps.Clone(d.GetPrincipal().GetTags()) // the message is the caller's
	for _, path := range paths {
		if names := pointer(path); names[0] == "context" && remove(context, names[1:]) || names[0] == "principal" && removeTag(tags, names[2:]) {
			d.RedactedPaths = append(d.RedactedPaths, path)
		}
	}
	if len(d.GetRedactedPaths()) > 0 {
		d.Replayable, d.RequestDigest = false, nil
		d.Principal = &decisionv1.Principal{Type: d.GetPrincipal().GetType(), Id: d.GetPrincipal().GetId(), Tags: tags}
		writeContext(d, context)
	}
	for _, e := range d.GetErrors() {
		e.Message = withheld
	}
}

// readContextBack is the context as JSON values; nil when there is none. It was written by this node; should it ever not be JSON,
// all of it goes.
func readContextBack(d *decisionv1.DecisionDetail) map[string]any {
	if d.GetContextJson() == "" {
		return nil
	}
	var context map[string]any
	decoder := json.NewDecoder(strings.NewReader(d.GetContextJson()))
	decoder.UseNumber() // 64-bit integers stay what they are
	if err := decoder.Decode(&context); err != nil {
		d.ContextJson, d.Replayable = "", false
		return nil
	}
	return context
}

func writeContext(d *decisionv1.DecisionDetail, context map[string]any) {
	d.ContextJson = ""
	if context == nil {
		return
	}
	if text, err := json.Marshal(context); err == nil {
		d.ContextJson = string(text)
	}
}

// pointer is the names of a JSON Pointer (RFC 6901). Settings hold only such as lead below /context or /principal/tags.
func pointer(path string) []string {
	names := strings.Split(path[1:], "/")
	for i, name := range names {
		names[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return names
}

// remove takes what names lead to out of an object, and reports whether there was something. Sets have no order, so names that
// lead into one take it away whole.
func remove(object map[string]any, names []string) bool {
	next, ok := object[names[0]]
	if !ok {
		return false
	}
	inner, isObject := next.(map[string]any)
	_, isSet := next.([]any)
	switch {
	case len(names) == 1 || isSet:
		delete(object, names[0])
		return true
	case isObject:
		return remove(inner, names[1:])
	default:
		return false
	}
}

// removeTag does the same with tags, in which there is nothing.
func removeTag(tags map[string]string, names []string) bool {
	_, ok := tags[names[0]]
	if !ok || len(names) > 1 {
		return false
	}
	delete(tags, names[0])
	return true
}
