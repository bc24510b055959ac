package decisionlog

import (
	"os"
	"strings"
)

// machineBoot tells one start of the machine from another; empty when the machine does not say.
func machineBoot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
