package gateway

import (
	"cmp"
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

// searchIndex knows the words of tools: of their names, which count three times, and of their descriptions.
type searchIndex struct {
	words map[*tool]map[string]int
	sizes map[*tool]int
}

func newSearchIndex(tools []*tool) *searchIndex {
	x := &searchIndex{words: make(map[*tool]map[string]int, len(tools)), sizes: make(map[*tool]int, len(tools))}
	for _, t := range tools {
		words := map[string]int{}
		for _, w := range wordsOf(t.id) {
			words[w] += nameWeight
		}
		for _, w := range wordsOf(t.listed.Description) {
			words[w]++
		}
		for _, n := range words {
			x.sizes[t] += n
		}
		x.words[t] = words
	}
	return x
}

// BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", equation 3.15), with the usual constants.
const (
	bm25K1     = 1.2
	bm25B      = 0.75
	nameWeight = 3
)

// best are the tools among those given that have words of the query, the best first, and by name where they are equal. How rare a word is
// counts among those tools alone: others, which the caller must not know of, change nothing.
func (x *searchIndex) best(query string, among []*tool) []*mcp.Tool {
	among = slices.DeleteFunc(slices.Clone(among), func(t *tool) bool { return t.lacking != "" })
	words := wordsOf(query)
	slices.Sort(words)
	scores := x.scores(slices.Compact(words), among)
	found := slices.DeleteFunc(among, func(t *tool) bool { return scores[t] == 0 })
	slices.SortFunc(found, func(a, b *tool) int { return cmp.Or(cmp.Compare(scores[b], scores[a]), strings.Compare(a.id, b.id)) })
	out := make([]*mcp.Tool, 0, min(len(found), maxFound))
	for _, t := range found[:min(len(found), maxFound)] {
		out = append(out, t.listed)
	}
	return out
}

// scores are how well tools fit words, each of which stands there once.
func (x *searchIndex) scores(words []string, among []*tool) map[*tool]float64 {
	size := 0.0
	for _, t := range among {
		size += float64(x.sizes[t]) / float64(len(among))
	}
	scores := map[*tool]float64{}
	for _, w := range words {
		with := 0.0
		for _, t := range among {
			if x.words[t][w] > 0 {
				with++
			}
		}
		rare := math.Log(1 + (float64(len(among))-with+0.5)/(with+0.5))
		for _, t := range among {
			count := float64(x.words[t][w])
			scores[t] += rare * count * (bm25K1 + 1) / (count + bm25K1*(1-bm25B+bm25B*float64(x.sizes[t])/size))
		}
	}
	return scores
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
