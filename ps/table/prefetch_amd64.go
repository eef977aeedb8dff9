package table

import "unsafe"

// prefetch asks for the first lines cache lines at each of the first n
// addresses, which need not be valid.
//
//go:noescape
func prefetch(at *[group]unsafe.Pointer, n, lines int)

// prefetchOne asks for the cache line at an address.
//
//go:noescape
func prefetchOne(at unsafe.Pointer)
