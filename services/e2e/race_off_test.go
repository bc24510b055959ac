//go:build !race

package e2e

// buildFlags: the programs are as they are released when the tests are for measuring.
var buildFlags []string
