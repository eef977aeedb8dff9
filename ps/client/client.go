// Package client is the workers' side of the parameter servers: it cuts keys
// at the shard boundaries, talks to all shards at once, finds the leader and
// sends the same bytes again until they are acknowledged.
//
// A Client is used by one training loop or several: Pull and Push may be
// called concurrently, each with buffers of its own.
package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// ErrVersionGone means that a shard is past the version asked for, so the step
// that wanted it is complete on every shard and need not be computed again.
var ErrVersionGone = errors.New("the shard is past the version asked for")

// GoneError is ErrVersionGone with what the shard said.
type GoneError struct {
	Shard shard.ID
	// Version is the one the shard has applied.
	Version uint64
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("shard %d is at version %d already: %v", e.Shard, e.Version, ErrVersionGone)
}

// Is makes errors.Is(err, ErrVersionGone) true.
func (e *GoneError) Is(target error) bool { return target == ErrVersionGone }

// Rows asks for the weights of rows of one table.
type Rows struct {
	Table uint16
	Width int         // weights of a row
	Keys  []shard.Key // ascending, unique
	// Values is [len(Keys), Width]; Pull fills it.
	Values []float32
}

// Gradients is what one lane pushes: the summed gradients of its rows and of
// every dense tensor.
type Gradients struct {
	Rows []RowGradients
	// Dense has one gradient per dense tensor, by id; nil: the lane has none.
	Dense [][]float32
}

// RowGradients holds the gradients of rows of one table.
type RowGradients struct {
	Table  uint16
	Width  int
	Keys   []shard.Key // ascending, unique
	Counts []uint32    // occurrences of each key in the lane
	Values []float32   // [len(Keys), Width]
}

// Route tells where a shard lives.
type Route struct {
	Shard   shard.ID
	Range   shard.Range
	Members []Member
	Leader  string   // node name; empty when not known
	Dense   []uint16 // dense tensors the shard holds, ascending
}

// Member is one replica of a shard.
type Member struct{ Node, Address string }

// transport carries one request to a shard and its answer back; i is the
// shard's place in the routes.
type transport interface {
	// pull sends buf's body. Its reuse says that buf is not needed any more.
	pull(ctx context.Context, i int, buf *request) (reply []byte, reuse bool, err error)
	// push says whether it keeps body, when it succeeds.
	push(ctx context.Context, i int, body []byte) (kept bool, err error)
	version(ctx context.Context, i int) (uint64, error)
	scan(ctx context.Context, i int, req *proto.ScanRequest) (*proto.ScanReply, error)
	partial(ctx context.Context, i int, req *proto.PartialRequest) (*proto.PartialReply, error)
}

// Client pulls from and pushes to all shards of one run of a job.
type Client struct {
	run       uint64
	transport transport

	// mu guards routes, which is replaced and never changed.
	mu     sync.RWMutex
	routes []Route

	buffers sync.Pool // *request
}

// request is what one call to one shard needs, reused.
type request struct {
	body  []byte // of a pull
	reply []byte // memory for the answer, where the transport has a use for it
	push  *wire.PushBuilder
}

func newClient(run uint64, t transport) *Client {
	c := &Client{run: run, transport: t}
	c.buffers.New = func() any { return &request{} }
	return c
}

func (c *Client) current() []Route {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.routes
}

// cut returns the bounds of keys at the shards' ranges.
func cut(routes []Route, keys []shard.Key) []int {
	m := shard.Map{Shards: make([]shard.Shard, len(routes))}
	for i, r := range routes {
		m.Shards[i] = shard.Shard{ID: r.Shard, Range: r.Range}
	}
	return m.Cut(keys)
}

