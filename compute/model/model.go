package model

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

// Column is one part of the embedding row of a key.
type Column struct {
	Name string
	// Width is the number of values per key.
	Width int
}

// Names of the columns.
const (
	Linear    = "linear"    // the weight of the key itself
	Embedding = "embedding" // its vector
)

// Kind tells whether a tensor is trained or follows a statistic.
type Kind = layer.Kind

// The kinds of dense tensors.
const (
	Weight  = layer.Weight
	Running = layer.Running
)

// Param describes one dense tensor.
type Param = layer.Param

// Input is one lane's samples as the model sees them.
type Input struct {
	// N is the number of samples; zero is valid.
	N int
	// Columns has for every column c of the model, after gather and pooling, the
	// values [N, fields*width_c]. They must stay unchanged until Backward is done.
	Columns [][]float32
	// Train selects the lane's own BatchNorm statistics and dropout; Backward may
	// only follow a Forward in training.
	Train bool
	// Share is N divided by the samples of the global batch.
	Share float32
	// Stream is the lane's random stream, of (seed, step, lane).
	Stream uint64
}

// Model computes one logit per sample. Tensors p and their gradients dp are in
// the order of Params, columns and their gradients dx in the order of Columns.
type Model interface {
	// Columns lists the columns of the embedding rows.
	Columns() []Column
	// Params lists the dense tensors; the order is fixed.
	Params() []Param
	// Forward returns the logits [N], valid until the next call, and keeps what
	// Backward needs.
	Forward(p [][]float32, x Input) []float32
	// Backward overwrites dp and dx with the gradients of the last Forward's
	// input, given those of its logits [N]. For a Running tensor dp is the lane's
	// statistic times Input.Share.
	Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32)
}

// Separate is a model whose samples have nothing to do with each other, so that
// a lane's may go forward and backward some at a time, in their order. The bits
// are those of all at once.
type Separate interface {
	Model
	// Continue says that the samples of the next Forward follow those of the last
	// one: its Backward goes on with the sums in dp instead of overwriting them.
	Continue()
	// PieceSamples is how many samples at a time leave what a pass keeps in a near
	// cache.
	PieceSamples() int
}

// fewSamples is PieceSamples of models that keep little but the embeddings.
const fewSamples = 16

// New builds the model of a specification with defaults filled in, for samples
// of the given number of fields.
func New(s Spec, fields int) (Model, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if fields < 1 || fields > FieldsMax {
		return nil, fmt.Errorf("%w: %d fields, not in [1, %d]", ErrSpec, fields, FieldsMax)
	}
	d, _ := find(s.Name)
	if d.network && len(s.Hidden) > 0 && s.Hidden[0] > TensorSizeMax/(fields*s.EmbeddingDim) {
		return nil, fmt.Errorf("%w: hidden[0]: a %d x %d matrix has more than %d elements",
			ErrSpec, s.Hidden[0], fields*s.EmbeddingDim, TensorSizeMax)
	}
	if d.faults != nil {
		if faults := d.faults(s, fields); len(faults) > 0 {
			return nil, fmt.Errorf("%w: %s", ErrSpec, faults[0])
		}
	}
	m := d.build(s, fields)
	for _, p := range m.Params() {
		if p.Size() > TensorSizeMax {
			return nil, fmt.Errorf("%w: name: tensor %s of %s has more than %d elements; make its layer smaller", ErrSpec, p.Name, s.Name, TensorSizeMax)
		}
	}
	for _, c := range m.Columns() {
		if c.Width > ColumnWidthMax {
			return nil, fmt.Errorf("%w: embedding_dim: column %s of %s is %d wide, at most %d are possible", ErrSpec, c.Name, s.Name, c.Width, ColumnWidthMax)
		}
	}
	return m, nil
}

// Probabilities turns logits into probabilities; dst and logits may be the same.
func Probabilities(dst, logits []float32) {
	kernel.SigmoidSlice(dst, logits)
}

// Calibrate turns the probabilities of a model that was trained on all positives
// and a share of the negatives into those of the data as they were: the odds
// are multiplied with the share.
func Calibrate(probabilities []float32, negativeRate float32) {
	if negativeRate == 1 {
		return
	}
	for i, p := range probabilities {
		kept := float32(negativeRate * p)
		probabilities[i] = kept / (kept + (1 - p))
	}
}

// resize returns a slice of length n that reuses buf's memory where it can.
func resize(buf []float32, n int) []float32 {
	if cap(buf) < n {
		return make([]float32, n)
	}
	return buf[:n]
}
