// Command decision runs a decision node.
package main

import (
	"context"
	"os"

	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/internal/process"
)

func main() {
	process.Main(func(ctx context.Context) error { return decision.Main(ctx, os.Args[1:], os.Environ()) })
}
