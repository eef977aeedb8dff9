package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/client-go/transport/spdy"
)

// The headers of a forwarded connection, as Kubernetes names them.
const (
	forwardProtocol = "portforward.k8s.io"
	streamType      = "streamType"
	portHeader      = "port"
	requestHeader   = "requestID"
)

// coordinatorPort is where coordinators take calls.
const coordinatorPort = 7070

// DialPod connects to a port of a pod through the cluster's API.
func (c *Cluster) DialPod(ctx context.Context, pod string, port int) (net.Conn, error) {
	what := fmt.Sprintf("connect to port %d of pod %s", port, pod)
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	at := c.raw.Post().AbsPath("/api/v1/namespaces", c.namespace, "pods", pod, "portforward").URL()
	conn, _, err := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, at).Dial(forwardProtocol)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	headers := http.Header{}
	headers.Set(portHeader, strconv.Itoa(port))
	headers.Set(requestHeader, "0") // one connection each
	headers.Set(streamType, "error")
	faults, err := conn.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), conn.Close())
	}
	headers.Set(streamType, "data")
	data, err := conn.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), conn.Close())
	}
	// A pipe has the deadlines that a stream lacks.
	near, far := net.Pipe()
	var wait sync.WaitGroup
	wait.Go(func() { io.Copy(data, far); data.Close() })         // whoever reads learns of the end
	wait.Go(func() { io.Copy(far, data); far.Close() })          // likewise
	wait.Go(func() { io.Copy(io.Discard, faults); far.Close() }) // the other side says why, and ends
	go func() {
		select {
		case <-conn.CloseChan():
			far.Close()
		case <-ctx.Done():
			far.Close()
		}
		wait.Wait()
	}()
	return &forwarded{near, conn}, nil
}

// forwarded is the near end of a connection through the API.
type forwarded struct {
	net.Conn
	under io.Closer
}

// Close ends the connection below, too.
func (f *forwarded) Close() error {
	_ = f.under.Close() // the other side may have ended it first, and then it cannot be told
	return f.Conn.Close()
}

// Forward lets connections to l through to a port of a pod until ctx ends.
func (c *Cluster) Forward(ctx context.Context, l net.Listener, pod string, port int, failed func(error)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		near, err := l.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("port-forward: %w", err)
		}
		wait.Go(func() {
			defer near.Close()
			far, err := c.DialPod(ctx, pod, port)
			if err != nil {
				failed(err)
				return
			}
			defer far.Close()
			ended := make(chan struct{}, 2)
			go func() { io.Copy(far, near); ended <- struct{}{} }()
			go func() { io.Copy(near, far); ended <- struct{}{} }()
			select {
			case <-ended:
			case <-ctx.Done():
			}
		})
	}
}

// Coordinators are the addresses of a job's coordinators inside the cluster;
// DialAddress reaches them from outside.
func (c *Cluster) Coordinators(ctx context.Context, job string) ([]string, error) {
	all, err := list[pod](ctx, c, pods, job)
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, p := range all {
		if p.component() == "coordinator" && p.Status.Phase == "Running" {
			addrs = append(addrs, fmt.Sprintf("%s.%s-coordinator.%s.svc:%d", p.Metadata.Name, job, c.namespace, coordinatorPort))
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("job %s in namespace %s has no coordinator that runs", job, c.namespace)
	}
	slices.Sort(addrs)
	return addrs, nil
}

// DialAddress connects to a pod by its name inside the cluster.
func (c *Cluster) DialAddress(ctx context.Context, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	pod, _, _ := strings.Cut(host, ".")
	return c.DialPod(ctx, pod, n)
}
