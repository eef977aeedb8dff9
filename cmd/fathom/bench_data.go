package main

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/coordinator/job"
)

// benchZipf is the exponent of the values' frequencies within a field.
const benchZipf = 1.05

// benchCacheBytes is enough to keep all samples decoded.
const benchCacheBytes = 4 << 30

// clickSizes are how many values the fields of click data have: a million in 39
// fields. Other numbers of fields take as many of them from the front, and from
// the front again; ten fields are those of app recommendation.
var (
	clickSizes = []int{64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
		302931, 250000, 150000, 100000, 80000, 40000, 30000, 15000, 10000, 8000, 5000, 4000, 2000,
		1000, 600, 300, 100, 100, 50, 30, 20, 15, 10, 5, 4, 3}
	appSizes = []int{957, 4082, 7, 7, 2, 3, 2, 9, 80, 233}
)

func fieldSizes(fields int) []int {
	if fields == len(appSizes) {
		return appSizes
	}
	sizes := make([]int, fields)
	for i := range sizes {
		sizes[i] = clickSizes[i%len(clickSizes)]
	}
	return sizes
}

// benchData is generated training data in a file.
type benchData struct {
	dir, file string
	rows      int
	// distinct is the mean number of different values in a batch.
	distinct float64
}

// writeBenchData draws batches times batch samples with a label of one in four
// and values by Zipf's law, and writes them as CSV into dir.
func writeBenchData(dir string, fields, batch, batches int) (*benchData, error) {
	d := &benchData{dir: dir, file: "samples.csv", rows: batch * batches}
	values := make([][]int, fields)
	distinct := 0
	for f, size := range fieldSizes(fields) {
		values[f] = drawZipf(d.rows, size, random.Stream(1, random.Synth, uint64(f), uint64(size), 0))
		for b := range batches {
			seen := make(map[int]bool)
			for _, v := range values[f][b*batch:][:batch] {
				seen[v] = true
			}
			distinct += len(seen)
		}
	}
	d.distinct = float64(distinct) / float64(batches)
	file, err := os.Create(filepath.Join(dir, d.file))
	if err != nil {
		return nil, fmt.Errorf("write the samples: %w", err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	writeCSV(w, values)
	if err := errors.Join(w.Flush(), file.Close()); err != nil {
		return nil, fmt.Errorf("write the samples: %w", err)
	}
	return d, nil
}

// writeCSV writes a label and one column for every field. The writer remembers
// the first error.
func writeCSV(w *bufio.Writer, values [][]int) {
	w.WriteString("label")
	for f := range values {
		w.WriteString(",f" + strconv.Itoa(f))
	}
	w.WriteByte('\n')
	labels := random.Stream(1, random.Synth, math.MaxUint32, 0, 0)
	var number []byte
	for i := range values[0] {
		label := byte('0')
		if random.Unit(random.Word(labels, uint64(i))) < 0.25 {
			label = '1'
		}
		w.WriteByte(label)
		for f := range values {
			number = strconv.AppendInt(append(number[:0], ','), int64(values[f][i]), 10)
			w.Write(number)
		}
		w.WriteByte('\n')
	}
}

// drawZipf draws n numbers below size; the i-th most frequent has a probability
// that falls as i to the power -1.05.
func drawZipf(n, size int, stream uint64) []int {
	sums, sum := make([]float64, size), 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -benchZipf)
		sums[i] = sum
	}
	drawn := make([]int, n)
	for i := range drawn {
		u := sum * random.Unit64(random.Word(stream, uint64(i)))
		drawn[i] = min(sort.SearchFloat64s(sums, u), size-1)
	}
	return drawn
}

// repeated makes the data be listed as often as it takes to have at least so
// many batches in an epoch, under different names. It returns the names.
func (d *benchData) repeated(times int) ([]string, error) {
	names := []string{d.file}
	for i := 1; i < times; i++ {
		name := fmt.Sprintf("samples-%d.csv", i)
		if err := os.Link(filepath.Join(d.dir, d.file), filepath.Join(d.dir, name)); err != nil {
			return nil, fmt.Errorf("repeat the samples: %w", err)
		}
		names = append(names, name)
	}
	return names, nil
}

// benchJob is the job that trains a model on the data.
func (f *benchFlags) benchJob(name string, d *benchData, files []string, lanes int, c job.Cluster) (*job.Job, error) {
	s := model.Spec{Name: name}.WithDefaults()
	if s.EmbeddingDim > 0 {
		s.EmbeddingDim = f.dim
	}
	if len(s.Hidden) > 0 {
		s.Hidden = f.hidden
	}
	j := job.Job{Metadata: job.Metadata{Name: "bench"}, Spec: job.Spec{
		Data:    job.Data{Root: d.dir, Format: job.FormatCSV, Train: files, CacheBytes: benchCacheBytes},
		Model:   s,
		Train:   job.Train{BatchSize: f.batch, Lanes: lanes, Seed: 1, Optimizer: optim.Config{Name: "lamb", TrustFloor: 0.1}},
		Cluster: c,
	}}
	for i := range f.fields {
		j.Spec.Data.Fields = append(j.Spec.Data.Fields, job.Field{Name: "f" + strconv.Itoa(i)})
	}
	j = j.WithDefaults()
	return job.Parse("bench", j.JSON(), f.sets) // a YAML reader reads JSON
}

// shape names what of the job decides on its speed.
func (f *benchFlags) shape(j *job.Job) string {
	s := j.Spec.Model
	text := fmt.Sprintf("%s F=%d B=%d lanes=%d", s.Name, len(j.Spec.Data.Fields), j.Spec.Train.BatchSize, j.Spec.Train.Lanes)
	if s.EmbeddingDim > 0 {
		text += fmt.Sprintf(" k=%d", s.EmbeddingDim)
	}
	for i, h := range s.Hidden {
		text += map[bool]string{true: " hidden=", false: "x"}[i == 0] + strconv.Itoa(h)
	}
	for _, set := range f.sets {
		text += " " + strings.TrimPrefix(set, "spec.")
	}
	return text
}
