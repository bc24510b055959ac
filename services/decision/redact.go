package decision

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// withheld stands in place of texts of the evaluator, which may quote what is redacted.
const withheld = "withheld, since the engine redacts its records"

// redact removes from a record what its settings say, before it leaves the node, and notes what went. What was decided it does
// not touch; a record from which something went cannot be decided again.
func redact(d *decisionv1.DecisionDetail) {
	paths := d.GetSettings().GetRedactedPaths().GetPaths()
	if len(paths) == 0 {
		return
	}
	var context map[string]any
	if d.GetContextJson() != "" {
		decoder := json.NewDecoder(strings.NewReader(d.GetContextJson()))
		decoder.UseNumber() // 64-bit integers stay what they are
		if err := decoder.Decode(&context); err != nil {
			context, d.ContextJson, d.Replayable = nil, "", false // it was made here; should it ever not be JSON, all of it goes
		}
	}
	tags := make(map[string]any, len(d.GetPrincipal().GetTags()))
	for name, value := range d.GetPrincipal().GetTags() {
		tags[name] = value
	}
	document := map[string]any{"context": context, "principal": map[string]any{"tags": tags}}
	for _, path := range paths {
		if remove(document, pointer(path)) {
			d.RedactedPaths = append(d.RedactedPaths, path)
		}
	}
	if len(d.GetRedactedPaths()) > 0 {
		d.Replayable, d.RequestDigest = false, nil // from a digest of all the rest short values could be guessed
		putBack(d, document)
	}
	for _, e := range d.GetErrors() {
		e.Message = withheld
	}
}

// pointer is the names of a JSON Pointer (RFC 6901). Settings hold none that is malformed.
func pointer(path string) []string {
	if path == "" {
		return nil
	}
	names := strings.Split(path[1:], "/")
	for i, name := range names {
		names[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return names
}

// remove takes what names lead to out of an object, and reports whether there was something. Sets have no order, so names that
// lead into one take it away whole.
func remove(object map[string]any, names []string) bool {
	if len(names) == 0 {
		clear(object)
		return true
	}
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

// putBack writes what is left into the record. The principal is the caller's message, so it is copied.
func putBack(d *decisionv1.DecisionDetail, document map[string]any) {
	d.ContextJson = ""
	if context, ok := document["context"].(map[string]any); ok && context != nil {
		if text, err := json.Marshal(context); err == nil {
			d.ContextJson = string(text)
		}
	}
	left := map[string]any{}
	if principal, ok := document["principal"].(map[string]any); ok {
		left, _ = principal["tags"].(map[string]any)
	}
	tags := maps.Clone(d.GetPrincipal().GetTags())
	maps.DeleteFunc(tags, func(name, _ string) bool { _, kept := left[name]; return !kept })
	d.Principal = &decisionv1.Principal{Type: d.GetPrincipal().GetType(), Id: d.GetPrincipal().GetId(), Tags: tags}
	d.RedactedPaths = slices.Clip(d.GetRedactedPaths())
}
