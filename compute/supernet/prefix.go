package supernet

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// Sampling says for what a prefix is drawn anew.
type Sampling string

// The ways of sampling.
const (
	PerSample Sampling = "sample" // for every sample and field (OptEmbed)
	PerBatch  Sampling = "batch"  // for every step and field
	FullWidth Sampling = "none"   // never: all dimensions, always
	// EveryWidth draws nothing: every step trains every width, all fields at the
	// same one (Matryoshka, Kusupati et al. 2022).
	EveryWidth Sampling = "all"
)

// Sampler draws the prefixes of supernet training.
type Sampler struct {
	Seed     uint64
	Sampling Sampling
	// Choices are the widths that may be drawn, ascending, by field. A field with
	// one choice always has it.
	Choices [][]int
	// Full is the probability that a sample (PerBatch: a step) is trained at the
	// largest width of all its fields instead. FullLast, when Steps is not 0, is
	// what Full has become after Steps steps, in a straight line: a supernet that
	// begins with its full width and lets the narrow ones in later.
	Full, FullLast float32
	Steps          uint64
	// Narrowing is the number of steps over which narrower widths join in, from the
	// widest down: a supernet that shrinks progressively. 0 trains all from the start.
	Narrowing uint64
}

// Open is how many of n choices, the widest, are trained at a step.
func (s *Sampler) Open(step uint64, n int) int {
	if step >= s.Narrowing {
		return n
	}
	return 1 + int(step*uint64(n-1)/s.Narrowing)
}

// full is the probability of the full width at a step.
func (s *Sampler) full(step uint64) float32 {
	if s.Steps == 0 {
		return s.Full
	}
	done := float32(min(step, s.Steps)) / float32(s.Steps)
	return s.Full + float32((s.FullLast-s.Full)*done)
}

// Draw fills widths [n, fields] for the samples of one lane of a step.
func (s *Sampler) Draw(widths []uint16, step, lane uint64, n int) {
	fields := len(s.Choices)
	if len(widths) != n*fields {
		panic(fmt.Sprintf("compute/supernet: BUG: %d widths for %d samples of %d fields", len(widths), n, fields))
	}
	switch s.Sampling {
	case FullWidth:
		for i := range n {
			s.largest(widths[i*fields : (i+1)*fields])
		}
	case PerBatch:
		if n == 0 {
			return
		}
		// Every lane of the step draws the same.
		s.draw(widths[:fields], random.Stream(s.Seed, random.Supernet, step, 1<<32, 0), 0, step)
		for i := 1; i < n; i++ {
			copy(widths[i*fields:(i+1)*fields], widths[:fields])
		}
	case PerSample:
		stream := random.Stream(s.Seed, random.Supernet, step, lane, 0)
		for i := range n {
			s.draw(widths[i*fields:(i+1)*fields], stream, uint64(i), step)
		}
	default:
		panic(fmt.Sprintf("compute/supernet: BUG: sampling %q", string(s.Sampling)))
	}
}

// draw fills the widths of one sample; word 0 of a sample decides about the full
// width, the others about the fields.
func (s *Sampler) draw(widths []uint16, stream, sample, step uint64) {
	first := sample * uint64(1+len(s.Choices))
	if full := s.full(step); full > 0 && random.Unit(random.Word(stream, first)) < full {
		s.largest(widths)
		return
	}
	for f, choices := range s.Choices {
		open := choices[len(choices)-s.Open(step, len(choices)):]
		widths[f] = uint16(open[random.Below(stream, first+1+uint64(f), uint64(len(open)))])
	}
}

func (s *Sampler) largest(widths []uint16) {
	for f, choices := range s.Choices {
		widths[f] = uint16(choices[len(choices)-1])
	}
}

// MaskPrefixes zeroes, in x [n, fields*width], what lies behind the prefix of
// every sample and field, widths [n, fields]. It is its own backward pass: the
// same call on the gradient of x.
func MaskPrefixes(x []float32, width int, widths []uint16) {
	for i, w := range widths {
		clear(x[i*width+int(w) : (i+1)*width])
	}
}

// MaskFields zeroes, in x [n, fields*width], what lies behind each field's
// prefix, the same for all samples.
func MaskFields(x []float32, n, width int, widths []int) {
	for i := range n {
		row := x[i*len(widths)*width : (i+1)*len(widths)*width]
		for f, w := range widths {
			clear(row[f*width+w : (f+1)*width])
		}
	}
}

// MaskDims zeroes, in x [n, fields*width], the dimensions that each field drops, the
// same for all samples.
func MaskDims(x []float32, n, width int, drop [][]int) {
	for i := range n {
		for f, dims := range drop {
			at := (i*len(drop) + f) * width
			for _, d := range dims {
				x[at+d] = 0
			}
		}
	}
}

// Distill adds, to the gradients of logits, those of weight times the cross
// entropy with a teacher's probabilities: here the full width's.
func Distill(dLogits, logits, teacher []float32, weight float32) {
	p := make([]float32, len(logits))
	kernel.SigmoidSlice(p, logits)
	for i := range p {
		dLogits[i] += float32(weight * (p[i] - teacher[i]))
	}
}
