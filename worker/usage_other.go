//go:build !unix

package worker

// cpuSeconds is not known on this system.
func cpuSeconds() float64 { return 0 }
