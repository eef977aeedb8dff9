package task

// Evaluation shares the blocks of one evaluation among workers.
type Evaluation struct {
	assignment *Assignment
	left       int
}

// NewEvaluation returns an evaluation of n blocks, none of them done.
func NewEvaluation(n int) *Evaluation {
	return &Evaluation{assignment: NewAssignment(n), left: n}
}

// Done notes that a block's scores have arrived and reports whether they are
// the first.
func (e *Evaluation) Done(block int) bool {
	if e.assignment.done[block] {
		return false
	}
	e.assignment.done[block] = true
	e.left--
	return true
}

// Left is the number of blocks still wanted.
func (e *Evaluation) Left() int { return e.left }

// Of returns the blocks asked of a worker since the last rebalancing.
func (e *Evaluation) Of(worker string) []int { return e.assignment.Of(worker) }

// Rebalance shares the unfinished blocks when that is needed: a worker with
// blocks is gone, or one has none left while another has at least two. A
// worker in the middle of its share is not disturbed for less. It reports
// whether anything changed.
func (e *Evaluation) Rebalance(workers []string) bool {
	left := make(map[string]int, len(workers))
	for _, w := range workers {
		left[w] = 0
	}
	orphans, most := false, 0
	for block, w := range e.assignment.owner {
		if e.assignment.done[block] {
			continue
		}
		if _, live := left[w]; !live {
			orphans = true
			continue
		}
		left[w]++
		most = max(most, left[w])
	}
	idle := false
	for _, n := range left {
		idle = idle || n == 0
	}
	if orphans || idle && most >= 2 {
		return e.assignment.Rebalance(workers)
	}
	return false
}
