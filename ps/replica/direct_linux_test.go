package replica

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestSegmentFileHoldsWhatWasAppended appends pieces of all sizes, opens the file
// again now and then, and begins again a little before the end, as a log does
// whose end was not complete.
func TestSegmentFileHoldsWhatWasAppended(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	files, dir := systemFiles(), t.TempDir()
	f, err := files.Create(dir, "segment", size)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := f.(*directFile); !ok {
		t.Skip("this file system has no direct writes")
	}
	random := rand.New(rand.NewPCG(1, 2))
	var want []byte
	for i := range 60 {
		piece := make([]byte, 1+random.IntN([]int{40, directBlock, 3 * directBlock, 2*stageSize + 99}[i%4]))
		for j := range piece {
			piece[j] = byte(random.Uint32())
		}
		if i%7 == 6 {
			want = want[:len(want)-random.IntN(min(len(want), 2*directBlock))]
		}
		if n, err := f.WriteAt(piece, int64(len(want))); err != nil || n != len(piece) {
			t.Fatalf("write %d: %d of %d bytes: %v", i, n, len(piece), err)
		}
		want = append(want, piece...)
		got := make([]byte, len(piece)+1)
		if n, err := f.ReadAt(got, int64(len(want)-len(piece))); n < len(piece) || !bytes.Equal(got[:len(piece)], piece) {
			t.Fatalf("piece %d is read back as something else: %v", i, err)
		}
		if i%5 == 4 {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if f, err = files.OpenWriter(dir, "segment"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "segment"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < len(want) || !bytes.Equal(got[:len(want)], want) {
		t.Fatalf("the file of %d bytes does not begin with the %d appended", len(got), len(want))
	}
	rest := got[len(want):]
	if block := -len(want) & (directBlock - 1); !bytes.Equal(rest[:block], make([]byte, block)) {
		t.Fatal("the last block does not end with zeros")
	}
}
