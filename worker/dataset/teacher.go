package dataset

import (
	"fmt"
	"math"

	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/coordinator/job"
)

// teacher is the hidden model behind synthetic data: a factorization machine
//
//	logit = bias + sum_f linear_f[id] + sum_{f<g} <latent_f[id], latent_g[id]>
//
// whose latent vectors have a planted width per field: components from the
// width on are zero. A field of width 0 has no influence at all. Only the first
// signalIDs ids of a field carry signal: the rarer ones could not be learned
// from a few hundred thousand rows, by any model.
type teacher struct {
	conf   job.Synthetic
	fields []teacherField
	dim    int
	bias   float64
}

// teacherField is one generated column and its part in the teacher. An id of a
// numeric field is 0 for missing, else 1 + the value's bucket.
type teacherField struct {
	name    string
	numeric bool
	ids     alias // of levels for a numeric field
	width   int
	linear  []float32
	latent  []float32 // [len(linear), width]
}

const (
	signalIDs      = 200
	vocabularyMax  = 1 << 24
	countLevels    = 17
	teacherDimMax  = 64
	fieldCountMax  = 1000
	calibrateRows  = 1 << 14
	positivesShare = 0.28

	// Variances of the two parts of the logit: together they give an AUC of
	// 0.80 to 0.85.
	linearVariance = 2.2
	fmVariance     = 0.8
)

// criteoCardinalities are the ids per categorical field of Criteo's first day.
var criteoCardinalities = [...]float64{1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593,
	3194, 27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572}

// criteoMissing is the missing share, in percent, of Criteo's numeric fields.
var criteoMissing = [...]int{45, 0, 21, 22, 3, 22, 4, 0, 4, 45, 4, 77, 22}

// syntheticDefaults fills in what a resolved job has.
func syntheticDefaults(s job.Synthetic) job.Synthetic {
	if s.Numeric == 0 && s.Categorical == 0 {
		s.Numeric, s.Categorical = 13, 26
	}
	if s.Vocabulary == 0 {
		s.Vocabulary = 100_000
	}
	if s.Zipf == 0 {
		s.Zipf = 1.1
	}
	if s.TeacherDim == 0 {
		s.TeacherDim = 8
	}
	return s
}

// checkSynthetic refuses what cannot be generated.
func checkSynthetic(s job.Synthetic) error {
	bad := func(name string, v any, want string) error {
		return &InputError{Msg: fmt.Sprintf("data.synthetic.%s is %v, want %s", name, v, want)}
	}
	switch {
	case s.TrainRows < 1:
		return bad("train_rows", s.TrainRows, "at least 1")
	case s.ValidRows < 0:
		return bad("valid_rows", s.ValidRows, "at least 0")
	case s.TestRows < 0:
		return bad("test_rows", s.TestRows, "at least 0")
	case s.Numeric < 0 || s.Numeric > fieldCountMax:
		return bad("numeric", s.Numeric, fmt.Sprintf("0 to %d", fieldCountMax))
	case s.Categorical < 0 || s.Categorical > fieldCountMax:
		return bad("categorical", s.Categorical, fmt.Sprintf("0 to %d", fieldCountMax))
	case s.Vocabulary < 4 || s.Vocabulary > vocabularyMax:
		return bad("vocabulary", s.Vocabulary, fmt.Sprintf("4 to %d", vocabularyMax))
	case !(s.Zipf >= 0.1 && s.Zipf <= 3):
		return bad("zipf", s.Zipf, "0.1 to 3")
	case s.TeacherDim < 1 || s.TeacherDim > teacherDimMax:
		return bad("teacher_dim", s.TeacherDim, fmt.Sprintf("1 to %d", teacherDimMax))
	}
	return nil
}

// SyntheticFields returns the fields of generated data: the numeric ones i1,
// i2, ... as buckets, then the categorical ones c1, c2, ...
func SyntheticFields(s job.Synthetic) []job.Field {
	s = syntheticDefaults(s)
	var fields []job.Field
	for i := range s.Numeric {
		fields = append(fields, job.Field{Name: fmt.Sprintf("i%d", i+1), Type: typeNumeric, Transform: "bucket"})
	}
	for i := range s.Categorical {
		fields = append(fields, job.Field{Name: fmt.Sprintf("c%d", i+1), Type: typeCategorical})
	}
	return fields
}

