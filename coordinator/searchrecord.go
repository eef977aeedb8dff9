package coordinator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/coordinator/store"
)

// searchRecord is the stored state of a search: its space and its trials, from
// which the same search goes on. It is written once per generation, twice when
// that is screened.
type searchRecord struct {
	Survey *search.Survey `json:"survey"`
	Trials []search.Trial `json:"trials"`
	// Passes and CPUSeconds are for the report.
	Passes     int64              `json:"passes"`
	CPUSeconds map[string]float64 `json:"cpu_seconds"`
}

// encode compresses the record: widths and scores repeat much, and the store
// bounds the size of a value.
func (s *searchRecord) encode() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(s); err != nil {
		panic(fmt.Sprintf("coordinator: BUG: encode search: %v", err))
	}
	if err := z.Close(); err != nil {
		panic(fmt.Sprintf("coordinator: BUG: encode search: %v", err))
	}
	return b.Bytes()
}

// searchBytesMax bounds a record when it is read.
const searchBytesMax = 64 << 20

func decodeSearch(b []byte) (*searchRecord, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(z, searchBytesMax))
	if err != nil {
		return nil, err
	}
	s := new(searchRecord)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, err
	}
	return s, nil
}

// resume restores the search from its record; a job whose supernet is not
// surveyed yet has none.
func (r *run) resume(full *job.Job) error {
	r.search = nil
	if r.record == nil || full.Spec.Search == nil {
		return nil
	}
	space, err := r.space(full, r.record.Survey)
	if err != nil {
		return err
	}
	r.search, err = search.Resume(full.SearchConfig(), space, r.record.Trials)
	return err
}

// withRecord adds the storing of a search record to a write.
func (l *leader) withRecord(r *run, w *write, record *searchRecord) *write {
	w.ops = append(w.ops, store.Put(l.keys.search(r.number), record.encode()))
	install := w.apply
	w.apply = func() {
		r.entry.record = record
		install()
	}
	return w
}
