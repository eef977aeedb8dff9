package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	pb "google.golang.org/protobuf/proto"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/shard"
)

// What is stored, all under the cluster's prefix. A job has a number, in the
// order of submission, and three records:
//
//	jobs/<number>/spec    written once, by Submit
//	jobs/<number>/plan    where the job stands; one write per phase change
//	jobs/<number>/search  of a dimension search: one write per generation
//	jobs/<number>/place   where its shards are; written when placed, when formed,
//	                      and at every step of a replica's replacement
//
// and, for the whole cluster:
//
//	drained/<node>        the server is to hold no replicas
//
// A new leader goes on from these. Sessions, progress and the scores of an
// evaluation under way are in memory only: they are reported again.

// specRecord is what was submitted.
type specRecord struct {
	Run  uint64          `json:"run"`
	Spec json.RawMessage `json:"spec"`
}

// plan is where a job stands. It is replaced as a whole, never changed.
type plan struct {
	// status is the job's status as of the last phase change, without the spec.
	status *proto.JobStatus
	// split being evaluated; phase EVALUATING only.
	split string
	// lastStep is the global step of the next validation, or of the end of the
	// epoch: the target of TRAINING, the version of EVALUATING. 0 before the
	// first epoch.
	lastStep uint64
	// factor scales the learning rates of the steps up to lastStep.
	factor float32
	// digest of the data all workers agreed on; empty until they have.
	digest string
	// stage of a job with a search; start is the version its first epoch begins
	// with.
	stage string
	start uint64
	// enteredNano is when the phase began.
	enteredNano int64
	// generation of the groups, origin the checkpoint it was formed from (nil:
	// none), then what comes once it is formed (nil: the first step).
	generation uint64
	origin     *origin
	then       *target
	// pinned are the steps of checkpoints that are kept whatever their age.
	pinned []uint64
}

type planRecord struct {
	Status      json.RawMessage `json:"status"` // protojson
	Split       string          `json:"split,omitempty"`
	LastStep    uint64          `json:"last_step"`
	Factor      float32         `json:"learning_rate_factor"`
	Digest      string          `json:"data_digest,omitempty"`
	EnteredNano int64           `json:"entered_unix_nano"`
	Stage       string          `json:"stage,omitempty"`
	Start       uint64          `json:"start,omitempty"`
	Generation  uint64          `json:"generation,omitempty"`
	Origin      *origin         `json:"origin,omitempty"`
	Then        *target         `json:"then,omitempty"`
	Pinned      []uint64        `json:"pinned,omitempty"`
}

// place is where a job's shards are.
type place struct {
	MapVersion uint64       `json:"map_version"`
	Shards     []shardPlace `json:"shards"`
	// Dense names the shard of every dense tensor.
	Dense []shard.ID `json:"dense"`
	// Formed is set once every group has its log on every member: from then on
	// a group that comes up empty has lost its data and must not begin anew.
	Formed bool `json:"formed"`
}

type shardPlace struct {
	ID      shard.ID `json:"id"`
	Lo      uint64   `json:"key_lo,string"`
	Hi      uint64   `json:"key_hi,string"`
	Members []member `json:"members"`
	// Numbered is the newest number given to a replica of this shard; those it
	// was formed with have none.
	Numbered uint32 `json:"replicas_numbered,omitempty"`
}

// member is one replica of a shard.
type member struct {
	Node    string `json:"node"`
	Address string `json:"address"`        // as of the placement
	Pool    string `json:"pool,omitempty"` // of the node, as of the placement
	// Replica tells apart the replicas a node has held of the shard.
	Replica uint32 `json:"replica,omitempty"`
	// Role is what is to become of it; empty: it votes.
	Role string `json:"role,omitempty"`
}

// The roles of members while a group changes. A learner becomes a voter, and
// only then the leaving one goes; the lost one goes before.
const (
	learning = "learner"
	leaving  = "leaving"
	lost     = "lost"
)

// clone copies the place for a change of members.
func (p *place) clone() *place {
	c := *p
	c.Shards = slices.Clone(p.Shards)
	for i := range c.Shards {
		c.Shards[i].Members = slices.Clone(c.Shards[i].Members)
	}
	return &c
}

// entry is one job as it is stored.
type entry struct {
	number uint64
	name   string
	run    uint64
	spec   []byte
	plan   *plan
	place  *place        // nil until placed
	record *searchRecord // nil until the supernet is surveyed
}

