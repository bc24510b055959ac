// Package services holds no code, only the rules of who imports whom among the packages below it.
package services

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const repository = "github.com/verdict-io/verdict/"

// pkg is a package of this module, or one that it is built from.
type pkg struct {
	Name        string
	Imports     []string // of the product
	TestImports []string // of its tests as well
	Files       map[string]file
}

// file is a source file of the product.
type file struct {
	Imports []string
	Lines   int
}

// graph is packages by import path, those of this repository without its name: services/policy.
type graph map[string]pkg

// rule is a promise about the graph. It finds what breaks it, a line for each.
type rule struct {
	name, why string
	find      func(graph) []string
	broken    []graph // each breaks the rule at one place
}

var rules = []rule{
	{
		name: "areas",
		why:  "a service can be understood, tested and deployed alone, since none imports another; cmd puts them together",
		find: importsOutsideArea,
		broken: []graph{
			{"services/control": {Imports: []string{"services/audit"}}},
			{"services/control": {TestImports: []string{"services/decision"}}},
			{"services/audit/internal/store": {Imports: []string{"services/control/internal/eventlog"}}},
			{"services/policy": {Imports: []string{"services/internal/stream"}}},
			{"services/internal/rpc": {Imports: []string{"services/control"}}},
			{"services/unheard": {Imports: []string{"services/policy"}}},
			{"services/client": {Imports: []string{"services/decision"}}},
			{"services/client": {TestImports: []string{"services/control"}}},
		},
	},
	{
		name: "pure",
		why:  "policy and snapshot give the same answer for the same arguments, for ever and anywhere",
		find: impure,
		broken: []graph{
			{"services/policy": {Imports: []string{"os"}}},
			{"services/policy": {Imports: []string{"net/http"}}},
			{"services/snapshot": {Imports: []string{"context"}}},
			{"services/snapshot": {Imports: []string{"math/rand/v2"}}},
			{"services/policy": {Imports: []string{"google.golang.org/protobuf/proto"}}},
		},
	},
	{
		name:   "cedar",
		why:    "one place knows the engine, so that it can be replaced, and its traps are met once",
		find:   cedarElsewhere,
		broken: []graph{{"services/decision": {Imports: []string{"github.com/cedar-policy/cedar-go/types"}}}},
	},
	{
		name: "cedar x/exp",
		why:  "x/exp may change with every release of cedar-go: one file of a package meets it",
		find: experimentalElsewhere,
		broken: []graph{{"services/policy": {Files: map[string]file{
			"validate.go": {Imports: []string{"github.com/cedar-policy/cedar-go/x/exp/ast"}},
		}}}},
	},
	{
		name: "links",
		why:  "nodes and gateways stand where a database must not be reached, and binaries carry nothing that is for tests",
		find: linksForbidden,
		broken: []graph{
			{"services/cmd/decision": {Name: "main", Imports: []string{"a.org/b"}}, "a.org/b": {Imports: []string{"github.com/jackc/pgx/v5"}}},
			{"services/cmd/gateway": {Name: "main", Imports: []string{"github.com/ClickHouse/clickhouse-go/v2"}}},
			{"services/cmd/control": {Name: "main", Imports: []string{"github.com/ClickHouse/ch-go"}}},
			{"services/cmd/control": {Name: "main", Imports: []string{"github.com/nats-io/nats-server/v2/server"}}},
			{"services/cmd/verdict": {Name: "main", Imports: []string{"services/internal/testenv"}}},
			{"services/cmd/gateway": {Name: "main", Imports: []string{"services/internal/example"}}},
			{"services/cmd/audit": {Name: "main", Imports: []string{"services/audit"}}, "services/audit": {Imports: []string{"testing"}}},
		},
	},
	{
		name:   "test helpers",
		why:    "what is for tests is imported by tests",
		find:   testHelpersInProduct,
		broken: []graph{{"services/follow": {Imports: []string{"services/internal/testenv"}}}},
	},
	{
		name:   "mains",
		why:    "what is in a main cannot be tested in process: it belongs to the service",
		find:   longMains,
		broken: []graph{{"services/cmd/control": {Name: "main", Files: map[string]file{"main.go": {Lines: maxMain + 1}}}}},
	},
	{
		name: "names",
		why:  "a package is named after what it is for; a drawer for everything is where code goes to be forgotten",
		find: emptyNames,
		broken: []graph{
			{"services/internal/util": {Name: "util"}},
			{"services/audit/common/rows": {Name: "rows"}},
			{"services/pkg": {Name: "services"}},
		},
	},
}

const maxMain = 60

// areas says which folders of this repository may import which others; every one may import itself.
var areas = map[string][]string{
	"policy":   {},
	"snapshot": {"policy"},
	"internal": {"proto/gen", "policy", "snapshot"},
	"follow":   {"proto/gen", "policy", "client", "internal"},
	"client":   {"proto/gen", "internal"},
	"control":  forServices,
	"decision": forServices,
	"audit":    forServices,
	"gateway":  forServices,
	"cmd":      append([]string{"control", "decision", "audit", "gateway"}, forServices...),
	"e2e":      append([]string{"control", "decision", "audit", "gateway"}, forServices...),
}

