package coordinator

import (
	"testing"

	pb "google.golang.org/protobuf/proto"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/proto"
)

// FuzzEvaluationBlock reads any bytes as what a worker found of a block, of every
// kind of evaluation: it is refused, or can be merged with its like.
func FuzzEvaluationBlock(f *testing.F) {
	var scores eval.Accumulator
	scores.Add([]float32{0.25, 0.75}, []float32{0, 1}, nil)
	for _, b := range []*proto.EvaluationBlock{
		{Scores: scores.Append(nil)},
		{Candidates: [][]byte{scores.Append(nil), scores.Append(nil)}},
		{Survey: []byte(`{"thresholds":[1],"tables":[{"rows":7,"kept":3,"gram":[1,2,3]}],"gates":[[1]]}`)},
	} {
		text, err := pb.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		for _, e := range []*evaluation{
			{scores: make([]*eval.Accumulator, 2)},
			{each: make([][]*eval.Accumulator, 2), candidates: 2},
			{surveys: make([]*search.Survey, 2)},
		} {
			accepted := 0
			for i, text := range [][]byte{one, two} {
				var b proto.EvaluationBlock
				if pb.Unmarshal(text, &b) != nil {
					continue
				}
				b.Block = uint64(i)
				if note, err := e.parse(&b); err == nil {
					note()
					accepted++
				}
			}
			switch {
			case accepted < 2:
			case e.scores != nil:
				eval.Merge(e.scores)
			case e.each != nil:
				e.mergeCandidates()
			default:
				if all, err := search.Merge(e.surveys); err == nil {
					_, _ = all.Space([]string{"field"}, []int{1}, []float64{0.5, 1}) // refused, mostly
				}
			}
		}
	})
}
