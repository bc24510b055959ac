package stream

import "time"

// Impatient is a connection that asks for what was refused again, and logs it again, after d.
func (c Connection) Impatient(d time.Duration) Connection {
	c.pause = d
	return c
}
