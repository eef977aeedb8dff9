package job

import "fmt"

// EvaluationBlockRows is how many consecutive rows of a split one evaluation
// block has; the last block of a split may have fewer. Scores are merged in
// block order, so the number is part of the result.
const EvaluationBlockRows = 16384

// StepsPerEpoch returns how many global steps one pass over trainRows takes.
// The last batch of an epoch may be smaller than the others.
func (j *Job) StepsPerEpoch(trainRows int64) int64 {
	if trainRows <= 0 {
		return 0
	}
	return (trainRows-1)/int64(j.Spec.Train.BatchSize) + 1
}

// Steps returns how many global steps the whole job takes.
func (j *Job) Steps(trainRows int64) int64 {
	return int64(j.Spec.Train.Epochs) * j.StepsPerEpoch(trainRows)
}

// Samples returns how many training samples the first steps consume.
func (j *Job) Samples(trainRows, steps int64) int64 {
	perEpoch := j.StepsPerEpoch(trainRows)
	if perEpoch == 0 {
		return 0
	}
	return steps/perEpoch*trainRows + min(steps%perEpoch*int64(j.Spec.Train.BatchSize), trainRows)
}

// NextValidation returns the first step after the given one at which the model
// is validated: at even distances within an epoch, and at its end.
func (j *Job) NextValidation(trainRows, step int64) int64 {
	perEpoch, parts := j.StepsPerEpoch(trainRows), int64(j.Spec.Train.Monitor.PerEpoch)
	start := step / perEpoch * perEpoch
	for part := int64(1); ; part++ {
		if at := start + (part*perEpoch+parts-1)/parts; at > step {
			return at
		}
	}
}

// Lane returns what one lane (from 0) of a global step (from 1) consists of:
// the positions [lo, hi) of the epoch's order, which may be none, the epoch
// (from 1), and the samples of the whole global batch. The first batch%lanes
// lanes have one sample more than the others.
func (j *Job) Lane(trainRows, step int64, lane int) (epoch, lo, hi, batch int64) {
	perEpoch, lanes := j.StepsPerEpoch(trainRows), int64(j.Spec.Train.Lanes)
	if perEpoch == 0 || step < 1 || lane < 0 || int64(lane) >= lanes {
		panic(fmt.Sprintf("job: BUG: lane %d of %d, step %d, %d rows", lane, lanes, step, trainRows))
	}
	epoch = (step-1)/perEpoch + 1
	first := (step - 1) % perEpoch * int64(j.Spec.Train.BatchSize)
	batch = min(int64(j.Spec.Train.BatchSize), trainRows-first)
	base, longer := batch/lanes, batch%lanes
	lo = first + int64(lane)*base + min(int64(lane), longer)
	hi = lo + base
	if int64(lane) < longer {
		hi++
	}
	return epoch, lo, hi, batch
}

// BaseVersion returns the version that a global step is computed on: with a
// pipeline of depth k that after step-1-k, but none before first, the version
// that the tables were formed at.
func (j *Job) BaseVersion(first, step uint64) uint64 {
	behind := 1 + uint64(j.Depth())
	return max(step, first+behind) - behind
}

// PreImages returns how many versions beside the newest a shard must be able to
// go back to. A shard is at most 1+k versions ahead of the slowest, as a step
// is computed on what all have reached; and whoever computes the next step of
// the slowest again reads a version that is k older still.
// In mode async the newest state is read.
func (j *Job) PreImages() int {
	if j.Async() {
		return 0
	}
	return 1 + 2*j.Depth()
}

// Async tells whether the mode is async.
func (j *Job) Async() bool { return j.Spec.Train.Mode == ModeAsync }

// Depth is by how many steps a lane may be ahead: the depth of the pipeline, or
// the staleness that mode async allows.
func (j *Job) Depth() int {
	if j.Async() {
		return *j.Spec.Train.Staleness
	}
	return *j.Spec.Train.PipelineDepth
}
