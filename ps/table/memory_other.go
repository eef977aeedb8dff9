//go:build !linux

package table

// canMap is false where rows stay on the Go heap.
const canMap = false

func mapMemory(int) ([]byte, error) { panic("ps/table: BUG: no mapped memory on this system") }

func unmapMemory([]byte) {}
