// Package random owns fathom's random numbers. They are counter based: every
// number is a pure function of a stream and an index, so that the order in
// which numbers are asked for, and by which process, never matters. There is
// no generator with a state, and nothing here reads a clock or the system.
//
// A stream is named by the seed of the job, the purpose, and up to three
// counters of the caller's choice (table, key, step, lane ...):
//
//	s := random.Stream(seed, random.Dropout, step, lane, layer)
//	keep := random.Unit(random.Word(s, i)) >= rate
//
// All arithmetic is on integers until a last exact or correctly rounded
// conversion, so results have the same bits on every machine. The functions
// are part of the format: changing one changes every model trained with it.
//
// Everything is safe for concurrent use.
package random
