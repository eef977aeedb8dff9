package frame

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// The sizes of the pool's buffers are powers of two between these.
const (
	sizeBitsMin = 8
	sizeBitsMax = 26 // MaxMessage
)

// Pool is what messages are received into and replies are made in. Unlike gRPC's
// own pool, which clears what it hands out and has nothing between 32 KiB and
// 1 MiB, it does not touch the memory: its buffers have arbitrary content.
var Pool mem.BufferPool = &pool{}

type pool struct {
	bySize [sizeBitsMax - sizeBitsMin + 1]sync.Pool // of *[]byte
}

// Get returns a buffer of n bytes.
func (p *pool) Get(n int) *[]byte {
	size := max(bits.Len(uint(max(n, 1)-1)), sizeBitsMin)
	if size > sizeBitsMax {
		b := make([]byte, n)
		return &b
	}
	if b, ok := p.bySize[size-sizeBitsMin].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, 1<<size)
	return &b
}

// Put takes a buffer back that came from Get; others are left to the collector.
func (p *pool) Put(b *[]byte) {
	size := bits.Len(uint(cap(*b))) - 1
	if size < sizeBitsMin || size > sizeBitsMax || cap(*b) != 1<<size {
		return
	}
	p.bySize[size-sizeBitsMin].Put(b)
}
