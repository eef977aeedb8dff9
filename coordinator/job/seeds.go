package job

import (
	"slices"
	"strconv"
)

// seedsMax bounds the seeds of one job.
const seedsMax = 100

// PerSeed returns the jobs that the job stands for: one for each of its seeds,
// or the job itself.
func (j *Job) PerSeed() []*Job {
	if len(j.Spec.Train.Seeds) == 0 {
		return []*Job{j}
	}
	var all []*Job
	for _, seed := range j.Spec.Train.Seeds {
		one := *j
		one.Metadata.Name = seedName(j.Metadata.Name, seed)
		one.Spec.Train.Seed, one.Spec.Train.Seeds = seed, nil
		all = append(all, &one)
	}
	return all
}

func seedName(name string, seed uint64) string {
	return name + "-seed-" + strconv.FormatUint(seed, 10)
}

// seeds checks the seeds, and the names of the jobs they make.
func (c *checker) seeds(j *Job) {
	seeds := j.Spec.Train.Seeds
	if len(seeds) > seedsMax {
		c.fault("spec.train.seeds", "%d seeds, at most %d", len(seeds), seedsMax)
		return
	}
	for i, seed := range seeds {
		path := at("spec.train.seeds", i)
		if k := slices.Index(seeds, seed); k < i {
			c.fault(path, "%d is spec.train.seeds[%d] already: it would give the same model", seed, k)
		} else if name := seedName(j.Metadata.Name, seed); dnsLabel.MatchString(j.Metadata.Name) && !dnsLabel.MatchString(name) {
			c.fault("metadata.name", "too long for its jobs of one seed each: %s has %d letters, at most 63", name, len(name))
		}
	}
}
