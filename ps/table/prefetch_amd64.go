package table

import "unsafe"

// prefetch asks for the first lines cache lines, at least one, at an address,
// which need not be valid.
//
//go:noescape
func prefetch(at unsafe.Pointer, lines int)
