//go:build race

package trainer

// raceEnabled is true when the race detector, which allocates, is on.
const raceEnabled = true
