//go:build !linux

package main

func portHolder(int) (int, string) { return 0, "" }
