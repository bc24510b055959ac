package decisionlog

import "golang.org/x/sys/unix"

// machineBoot tells one start of the machine from another; empty when the machine does not say.
func machineBoot() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
