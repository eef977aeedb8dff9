package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

const (
	// leaseTTL is how long a coordinator that vanished keeps the leadership.
	leaseTTL = 3 * time.Second
	// leaseMargin is how much earlier a leader that cannot renew its lease
	// steps down by itself: it covers the way of the last renewal's answer.
	leaseMargin = 500 * time.Millisecond
	dialTimeout = 5 * time.Second
	// revokeTimeout bounds the courtesy of giving a lease back; when it fails
	// the lease runs out by itself.
	revokeTimeout = time.Second
)

// etcdStore is the etcd twin.
type etcdStore struct {
	client *clientv3.Client
}

// OpenEtcd returns a store on the etcd cluster with the given client URLs, all
// connections to it with the credentials. It does not wait for the cluster to be
// reachable.
func OpenEtcd(endpoints []string, secure credentials.TransportCredentials) (Store, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions:          []grpc.DialOption{grpc.WithTransportCredentials(secure)},
		// Every error is returned to the caller, who logs it.
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("open etcd at %s: %w", strings.Join(endpoints, ","), err)
	}
	return &etcdStore{client: c}, nil
}

func (s *etcdStore) Get(ctx context.Context, key string) (Entry, error) {
	r, err := s.client.Get(ctx, key)
	if err != nil {
		return Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	if len(r.Kvs) == 0 {
		return Entry{}, ErrNotFound
	}
	return Entry{Key: key, Value: r.Kvs[0].Value, Revision: r.Kvs[0].ModRevision}, nil
}

// rangePage bounds one answer: values may be near ValueBytesMax.
const rangePage = 64

func (s *etcdStore) Range(ctx context.Context, prefix string) ([]Entry, error) {
	var all []Entry
	from, end, revision := prefix, clientv3.GetPrefixRangeEnd(prefix), int64(0)
	for {
		r, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(rangePage), clientv3.WithRev(revision))
		if err != nil {
			return nil, fmt.Errorf("range %s: %w", prefix, err)
		}
		for _, kv := range r.Kvs {
			all = append(all, Entry{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision})
		}
		if !r.More {
			return all, nil
		}
		from, revision = all[len(all)-1].Key+"\x00", r.Header.Revision
	}
}

func (s *etcdStore) Leader(ctx context.Context, election string) (Candidate, error) {
	r, err := s.client.Get(ctx, election+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return Candidate{}, fmt.Errorf("get leader of %s: %w", election, err)
	}
	if len(r.Kvs) == 0 {
		return Candidate{}, ErrNoLeader
	}
	var c Candidate
	if err := json.Unmarshal(r.Kvs[0].Value, &c); err != nil {
		return Candidate{}, fmt.Errorf("decode leader of %s: %w", election, err)
	}
	return c, nil
}

func (s *etcdStore) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}

