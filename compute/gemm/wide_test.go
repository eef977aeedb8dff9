package gemm

import (
	"math"
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"

	"github.com/fathom-train/fathom/compute/kernel"
)

// atEnd returns room for n elements right before memory that must not be touched.
func atEnd(t *testing.T, n int) []float32 {
	t.Helper()
	page := syscall.Getpagesize()
	size := (n*4 + page - 1) / page * page
	mem, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mprotect(mem[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&mem[0])), size/4)[size/4-n:]
}

// arena holds the operands of many products, each at the very end of its memory,
// and C between guard words.
type arena struct{ a, b, c []float32 }

func newArena(t *testing.T, m, n, k int) *arena {
	return &arena{atEnd(t, m*k), atEnd(t, k*n), atEnd(t, m*(n+1))}
}

// check compares one product on every path with the definition. C has a guard
// word after every row but the last, and the room before it is guarded too.
func (x *arena) check(t *testing.T, rng *rand.Rand, m, n, k int) {
	t.Helper()
	transA, transB, acc := rng.IntN(2) == 0, rng.IntN(2) == 0, rng.IntN(2) == 0
	lda, ldb := k, n
	if transA {
		lda = m
	}
	if transB {
		ldb = k
	}
	a, b := x.a[len(x.a)-m*k:], x.b[len(x.b)-k*n:]
	copy(a, matrix(rng, m, k, k))
	copy(b, matrix(rng, k, n, n))
	if rng.IntN(2) == 0 {
		spoil(rng, a, 3*k, awkward)
		spoil(rng, b, 3*k, awkward)
	}
	ldc := n + 1
	size := m*ldc - 1
	before := matrix(rng, m, n, ldc)[:size]
	want := append([]float32(nil), before...)
	reference(transA, transB, m, n, k, a, lda, b, ldb, want, ldc, acc)
	room := len(x.c) - size
	for _, path := range kernel.Paths() {
		restore, err := kernel.SetPath(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range room {
			x.c[i] = guard
		}
		c := x.c[room:]
		copy(c, before)
		Gemm(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, acc)
		restore()
		for i := range c {
			if math.Float32bits(c[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%s, m=%d n=%d k=%d transA=%v transB=%v accumulate=%v: element %d is %v, want %v", path, m, n, k, transA, transB, acc, i, c[i], want[i])
			}
		}
		for i := range room {
			if x.c[i] != guard {
				t.Fatalf("%s, m=%d n=%d k=%d: wrote %d elements before C", path, m, n, k, room-i)
			}
		}
	}
}

// All remainders of the tiles of all paths, and nothing outside of the operands is
// touched.
func TestGemmAtEveryRemainder(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 0))
	x := newArena(t, 30, 70, 10)
	for m := 1; m <= 30; m++ {
		for n := 1; n <= 70; n++ {
			x.check(t, rng, m, n, 1+rng.IntN(10))
		}
	}
}

// Products of more than one block, of strides that are powers of two, and of one
// column.
func TestGemmOfManyBlocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(32, 0))
	for _, s := range [][3]int{{70, 600, 30}, {20, 530, 1100}, {66, 40, 1030}, {16, 40, 1024}, {29, 150, 540}, {200, 1, 37}, {130, 1, 900}, {64, 1, 2}, {1, 90, 500}} {
		x := newArena(t, s[0], s[1], s[2])
		for range 6 {
			x.check(t, rng, s[0], s[1], s[2])
		}
	}
}
