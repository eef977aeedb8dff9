package checkpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"time"

	"github.com/fathom-train/fathom/shard"
)

// ManifestName is the file that makes a folder a checkpoint.
const ManifestName = "manifest.json"

// Format is the version of manifests this program writes and reads.
const Format = 1

// manifestMax bounds a manifest; filesMax the shards of one.
const (
	manifestMax = 64 << 20
	filesMax    = shard.MaxShards
)

// Manifest describes one checkpoint: all that is needed to go on from it.
type Manifest struct {
	Format int `json:"format"`
	// Program is the version of fathom that wrote it.
	Program string    `json:"program"`
	Created time.Time `json:"created"`
	Job     string    `json:"job"`
	Run     string    `json:"run"` // 16 hex digits
	Step    uint64    `json:"step"`
	// StateHash is the hash of the whole model, Parts what it is the sum of: one
	// for each table, one for the dense tensors.
	StateHash string `json:"state_hash"`
	Parts     []Part `json:"parts"`
	// Spec is the job, with its defaults; DataDigest that of the data it read.
	Spec       json.RawMessage `json:"spec"`
	SpecDigest string          `json:"spec_digest"`
	DataDigest string          `json:"data_digest"`
	// Position is where the job stood at the step, in the coordinator's form:
	// phase, epoch, the scores so far.
	Position json.RawMessage `json:"position"`
	Epoch    uint64          `json:"epoch"`
	// Scores are those of exactly this model that were known when it was complete.
	Scores []Score `json:"scores,omitempty"`
	Schema Schema  `json:"schema"`
	Files  []File  `json:"files"`
}

// Score is what the model had on a split; GAUC only with groups.
type Score struct {
	Split   string  `json:"split"`
	Samples uint64  `json:"samples"`
	AUC     float64 `json:"auc"`
	LogLoss float64 `json:"log_loss"`
	GAUC    float64 `json:"gauc,omitempty"`
}

// Part is the state hash of a table, or of the dense tensors.
type Part struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

// File is one shard.
type File struct {
	Shard shard.ID `json:"shard"`
	Lo    uint64   `json:"key_lo,string"`
	Hi    uint64   `json:"key_hi,string"` // inclusive
	// Dense are the ids of the tensors in the file.
	Dense  []uint32 `json:"dense,omitempty"`
	Name   string   `json:"name"` // within the checkpoint's folder
	Bytes  int64    `json:"bytes"`
	SHA256 string   `json:"sha256"`
	Rows   uint64   `json:"rows"`
	Hash   string   `json:"state_hash"`
}

// Overlaps reports whether the file may hold rows of a range of keys.
func (f File) Overlaps(r shard.Range) bool { return f.Lo <= uint64(r.Hi) && uint64(r.Lo) <= f.Hi }

// Bytes returns the size of all files.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// Rows returns the rows of all files.
func (m *Manifest) Rows() (n uint64) {
	for _, f := range m.Files {
		n += f.Rows
	}
	return n
}

// Name is the checkpoint's folder below the base directory.
func (m *Manifest) Name() string { return Name(m.Job+"-"+m.Run, m.Step) }

// Name is the folder of the checkpoint of a job's run at a step. Steps are padded
// so that the order of names is that of steps.
func Name(run string, step uint64) string { return fmt.Sprintf("%s/%012d", run, step) }

// envelope is the manifest's file: a checksum around the JSON text.
type envelope struct {
	SHA256   string          `json:"sha256"`
	Manifest json.RawMessage `json:"manifest"`
}

// encode returns the bytes of the manifest's file.
func (m *Manifest) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return fmt.Appendf(nil, "{\"sha256\":\"%x\",\n\"manifest\":%s}\n", sha256.Sum256(text), text), nil
}

// ErrDamaged says that a file of a checkpoint is not what was written.
var ErrDamaged = errors.New("damaged checkpoint")

func damaged(name, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w", ErrDamaged, name, fmt.Errorf(format, args...))
}

// DecodeManifest reads and checks the bytes of a manifest's file; name is for
// the error.
func DecodeManifest(name string, b []byte) (*Manifest, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, damaged(name, "%w", err)
	}
	if sum := sha256.Sum256(e.Manifest); hex.EncodeToString(sum[:]) != e.SHA256 {
		return nil, damaged(name, "its SHA-256 is %x, it says %s", sum, e.SHA256)
	}
	m := new(Manifest)
	if err := json.Unmarshal(e.Manifest, m); err != nil {
		return nil, damaged(name, "%w", err)
	}
	if m.Format != Format {
		return nil, fmt.Errorf("%s: format %d was written by another version of fathom (%s), this one reads format %d", name, m.Format, m.Program, Format)
	}
	if err := m.check(); err != nil {
		return nil, damaged(name, "%w", err)
	}
	return m, nil
}

// check finds what a sound checksum does not.
func (m *Manifest) check() error {
	if len(m.Files) > filesMax {
		return fmt.Errorf("%d files, at most %d are allowed", len(m.Files), filesMax)
	}
	if _, err := strconv.ParseUint(m.Run, 16, 64); err != nil || len(m.Run) != 16 || m.Job == "" {
		return fmt.Errorf("run %q of job %q", m.Run, m.Job)
	}
	var cut shard.Map
	names := map[string]bool{}
	for _, f := range m.Files {
		cut.Shards = append(cut.Shards, shard.Shard{ID: f.Shard, Range: shard.Range{Lo: shard.Key(f.Lo), Hi: shard.Key(f.Hi)}})
		if f.Name == "" || path.Base(f.Name) != f.Name || f.Name == "." || f.Name == ".." || names[f.Name] {
			return fmt.Errorf("shard %d is in a file %q", f.Shard, f.Name)
		}
		names[f.Name] = true
	}
	return cut.Validate()
}

// Commit writes the manifest, which makes the checkpoint exist. All its files
// must be there already.
func Commit(ctx context.Context, b Bucket, m *Manifest) error {
	m.Format = Format
	text, err := m.encode()
	if err != nil {
		return err
	}
	name := path.Join(m.Name(), ManifestName)
	if _, err := DecodeManifest(name, text); err != nil {
		return fmt.Errorf("BUG: the manifest cannot be read back: %w", err)
	}
	return b.Create(ctx, name, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// ErrNone says that there is no checkpoint of that name.
var ErrNone = errors.New("no such checkpoint")

// ReadManifest reads the manifest of the checkpoint of that name; "" is the
// bucket's own root. The error wraps ErrNone, ErrDamaged or is of the store.
func ReadManifest(ctx context.Context, b Bucket, name string) (*Manifest, error) {
	file := path.Join(name, ManifestName)
	r, err := b.Open(ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", ErrNone, file)
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, manifestMax+1))
	err = errors.Join(err, r.Close())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(text) > manifestMax {
		return nil, damaged(file, "it has more than %d bytes", manifestMax)
	}
	return DecodeManifest(file, bytes.TrimSpace(text))
}
