// Package search finds how wide every field's embedding needs to be. It is pure:
// it proposes candidates and takes their scores, and who scores them, how and
// where is not its business.
//
// A Search asks a Strategy for candidates, one generation at a time, keeps every
// score it was told, and never asks for a candidate twice. All randomness is a
// function of the seed and counters, so its whole state is the list of trials:
// Resume replays them and goes on to the same winner, bit for bit.
//
//	s, err := search.New(cfg, space)
//	for c := s.Ask(); len(c) > 0; c = s.Ask() {
//		err = s.Tell(score(c))
//	}
//	winner, ok := s.Best()
package search
