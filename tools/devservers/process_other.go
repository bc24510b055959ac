//go:build !linux

package main

import "syscall"

// Only Linux tells a child that its parent was killed, and gives orphans to an ancestor. Elsewhere the supervisor still
// stops everything when the front goes, and the command's process group ends with the command; but what has left that
// group stays, and a kill -9 of the supervisor leaves the servers to be ended by hand.

func dieWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }

func adoptOrphans() {}

func descendants(int) []relative { return nil }