// Pull reads rows and dense tensors at exactly the named version from all
// shards at once. Every shard is asked, even when it holds none of the keys:
// only so does the reader know that the whole model has reached the version.
// dense has one destination per dense tensor id; nil entries, or a nil slice,
// are not asked for. It waits until every shard has reached the version or ctx
// ends, and returns a *GoneError when one cannot go back to it.
func (c *Client) Pull(ctx context.Context, version uint64, rows []Rows, dense [][]float32) error {
	routes := c.current()
	bounds := make([][]int, len(rows))
	for t := range rows {
		bounds[t] = cut(routes, rows[t].Keys)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range routes {
		g.Go(func() error {
			return c.pullShard(ctx, i, routes[i], version, rows, bounds, dense)
		})
	}
	return g.Wait()
}

func (c *Client) pullShard(ctx context.Context, i int, route Route, version uint64, rows []Rows, bounds [][]int, dense [][]float32) error {
	req := wire.PullRequest{Run: c.run, Shard: uint32(route.Shard), Version: version}
	want := 0
	for t, r := range rows {
		keys := r.Keys[bounds[t][i]:bounds[t][i+1]]
		req.Tables = append(req.Tables, wire.TableKeys{Table: r.Table, Keys: keys})
		want += len(keys) * r.Width
	}
	for _, id := range route.Dense {
		if int(id) < len(dense) && dense[id] != nil {
			req.Dense = append(req.Dense, id)
			want += len(dense[id])
		}
	}
	buf := c.buffers.Get().(*request)
	buf.body = req.Append(buf.body[:0])
	reply, reuse, err := c.transport.pull(ctx, i, buf)
	if err != nil {
		return fmt.Errorf("pull shard %d at version %d: %w", route.Shard, version, err)
	}
	if reuse {
		defer c.buffers.Put(buf) // not before: a call that failed may still be sending it
	}
	got, values, err := wire.ParsePullReply(reply)
	if err != nil {
		return fmt.Errorf("pull shard %d at version %d: %w", route.Shard, version, err)
	}
	if got != version || len(values) != want {
		return fmt.Errorf("pull shard %d at version %d: the answer has version %d and %d values, want %d values", route.Shard, version, got, len(values), want)
	}
	for t, r := range rows {
		lo, hi := bounds[t][i]*r.Width, bounds[t][i+1]*r.Width
		values = values[copy(r.Values[lo:hi], values):]
	}
	for _, id := range req.Dense {
		values = values[copy(dense[id], values):]
	}
	return nil
}

// Push hands one lane's gradients to every shard and returns when all have
// acknowledged them, or when ctx ends. Pushing the same id again is harmless:
// the shards drop what they have.
func (c *Client) Push(ctx context.Context, id wire.PushID, grads *Gradients) error {
	routes := c.current()
	bounds := make([][]int, len(grads.Rows))
	for t := range grads.Rows {
		bounds[t] = cut(routes, grads.Rows[t].Keys)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range routes {
		g.Go(func() error { return c.pushShard(ctx, i, routes[i], id, grads, bounds) })
	}
	return g.Wait()
}

func (c *Client) pushShard(ctx context.Context, i int, route Route, id wire.PushID, grads *Gradients, bounds [][]int) error {
	buf := c.buffers.Get().(*request)
	if buf.push == nil {
		buf.push = wire.NewPush(id)
	} else {
		buf.push.Reset(id)
	}
	for t, r := range grads.Rows {
		lo, hi := bounds[t][i], bounds[t][i+1]
		buf.push.Rows(r.Table, r.Width, r.Keys[lo:hi], r.Counts[lo:hi], r.Values[lo*r.Width:hi*r.Width])
	}
	for _, d := range route.Dense {
		if grads.Dense == nil {
			break
		}
		buf.push.Dense(d, grads.Dense[d])
	}
	header := wire.PushHeader{Run: c.run, Shard: uint32(route.Shard)}
	kept, err := c.transport.push(ctx, i, buf.push.Body(header))
	if err != nil {
		return fmt.Errorf("push step %d lane %d to shard %d: %w", id.Step, id.Lane, route.Shard, err)
	}
	if kept {
		buf.push.Leave()
	}
	c.buffers.Put(buf) // only now: a call that failed may still be sending it
	return nil
}

// Version returns the newest version that every shard has reached.
func (c *Client) Version(ctx context.Context) (uint64, error) {
	routes := c.current()
	versions := make([]uint64, len(routes))
	g, ctx := errgroup.WithContext(ctx)
	for i := range routes {
		g.Go(func() (err error) {
			versions[i], err = c.transport.version(ctx, i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("ask the shards for their version: %w", err)
	}
	return slices.Min(versions), nil
}
