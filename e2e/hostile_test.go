package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// What strangers and broken members may cost a process at the most.
const hostileBytesMax = 256 << 20

// A running cluster is sent everything that does not belong there: the job goes
// on to the model it would have given, and no process grows without bound.
func TestHostileInputChangesNothing(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	longer := []string{"run", job, "--set", "spec.train.epochs=6"}
	want := start(t, nil, longer...).result(limit)

	r := start(t, nil, longer...)
	server := r.leaderPast(5, limit)
	atFullSpeed := r.slow() // so that the job is not over before the attacks are
	coordinator := r.children("coordinator")[0]
	worker, err := identity.Load(filepath.Join(r.workdir, "credentials", "worker-0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := identity.Load(filepath.Join(r.workdir, "credentials", "ps-0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.ReadDir(filepath.Join(server.flag("--data-dir"), "groups"))
	if err != nil || len(groups) == 0 {
		t.Fatalf("groups: %v, %v", groups, err)
	}
	victims := map[string]struct {
		process child
		role    identity.Role
	}{
		server.flag("--listen"):      {server, identity.PS},
		coordinator.flag("--listen"): {coordinator, identity.Coordinator},
	}
	before := map[string]int64{}
	for address, v := range victims {
		before[address] = residentBytes(t, v.process.pid)
	}

	var attacks sync.WaitGroup
	// The ports that nobody here has business with, a worker's among them.
	strange := append(r.endpoints(coordinator.flag("--listen")), r.children("etcd")[0].flag("--client-url")[len("https://"):])
	for _, address := range strange {
		attacks.Go(func() { crowd(t, address, 100) })
		attacks.Go(func() { noise(t, address, nil) })
	}
	attacks.Go(func() { hugeEntry(t, server.flag("--listen"), groups[0].Name(), ps) })
	defer attacks.Wait()
	for address, v := range victims {
		tlsConfig := worker.Client("127.0.0.1", v.role)
		for _, attack := range []func(){
			func() { crowd(t, address, 1000) },
			func() { noise(t, address, nil) },
			func() { noise(t, address, tlsConfig) },
			func() { hugeMessage(t, address, tlsConfig) },
			func() { hugeHeader(t, address, tlsConfig) },
			func() { bomb(t, address, worker, v.role) },
			func() { manyStreams(t, address, worker, v.role) },
		} {
			attacks.Go(attack)
		}
	}
	attacks.Wait()
	atFullSpeed()
	for address, v := range victims {
		if grown := residentBytes(t, v.process.pid) - before[address]; grown > hostileBytesMax {
			t.Errorf("%s has grown by %d MiB", v.process.args[1], grown>>20)
		}
	}
	if got := r.result(limit); got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want %s", got.ModelHash, want.ModelHash)
	}
}

// endpoints asks the coordinator for the HTTP addresses of all processes.
func (r *fathomRun) endpoints(coordinator string) (addresses []string) {
	r.t.Helper()
	admin, err := identity.Load(filepath.Join(r.workdir, "credentials", "admin"), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := grpc.NewClient(coordinator, grpc.WithTransportCredentials(admin.Dialer(identity.Coordinator)))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	reply, err := proto.NewControlClient(conn).Nodes(ctx, &proto.NodesRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range reply.GetNodes() {
		if n.GetMetricsAddress() != "" {
			addresses = append(addresses, n.GetMetricsAddress())
		}
	}
	if len(addresses) < 3 {
		r.t.Fatalf("%d processes have an endpoint", len(addresses))
	}
	return addresses
}

// hugeEntry announces a log entry of 4 GiB to a raft group, as a server that was
// taken over may, and goes silent, or away.
func hugeEntry(t *testing.T, address, group string, self *identity.Source) {
	for range 20 {
		conn, err := tls.Dial("tcp", address, self.Client("127.0.0.1", identity.PS))
		if err != nil {
			t.Errorf("dial %s: %v", address, err)
			return
		}
		name := group + "/0"
		message := append([]byte{1, byte(len(name))}, name...)
		message = append(message, 0)                                                    // AppendEntries, in msgpack:
		message = append(message, "\x81\xa7Entries\xdd\xff\xff\xff\xff\x81\xa4Data"...) // 2^32-1 entries, of the first
		message = append(message, "\xc6\xff\xff\xff\xff"...)                            // as many bytes
		message = append(message, make([]byte, 1<<20)...)
		_ = conn.SetDeadline(time.Now().Add(limit))
		if _, err := conn.Write(message); err != nil {
			conn.Close()
			continue // hung up on already
		}
		defer conn.Close()
	}
}

// residentBytes is what the process has in memory; 0 when it has ended.
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	return 0
}

// crowd opens connections that say nothing, or one byte now and then. They must
// be hung up on: each is waited for until that happens.
func crowd(t *testing.T, address string, n int) {
	var conns []net.Conn
	for range n {
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			break // turned away, which is as good
		}
		conns = append(conns, conn)
	}
	deadline := time.Now().Add(limit)
	for i, conn := range conns {
		if i%2 == 0 {
			_, _ = conn.Write([]byte{0x16}) // begins a handshake and never goes on
		}
		_ = conn.SetReadDeadline(deadline)
	}
	for _, conn := range conns {
		_, err := conn.Read(make([]byte, 64))
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Errorf("%s keeps a silent connection open", address)
		}
		conn.Close()
	}
}

