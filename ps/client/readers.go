package client

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fathom-train/fathom/proto"
)

const (
	// probeEvery is after how many pulls of a shard the replica that was asked
	// least recently is asked beside the best one, so that one that became fast is
	// found.
	probeEvery = 32
	// latencyShare is the weight of the newest answer in a replica's latency.
	latencyShare = 0.2
	// failedLatency counts for a replica that failed, so that others are preferred
	// until a probe finds it well.
	failedLatency = time.Second
	// A pull that takes hedgeTimes as long as usual, and hedgeMin at least, is
	// asked of another replica too. The first answer counts.
	hedgeTimes = 4
	hedgeMin   = 100 * time.Millisecond
)

// readers knows how fast the replicas of one shard answer pulls. Every replica
// that has the version gives the same bytes, so only speed matters.
type readers struct {
	mu    sync.Mutex
	pulls uint64
	nodes map[string]*reader
}

// reader is one replica.
type reader struct {
	latency time.Duration // weighted mean; 0: never asked
	busy    int           // pulls under way
	asked   uint64        // number of the last pull that asked it
}

func (s *readers) of(node string) *reader {
	r := s.nodes[node]
	if r == nil {
		if s.nodes == nil {
			s.nodes = map[string]*reader{}
		}
		r = &reader{}
		s.nodes[node] = r
	}
	return r
}

// choose returns the member expected to answer first, other than the one at
// place not, and how long to wait for it before asking another: not at all when
// this is a probe. Members never asked come first, from a random one on, so that
// workers spread over replicas.
func (s *readers) choose(members []Member, not int) (place int, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls++
	probe := s.pulls%probeEvery == 0 && not < 0
	place = -1
	var least float64
	best := failedLatency
	start := rand.IntN(len(members))
	for i := range members {
		m := (start + i) % len(members)
		if m == not {
			continue
		}
		r := s.of(members[m].Node)
		score := float64(r.latency) * float64(1+r.busy)
		if probe {
			score = float64(r.asked)
		}
		if place < 0 || score < least {
			place, least = m, score
		}
		if r.latency > 0 {
			best = min(best, r.latency)
		}
	}
	if place >= 0 {
		r := s.of(members[place].Node)
		r.asked = s.pulls
		r.busy++
	}
	if probe {
		return place, 0
	}
	return place, max(hedgeMin, hedgeTimes*best)
}

// answered notes how long a replica took. One that was overtaken took at least
// that long.
func (s *readers) answered(node string, took time.Duration, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of(node)
	r.busy--
	if failed {
		took = max(took, failedLatency)
	}
	if r.latency == 0 || failed {
		r.latency = took
	} else {
		r.latency += time.Duration(latencyShare * float64(took-r.latency))
	}
}

func (r *remote) readers(i int) *readers {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.reading[i]
	if s == nil {
		s = &readers{}
		r.reading[i] = s
	}
	return s
}

// answer is what one replica said to a pull.
type answer struct {
	reply proto.Frame
	err   error
}

// pull asks the replicas for one answer. reuse says that nobody sends buf's body
// any more.
func (r *remote) pull(ctx context.Context, i int, buf *request) (reply []byte, reuse bool, err error) {
	reuse = true
	err = retry(ctx, func() error {
		var once bool
		reply, once, err = r.pullOnce(ctx, i, buf.body)
		reuse = reuse && once
		return err
	})
	return reply, reuse && err == nil, err
}

// pullOnce asks the replica that should be fastest, and another one when that
// takes long.
func (r *remote) pullOnce(ctx context.Context, i int, body []byte) (reply []byte, reuse bool, err error) {
	route, err := r.route(i)
	if err != nil {
		return nil, true, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the slower call
	s := r.readers(i)
	answers := make(chan *answer, 2)
	ask := func(place int) {
		begin := time.Now()
		a := new(answer)
		a.err = r.invoke(ctx, route, i, place, proto.ParameterServer_Pull_FullMethodName, &proto.Frame{Body: body}, &a.reply)
		failed := a.err != nil && !final(a.err) && ctx.Err() == nil
		s.answered(route.Members[place].Node, time.Since(begin), failed)
		answers <- a
	}
	first, patience := s.choose(route.Members, -1)
	go ask(first)
	late := time.NewTimer(patience)
	defer late.Stop()
	under := 1
	for {
		select {
		case a := <-answers:
			under--
			if a.err == nil || final(a.err) || under == 0 {
				return a.reply.Body, under == 0 && a.err == nil, a.err
			}
		case <-late.C:
			if second, _ := s.choose(route.Members, first); second >= 0 {
				under++
				go ask(second)
			}
		}
	}
}
