package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/table"
)

// ManifestName is the file that makes a directory an artifact.
const ManifestName = "manifest.json"

// Format is the version of artifacts that this program writes and reads.
const Format = 1

// KeyFunction names how a value becomes a key; docs/formats/artifact.md has it in
// full. An artifact with keys of another kind is refused.
const KeyFunction = "fnv1a-64/murmur3-mix/1"

// manifestMax bounds a manifest.
const manifestMax = 64 << 20

var (
	// ErrDamaged is wrapped by errors about an artifact that is not what was
	// written.
	ErrDamaged = errors.New("the artifact is damaged")
	// ErrNone says that a directory is no artifact.
	ErrNone = errors.New("no artifact: there is no " + ManifestName)
	// ErrFormat says that the artifact is of another version of the format.
	ErrFormat = errors.New("the artifact is of another format")
	// ErrExists says that there is something where an artifact is to be written.
	ErrExists = errors.New("something is there already; an artifact never overwrites")
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// About is what an artifact tells of its model that the servers do not know.
type About struct {
	// Program is the version of fathom that writes it.
	Program string `json:"program"`
	Name    string `json:"job"`
	// Job is the job that the model is of, as JSON with its defaults, without the
	// cluster and the place of the data: from it the model is built and records are
	// read. Of a dimension search it is the one that trained the winner.
	Job json.RawMessage `json:"spec"`
	// SpecDigest identifies the job that was submitted.
	SpecDigest string `json:"spec_digest"`
	// StateHash is the hash of the trained state, with the optimizers' slots, as
	// fathom hash prints it.
	StateHash string `json:"state_hash"`
	// Scores are those reported of exactly this model.
	Scores []checkpoint.Score `json:"scores"`
	// Tensors are the dense tensors, by id.
	Tensors []Tensor `json:"tensors"`
}

// Tensor names a dense tensor of the model.
type Tensor struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	// Running tensors are statistics of the data, not weights.
	Running bool `json:"running,omitempty"`
}

// Size is the number of its elements.
func (t Tensor) Size() int {
	n := 1
	for _, s := range t.Shape {
		n *= s
	}
	return n
}

// Manifest describes an artifact.
type Manifest struct {
	Format int `json:"format"`
	About
	KeyFunction string `json:"key_function"`
	// Step is the version of the model; Updates how many steps its optimizers
	// counted, which are fewer after a search.
	Step    uint64 `json:"step"`
	Updates uint64 `json:"updates"`
	// Seed and Factors are what the weights of keys without a row follow from.
	Seed    uint64   `json:"seed,string"`
	Factors []Factor `json:"rate_factors,omitempty"`
	Tables  []Table  `json:"tables"`
	// Dense is the file of the dense tensors.
	Dense File `json:"dense"`
}

// Factor is what the learning rates are multiplied with from an update on. It is
// there when the optimizer updates every row at every step.
type Factor struct {
	From uint64  `json:"from"`
	Rate float32 `json:"rate"`
}

// Table is one table of an artifact.
type Table struct {
	// Schema is the table as the servers had it.
	Schema table.Schema `json:"schema"`
	Rows   int64        `json:"rows"`
	// Parameters are its weights, rows times widths; Bytes four times as many.
	Parameters int64 `json:"parameters"`
	Bytes      int64 `json:"bytes"`
	File       File  `json:"file"`
}

// File is one file of an artifact.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// sealed is what manifest.json holds: the manifest and its checksum.
type sealed struct {
	SHA256   string          `json:"sha256"`
	Manifest json.RawMessage `json:"manifest"`
}

// encode returns the content of manifest.json.
func (m *Manifest) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	sum := sha256.Sum256(text)
	text, err = json.MarshalIndent(sealed{hex.EncodeToString(sum[:]), text}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return append(text, '\n'), nil
}