// id names this run of the job towards servers and workers: a name may be used
// again, and must not meet the logs of the run before.
func (e *entry) id() string { return fmt.Sprintf("%s-%016x", e.name, e.run) }

func (e *entry) phase() proto.Phase { return e.plan.status.GetPhase() }
func (e *entry) ended() bool        { return client.Ended(e.phase()) }

func (p *plan) clone() *plan {
	c := *p
	c.status = pb.CloneOf(p.status)
	return &c
}

func (p *plan) encode() ([]byte, error) {
	r, err := p.record()
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func (p *plan) record() (planRecord, error) {
	status, err := protojson.Marshal(p.status)
	if err != nil {
		return planRecord{}, fmt.Errorf("encode job status: %w", err)
	}
	return planRecord{Status: status, Split: p.split, LastStep: p.lastStep, Factor: p.factor,
		Digest: p.digest, EnteredNano: p.enteredNano, Stage: p.stage, Start: p.start,
		Generation: p.generation, Origin: p.origin, Then: p.then, Pinned: p.pinned}, nil
}

func decodePlan(b []byte) (*plan, error) {
	var r planRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	status := new(proto.JobStatus)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(r.Status, status); err != nil {
		return nil, err
	}
	// A phase of a newer version of this program reads as unspecified.
	if status.GetPhase() == proto.Phase_PHASE_UNSPECIFIED || status.GetJob() == "" {
		return nil, errors.New("its job or phase is missing or unknown")
	}
	return &plan{status: status, split: r.Split, lastStep: r.LastStep, factor: r.Factor, digest: r.Digest, enteredNano: r.EnteredNano, stage: r.Stage, start: r.Start,
		generation: r.Generation, origin: r.Origin, then: r.Then, pinned: r.Pinned}, nil
}

// keys builds the names of the records.
type keys struct{ cluster string }

func (k keys) election() string { return k.cluster + "/leader" }
func (k keys) jobs() string     { return k.cluster + "/jobs/" }

// identity is of the store's identity, made by the first leader.
func (k keys) identity() string { return k.cluster + "/identity" }

// drained marks a server, or with an empty name begins the marks of all.
func (k keys) drained(node string) string { return k.cluster + "/drained/" + node }

// The number is padded so that the order of keys is that of submission.
func (k keys) spec(number uint64) string { return fmt.Sprintf("%s%016d/spec", k.jobs(), number) }
func (k keys) plan(number uint64) string { return fmt.Sprintf("%s%016d/plan", k.jobs(), number) }
func (k keys) search(number uint64) string {
	return fmt.Sprintf("%s%016d/search", k.jobs(), number)
}
func (k keys) place(number uint64) string { return fmt.Sprintf("%s%016d/place", k.jobs(), number) }

// decodeEntries reads all jobs, in the order of submission. A record that
// cannot be read is an error: going on without it would forget a job.
func (k keys) decodeEntries(stored []store.Entry) ([]*entry, error) {
	byNumber := make(map[uint64]*entry)
	var entries []*entry
	for _, s := range stored {
		number, kind, _ := strings.Cut(strings.TrimPrefix(s.Key, k.jobs()), "/")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("record %s: its key is not a job's", s.Key)
		}
		e := byNumber[n]
		if e == nil {
			e = &entry{number: n}
			byNumber[n] = e
			entries = append(entries, e)
		}
		if err := e.decode(kind, s.Value); err != nil {
			return nil, fmt.Errorf("record %s: %w", s.Key, err)
		}
	}
	for _, e := range entries {
		if e.spec == nil || e.plan == nil {
			return nil, fmt.Errorf("job %d: its spec or plan is missing from the store", e.number)
		}
	}
	slices.SortFunc(entries, func(a, b *entry) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return entries, nil
}

func (e *entry) decode(kind string, value []byte) (err error) {
	switch kind {
	case "spec":
		var r specRecord
		if err := json.Unmarshal(value, &r); err != nil {
			return err
		}
		e.run, e.spec = r.Run, r.Spec
	case "plan":
		if e.plan, err = decodePlan(value); err == nil {
			e.name = e.plan.status.GetJob()
		}
	case "search":
		e.record, err = decodeSearch(value)
	case "place":
		e.place = new(place)
		err = json.Unmarshal(value, e.place)
	default:
		err = fmt.Errorf("unknown kind %q", kind)
	}
	return err
}
