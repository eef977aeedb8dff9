package dataset

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
)

// Defaults of job.Data, for a job that was not resolved.
const (
	shuffleWindowRowsDefault = 1 << 20
	cacheBytesDefault        = 1 << 30
)

// splitNames are the splits in the order they are indexed.
var splitNames = [...]string{"train", "valid", "test"}

// Set is the data of one job: up to three splits over one schema and one
// cache. It is safe for concurrent use.
type Set struct {
	schema     *schema
	windowRows int64
	splits     map[string]*Split
	cache      *cache
	encoders   sync.Pool
	teacher    *teacher // of synthetic data, else nil
	digest     string
	badRecords int64
	log        *slog.Logger

	// prefetching is bounded to one goroutine per split; stop ends them.
	stop        context.CancelFunc
	background  context.Context
	prefetching sync.WaitGroup
}

// Open indexes and checks all data of a job; the fields that a resolved job
// has filled in may be zero. It reads everything once, using all cores.
//
// A fault in the data or in its description is an *InputError (inside the
// error), a bad record beyond MaxBadRecords one with its line.
func Open(ctx context.Context, d job.Data, log *slog.Logger) (*Set, error) {
	s, sources, err := prepare(d, true, log)
	if err != nil {
		return nil, err
	}
	if err := s.indexAll(ctx, sources, d.MaxBadRecords); err != nil {
		s.Close()
		return nil, err
	}
	s.digest = s.computeDigest(d)
	s.warnSmallCache()
	return s, nil
}

// indexAll indexes every split that has sources.
func (s *Set) indexAll(ctx context.Context, sources map[string][]source, badMax int64) error {
	if len(sources["train"]) == 0 {
		return &InputError{Msg: "data.train names no files"}
	}
	for _, name := range splitNames {
		if len(sources[name]) > 0 {
			if err := s.index(ctx, name, sources[name], badMax); err != nil {
				return err
			}
		}
	}
	return checkSeen("train", sources["train"], s.schema)
}

// prepare makes a set without any rows, and the sources of each split.
func prepare(d job.Data, labelled bool, log *slog.Logger) (*Set, map[string][]source, error) {
	if d.ShuffleWindowRows <= 0 {
		d.ShuffleWindowRows = shuffleWindowRowsDefault
	}
	if d.CacheBytes <= 0 {
		d.CacheBytes = cacheBytesDefault
	}
	fields := d.Fields
	if len(fields) == 0 && d.Format == "synthetic" && d.Synthetic != nil {
		if err := checkSynthetic(syntheticDefaults(*d.Synthetic)); err != nil {
			return nil, nil, err
		}
		fields = SyntheticFields(*d.Synthetic)
	}
	sc, err := newSchema(d, fields)
	if err != nil {
		return nil, nil, err
	}
	if !labelled {
		sc.dropLabel(!sparse(d.Format))
	}
	s := &Set{schema: sc, windowRows: d.ShuffleWindowRows, splits: make(map[string]*Split), log: log}
	s.cache = newCache(d.CacheBytes, s.decode)
	s.encoders.New = func() any { return newEncoder(sc) }
	s.background, s.stop = context.WithCancel(context.Background())
	sources := make(map[string][]source)
	if d.Format == "synthetic" {
		err = s.addSynthetic(d, sources)
	} else {
		err = s.addFiles(d, sources)
	}
	if err != nil {
		s.stop()
		return nil, nil, err
	}
	return s, sources, nil
}

// addSynthetic makes the generator the source of every split.
func (s *Set) addSynthetic(d job.Data, sources map[string][]source) error {
	if d.Synthetic == nil {
		return &InputError{Msg: "data.synthetic is missing: format synthetic needs it"}
	}
	t, err := newTeacher(*d.Synthetic)
	if err != nil {
		return err
	}
	s.teacher = t
	for i, name := range splitNames {
		g, err := newGenerated(t, i, s.schema)
		if err != nil {
			return err
		}
		if g.rows > 0 {
			sources[name] = []source{g}
		}
	}
	return nil
}

// addFiles opens the files of every split.
func (s *Set) addFiles(d job.Data, sources map[string][]source) error {
	patterns := map[string][]string{"train": d.Train, "valid": d.Valid, "test": d.Test}
	for _, name := range splitNames {
		paths, err := resolve(d.Root, name, patterns[name])
		if err != nil {
			return err
		}
		for _, path := range paths {
			src, err := openSource(path, d, s.schema)
			if err != nil {
				return err
			}
			sources[name] = append(sources[name], src)
		}
	}
	return nil
}

// openSource opens one file. Without a schema only its columns are read.
func openSource(path string, d job.Data, s *schema) (source, error) {
	f, err := newFile(path)
	if err != nil {
		return nil, err
	}
	switch d.Format {
	case "csv", "tsv":
		return openCSV(f, d, s)
	case "libsvm", "libffm":
		dialect, err := newSparseDialect(d.Format, s)
		if err != nil {
			return nil, err
		}
		return openSparse(f, dialect)
	case "parquet":
		return openParquet(f, s)
	case "arrow":
		return openArrow(f, s)
	}
	formats := []string{"csv", "tsv", "libsvm", "libffm", "parquet", "arrow", "synthetic"}
	return nil, &InputError{Msg: "data.format: " + unknown("format", d.Format, formats)}
}

