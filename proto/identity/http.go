package identity

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// Handler lets requests pass to next whose caller the Rules allow the path, and
// everybody's for the open paths. A nil Source checks nothing.
func (s *Source) Handler(next http.Handler, open ...string) http.Handler {
	if s == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(open, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "a certificate is needed", http.StatusUnauthorized)
			return
		}
		who, err := callerOf(*r.TLS, r.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		if !Allowed(r.URL.Path, who.Role) {
			s.audit.call(r.URL.Path, who, time.Now(), nil, nil, true, status.Error(codes.PermissionDenied, ""))
			http.Error(w, fmt.Sprintf("%s may not read %s", who, r.URL.Path), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// HTTP returns a client of the HTTP endpoints of the cluster's processes, and
// the scheme of their URLs. A nil Source gives plain HTTP.
func (s *Source) HTTP() (client *http.Client, scheme string) {
	if s == nil {
		return http.DefaultClient, "http"
	}
	return &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			config := s.Client(host)
			config.NextProtos = nil
			return (&tls.Dialer{Config: config, NetDialer: &net.Dialer{Timeout: HandshakeTimeout}}).DialContext(ctx, network, address)
		},
		TLSHandshakeTimeout: HandshakeTimeout,
		IdleConnTimeout:     time.Minute,
	}}, "https"
}

// ExternalDialer returns credentials for a server whose certificate is not of
// fathom, such as an etcd that was there before: the directory's certificate is
// shown, and the server's must be of its authorities and for the name dialled.
func ExternalDialer(dir string) (credentials.TransportCredentials, error) {
	cert, pool, err := readFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("credentials in %s: %w", dir, err)
	}
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, RootCAs: pool}), nil
}
