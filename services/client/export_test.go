package client

import "time"

// LeaveOut makes c leave nodes that fail out for so long.
func (c *Client) LeaveOut(d time.Duration) {
	c.nodes.pause = func(int) time.Duration { return d }
}