// parseManifest reads manifest.json and checks it against its checksum and
// against itself. The checksum is of the text without insignificant spaces.
func parseManifest(text []byte) (*Manifest, error) {
	var s sealed
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, damaged("%s: %w", ManifestName, err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, s.Manifest); err != nil {
		return nil, damaged("%s: %w", ManifestName, err)
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(compact.Bytes(), &version); err != nil {
		return nil, damaged("%s: %w", ManifestName, err)
	}
	if version.Format != Format {
		return nil, fmt.Errorf("%w: it has format %d, this program reads format %d", ErrFormat, version.Format, Format)
	}
	if sum := sha256.Sum256(compact.Bytes()); hex.EncodeToString(sum[:]) != s.SHA256 {
		return nil, damaged("the SHA-256 of the manifest is %x, %s says %q", sum, ManifestName, s.SHA256)
	}
	d := json.NewDecoder(&compact)
	d.DisallowUnknownFields()
	m := new(Manifest)
	if err := d.Decode(m); err != nil {
		return nil, damaged("%s: %w", ManifestName, err)
	}
	return m, m.check()
}

// ReadManifest reads the manifest of the artifact in a directory.
func ReadManifest(dir string) (*Manifest, error) {
	f, err := os.Open(filepath.Join(dir, ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("read the artifact: %w", err)
	}
	defer f.Close() // read only
	text, err := io.ReadAll(io.LimitReader(f, manifestMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the artifact: %w", err)
	}
	if len(text) > manifestMax {
		return nil, fmt.Errorf("%s: %w", dir, damaged("%s has more than %d bytes", ManifestName, manifestMax))
	}
	m, err := parseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return m, nil
}

// Limits of what a manifest may name.
const (
	tablesMax       = 1 << 10
	tensorsMax      = 1 << 16
	tensorFloatsMax = 1 << 28
)

// check finds what cannot be, so that nothing is allocated or opened by it.
func (m *Manifest) check() error {
	if m.KeyFunction != KeyFunction {
		return fmt.Errorf("%w: its keys are made by %q, this program's by %q", ErrFormat, m.KeyFunction, KeyFunction)
	}
	if len(m.Tables) > tablesMax || len(m.Tensors) > tensorsMax {
		return damaged("%d tables and %d tensors, at most %d and %d are possible", len(m.Tables), len(m.Tensors), tablesMax, tensorsMax)
	}
	names := map[string]bool{ManifestName: true}
	file := func(f File) error {
		if f.Name == "" || f.Name != filepath.Base(f.Name) || !filepath.IsLocal(f.Name) || names[f.Name] || f.Bytes < 0 {
			return damaged("file %q of %d bytes is named", f.Name, f.Bytes)
		}
		names[f.Name] = true
		return nil
	}
	for i, t := range m.Tables {
		if err := t.Schema.Validate(); err != nil {
			return damaged("%w", err)
		}
		if int(t.Schema.ID) != i {
			return damaged("table number %d has the id %d", i, t.Schema.ID)
		}
		width := int64(t.Schema.Width())
		if t.Rows < 0 || t.Rows > math.MaxInt64/(4*width) || t.Parameters != t.Rows*width || t.Bytes != 4*t.Parameters {
			return damaged("table %q of width %d has %d rows, %d parameters, %d bytes", t.Schema.Name, width, t.Rows, t.Parameters, t.Bytes)
		}
		if err := file(t.File); err != nil {
			return err
		}
	}
	total := 0
	for _, t := range m.Tensors {
		for _, n := range t.Shape {
			if n < 1 || n > tensorFloatsMax {
				return damaged("tensor %q has shape %v", t.Name, t.Shape)
			}
		}
		n := 1
		for _, s := range t.Shape {
			if n *= s; n > tensorFloatsMax {
				return damaged("tensor %q has shape %v", t.Name, t.Shape)
			}
		}
		if total += n; total > tensorFloatsMax*4 {
			return damaged("the tensors have more than %d elements", tensorFloatsMax*4)
		}
	}
	if slices.ContainsFunc(m.Scores, func(s checkpoint.Score) bool { return s.Split == "" }) {
		return damaged("a score is of no split")
	}
	return file(m.Dense)
}

// Score returns the reported score of a split.
func (m *Manifest) Score(split string) (checkpoint.Score, bool) {
	for _, s := range m.Scores {
		if s.Split == split {
			return s, true
		}
	}
	return checkpoint.Score{}, false
}
