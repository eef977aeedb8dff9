package dataset

// readAhead starts decoding the window after the one of position pos, once a
// reader is past the middle of its own. It does nothing when everything fits
// the cache (then everything is there already), or when two windows do not fit
// (then they would push each other out).
func (p *Split) readAhead(order *plan, pos int64) {
	total := p.set.bytes()
	if total <= p.set.cache.capacity {
		return
	}
	w := order.windowOf(pos)
	c := order.enter(w)
	if w+2 >= len(order.window) || pos-c.from < (c.to-c.from)/2 {
		return
	}
	if 2*p.windowBytes() > p.set.cache.capacity {
		return
	}
	id := windowID{order, w + 1}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ahead == id || p.aheadActive || p.set.background.Err() != nil {
		return
	}
	p.ahead, p.aheadActive = id, true
	p.set.prefetching.Add(1)
	go p.decodeWindow(id)
}

// decodeWindow brings the units of a window into the cache. An error is not
// reported here: the reader that needs the unit will meet it.
func (p *Split) decodeWindow(id windowID) {
	defer p.set.prefetching.Done()
	for _, u := range id.plan.units[id.plan.window[id.window]:id.plan.window[id.window+1]] {
		if _, err := p.set.cache.get(p.set.background, p.units[u]); err != nil {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.aheadActive = false
}

// windowBytes estimates the memory of one window's blocks.
func (p *Split) windowBytes() int64 {
	rows := max(p.Rows(), 1)
	return min(p.bytes, int64(float64(p.bytes)/float64(rows)*float64(p.set.windowRows)))
}

// bytes returns the memory that all blocks would take.
func (s *Set) bytes() (n int64) {
	for _, p := range s.splits {
		n += p.bytes
	}
	return n
}

// warnSmallCache tells when reading an epoch will decode blocks over and over.
func (s *Set) warnSmallCache() {
	p := s.splits["train"]
	if need := p.windowBytes(); need > s.cache.capacity {
		s.log.Warn("one shuffle window does not fit the cache: its blocks are decoded again for every batch",
			"window_bytes", need, "cache_bytes", s.cache.capacity,
			"remedy", "raise data.cache_bytes or lower data.shuffle_window_rows (the latter changes the order of samples)")
	}
}
