package gateway

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// searchName is AgentCore's name of the tool that finds tools.
const searchName = "x_amz_bedrock_agentcore_search"

const (
	maxFound = 10      // tools in an answer
	maxQuery = 4 << 10 // bytes
)

// searchTool is listed for everybody: what it finds is what its caller could call.
var searchTool = &mcp.Tool{
	Name:        searchName,
	Description: "Finds the tools that fit a description of what is to be done. It returns at most 10 tools, the best first, with their schemas.",
	InputSchema: json.RawMessage(`{"type":"object","properties":{"query":{"type":"string","description":"What is to be done, in a few words"}},` +
		`"required":["query"],"additionalProperties":false}`),
}

// search answers a call of the tool that finds tools. It decides nothing, and is no decision.
func (s *Service) search(ctx context.Context, a *asking, arguments json.RawMessage) (mcp.Result, error) {
	var asked struct {
		Query string `json:"query"`
	}
	if err := json.Unmarshal(arguments, &asked); err != nil || asked.Query == "" || len(asked.Query) > maxQuery {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid arguments for tool " + searchName + ": query has to be a text of 1 to 4096 bytes"}
	}
	permitted, err := s.permitted(ctx, a, "")
	if err != nil {
		s.noDecision(ctx, a, err)
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: internalError}
	}
	found := struct {
		Tools []*mcp.Tool `json:"tools"`
	}{a.front.index().best(asked.Query, permitted)}
	text, err := json.Marshal(found)
	if err != nil { // a list of tools is encoded by tools/list too
		return nil, err
	}
	return &callResult{CallToolResult: &mcp.CallToolResult{
		Content: []mcp.Content{&mcp.TextContent{Text: string(text)}}, StructuredContent: json.RawMessage(text),
	}}, nil
}

// searchIndex ranks tools by the words of their names and descriptions: BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance
// Framework", equation 3.15, with their k1 and b), a word of the name counting three times.
type searchIndex struct {
	words map[*tool]map[string]int
	sizes map[*tool]int
	with  map[string]int // :: word → tools that have it
	size  float64        // words of a tool, on average
}

const (
	bm25K1     = 1.2
	bm25B      = 0.75
	nameWeight = 3
)

func newSearchIndex(tools []*tool) *searchIndex {
	x := &searchIndex{words: make(map[*tool]map[string]int, len(tools)), sizes: make(map[*tool]int, len(tools)), with: map[string]int{}}
	for _, t := range tools {
		words := map[string]int{}
		for _, w := range wordsOf(t.id) {
			words[w] += nameWeight
		}
		for _, w := range wordsOf(t.listed.Description) {
			words[w]++
		}
		for w, n := range words {
			x.with[w]++
			x.sizes[t] += n
		}
		x.words[t] = words
		x.size += float64(x.sizes[t]) / float64(len(tools))
	}
	return x
}

// best are the tools among those given that have words of the query, the best first, and by name where they are equal.
func (x *searchIndex) best(query string, among []*tool) []*mcp.Tool {
	words := wordsOf(query)
	slices.Sort(words)
	words = slices.Compact(words)
	type ranked struct {
		tool  *tool
		score float64
	}
	var found []ranked
	for _, t := range among {
		if t.lacking != "" {
			continue
		}
		if score := x.score(words, t); score > 0 {
			found = append(found, ranked{t, score})
		}
	}
	slices.SortStableFunc(found, func(a, b ranked) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return strings.Compare(a.tool.id, b.tool.id)
	})
	out := make([]*mcp.Tool, 0, min(len(found), maxFound))
	for _, f := range found[:min(len(found), maxFound)] {
		out = append(out, f.tool.listed)
	}
	return out
}

func (x *searchIndex) score(words []string, t *tool) float64 {
	score, n := 0.0, float64(len(x.words))
	for _, w := range words {
		count := float64(x.words[t][w])
		if count == 0 {
			continue
		}
		with := float64(x.with[w])
		rare := math.Log(1 + (n-with+0.5)/(with+0.5))
		score += rare * count * (bm25K1 + 1) / (count + bm25K1*(1-bm25B+bm25B*float64(x.sizes[t])/x.size))
	}
	return score
}

// wordsOf are the words of a text in lower case, those within camelCase and snake_case names too. A plural s is cut off.
func wordsOf(text string) []string {
	var words []string
	var word []rune
	end := func() {
		if w := strings.ToLower(string(word)); w != "" {
			if len(w) > 3 && !strings.HasSuffix(w, "ss") {
				w = strings.TrimSuffix(w, "s")
			}
			words = append(words, w)
		}
		word = word[:0]
	}
	lower := false
	for _, r := range text {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			end()
			lower = false
			continue
		}
		if unicode.IsUpper(r) && lower {
			end()
		}
		word, lower = append(word, r), !unicode.IsUpper(r)
	}
	end()
	return words
}
