package coordinator

import (
	"encoding/json"
	"slices"
	"sync"
	"testing"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/proto"
)

// surveyShard is what a simulated worker finds in every shard: tables of different
// sizes.
func surveyShard(o *proto.WorkerOrder) []byte {
	j, err := job.FromJSON(o.GetSpec())
	if err != nil {
		panic(err)
	}
	tables, err := j.Tables()
	if err != nil {
		panic(err)
	}
	s := search.Survey{}
	for i := range tables {
		n := int64(i + 1)
		classes := map[uint16]int64{search.Class(1): 4 * n, search.Class(2): 5 * n, search.Class(4): n}
		s.Tables = append(s.Tables, search.TableSurvey{Rows: 10 * n, Kept: 10 * n, Classes: classes})
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return text
}

// scoreCandidates scores as a supernet would in which the first field needs its
// whole width and the others none.
func scoreCandidates(o *proto.WorkerOrder, size int) [][]byte {
	var order search.Order
	if err := json.Unmarshal(o.GetCandidates(), &order); err != nil {
		panic(err)
	}
	var all [][]byte
	for _, c := range order.Candidates {
		right := size * (10 + 2*c.Width(0)) / 20
		var a eval.Accumulator
		for i := range size {
			label := float32(i % 2)
			score := 0.4 + 0.2*label
			if i >= right {
				score = 1 - score
			}
			a.Add([]float32{score}, []float32{label}, nil)
		}
		all = append(all, a.Append(nil))
	}
	return all
}

// searchSpec is a job whose supernet trains one epoch, its winner two.
func searchSpec(t *testing.T) []byte {
	return spec(t, "search", func(j *job.Job) {
		j.Spec.Data.Synthetic.Categorical, j.Spec.Data.Synthetic.Numeric = 3, 0
		j.Spec.Model = model.Spec{Name: "deepfm", EmbeddingDim: 4, Hidden: []int{4}}
		j.Spec.Search = &job.Search{Strategy: search.Guided, Generations: 3, Population: 6, Epochs: 1, SeedSensitivity: true, Tolerance: 0.01, Rows: []float64{0.2, 0.7, 1}, Budget: search.Budget{Fraction: 0.7}}
	})
}

// runSearch runs the job to its end.
func runSearch(t *testing.T, c *cluster, fault *writeFault) (report search.Report, hash string) {
	t.Helper()
	stops := map[string]func(){}
	var killed sync.WaitGroup
	started := make(chan struct{})
	fault.kill = func(node string) { killed.Go(func() { <-started; stops[node]() }) }
	defer killed.Wait()
	for _, node := range []string{"c0", "c1"} {
		_, stops[node] = c.coordinatorOn(node, countingStore{c.memory.Open(), node, fault})
	}
	close(started)
	c.servers("c0", "c1")
	c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0", "c1")
	c.worker("worker-1", simWorker{digest: "d", stepMs: 500}, "c0", "c1")
	ctl := c.control("c0", "c1")
	s := await(t, ctl, submit(t, ctl, searchSpec(t)), inPhase(proto.Phase_PHASE_DONE))
	if err := json.Unmarshal(s.GetSearch(), &report); err != nil {
		t.Fatalf("the search's report: %v", err)
	}
	if !report.Finished || report.Best == nil || report.Screened == 0 || report.Scored != len(report.Trials) {
		t.Fatalf("report %+v", report)
	}
	if s.GetStep() != 31 { // ten steps, the tables formed anew, twenty steps
		t.Errorf("ended at step %d, want 31", s.GetStep())
	}
	return report, s.GetModelHash()
}

// A search goes through its phases to the winner that it should find, and ends with
// the same trials when a coordinator dies at any of its writes, done or not.
func TestSearchSurvivesACoordinatorsDeathAtEveryWrite(t *testing.T) {
	var want search.Report
	var wantHash string
	inBubble(t, func(t *testing.T, c *cluster) {
		want, wantHash = runSearch(t, c, &writeFault{})
		if got := want.Best.Candidate; got != search.NewCandidate([]int{4, 1, 1, 1, 1, 1}) {
			t.Errorf("winner %v, want 4 1 1 with the fewest rows", got)
		}
	})
	for _, done := range []bool{true, false} {
		for n := firstWrite(5, done); !t.Failed(); n += writeStride() { // the first ones are those of any job
			fault := &writeFault{left: n, done: done}
			inBubble(t, func(t *testing.T, c *cluster) {
				got, hash := runSearch(t, c, fault)
				if !slices.EqualFunc(got.Trials, want.Trials, func(a, b search.Trial) bool {
					return a.Candidate == b.Candidate && a.Score == b.Score && a.Partial == b.Partial
				}) || hash != wantHash {
					t.Errorf("model %s after %d trials, want %s after %d; write %d, done %t", hash, len(got.Trials), wantHash, len(want.Trials), n, done)
				}
			})
			if !fault.happened {
				break
			}
		}
	}
}
