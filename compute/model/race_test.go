//go:build race

package model

// raced tells that the race detector is on, under which sync.Pool drops what it
// is given at random: allocations cannot be counted.
const raced = true
