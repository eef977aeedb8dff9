package job

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// textBytesMax bounds the text of a job, YAML or JSON.
const textBytesMax = 1 << 20

// FromJSON reads a job written by JSON. Like Parse it is strict, fills in the
// defaults and validates; faults come as *Faults.
func FromJSON(b []byte) (*Job, error) {
	if len(b) > textBytesMax {
		return nil, fault("the job has %d bytes, at most %d are accepted", len(b), textBytesMax)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var j Job
	if err := d.Decode(&j); err != nil {
		return nil, fault("the job is not valid JSON: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fault("the job is not valid JSON: something follows its end")
	}
	j = j.WithDefaults()
	if err := j.Validate(); err != nil {
		return nil, err
	}
	return &j, nil
}

func fault(format string, a ...any) *Faults {
	return &Faults{List: []Fault{{Message: fmt.Sprintf(format, a...)}}}
}

// JSON returns the job as JSON that FromJSON reads back. The job must be valid.
func (j *Job) JSON() []byte { return encode(j) }

// Digest identifies what determines the trained model, in hex: two jobs of one
// digest train the same model from the same data. The job's name, the size of
// the cluster, where the data lie and how much of them is cached do not count.
func (j *Job) Digest() string {
	spec := j.WithDefaults().Spec
	spec.Data.Root = ""
	spec.Data.CacheBytes = 0
	spec.Cluster, spec.Checkpoint = Cluster{}, Checkpoint{}
	// encoding/json writes struct fields in their order and floats in their
	// shortest form, so equal specs have equal bytes; there are no maps.
	sum := sha256.Sum256(encode(spec))
	return hex.EncodeToString(sum[:])
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("job: BUG: encode %T: %v", v, err))
	}
	return b
}