// testAreas is what tests of an area may import beside that.
var testAreas = map[string][]string{
	"client":  {"policy", "decision"}, // it is tried against what it asks
	"gateway": {"decision"},           // likewise
}

var forServices = []string{"proto/gen", "policy", "snapshot", "follow", "client", "internal"}

const (
	cedar   = "github.com/cedar-policy/cedar-go"
	testenv = "services/internal/testenv"
)

var (
	pgx        = []string{"github.com/jackc/pgx"}
	clickhouse = []string{"github.com/ClickHouse", "github.com/ebitengine/purego"}
	forDev     = []string{"services/internal/example"}
	forTests   = []string{testenv, "testing", "net/http/httptest", "github.com/google/go-cmp"}
	natsServer = []string{"github.com/nats-io/nats-server"}
)

// forbidden is what a binary must not link, by its name; "" stands for every other one.
var forbidden = map[string][]string{
	"decision": slices.Concat(pgx, clickhouse, natsServer, forDev, forTests),
	"gateway":  slices.Concat(pgx, clickhouse, natsServer, forDev, forTests),
	"control":  slices.Concat(clickhouse, natsServer, forDev, forTests),
	"verdict":  forTests, // `verdict dev` runs NATS and the surroundings of its example in its own process
	"":         slices.Concat(natsServer, forDev, forTests),
}

func importsOutsideArea(g graph) []string {
	var found []string
	for p, from := range g.ours() {
		area := areaOf(p)
		allowed, known := areas[area]
		if !known {
			found = append(found, fmt.Sprintf("%s is in no area: say in services/rules_test.go what %s may import", p, area))
			continue
		}
		found = append(found, outside(p, area, from.Imports, allowed)...)
		// Whatever it tests, a test may use internal: testenv, and bytes of events.
		found = append(found, outside("a test of "+p, area, from.TestImports, slices.Concat([]string{"internal"}, testAreas[area], allowed))...)
	}
	return found
}

func outside(who, area string, imports, allowed []string) []string {
	var found []string
	for _, to := range imports {
		if toArea := areaOf(to); isOurs(to) && toArea != area && !slices.Contains(allowed, toArea) {
			found = append(found, fmt.Sprintf("%s imports %s; %s may import only %v", who, to, area, allowed))
		}
	}
	return found
}

// impureStd are packages of the standard library that reach for something that is not an argument.
var impureStd = []string{"context", "crypto/rand", "io/fs", "log", "math/rand", "net", "os", "runtime", "sync", "syscall", "testing", "unsafe"}

func impure(g graph) []string {
	allowed := []string{cedar, "github.com/benbjohnson/immutable", "services/policy"}
	var found []string
	for p, from := range g.ours() {
		if !isPure(p) {
			continue
		}
		for _, to := range from.Imports {
			std := !isOurs(to) && !strings.Contains(strings.Split(to, "/")[0], ".")
			pure := within(to, allowed)
			if std {
				pure = to == "net/netip" || to == "net/url" || !within(to, impureStd)
			}
			if !pure {
				found = append(found, p+" imports "+to)
			}
		}
	}
	return found
}

func cedarElsewhere(g graph) []string {
	var found []string
	for p, from := range g.ours() {
		for _, to := range from.Imports {
			if within(to, []string{cedar}) && !isPure(p) {
				found = append(found, p+" imports "+to)
			}
		}
	}
	return found
}

func experimentalElsewhere(g graph) []string {
	var found []string
	for p, from := range g.ours() {
		for name, f := range from.Files {
			for _, to := range f.Imports {
				if within(to, []string{cedar + "/x/exp"}) && name != "cedar_exp.go" {
					found = append(found, fmt.Sprintf("%s/%s imports %s: use it in cedar_exp.go", p, name, to))
				}
			}
		}
	}
	return found
}

func linksForbidden(g graph) []string {
	var found []string
	for p, from := range g.ours() {
		if from.Name != "main" {
			continue
		}
		never, named := forbidden[path.Base(p)]
		if !named {
			never = forbidden[""]
		}
		for to, importer := range g.links(p) {
			if within(to, never) {
				found = append(found, fmt.Sprintf("%s links %s, through %s", p, to, importer))
			}
		}
	}
	return found
}

func testHelpersInProduct(g graph) []string {
	var found []string
	for p, from := range g.ours() {
		if p != testenv && slices.Contains(from.Imports, testenv) {
			found = append(found, p+" imports "+testenv)
		}
	}
	return found
}

func longMains(g graph) []string {
	var found []string
	for p, from := range g.ours() {
		if f := from.Files["main.go"]; from.Name == "main" && f.Lines > maxMain {
			found = append(found, fmt.Sprintf("%s/main.go has %d lines, %d is the most", p, f.Lines, maxMain))
		}
	}
	return found
}

