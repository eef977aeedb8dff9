package fsm

// capture is an order for a view of one version.
type capture struct {
	version uint64
	views   chan *View // capacity 1; closed once delivered or impossible
}

// ViewAt delivers a view of exactly the named version: at once when the state
// stands there, else when the step that makes it has been applied; the steps
// behind it go on. The channel is closed without a view when the state is past
// that version, is replaced by a later one, or is closed. A view that was
// delivered must be released.
//
// There is one order at a time: a second one cancels the first. cancel withdraws
// the order; a view may have been delivered before.
func (s *State) ViewAt(version uint64) (views <-chan *View, cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropCapture()
	c := &capture{version: version, views: make(chan *View, 1)}
	s.capture = c
	s.serveCapture()
	return c.views, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.capture == c {
			s.dropCapture()
		}
	}
}

// dropCapture ends the order there is. The caller holds mu.
func (s *State) dropCapture() {
	if s.capture != nil {
		close(s.capture.views)
		s.capture = nil
	}
}

// serveCapture is called with mu held whenever the version has changed.
func (s *State) serveCapture() {
	c := s.capture
	if c == nil || s.model == nil || s.model.version < c.version {
		return
	}
	if s.model.version == c.version {
		c.views <- s.view()
	}
	s.dropCapture()
}
