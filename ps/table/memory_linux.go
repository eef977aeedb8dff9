package table

import "golang.org/x/sys/unix"

const canMap = true

func mapMemory(n int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	if n >= hugePage {
		// Random access to rows is bound by address translation without them. Advice only: a kernel without huge pages serves small ones.
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	}
	return mem, nil
}

func unmapMemory(mem []byte) {
	if err := unix.Munmap(mem); err != nil {
		panic("ps/table: BUG: unmap rows: " + err.Error())
	}
}
