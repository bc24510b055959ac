//go:build !linux

package dev

import "syscall"

// dieWithHolder does nothing where the kernel cannot: there a service outlives a holder that is itself killed.
func dieWithHolder(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }
