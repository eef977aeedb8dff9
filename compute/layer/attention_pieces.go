package layer

import (
	"sync"
	"sync/atomic"

	"github.com/fathom-train/fathom/compute/gemm"
)

// pieceBytes is about how much Forward and Backward take through all their
// products at a time: what one of them leaves is still in a near cache when the
// next one wants it.
const pieceBytes = 256 << 10

// PieceSize is the number of samples that go through the products at a time, on
// each goroutine.
func (a *SelfAttention) PieceSize() int {
	return max(1, pieceBytes/4/(a.Fields*(a.In+4*a.Out+a.Heads*a.Fields)))
}

// inPieces takes all samples forward, or, with dp, backward, some at a time, on
// as many goroutines as a product may have.
func (a *SelfAttention) inPieces(p, dp [][]float32, dx, dy []float32) {
	size := a.PieceSize()
	workers := min(gemm.Threads(), (a.n+size-1)/size)
	for len(a.scratch) < workers {
		a.scratch = append(a.scratch, attentionScratch{})
	}
	if workers > 1 {
		a.onWorkers(p, dp, dx, dy, size, workers)
		return
	}
	for lo := 0; lo < a.n; lo += size {
		hi := min(lo+size, a.n)
		if dp == nil {
			a.forward(p, lo, hi, &a.scratch[0])
		} else {
			a.backward(p, dp, dx, dy, lo, hi, &a.scratch[0], nil)
		}
	}
}

// onWorkers is inPieces with several goroutines. Pieces begin in order, and
// each adds to the gradients of the tensors when the one before has ended, so
// the sums do not depend on the goroutines.
func (a *SelfAttention) onWorkers(p, dp [][]float32, dx, dy []float32, size, workers int) {
	pieces := (a.n + size - 1) / size
	ended := make([]chan struct{}, pieces+1)
	for i := range ended {
		ended[i] = make(chan struct{})
	}
	close(ended[0])
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < pieces; i = int(next.Add(1)) - 1 {
				lo, hi := i*size, min(i*size+size, a.n)
				if dp == nil {
					a.forward(p, lo, hi, &a.scratch[w])
				} else {
					a.backward(p, dp, dx, dy, lo, hi, &a.scratch[w], ended[i])
				}
				close(ended[i+1])
			}
		})
	}
	wg.Wait()
}
