// Command control runs the control service.
package main

import (
	"context"
	"os"

	"github.com/verdict-io/verdict/services/control"
	"github.com/verdict-io/verdict/services/internal/process"
)

func main() {
	process.Main(func(ctx context.Context) error { return control.Main(ctx, os.Args[1:], os.Environ()) })
}
