package process

import "runtime/debug"

// Build is the version of the program, as the module system knows it; "" when it does not.
func Build() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}
