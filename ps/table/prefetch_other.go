//go:build !amd64

package table

import "unsafe"

// prefetch does nothing where there is no code for it: it only saves time.
func prefetch(*[group]unsafe.Pointer, int, int) {}

func prefetchOne(unsafe.Pointer) {}
