// Command audit runs the audit service.
package main

import (
	"context"
	"os"

	"github.com/verdict-io/verdict/services/audit"
	"github.com/verdict-io/verdict/services/internal/process"
)

func main() {
	process.Main(func(ctx context.Context) error { return audit.Main(ctx, os.Args[1:], os.Environ()) })
}