// noise sends random bytes, inside of TLS when there is a configuration.
func noise(t *testing.T, address string, config *tls.Config) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			continue
		}
		if config != nil {
			conn = tls.Client(conn, config)
		}
		_ = conn.SetDeadline(time.Now().Add(limit))
		b := make([]byte, 4096)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		if random.IntN(2) == 0 {
			copy(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		}
		for range 4 {
			if _, err := conn.Write(b); err != nil {
				break // refused, as it should be
			}
		}
		conn.Close()
	}
}

// dialHTTP2 says hello to a server, which then has until limit to end what follows.
// The framer is nil, and the test has failed, when it does not answer.
func dialHTTP2(t *testing.T, address string, config *tls.Config) (framer *http2.Framer, hangUp func() error) {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Errorf("dial %s: %v", address, err)
		return nil, nil
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Errorf("%s: %v", address, err)
		_ = conn.Close()
		return nil, nil
	}
	return http2.NewFramer(conn, conn), conn.Close
}

// hugeMessage announces a message of 4 GiB.
func hugeMessage(t *testing.T, address string, config *tls.Config) {
	framer, hangUp := dialHTTP2(t, address, config)
	if framer == nil {
		return
	}
	defer hangUp()
	prefix := []byte{0, 0xff, 0xff, 0xff, 0xff} // not compressed, the length
	block := grpcHeaders(proto.ParameterServer_Push_FullMethodName)
	if err := errors.Join(framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}),
		framer.WriteData(1, false, append(prefix, make([]byte, 1000)...))); err != nil {
		return // hung up on already
	}
	for { // until the stream or the connection is ended by the server
		f, err := framer.ReadFrame()
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				t.Errorf("%s waits for a message of 4 GiB", address)
			}
			return
		}
		if h, ok := f.(*http2.HeadersFrame); ok && h.StreamEnded() {
			return
		}
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			return
		}
	}
}

// bomb sends a small message that unpacks to a large one.
func bomb(t *testing.T, address string, self *identity.Source, role identity.Role) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(self.Dialer(role)))
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	huge := make([]byte, 65<<20)
	if role == identity.PS {
		_, err = proto.NewParameterServerClient(conn).Push(ctx, &proto.Frame{Body: huge}, grpc.UseCompressor(gzip.Name))
	} else {
		_, err = proto.NewMembershipClient(conn).ReportEvaluation(ctx, &proto.EvaluationBlock{Scores: huge}, grpc.UseCompressor(gzip.Name))
	}
	if code := status.Code(err); code != codes.ResourceExhausted {
		t.Errorf("%s: a message that unpacks to %d MiB ends with %v", address, len(huge)>>20, err)
	}
}

// hugeHeader begins a call whose header has 4 MiB.
func hugeHeader(t *testing.T, address string, config *tls.Config) {
	framer, hangUp := dialHTTP2(t, address, config)
	if framer == nil {
		return
	}
	defer hangUp()
	var more bytes.Buffer
	e := hpack.NewEncoder(&more)
	_ = e.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 12<<10), Sensitive: true}) // into memory
	err := errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: grpcHeaders(proto.ParameterServer_Push_FullMethodName)}))
	for i := 0; err == nil && i < 4<<20/more.Len(); i++ {
		err = framer.WriteContinuation(1, false, more.Bytes())
	}
	for err == nil { // until the server ends the stream or hangs up
		var f http2.Frame
		if f, err = framer.ReadFrame(); err == nil {
			if _, ok := f.(*http2.RSTStreamFrame); ok {
				return
			}
		}
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Errorf("%s waits for the end of a header of 4 MiB", address)
	}
}

// grpcHeaders encodes the header of a call.
func grpcHeaders(method string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", method}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory
	}
	return b.Bytes()
}

// manyStreams makes 2,000 calls at once over one connection; each is answered or
// refused.
func manyStreams(t *testing.T, address string, self *identity.Source, role identity.Role) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(self.Dialer(role)))
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var calls sync.WaitGroup
	for range 2000 {
		calls.Go(func() {
			var err error
			if role == identity.PS {
				_, err = proto.NewParameterServerClient(conn).Push(ctx, &proto.Frame{Body: []byte("nonsense")})
			} else {
				_, err = proto.NewControlClient(conn).List(ctx, &proto.ListRequest{})
			}
			if code := status.Code(err); code == codes.OK || code == codes.DeadlineExceeded {
				t.Errorf("%s: a call that makes no sense ends with %v", address, code)
			}
		})
	}
	calls.Wait()
}
