package gateway

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func described(id, description string) *tool {
	return &tool{id: id, listed: &mcp.Tool{Name: id, Description: description}}
}

func TestWordsOf(t *testing.T) {
	for text, want := range map[string][]string{
		"RefundTarget___process_refund": {"refund", "target", "process", "refund"}, "Orders, orders!": {"order", "order"},
		"getHTTPStatus2": {"get", "httpstatus2"}, "": nil, "straße über": {"straße", "über"}, "class": {"class"}, "bus": {"bus"},
	} {
		if diff := cmp.Diff(want, wordsOf(text)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// What the caller must not know of does not change what is found, nor the order.
func TestHiddenToolsDoNotRank(t *testing.T) {
	visible := []*tool{described("T___one", "alpha"), described("T___two", "beta"), described("T___three", "alpha gamma delta")}
	all := visible
	for i := range 30 {
		all = append(slices.Clip(all), described(fmt.Sprintf("T___hidden%d", i), "beta"))
	}
	names := func(tools []*mcp.Tool) (out []string) {
		for _, t := range tools {
			out = append(out, t.Name)
		}
		return out
	}
	for _, query := range []string{"alpha beta", "beta", "gamma", "hidden", "alpha beta delta one two three"} {
		want := names(newSearchIndex(visible).best(query, visible))
		if diff := cmp.Diff(want, names(newSearchIndex(all).best(query, visible))); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	if got := names(newSearchIndex(visible).best("delta or one", visible)); len(got) != 2 || got[0] != "T___one" {
		t.Errorf("found %q", got)
	}
}