// newTeacher makes the hidden model of a seed and scales it, so that the share
// of positives and the attainable AUC do not depend on the sizes chosen.
func newTeacher(s job.Synthetic) (*teacher, error) {
	s = syntheticDefaults(s)
	if err := checkSynthetic(s); err != nil {
		return nil, err
	}
	t := &teacher{conf: s, dim: s.TeacherDim}
	columns := SyntheticFields(s)
	widths := plantedWidths(s.TeacherDim)
	order := random.Stream(s.Seed, random.Teacher, 0, 0, 0)
	cards := cardinalities(s)
	for i, c := range columns {
		f := teacherField{name: c.Name, numeric: c.Type == typeNumeric}
		ids := 2 + int(bucket(1<<countLevels))
		if f.numeric {
			f.ids = newAlias(countWeights(countLevels, 5+i%4, criteoMissing[i%len(criteoMissing)]))
		} else {
			n := cards[i-s.Numeric]
			f.ids = newAlias(zipfWeights(n, s.Zipf))
			ids = int(min(n, signalIDs))
		}
		w := widths[random.Permute(order, uint64(len(columns)), uint64(i))%uint64(len(widths))]
		f.width = min(w, ids-1)
		f.draw(random.Stream(s.Seed, random.Teacher, 1, uint64(i), 0), ids)
		t.fields = append(t.fields, f)
	}
	t.calibrate()
	return t, nil
}

// plantedWidths returns 0, 1, 2, 4, ... up to dim.
func plantedWidths(dim int) []int {
	widths := []int{0}
	for w := 1; w < dim; w *= 2 {
		widths = append(widths, w)
	}
	return append(widths, dim)
}

// cardinalities returns the ids per categorical field: those of Criteo, to the
// power that makes the largest the vocabulary asked for.
func cardinalities(s job.Synthetic) []int64 {
	raw := make([]float64, s.Categorical)
	largest := 0.0
	for i := range raw {
		raw[i] = criteoCardinalities[i%len(criteoCardinalities)]
		largest = max(largest, raw[i])
	}
	cards := make([]int64, s.Categorical)
	for i := range raw {
		cards[i] = s.Vocabulary
		if raw[i] < largest {
			power := ln(float64(s.Vocabulary)) / ln(largest)
			cards[i] = max(2, min(s.Vocabulary, int64(exp(float64(ln(raw[i])*power))+0.5)))
		}
	}
	return cards
}

// draw fills in unscaled weights; a field of width 0 has none.
func (f *teacherField) draw(stream uint64, ids int) {
	f.linear = make([]float32, ids)
	f.latent = make([]float32, ids*f.width)
	if f.width == 0 {
		return
	}
	for i := range f.linear {
		f.linear[i] = bell(random.Word(stream, uint64(i)))
	}
	for i := range f.latent {
		f.latent[i] = bell(random.Word(stream, uint64(1<<32+i)))
	}
}

// bell returns a number of about normal distribution, mean 0 and variance 1:
// the sum of four 16-bit uniform numbers, exact until the last division.
func bell(word uint64) float32 {
	sum := int64(word&0xffff) + int64(word>>16&0xffff) + int64(word>>32&0xffff) + int64(word>>48)
	return float32(float64(sum-2*0xffff) / 37837) // sqrt(4 * (2^32-1) / 12)
}

// calibrate scales both parts of the logit to their variance over a sample of
// rows, then finds the bias that gives the wanted share of positives.
func (t *teacher) calibrate() {
	g := newGenerator(t)
	linear := make([]float64, 0, calibrateRows)
	fm := make([]float64, 0, calibrateRows)
	for lo := 0; lo < calibrateRows; lo += tileRows {
		g.tile(random.Stream(t.conf.Seed, random.Teacher, 2, 0, 0), lo, tileRows)
		linear = append(linear, g.linear[:]...)
		fm = append(fm, g.fm[:]...)
	}
	a := scaleTo(linear, linearVariance)
	b := math.Sqrt(scaleTo(fm, fmVariance)) // the latent vectors enter twice
	for i := range t.fields {
		f := &t.fields[i]
		for j := range f.linear {
			f.linear[j] = float32(float64(f.linear[j]) * a)
		}
		for j := range f.latent {
			f.latent[j] = float32(float64(f.latent[j]) * b)
		}
	}
	lo, hi := -30.0, 30.0
	for range 30 {
		t.bias = (lo + hi) / 2
		sum := 0.0
		for i := range linear {
			sum += 1 / (1 + exp(-clampLogit(t.bias+linear[i]+fm[i])))
		}
		if sum > positivesShare*calibrateRows {
			hi = t.bias
		} else {
			lo = t.bias
		}
	}
}

func clampLogit(x float64) float64 { return min(max(x, -30), 30) }

// scaleTo scales values to a variance and returns the factor, 1 when they are
// all equal.
func scaleTo(v []float64, variance float64) float64 {
	mean := 0.0
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	sum := 0.0
	for _, x := range v {
		sum += float64((x - mean) * (x - mean))
	}
	if sum == 0 {
		return 1
	}
	scale := math.Sqrt(variance / (sum / float64(len(v))))
	for i := range v {
		v[i] *= scale
	}
	return scale
}
