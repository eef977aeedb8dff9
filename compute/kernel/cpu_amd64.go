package kernel

import "golang.org/x/sys/cpu"

func hasPath(path string) bool {
	avx2 := cpu.X86.HasAVX2 && cpu.X86.HasFMA
	switch path {
	case AVX2:
		return avx2
	case AVX512:
		return avx2 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL
	}
	return false
}
