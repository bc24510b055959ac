package follow

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot counts the time in which the machine is suspended, which Go's monotonic clock does not.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Duration(time.Now().UnixNano()) // a kernel older than 2.6.39
	}
	return time.Duration(ts.Nano())
}
