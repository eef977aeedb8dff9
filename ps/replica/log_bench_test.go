//go:build unix

package replica

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/fathom-train/fathom/ps/wire"
)

// BenchmarkLog appends entries of 256 KiB to a log on disk, one and sixteen at a
// time, and cuts it as snapshots do. By processor time: wall time is the disk's.
func BenchmarkLog(b *testing.B) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			log, err := openWAL(b.TempDir(), 16<<20, nil, hclog.NewNullLogger())
			if err != nil {
				b.Fatal(err)
			}
			defer log.Close()
			data := bytes.Repeat([]byte("gradient"), wire.MaxChunk/8)
			logs, next := make([]*raft.Log, n), uint64(1)
			start := used()
			for b.Loop() {
				for i := range logs {
					logs[i] = &raft.Log{Index: next, Term: 1, Data: data}
					next++
				}
				if err := log.StoreLogs(logs); err != nil {
					b.Fatal(err)
				}
				if next%1024 == 1 {
					if err := log.DeleteRange(1, next-513); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(next-1)*float64(len(data))/(used()-start).Seconds()/1e9, "GB/cpu-s")
		})
	}
}
