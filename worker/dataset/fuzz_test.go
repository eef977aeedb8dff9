package dataset

import (
	"bytes"
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
)

// FuzzCSV: whatever the bytes, records are found and counted the same way when
// the file is indexed and when a unit is decoded (or Open reports the fault),
// and what encoding/csv accepts is read as encoding/csv reads it.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{
		"label,f\n1,a\n", "label,f\r\n0,\"x,\"\"y\"\"\nz\"\r\n\r\n1,b", "f,label\n\"a\n,1\n\"b\"c,0\n,1\n", "label,f\n1,a\"b\n0,\"\"\n",
		"\xef\xbb\xbflabel,f\n1,\x00\n", "label,f\n1,\"", "label,f\n\"1\",\"a\"\n\"", "label,\"f\"\n1,a\r\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := openText(t, text, job.Data{Format: "csv", Fields: fields("f"), MaxBadRecords: 1 << 30})
		if err != nil {
			return
		}
		got := all(t, s, "train")
		r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\xef\xbb\xbf")))
		want, err := r.ReadAll()
		if err != nil || s.BadRecords() > 0 || strings.Contains(text, "\r") {
			return // encoding/csv rewrites line breaks inside quotes
		}
		fcol, lcol := slices.Index(want[0], "f"), slices.Index(want[0], "label")
		if got.N != len(want)-1 {
			t.Fatalf("%d rows, encoding/csv has %d", got.N, len(want)-1)
		}
		for i, w := range want[1:] {
			k := keys("f", w[fcol])[0]
			if w[fcol] == "" {
				k = s.schema.fields[0].hash.Missing()
			}
			if got.Keys[i] != k || got.Labels[i] == 1 != strings.HasPrefix(w[lcol], "1") {
				t.Fatalf("row %d differs from %q", i, w)
			}
		}
	})
}

// FuzzFFM: a line gives columns of one row, or a message; never a panic.
func FuzzFFM(f *testing.F) {
	for _, s := range []string{"1 0:3:1 1:a:0.5", "0", "", "1 0:1", "1 0::1", "1 7:x:nan\t1:b:1e400", "1 18446744073709551616:1:1", " 1  0:3:1 # 2"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) { fuzzSparse(t, "libffm", line) })
}

// FuzzSVM is FuzzFFM for libsvm.
func FuzzSVM(f *testing.F) {
	for _, s := range []string{"1 3:1 4:0.5", "0", "1 3", "1 :1", "1 -1:1", "1 1:1 # x", "1 3:1e39"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) { fuzzSparse(t, "libsvm", line) })
}

func fuzzSparse(t *testing.T, format string, line []byte) {
	if bytes.IndexByte(line, '\n') >= 0 {
		return
	}
	sc, err := newSchema(job.Data{Format: format}, fields("0", "1"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := newSparseDialect(format, sc)
	if err != nil {
		t.Fatal(err)
	}
	dec, e := d.decoder(), newEncoder(sc)
	dec.reset()
	if _, msg := dec.add([]byte("1 0:1:1")); format == "libffm" && msg != "" {
		t.Fatal(msg)
	}
	_, msg := dec.add(line)
	if at := dec.offset(line, 1); at < 0 || at > len(line) {
		t.Errorf("offset %d of %d", at, len(line))
	}
	e.out.reset(2)
	r := dec.finish()
	if msg != "" {
		r.broken = []fault{{1, -1, msg}}
	}
	if _, err := e.encode(r); err != nil {
		t.Fatal(err)
	}
	if n := len(e.out.labels); n < 1 && format == "libffm" || n > 2 {
		t.Errorf("%d rows", n)
	}
}
