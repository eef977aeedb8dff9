//go:build race

package dataset

// raceEnabled is true when the race detector, which allocates, is on.
const raceEnabled = true
