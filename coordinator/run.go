package coordinator

import (
	"fmt"
	"time"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/coordinator/task"
	"github.com/fathom-train/fathom/proto"
)

// splits a job may have.
const (
	splitTrain = "train"
	splitValid = "valid"
	splitTest  = "test"
)

// run is the job under way: what is stored, and what is known from reports
// only. The leader's mutex guards it.
type run struct {
	*entry
	// job, layout and stageSpec are those of the stage under way.
	job       *job.Job
	layout    *layout
	stageSpec []byte
	// search is the dimension search, once the supernet is surveyed; scored has the
	// scores of the generation so far, passes the blocks they took.
	search *search.Search
	scored []search.Score
	passes int64
	// retrainFrom is the search's, also when job is that of the last stage.
	retrainFrom string
	// report is the search's as of generation and phase.
	report        []byte
	reported      int
	reportedPhase proto.Phase

	lanes  *task.Lanes
	shards []shardState
	// evaluation is under way in phase EVALUATING; nil in every other.
	evaluation *evaluation
	progress   progress
	// fault is what ends the job as failed; nil: none.
	fault *fault
	// finalSince is when all shards were first seen at the last step of the job.
	finalSince time.Time
	// leadersSeen is who led the shards, leadersSince since when.
	leadersSeen  []string
	leadersSince time.Time
	// behind is since when a worker has delivered no lane while others did, by
	// name. The clock stands outside of training, since paused.
	behind map[string]time.Time
	paused time.Time
	// attempt is the checkpoint under way; nil: none. checkpointRequests wait for
	// one, wantedStep is one that decide needs (0: none), checkpointAfter is when
	// an automatic one may be tried again, checkpointError why the last one failed.
	attempt            *attempt
	checkpointRequests []chan checkpointResult
	wantedStep         uint64
	checkpointAfter    time.Time
	checkpointError    string
	// written is the attempt that was committed last, savedGeneration the newest of
	// the search that an automatic checkpoint was begun for.
	written         *attempt
	savedGeneration int
	// usage is the processor time spent on the job, by role.
	usage map[string]float64
}

// fault is why a job failed.
type fault struct {
	message string
	input   bool // the spec or the data is at fault
}

// shardState is what the members of one shard have reported since this leader
// was elected. Nothing in it ever goes back.
type shardState struct {
	version    uint64           // newest of any replica in service
	ready      map[string]bool  // members whose log holds the schema
	configured bool             // by a leader
	rounds     map[string]round // of learners, by replica
	diverged   map[string]bool  // replicas in another state than most
}

// evaluation is the scoring of one split at one version.
type evaluation struct {
	epoch  uint64
	split  string
	share  *task.Evaluation
	scores []*eval.Accumulator // by block
	result *eval.Result        // nil until merged

	// surveys are by shard, when the supernet's rows are counted.
	surveys []*search.Survey
	// Of a slice of candidates: round names it, order is what workers are given,
	// each has the scores by block and candidate.
	round      uint64
	candidates int
	order      []byte
	each       [][]*eval.Accumulator
	results    []eval.Result // nil until merged
}

// blocks is the number of its parts.
func (e *evaluation) blocks() int { return max(len(e.scores), len(e.surveys), len(e.each)) }

func newRun(e *entry) (*run, error) {
	j, err := job.FromJSON(e.spec)
	if err != nil {
		return nil, fmt.Errorf("spec of job %s: %w", e.name, err)
	}
	r := &run{entry: e, job: j, lanes: task.NewLanes(j.Spec.Train.Lanes),
		shards: make([]shardState, j.Spec.Cluster.Shards), usage: make(map[string]float64)}
	r.forgetShards()
	for _, u := range e.plan.status.GetUsage() {
		r.usage[u.GetRole()] = u.GetCpuSeconds()
	}
	if err := r.resume(j); err != nil {
		return nil, fmt.Errorf("job %s: %w", e.name, err)
	}
	if err := r.setStage(); err != nil {
		return nil, err
	}
	r.beginPhase()
	return r, nil
}

