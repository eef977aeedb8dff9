package gemm

import (
	"testing"

	"golang.org/x/sys/cpu"
)

// A failure here means that bf16 mode runs at the speed of AVX2 on this
// processor, not that its results are wrong.
func TestTheInstructionPassesTheProbe(t *testing.T) {
	if !cpu.X86.HasAVX512BF16 {
		t.Skip("this machine has no bfloat16 instructions")
	}
	if !provenBF16() {
		t.Error("the bfloat16 instructions of this processor differ from the definition")
	}
}
