package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// HandshakeTimeout bounds how long a connection may take to prove who it is.
const HandshakeTimeout = 5 * time.Second

// ConnectionAge is after how long a connection is made anew, so that it does not
// outlive the certificates it began with for long.
const ConnectionAge = time.Hour

// alpn is the only protocol spoken inside of TLS; gRPC insists on its name.
const alpn = "h2"

// Server returns the configuration of a listener whose peers must show a
// certificate of one of the roles, or any of the cluster's when none is given.
func (s *Source) Server(roles ...Role) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.server(tls.RequireAndVerifyClientCert, roles), nil
		},
	}
}

// ServerOptional is Server for listeners that also answer peers without a
// certificate, such as probes; the handler looks at the connection's state.
func (s *Source) ServerOptional() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := s.server(tls.VerifyClientCertIfGiven, nil)
			c.NextProtos = nil
			return c, nil
		},
	}
}

func (s *Source) server(auth tls.ClientAuthType, roles []Role) *tls.Config {
	m := s.current()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		Certificates: []tls.Certificate{m.cert},
		ClientAuth:   auth,
		ClientCAs:    m.pool,
		VerifyConnection: func(state tls.ConnectionState) error {
			if auth == tls.VerifyClientCertIfGiven && len(state.PeerCertificates) == 0 {
				return nil
			}
			return check(state, m.identity.Cluster, roles)
		},
		// A resumed session would outlive the certificate it began with.
		SessionTicketsDisabled: true,
	}
}

// Client returns the configuration of one connection to host, which must show a
// certificate for that name of one of the roles. It is for connections made
// soon: later ones must ask again, to use new certificates.
func (s *Source) Client(host string, roles ...Role) *tls.Config {
	m := s.current()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		Certificates: []tls.Certificate{m.cert},
		RootCAs:      m.pool,
		ServerName:   host,
		VerifyConnection: func(state tls.ConnectionState) error {
			return check(state, m.identity.Cluster, roles)
		},
	}
}

// check looks at who the verified peer is.
func check(state tls.ConnectionState, cluster string, roles []Role) error {
	peer, err := peerOf(state)
	if err != nil {
		return err
	}
	if peer.Cluster != cluster {
		return fmt.Errorf("the certificate is of cluster %s, this is %s", peer.Cluster, cluster)
	}
	for _, r := range roles {
		if peer.Role == r {
			return nil
		}
	}
	if len(roles) == 0 {
		return nil
	}
	return fmt.Errorf("the certificate is of %s, want role %v", peer, roles)
}

func peerOf(state tls.ConnectionState) (Identity, error) {
	if len(state.PeerCertificates) == 0 {
		return Identity{}, errors.New("no certificate")
	}
	return Of(state.PeerCertificates[0])
}

// Dialer returns credentials of gRPC clients for servers of the roles. A nil
// Source gives plain text.
func (s *Source) Dialer(roles ...Role) credentials.TransportCredentials {
	if s == nil {
		return insecure.NewCredentials()
	}
	return &grpcCredentials{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), source: s, roles: roles}
}

// Listener returns credentials of gRPC servers for peers of the roles. A nil
// Source gives plain text.
func (s *Source) Listener(roles ...Role) credentials.TransportCredentials { return s.Dialer(roles...) }

// grpcCredentials makes every handshake with the newest certificates.
type grpcCredentials struct {
	credentials.TransportCredentials // Info
	source                           *Source
	roles                            []Role
}

func (c *grpcCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	raw := &batched{Conn: conn}
	secured, info, err := credentials.NewTLS(c.source.Client(host, c.roles...)).ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return &Conn{Conn: secured.(*tls.Conn), raw: raw}, info, nil
}

func (c *grpcCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	remote := conn.RemoteAddr()
	raw := &batched{Conn: conn}
	secured, info, err := credentials.NewTLS(c.source.Server(c.roles...)).ServerHandshake(raw)
	if err != nil {
		c.source.refused(remote, err)
		return nil, nil, err
	}
	return &Conn{Conn: secured.(*tls.Conn), raw: raw}, info, nil
}

func (c *grpcCredentials) Clone() credentials.TransportCredentials {
	return &grpcCredentials{TransportCredentials: c.TransportCredentials.Clone(), source: c.source, roles: c.roles}
}

// refused logs a connection that did not get in, at most one line a second.
func (s *Source) refused(remote net.Addr, err error) {
	if s.refusals.pass() {
		s.log.Warn("refused a connection", "from", remote, "error", err)
	}
}

// rate lets one event pass in every second.
type rate struct {
	mu   sync.Mutex
	last time.Time
}

func (r *rate) pass() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.last) < time.Second {
		return false
	}
	r.last = now
	return true
}

// Accept makes the server's handshake on a connection within HandshakeTimeout.
func (s *Source) Accept(conn net.Conn, roles ...Role) (*Conn, Identity, error) {
	raw := &batched{Conn: conn}
	secured := tls.Server(raw, s.Server(roles...))
	ctx, cancel := context.WithTimeout(context.Background(), HandshakeTimeout)
	defer cancel()
	err := secured.HandshakeContext(ctx)
	if err != nil {
		s.refused(conn.RemoteAddr(), err)
		return nil, Identity{}, err
	}
	peer, err := peerOf(secured.ConnectionState())
	return &Conn{Conn: secured, raw: raw}, peer, err
}

// Connect makes the client's handshake on a connection to host.
func (s *Source) Connect(ctx context.Context, conn net.Conn, host string, roles ...Role) (*Conn, error) {
	raw := &batched{Conn: conn}
	secured := tls.Client(raw, s.Client(host, roles...))
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return &Conn{Conn: secured, raw: raw}, nil
}

// Handshaken returns credentials of a gRPC server whose listener hands out
// connections after their handshake. unwrap gets the TLS connection in one.
func Handshaken(unwrap func(net.Conn) (*Conn, bool)) credentials.TransportCredentials {
	return handshaken{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), unwrap: unwrap}
}

type handshaken struct {
	credentials.TransportCredentials
	unwrap func(net.Conn) (*Conn, bool)
}

func (h handshaken) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, ok := h.unwrap(conn)
	if !ok {
		conn.Close()
		return nil, nil, errors.New("identity: a connection without TLS")
	}
	return conn, credentials.TLSInfo{
		State:          secured.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (h handshaken) Clone() credentials.TransportCredentials { return h }
