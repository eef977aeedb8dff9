//go:build !amd64

package kernel

func hasPath(string) bool { return false }