func (s *etcdStore) Campaign(ctx context.Context, election string, c Candidate) (Leadership, error) {
	if err := s.evict(ctx, election, c.Node); err != nil {
		return nil, err
	}
	lease, err := s.client.Grant(ctx, int64(leaseTTL/time.Second))
	if err != nil {
		return nil, fmt.Errorf("grant lease: %w", err)
	}
	l := &etcdLeadership{client: s.client, lease: lease.ID, key: fmt.Sprintf("%s/%x", election, lease.ID)}
	if err := l.keep(); err != nil {
		l.Resign(context.WithoutCancel(ctx))
		return nil, err
	}
	if err := l.win(ctx, election, c); err != nil {
		l.Resign(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("campaign for %s: %w", election, err)
	}
	return l, nil
}

// evict removes what an earlier process of the node left in the election.
func (s *etcdStore) evict(ctx context.Context, election, node string) error {
	r, err := s.client.Get(ctx, election+"/", clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("get candidates of %s: %w", election, err)
	}
	for _, kv := range r.Kvs {
		var c Candidate
		if json.Unmarshal(kv.Value, &c) == nil && c.Node == node {
			if _, err := s.client.Delete(ctx, string(kv.Key)); err != nil {
				return fmt.Errorf("evict earlier candidate %s: %w", kv.Key, err)
			}
		}
	}
	return nil
}

// etcdLeadership is a key bound to a lease. The candidate with the smallest
// create revision leads; that revision is also the fence of its writes.
type etcdLeadership struct {
	client *clientv3.Client
	lease  clientv3.LeaseID
	key    string
	// revision of the key's creation, set by win.
	revision int64
	done     chan struct{}
	cancel   context.CancelFunc
}

func (l *etcdLeadership) Term() int64           { return l.revision }
func (l *etcdLeadership) Done() <-chan struct{} { return l.done }

// keep renews the lease until cancel, and closes done as soon as the lease may
// have run out by the monotonic clock.
func (l *etcdLeadership) keep() error {
	ctx, cancel := context.WithCancel(l.client.Ctx())
	l.cancel, l.done = cancel, make(chan struct{})
	renewed, err := l.client.KeepAlive(ctx, l.lease)
	if err != nil {
		close(l.done)
		return fmt.Errorf("keep lease: %w", err)
	}
	go func() {
		defer close(l.done)
		defer cancel()
		limit := time.NewTimer(leaseTTL - leaseMargin)
		defer limit.Stop()
		for {
			select {
			case _, ok := <-renewed:
				if !ok {
					return
				}
				limit.Reset(leaseTTL - leaseMargin)
			case <-limit.C:
				return
			}
		}
	}()
	return nil
}

// win creates the candidate's key and waits until every older one is gone.
func (l *etcdLeadership) win(ctx context.Context, election string, c Candidate) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-l.done:
			cancel(ErrFenced)
		case <-stop:
		}
	}()
	value, err := json.Marshal(c)
	if err != nil {
		return err
	}
	put, err := l.client.Put(ctx, l.key, string(value), clientv3.WithLease(l.lease))
	if err != nil {
		return err
	}
	l.revision = put.Header.Revision
	for {
		older, err := l.client.Get(ctx, election+"/", append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(l.revision-1))...)
		if err != nil {
			return err
		}
		if len(older.Kvs) == 0 {
			return nil
		}
		if err := l.waitDeleted(ctx, string(older.Kvs[0].Key), older.Header.Revision); err != nil {
			return err
		}
	}
}

// waitDeleted returns when the key, seen at revision, is gone.
func (l *etcdLeadership) waitDeleted(ctx context.Context, key string, revision int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for w := range l.client.Watch(ctx, key, clientv3.WithRev(revision+1), clientv3.WithFilterPut()) {
		if err := w.Err(); err != nil {
			return err
		}
		if len(w.Events) > 0 {
			return nil
		}
	}
	return context.Cause(ctx)
}

func (l *etcdLeadership) Write(ctx context.Context, ops ...Op) error {
	if err := checkOps(ops); err != nil {
		return err
	}
	fence := clientv3.Compare(clientv3.CreateRevision(l.key), "=", l.revision)
	conditions, puts := []clientv3.Cmp{fence}, []clientv3.Op(nil)
	for _, op := range ops {
		switch op.kind {
		case opCreate:
			conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(op.key), "=", 0))
		case opCAS:
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(op.key), "=", op.revision))
		}
		if op.kind == opDelete {
			puts = append(puts, clientv3.OpDelete(op.key))
		} else {
			puts = append(puts, clientv3.OpPut(op.key, string(op.value)))
		}
	}
	r, err := l.client.Txn(ctx).If(conditions...).Then(puts...).Else(clientv3.OpGet(l.key)).Commit()
	if err != nil {
		return fmt.Errorf("write %s: %w", ops[0].key, err)
	}
	if r.Succeeded {
		return nil
	}
	mine := r.Responses[0].GetResponseRange().Kvs
	if len(mine) == 0 || mine[0].CreateRevision != l.revision {
		return ErrFenced
	}
	return ErrConflict
}

func (l *etcdLeadership) Resign(ctx context.Context) error {
	l.cancel()
	<-l.done
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	if _, err := l.client.Revoke(ctx, l.lease); err != nil {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}
