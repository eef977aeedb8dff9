package dataset

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// cache keeps decoded blocks, at most capacity bytes of them, and drops those
// that were not used for longest. One block is decoded by one goroutine at a
// time; others that want it wait.
type cache struct {
	capacity int64
	decode   func(context.Context, *unit) (*block, error)

	hits, misses, evictions atomic.Int64

	// mu guards what follows and every unit's entry.
	mu   sync.Mutex
	used int64
	// root is the head of the ring of cached units: root.next was used last.
	root entry
}

// entry is a unit's place in the cache.
type entry struct {
	unit       *unit
	prev, next *entry
	// block is nil when the unit is not cached.
	block *block
	// loading is not nil while someone decodes the unit; closed when done.
	loading chan struct{}
}

func newCache(capacity int64, decode func(context.Context, *unit) (*block, error)) *cache {
	c := &cache{capacity: capacity, decode: decode}
	c.root.prev, c.root.next = &c.root, &c.root
	return c
}

// peek returns the unit's block if it is cached.
func (c *cache) peek(u *unit) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.entry.block == nil {
		return nil
	}
	c.hits.Add(1)
	c.unlink(&u.entry)
	c.link(&u.entry)
	return u.entry.block
}

// get returns the unit's block, decoding it if need be.
func (c *cache) get(ctx context.Context, u *unit) (*block, error) {
	for {
		if b := c.peek(u); b != nil {
			return b, nil
		}
		c.mu.Lock()
		if u.entry.block != nil {
			c.mu.Unlock()
			continue
		}
		if wait := u.entry.loading; wait != nil {
			c.mu.Unlock()
			select {
			case <-wait:
				continue // cached now; or the other one failed, and we try ourselves
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		done := make(chan struct{})
		u.entry.loading = done
		c.mu.Unlock()
		return c.load(ctx, u, done)
	}
}

// load decodes a unit and caches it.
func (c *cache) load(ctx context.Context, u *unit, done chan struct{}) (b *block, err error) {
	defer func() {
		c.mu.Lock()
		u.entry.loading = nil
		if b != nil && err == nil {
			c.insert(u, b)
		}
		c.mu.Unlock()
		close(done)
	}()
	c.misses.Add(1)
	b, err = c.decode(ctx, u)
	if err == nil && b == nil {
		err = errors.New("worker/dataset: BUG: a unit was decoded to nothing")
	}
	return b, err
}

// offer caches a block only if it fits beside what is there.
func (c *cache) offer(u *unit, b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.entry.block == nil && c.used+b.bytes() <= c.capacity {
		c.insert(u, b)
	}
}

// insert links a block as the one used last and makes room for it. A block
// larger than the whole cache is kept alone: dropping it at once would decode
// it again for every read. mu is held.
func (c *cache) insert(u *unit, b *block) {
	size := b.bytes()
	for c.used+size > c.capacity && c.root.prev != &c.root {
		old := c.root.prev
		c.unlink(old)
		c.used -= old.block.bytes()
		old.block = nil
		c.evictions.Add(1)
	}
	u.entry.unit, u.entry.block = u, b
	c.used += size
	c.link(&u.entry)
}

func (c *cache) link(e *entry) {
	e.prev, e.next = &c.root, c.root.next
	e.prev.next, e.next.prev = e, e
}

func (c *cache) unlink(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

// drop empties the cache.
func (c *cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.root.prev != &c.root {
		old := c.root.prev
		c.unlink(old)
		old.block = nil
	}
	c.used = 0
}
