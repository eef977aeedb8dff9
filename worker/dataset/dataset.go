package dataset

import (
	"context"
	"log/slog"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/shard"
)

type Batch struct {
	N, Fields int
	Labels    []float32
	Keys      []shard.Key
	Weights   []float32
	Offsets   []int32
}
type Set struct{}
type Split struct{}
type InputError struct {
	File         string
	Line, Column int
	Msg          string
}
type Report struct{}

func (e *InputError) Error() string                                        { return e.Msg }
func Open(ctx context.Context, d job.Data, log *slog.Logger) (*Set, error) { return nil, nil }
func (s *Set) Close() error                                                { return nil }
func (s *Set) Digest() string                                              { return "" }
func (s *Set) Fields() int                                                 { return 0 }
func (s *Set) Split(name string) (*Split, bool)                            { return nil, false }
func (s *Set) TeacherAUC() (float64, bool)                                 { return 0, false }
func (p *Split) Rows() int64                                               { return 0 }
func (p *Split) Positives() (int64, bool)                                  { return 0, false }
func (p *Split) Read(ctx context.Context, dst *Batch, lo, hi int64) error  { return nil }
func (p *Split) ReadEpoch(ctx context.Context, dst *Batch, seed, epoch uint64, lo, hi int64) error {
	return nil
}
func SyntheticFields(s job.Synthetic) []job.Field { return nil }
func WriteSynthetic(ctx context.Context, dir string, s job.Synthetic, format string) error {
	return nil
}
func Inspect(ctx context.Context, d job.Data, log *slog.Logger) (*Report, error) { return nil, nil }
