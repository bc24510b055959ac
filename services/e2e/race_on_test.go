//go:build race

package e2e

// buildFlags: the programs have the race detector in them when the tests have.
var buildFlags = []string{"-race"}
