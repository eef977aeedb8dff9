//go:build !unix

package main

import "syscall"

// This system cannot stop a process: signalling it fails.
const (
	sigStop     = syscall.Signal(-1)
	sigContinue = syscall.Signal(-1)
)
