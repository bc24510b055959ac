package main

import (
	"context"
	"os"

	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/process"
)

// accessRules prints the rules that services have without --access-rules, to begin one's own with.
func accessRules(_ context.Context, args, environ []string) error {
	fs := process.NewFlags("access-rules", "prints the rules of who may do what, in Cedar, as the product has them; with --check says whether others are good")
	var file string
	fs.String(&file, "check", "", "", "`FILE` of rules to check instead")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	if file != "" {
		_, err := access.New(file)
		return err
	}
	_, err := os.Stdout.Write(access.Product())
	return err
}