func emptyNames(g graph) []string {
	empty := []string{"base", "common", "helper", "helpers", "lib", "misc", "pkg", "shared", "util", "utils"}
	var found []string
	for p, from := range g.ours() {
		for _, name := range append(strings.Split(p, "/"), from.Name) {
			if slices.Contains(empty, name) {
				found = append(found, p+": the name says nothing")
				break
			}
		}
	}
	return found
}

// ours are the packages of this module.
func (g graph) ours() graph {
	ours := maps.Clone(g)
	maps.DeleteFunc(ours, func(p string, _ pkg) bool { return !strings.HasPrefix(p, "services/") })
	return ours
}

// links are the packages that are built into p, each with one that imports it.
func (g graph) links(p string) map[string]string {
	found := map[string]string{}
	next := []string{p}
	for len(next) > 0 {
		from := next[0]
		next = next[1:]
		for _, to := range g[from].Imports {
			if found[to] == "" {
				found[to] = from
				next = append(next, to)
			}
		}
	}
	return found
}

// areaOf is the folder below services that p is in, or proto/gen.
func areaOf(p string) string {
	if within(p, []string{"proto/gen"}) {
		return "proto/gen"
	}
	area, _, _ := strings.Cut(strings.TrimPrefix(p, "services/"), "/")
	return area
}

func isOurs(p string) bool { return within(p, []string{"services", "proto"}) }

func isPure(p string) bool { return within(p, []string{"services/policy", "services/snapshot"}) }

// within says whether p is one of the folders, or below one.
func within(p string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return p == f || strings.HasPrefix(p, f+"/") })
}

func TestRules(t *testing.T) {
	g := load(t)
	for _, r := range rules {
		for _, found := range slices.Sorted(slices.Values(r.find(g))) {
			t.Errorf("%s: %s (%s)", r.name, found, r.why)
		}
	}
}

func TestEveryRuleCanBeBroken(t *testing.T) {
	sound := graph{
		"services/policy":                    {Name: "policy", Imports: []string{"bytes", "net/netip", cedar, cedar + "/types", "github.com/benbjohnson/immutable"}},
		"services/snapshot":                  {Name: "snapshot", Imports: []string{"services/policy", cedar}, Files: map[string]file{"cedar_exp.go": {Imports: []string{cedar + "/x/exp/ast"}}}},
		"services/internal/stream":           {Name: "stream", Imports: []string{"os", "proto/gen/verdict/event/v1", "services/policy"}},
		"services/internal/testenv":          {Name: "testenv", Imports: []string{"testing", "github.com/nats-io/nats-server/v2/server"}},
		"services/control":                   {Name: "control", Imports: []string{"services/control/internal/eventlog", "services/policy"}, TestImports: []string{"services/internal/testenv"}},
		"services/client":                    {Name: "client", Imports: []string{"services/internal/trust"}, TestImports: []string{"services/decision", "services/policy"}},
		"services/cmd/control":               {Name: "main", Imports: []string{"services/control"}, Files: map[string]file{"main.go": {Lines: maxMain}}},
		"services/cmd/verdict":               {Name: "main", Imports: []string{"services/control", "github.com/nats-io/nats-server/v2/server"}},
		"services/control/internal/eventlog": {Name: "eventlog", Imports: []string{"github.com/jackc/pgx/v5"}},
	}
	for _, r := range rules {
		if found := r.find(sound); len(found) != 0 {
			t.Errorf("%s: found in a sound graph: %v", r.name, found)
		}
		for _, broken := range r.broken {
			if found := r.find(broken); len(found) != 1 {
				t.Errorf("%s: found %q, want one fault in %v", r.name, found, broken)
			}
		}
	}
}

// load asks the go command for the packages of this module and all that they import.
func load(t *testing.T) graph {
	t.Helper()
	watchFolders(t)
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "faults",
		"-json=ImportPath,Name,Dir,GoFiles,Imports,TestImports,XTestImports", "./...")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	g := graph{}
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var listed struct {
			ImportPath, Name, Dir                       string
			GoFiles, Imports, TestImports, XTestImports []string
		}
		if err := decoder.Decode(&listed); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		p := pkg{Name: listed.Name, Imports: short(listed.Imports), TestImports: short(append(listed.TestImports, listed.XTestImports...))}
		id := strings.TrimPrefix(listed.ImportPath, repository)
		if strings.HasPrefix(id, "services/") {
			p.Files = parse(t, listed.Dir, listed.GoFiles)
		}
		g[id] = p
	}
}

// watchFolders opens every folder, so that the go command, which notes what a test opens, takes no result from its cache
// after a file has changed that only `go list` reads.
func watchFolders(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(".", func(_ string, _ fs.DirEntry, err error) error { return err })
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t *testing.T, dir string, names []string) map[string]file {
	t.Helper()
	files := map[string]file{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		f := file{Lines: strings.Count(string(text), "\n")}
		for _, spec := range syntax.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			f.Imports = append(f.Imports, strings.TrimPrefix(to, repository))
		}
		files[name] = f
	}
	return files
}

func short(imports []string) []string {
	out := make([]string, 0, len(imports))
	for _, to := range imports {
		out = append(out, strings.TrimPrefix(to, repository))
	}
	return out
}
