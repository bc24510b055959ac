package snapshot_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/snapshot"
)

// Another cedar-go may answer otherwise, so that records have to name another evaluator.
func TestEvaluatorVersionNamesCedar(t *testing.T) {
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`github.com/cedar-policy/cedar-go v(\S+)`).FindStringSubmatch(string(module))
	if len(required) != 2 {
		t.Fatal("go.mod requires no cedar-go")
	}
	if _, cedar, _ := strings.Cut(snapshot.EvaluatorVersion, "/cedar-go-"); cedar != required[1] {
		t.Errorf("the evaluator is %s, and go.mod requires cedar-go %s", snapshot.EvaluatorVersion, required[1])
	}
}
