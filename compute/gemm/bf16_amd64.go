package gemm

import (
	"math"
	"sync"
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/fathom-train/fathom/compute/kernel"
)

// hasBF16 tells whether the bfloat16 micro-kernel is in use.
func hasBF16() bool { return wide() && fastBF16 && provenBF16() }

// fastBF16 tells whether the instruction is faster than the two float32 ones
// whose work it does. Intel's take four times as long (Sapphire Rapids: one in two
// cycles, against two in one): see docs/decisions/0040-bf16-on-intel.md.
var fastBF16 = !intel()

// intel tells whether Intel made this processor.
func intel() bool

// provenBF16 tells whether this processor has the instructions, and whether
// they do what the definition says. A processor that differed would train
// another model: see docs/decisions/0006-bf16.md.
var provenBF16 = sync.OnceValue(func() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512VL && x.HasAVX512BW && x.HasAVX512BF16 && x.HasBMI2 && probeBF16()
})

// probePairs makes probeBF16 take well under a millisecond.
const probePairs = 24

// probeBF16 compares a tile of chains over a wide range of exponents, with the
// conversions before it, with the definition.
func probeBF16() bool {
	s := scratchesBF16.Get().(*scratchBF16)
	defer scratchesBF16.Put(s)
	var a [bfM * 2 * probePairs]float32
	var b [2 * probePairs * bfHalf]float32
	state := uint64(0x9e3779b97f4a7c15)
	next := func(lo, hi uint64) float32 {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		return math.Float32frombits(uint32(state>>32)&0x807fffff | uint32(lo+state>>8%(hi-lo))<<23)
	}
	// Each row and column has its range: products of flushed operands, ones that
	// round and cancel at any size, and ones that overflow.
	for i := range a {
		lo := uint64(66 + 9*(i/(2*probePairs)))
		a[i] = next(lo, lo+12)
	}
	for i := range b {
		lo := uint64(66 + 8*(i%bfHalf))
		b[i] = next(lo, lo+12)
	}
	var got [bfM * bfHalf]float32
	row, step := packA(s, operand{data: a[:], row: 2 * probePairs, col: 1}, bfM, 2*probePairs)
	packB(s, operand{data: b[:], row: bfHalf, col: 1}, bfHalf, 2*probePairs)
	blockBF16(s, bfM, bfHalf, probePairs, row, step, got[:], bfHalf, false)
	for i, v := range got {
		acc := float32(0)
		for p := range 2 * probePairs {
			acc = kernel.FMA(RoundBF16(a[i/bfHalf*2*probePairs+p]), RoundBF16(b[p*bfHalf+i%bfHalf]), acc)
		}
		if math.Float32bits(acc) != math.Float32bits(v) {
			return false
		}
	}
	return true
}

// transposePairs sets dst[p*width+r] to pair p of row r, for eight rows, of
// which the first few exist, and a multiple of four pairs.
func transposePairs(dst []uint32, width int, src []uint32, rows, pairs int) {
	_ = dst[(pairs-1)*width+7]
	// A pair is moved like a float32.
	transposeVector((*float32)(unsafe.Pointer(&dst[0])), width, (*float32)(unsafe.Pointer(&src[0])), bfRow, rows, pairs)
}

// tileBF16x32 sets the [bfM, 32] tile c to the chains over the pairs, from 0 or,
// with load, from c. Pair p of row r of A is at a[r*row+p*step], that of column
// j of B at b[p*32+j].
//
//go:noescape
func tileBF16x32(pairs int, a *uint32, row, step int, b *uint32, c *float32, ldc int, load bool)

// tileBF16x16 is tileBF16x32 for 16 columns.
//
//go:noescape
func tileBF16x16(pairs int, a *uint32, row, step int, b *uint32, c *float32, ldc int, load bool)

// packRowVector writes the pairs of k elements, and zeros up to a multiple of 16
// pairs.
//
//go:noescape
func packRowVector(dst *uint32, src *float32, k int)

// packPairsVector sets dst[p*width+r] to the pair of src[2*p*ld+r] and
// src[(2*p+1)*ld+r], for the r that mask has a bit of; they are the lowest.
//
//go:noescape
func packPairsVector(dst *uint32, width int, src *float32, ld, pairs int, mask uint32)

// roundVector is roundRow for n elements, a positive multiple of 8, in AVX2
// instructions.
//
//go:noescape
func roundVector(dst, src *float32, n int)
