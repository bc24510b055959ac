package decision_test

import (
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/policy"
)

// What a pointer names goes with all that is in it; what it does not find stays, and the record says which pointers found something.
func TestRedactedPaths(t *testing.T) {
	for path, c := range map[string]struct {
		gone  []string // texts that are not in the record
		stays []string
		finds bool
	}{
		"/context/input":                      {gone: []string{"a-note", "amount"}, stays: []string{"system"}, finds: true},
		"/context/input/note":                 {gone: []string{"a-note"}, stays: []string{"amount"}, finds: true},
		"/context/input/note/deeper":          {stays: []string{"a-note"}},
		"/context/input/list":                 {gone: []string{"in-a-set"}, stays: []string{"a-note"}, finds: true},
		"/context/input/list/0":               {gone: []string{"in-a-set"}, stays: []string{"a-note"}, finds: true},
		"/context/input/none":                 {stays: []string{"a-note"}},
		"/principal/tags/email":               {gone: []string{"a@example.com"}, stays: []string{"agent"}, finds: true},
		"/principal/tags/https:~1~1x.org~1~0": {gone: []string{"a-claim"}, stays: []string{"agent"}, finds: true},
	} {
		t.Run(path, func(t *testing.T) {
			s := newSite(t)
			s.do(account, policy.SetEngineSettings{ID: engineID, Settings: policy.Settings{RedactedPaths: &[]string{path}}})
			s.node.Publish(s.state, []string{account})
			req := request(t, `"amount":500,"note":"a-note","list":["in-a-set"]`)
			req.Principal.Tags["https://x.org/~"] = "a-claim"
			if _, err := s.node.Authorize(asCaller(t), req); err != nil {
				t.Fatal(err)
			}
			record := s.journal.last(t)
			if found := len(record.GetRedactedPaths()) == 1; found != c.finds || record.GetReplayable() == c.finds || (len(record.GetRequestDigest()) == 0) != c.finds {
				t.Errorf("recorded %v", record)
			}
			record.Settings = nil
			for _, text := range c.gone {
				if strings.Contains(record.String(), text) {
					t.Errorf("%s is in %v", text, record)
				}
			}
			for _, text := range c.stays {
				if !strings.Contains(record.String(), text) {
					t.Errorf("%s is not in %v", text, record)
				}
			}
		})
	}
}