// beginPhase prepares the memory of the phase the plan names.
func (r *run) beginPhase() {
	r.evaluation = nil
	r.keepBehind(time.Unix(0, r.plan.enteredNano))
	if r.phase() == proto.Phase_PHASE_SURVEYING {
		n := r.job.Spec.Cluster.Shards
		r.evaluation = &evaluation{epoch: r.plan.status.GetEpoch(), split: splitSurvey,
			share: task.NewEvaluation(n), surveys: make([]*search.Survey, n)}
	}
	if r.phase() == proto.Phase_PHASE_EVALUATING {
		n := blocks(r.rows(r.plan.split))
		r.evaluation = &evaluation{epoch: r.plan.status.GetEpoch(), split: r.plan.split,
			share: task.NewEvaluation(n), scores: make([]*eval.Accumulator, n)}
	}
}

// blocks is the number of evaluation blocks of a split.
func blocks(rows int64) int {
	return int((rows + job.EvaluationBlockRows - 1) / job.EvaluationBlockRows)
}

// rows of a split as the workers counted them; 0 when there is none.
func (r *run) rows(split string) int64 {
	for _, s := range r.plan.status.GetSplits() {
		if s.GetSplit() == split {
			return int64(s.GetRows())
		}
	}
	return 0
}

// stepsPerEpoch is known once the data have been inspected.
func (r *run) stepsPerEpoch() uint64 { return uint64(r.job.StepsPerEpoch(r.rows(splitTrain))) }

// step is the last global step every shard has applied.
func (r *run) step() uint64 {
	least := r.shards[0].version
	for _, s := range r.shards {
		least = min(least, s.version)
	}
	return least
}

// samples is how many training samples the first steps consumed.
func (r *run) samples(steps uint64) uint64 {
	return uint64(r.job.Samples(r.rows(splitTrain), int64(steps-min(steps, r.plan.start))))
}

// fail notes the first reason to end the job as failed.
func (r *run) fail(input bool, format string, a ...any) {
	if r.fault == nil && !r.ended() {
		r.fault = &fault{message: fmt.Sprintf(format, a...), input: input}
	}
}

// noteGroups takes in what a server reports of this run's shards.
func (r *run) noteGroups(n *node, nodes map[string]*node, now time.Time) {
	if r.place == nil {
		return
	}
	for _, g := range n.report.GetGroups() {
		if g.GetJob() != r.groupJob() || int(g.GetShard()) >= len(r.shards) {
			continue
		}
		if g.GetError() != "" {
			if !r.place.Formed && g.GetUnusable() {
				r.fail(true, "%s: %s", n.name, g.GetError())
			}
			continue
		}
		at := &r.place.Shards[g.GetShard()]
		if m, ok := at.hosted(n.name); !ok || m.Replica != g.GetReplica() {
			continue
		}
		s := &r.shards[g.GetShard()]
		s.version = max(s.version, g.GetVersion())
		if g.GetConfigured() && g.GetHasData() {
			s.ready[n.name] = true
		}
		s.configured = s.configured || g.GetConfigured() && g.GetLeader()
		if limit := r.plan.lastStep; g.GetVersion() > limit {
			r.fail(false, "shard %d on %s is at step %d, but only %d were ordered", g.GetShard(), n.name, g.GetVersion(), limit)
		}
		r.compareHashes(at, g.GetVersion(), nodes, now)
		for _, m := range g.GetMarks() {
			r.compareHashes(at, m.GetVersion(), nodes, now)
		}
	}
}

// members of a shard with the addresses they have now.
func (r *run) members(s shardPlace, nodes map[string]*node) []*proto.Member {
	members := make([]*proto.Member, len(s.Members))
	for i, m := range s.Members {
		members[i] = &proto.Member{Node: m.Node, Address: m.Address, Replica: m.Replica, Role: roles[m.Role]}
		if n := nodes[m.Node]; n != nil && n.role == rolePS {
			members[i].Address = n.address
		}
	}
	return members
}

// leaderOf names the node that leads a shard, or "". Only living nodes are
// asked; one that says it leads itself goes before hearsay.
func (r *run) leaderOf(s shardPlace, nodes map[string]*node, now time.Time) string {
	heard := ""
	for _, m := range s.Members {
		n := nodes[m.Node]
		if n == nil || !n.alive(now) || !m.votes() {
			continue
		}
		g := r.reportOf(&s, m, nodes)
		if g == nil || g.GetError() != "" {
			continue
		}
		if g.GetLeader() {
			return m.Node
		}
		if other := nodes[g.GetLeaderNode()]; other != nil && other.alive(now) {
			heard = g.GetLeaderNode()
		}
	}
	return heard
}
