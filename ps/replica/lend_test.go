package replica

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// entries returns n entries from an index on, some of them large.
func entries(from uint64, n int) []*raft.Log {
	logs := make([]*raft.Log, n)
	for i := range logs {
		index := from + uint64(i)
		logs[i] = &raft.Log{
			Index: index, Term: 1 + index/5, Type: raft.LogCommand, AppendedAt: time.Unix(int64(index), 0),
			Data: bytes.Repeat([]byte(fmt.Sprint(index)), 1+int(index%3)*9000), Extensions: []byte{byte(index)},
		}
	}
	return logs
}

// TestLogIsThatOfTheBuiltInCodec writes a log in turns with and without lent
// memory: both read what the other wrote.
func TestLogIsThatOfTheBuiltInCodec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(lend bool) Disk {
		t.Helper()
		var d Disk
		var err error
		if lend {
			d, err = openWAL(dir, 64<<10, nil, hclog.NewNullLogger())
		} else {
			d, err = wal.Open(dir, wal.WithSegmentSize(64<<10), wal.WithLogger(hclog.NewNullLogger()))
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	next := uint64(1)
	for round := range 6 {
		d := open(round%2 == 0)
		for range 4 {
			logs := entries(next, 3)
			if err := d.StoreLogs(logs); err != nil {
				t.Fatal(err)
			}
			next += 3
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = open(round%2 == 1)
		for index := uint64(1); index < next; index++ {
			var got raft.Log
			if err := d.GetLog(index, &got); err != nil {
				t.Fatalf("round %d, entry %d: %v", round, index, err)
			}
			want := entries(index, 1)[0]
			if got.Index != want.Index || got.Term != want.Term || !got.AppendedAt.Equal(want.AppendedAt) ||
				!bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Extensions, want.Extensions) {
				t.Fatalf("round %d: entry %d is not what was written", round, index)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendsUseTheSameMemory(t *testing.T) {
	d, err := openWAL(t.TempDir(), 1<<20, nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.StoreLogs(entries(11, 9)); err != nil {
		t.Fatal(err)
	}
	kept := &d.codec.kept[0]
	if err := d.StoreLogs(entries(20, 9)); err != nil {
		t.Fatal(err)
	}
	if &d.codec.kept[0] != kept {
		t.Error("the second append took new memory")
	}
	if len(d.codec.kept)-len(d.codec.room) < 9*9000*2 {
		t.Errorf("only %d bytes were lent", len(d.codec.kept)-len(d.codec.room))
	}
}

// Who reads a log while it is closed is told so: raft-wal alone panics.
func TestLogIsClosedWhileItIsRead(t *testing.T) {
	t.Parallel()
	for range 20 {
		d, err := openWAL(t.TempDir(), 64<<10, nil, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.StoreLogs(entries(1, 3)); err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		begun := make(chan struct{}, 3)
		for _, read := range []func() error{
			func() error { _, err := d.FirstIndex(); return err },
			func() error { _, err := d.LastIndex(); return err },
			func() error { return d.GetLog(2, new(raft.Log)) },
		} {
			readers.Go(func() {
				err := read()
				begun <- struct{}{}
				for err == nil {
					err = read()
				}
				if !errors.Is(err, wal.ErrClosed) {
					t.Error(err)
				}
			})
		}
		for range 3 {
			<-begun
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		readers.Wait()
	}
}