// index scans and decodes all units of a split, several at a time, and takes
// in the results in order.
func (s *Set) index(ctx context.Context, name string, sources []source, badMax int64) error {
	p := &Split{set: s, name: name}
	var units []*unit
	for _, src := range sources {
		u, err := src.scan(ctx)
		if err != nil {
			return err
		}
		units = append(units, u...)
	}
	for i, u := range units {
		u.split, u.number = name, i
	}
	faults := &faultLog{set: s, max: badMax}
	for wave := 2 * runtime.GOMAXPROCS(0); len(units) > 0; {
		n := min(wave, len(units))
		if err := s.indexWave(ctx, units[:n], faults); err != nil {
			return err
		}
		for _, u := range units[:n] {
			if u.rows > 0 {
				p.units = append(p.units, u)
			}
		}
		units = units[n:]
	}
	if len(p.units) == 0 {
		return &InputError{Msg: fmt.Sprintf("data.%s has no rows in %d files", name, len(sources))}
	}
	p.finish()
	s.splits[name] = p
	return nil
}

// indexWave decodes some units at the same time and takes in what was found in
// their order, so that the first error is the same every time.
func (s *Set) indexWave(ctx context.Context, units []*unit, faults *faultLog) error {
	found := make([]*indexed, len(units))
	errs := make([]error, len(units))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, u := range units {
		g.Go(func() error {
			if errs[i] = context.Cause(ctx); errs[i] == nil {
				found[i], errs[i] = s.indexUnit(ctx, u, faults.samples())
			}
			return nil
		})
	}
	g.Wait()
	for i := range units {
		if errs[i] != nil {
			return errs[i]
		}
		if err := faults.add(found[i]); err != nil {
			return err
		}
	}
	return nil
}

// indexed is what indexing a unit found: how many bad records, and the first
// of them.
type indexed struct {
	bad   int64
	first []*InputError
}

// indexUnit decodes a unit, notes what there is to know about it, and offers
// the block to the cache. It keeps at most samples bad records.
func (s *Set) indexUnit(ctx context.Context, u *unit, samples int64) (*indexed, error) {
	found := &indexed{}
	b, err := s.load(ctx, u, func(faults []fault, r *records) {
		for _, f := range faults {
			if found.bad++; found.bad <= samples {
				where := r.at(f.row, f.col)
				where.Msg = f.msg
				found.first = append(found.first, &where)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	u.rows, u.positives, u.bytes, u.sum = b.rows, b.positives(), b.bytes(), b.sum()
	if b.rows > 0 {
		s.cache.offer(u, b)
	}
	return found, nil
}

// decode decodes a unit again, for the cache, and makes sure that it is what
// it was when the set was opened.
func (s *Set) decode(ctx context.Context, u *unit) (*block, error) {
	b, err := s.load(ctx, u, func([]fault, *records) {})
	if err == nil && b.sum() != u.sum {
		return nil, fmt.Errorf("%s: %w", u.src.name(), ErrChanged)
	}
	return b, err
}

// load decodes a unit and hands over the bad records of every record batch.
func (s *Set) load(ctx context.Context, u *unit, bad func([]fault, *records)) (*block, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	e := s.encoders.Get().(*encoder)
	defer s.encoders.Put(e)
	e.out.reset(len(s.schema.fields))
	e.thin = s.schema.newThin(u.split, u.number)
	err := u.src.load(ctx, u, func(r *records) error {
		faults, err := e.encode(r)
		if err != nil {
			return &InputError{File: u.src.name(), Msg: err.Error()}
		}
		bad(faults, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e.out.block(), nil
}

// Close stops reading ahead and frees the cache. Reads must have returned.
func (s *Set) Close() error {
	s.stop()
	s.prefetching.Wait()
	s.cache.drop()
	return nil
}

// Digest returns a digest, in hexadecimal, of the schema and of everything
// that was decoded. It depends on keys, weights, labels and the order and
// grouping of rows, not on file names or the format.
func (s *Set) Digest() string { return s.digest }

// Fields returns the number of fields of every sample.
func (s *Set) Fields() int { return len(s.schema.fields) }

// Split returns the split "train", "valid" or "test"; false when the job names
// no data for it.
func (s *Set) Split(name string) (*Split, bool) {
	p, ok := s.splits[name]
	return p, ok
}

// BadRecords returns how many bad records are left out.
func (s *Set) BadRecords() int64 { return s.badRecords }

// computeDigest hashes the schema and every unit's sum.
func (s *Set) computeDigest(d job.Data) string {
	h := xxh3.New()
	fields := d.Fields
	if len(fields) == 0 {
		fields = SyntheticFields(*d.Synthetic)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(fmt.Sprintf("worker/dataset: BUG: marshal fields: %v", err))
	}
	fmt.Fprintf(h, "fathom dataset 1\n%s\n", text)
	for _, name := range splitNames {
		if p := s.splits[name]; p != nil {
			fmt.Fprintf(h, "%s %d\n", name, len(p.units))
			for _, u := range p.units {
				sum := u.sum.Bytes()
				fmt.Fprintf(h, "%d %x\n", u.rows, sum[:])
			}
		}
	}
	sum := h.Sum128().Bytes()
	return hex.EncodeToString(sum[:])
}
