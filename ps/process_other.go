//go:build !unix

package ps

// lockDir does nothing here: the log's own lock still keeps a second process
// from using the directory, if less politely.
func lockDir(string) (unlock func() error, err error) { return func() error { return nil }, nil }

// cpuSeconds is not known here.
func cpuSeconds() float64 { return 0 }
