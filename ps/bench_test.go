//go:build linux

package ps

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/frame"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// benchServer, set to a directory, makes the test binary a server with its data
// there: its processor time is then told apart from its clients'.
const benchServer = "FATHOM_BENCH_SERVER"

const (
	benchWidth = 16
	benchRows  = 1 << 20
	benchAsk   = 8192 // rows of a call
)

func init() {
	if dir := os.Getenv(benchServer); dir != "" {
		serve = func() error { return serveBench(dir) }
	}
}

// serveBench is the server: one shard, one replica, until standard input ends.
func serveBench(dir string) error {
	s, err := New(Config{Node: "ps-0", Listen: "127.0.0.1:0", DataDir: dir, Coordinators: []string{"none"}})
	if err != nil {
		return err
	}
	session := newFakeSession()
	s.session = session
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-session.ready
		o := order(0, true, &proto.Member{Node: "ps-0", Address: s.Addr()})
		lamb, err := json.Marshal(optim.Config{Name: optim.LAMB})
		if err != nil {
			panic(err)
		}
		o.Schema.Tables[0].Columns[0].Width = benchWidth
		o.Schema.Tables[0].Columns[0].Optimizer = lamb
		session.obey(&proto.NodeOrder{Revision: 1, Groups: []*proto.GroupOrder{o}})
		fmt.Println(s.Addr())
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return s.Run(ctx)
}

// benched is a server in a process of its own and a client of it.
type benched struct {
	b      *testing.B
	pid    int
	client proto.ParameterServerClient
	keys   []shard.Key
	step   uint64
}

func startBench(b *testing.B) *benched {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchServer+"="+b.TempDir())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient(strings.TrimSpace(address), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(32<<20),
		grpc.WithReadBufferSize(512<<10), grpc.WithWriteBufferSize(512<<10),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frame.Codec{}), grpc.MaxCallRecvMsgSize(frame.MaxMessage)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	n := &benched{b: b, pid: cmd.Process.Pid, client: proto.NewParameterServerClient(conn)}
	for i := range uint64(benchRows) {
		n.keys = append(n.keys, shard.Key(random.Word(1, i)))
	}
	slices.Sort(n.keys)
	for lo := 0; lo < benchRows; lo += testLanes * benchAsk {
		n.step++
		for lane := range testLanes {
			at := lo + lane*benchAsk
			n.push(n.body(lane, n.keys[at:at+benchAsk]))
		}
	}
	return n
}

// cpu returns the server's processor time.
func (n *benched) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.pid))
	if err != nil {
		n.b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		n.b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // a tick is 10 ms on every Linux
}

// draw returns ascending distinct keys.
func (n *benched) draw(stream uint64) []shard.Key {
	keys := make([]shard.Key, benchAsk)
	for i := range keys {
		keys[i] = n.keys[random.Below(stream, uint64(i), benchRows)]
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (n *benched) body(lane int, keys []shard.Key) []byte {
	p := wire.NewPush(wire.PushID{Factor: 1, Run: testRun, Step: n.step, Lane: uint16(lane)})
	grads := make([]float32, len(keys)*benchWidth)
	for i := range grads {
		grads[i] = float32(i%17)/16 - 0.5
	}
	p.Rows(0, benchWidth, keys, make([]uint32, len(keys)), grads)
	p.Dense(0, []float32{1, 2, 3})
	return wire.AppendPushBody(nil, wire.PushHeader{Run: testRun}, p.Chunks())
}

// push sends a push until it is accepted: at first nobody leads.
func (n *benched) push(body []byte) {
	for end := time.Now().Add(20 * time.Second); ; {
		_, err := n.client.Push(n.b.Context(), &proto.Frame{Body: body})
		if err == nil {
			return
		}
		if time.Now().After(end) {
			n.b.Error(err)
			return
		}
	}
}

// measure runs f, which handles the number of rows it returns.
func (n *benched) measure(b *testing.B, f func() int) {
	rows, used := 0, n.cpu()
	for b.Loop() {
		rows += f()
	}
	used = n.cpu() - used
	b.ReportMetric(float64(rows)/used.Seconds()/1e6, "Mrows/server-cpu-s")
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}

// BenchmarkServer measures a server with one replica and a log on disk over
// gRPC, 8192 rows of 64 bytes a call, two calls at a time, by its processor time.
func BenchmarkServer(b *testing.B) {
	n := startBench(b)
	b.Run("pull", func(b *testing.B) {
		var bodies [32][]byte
		for i := range bodies {
			r := wire.PullRequest{Run: testRun, Version: n.step, Tables: []wire.TableKeys{{Keys: n.draw(uint64(i))}}}
			bodies[i] = r.Append(nil)
		}
		n.measure(b, func() int {
			var wg sync.WaitGroup
			for half := range 2 {
				wg.Go(func() {
					for _, body := range bodies[16*half : 16*half+16] {
						if _, err := n.client.Pull(b.Context(), &proto.Frame{Body: body}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			return 32 * benchAsk
		})
	})
	b.Run("push", func(b *testing.B) {
		n.measure(b, func() int {
			n.step++
			var wg sync.WaitGroup
			rows := 0
			for lane := range testLanes {
				keys := n.draw(n.step*testLanes + uint64(lane))
				body := n.body(lane, keys)
				rows += len(keys)
				wg.Go(func() { n.push(body) })
			}
			wg.Wait()
			return rows
		})
	})
}
