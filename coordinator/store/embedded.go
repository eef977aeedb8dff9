package store

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/fathom-train/fathom/proto/identity"
)

const (
	// embeddedQuotaBytes bounds the database of an embedded server; the
	// coordinator keeps far less than a tenth of it.
	embeddedQuotaBytes = 1 << 30
	// requestBytesMax bounds one request: the largest write there is, with its keys.
	requestBytesMax = ValueBytesMax + 100<<10
	// embeddedStreamsMax bounds the calls of one connection that are under way.
	embeddedStreamsMax = 128
	// embeddedHistory is how many old revisions are kept for watchers.
	embeddedHistory = "1000"
	// embeddedStartTimeout bounds opening the database and electing itself.
	embeddedStartTimeout = 60 * time.Second
)

// EmbeddedConfig configures an etcd server inside this process.
type EmbeddedConfig struct {
	Name      string
	DataDir   string
	ClientURL string // such as http://127.0.0.1:2379
	PeerURL   string
	// AdvertiseClientURL and AdvertisePeerURL are told to others; default: the
	// ones above.
	AdvertiseClientURL, AdvertisePeerURL string
	// InitialCluster lists all members of a cluster that is formed, as
	// NAME=PEERURL,...; default: this one alone.
	InitialCluster string
	// CredentialsDir holds the server's certificate, key and authorities
	// (identity.CertFile, ...), for https URLs. Only coordinators' certificates
	// are let in. Empty: plain text.
	CredentialsDir string
	// LogFile receives the server's own log; empty: errors only, on stderr.
	LogFile string
}

// Embedded is a running etcd server. Every write is synced to disk before it
// is acknowledged.
type Embedded struct {
	server *embed.Etcd
	scheme string
	level  zap.AtomicLevel // of the server's own log
}

// StartEmbedded starts an etcd server and waits until it serves.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	c, err := embeddedConfig(cfg)
	if err != nil {
		return nil, err
	}
	level, err := embeddedLog(c, cfg.LogFile)
	if err != nil {
		return nil, err
	}
	server, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.DataDir, err)
	}
	select {
	case <-server.Server.ReadyNotify():
		return &Embedded{server: server, scheme: c.ListenClientUrls[0].Scheme, level: level}, nil
	case err = <-server.Err():
	case <-server.Server.StopNotify():
		err = errors.New("it stopped by itself")
	case <-time.After(embeddedStartTimeout):
		err = fmt.Errorf("not ready after %s", embeddedStartTimeout)
	}
	server.Close()
	return nil, fmt.Errorf("start etcd in %s: %w", cfg.DataDir, err)
}

func embeddedConfig(cfg EmbeddedConfig) (*embed.Config, error) {
	if cfg.Name == "" || cfg.DataDir == "" {
		return nil, errors.New("start etcd: a name and a data directory are needed")
	}
	client, err := url.Parse(cfg.ClientURL)
	if err != nil {
		return nil, fmt.Errorf("start etcd: client url: %w", err)
	}
	peer, err := url.Parse(cfg.PeerURL)
	if err != nil {
		return nil, fmt.Errorf("start etcd: peer url: %w", err)
	}
	advertised := []url.URL{*client, *peer}
	for i, s := range []string{cfg.AdvertiseClientURL, cfg.AdvertisePeerURL} {
		if s == "" {
			continue
		}
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("start etcd: advertised url: %w", err)
		}
		advertised[i] = *u
	}
	c := embed.NewConfig()
	c.Name, c.Dir = cfg.Name, cfg.DataDir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, advertised[:1]
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, advertised[1:]
	c.InitialCluster = cfg.InitialCluster
	if c.InitialCluster == "" {
		c.InitialCluster = c.InitialClusterFromName(cfg.Name)
	}
	c.InitialClusterToken = "fathom"
	c.QuotaBackendBytes = embeddedQuotaBytes
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModeRevision, embeddedHistory
	c.MaxRequestBytes, c.MaxConcurrentStreams = requestBytesMax, embeddedStreamsMax
	c.EnableGRPCGateway = false
	if cfg.CredentialsDir != "" {
		for _, u := range append(c.ListenClientUrls, c.ListenPeerUrls...) {
			if u.Scheme != "https" { // etcd would ignore the certificates, and serve in plain text
				return nil, fmt.Errorf("start etcd: %s: with credentials the URLs must be https", u.String())
			}
		}
		c.TlsMinVersion = string(tlsutil.TLSVersion13)
		c.ClientTLSInfo = secured(cfg.CredentialsDir, identity.Coordinator)
		c.PeerTLSInfo = secured(cfg.CredentialsDir, identity.Etcd)
	}
	return c, nil
}

// secured lets in the certificates of one role.
func secured(dir string, role identity.Role) transport.TLSInfo {
	return transport.TLSInfo{
		CertFile:       filepath.Join(dir, identity.CertFile),
		KeyFile:        filepath.Join(dir, identity.KeyFile),
		TrustedCAFile:  filepath.Join(dir, identity.CAFile),
		ClientCertAuth: true,
		// The name in the certificate decides, not where the peer connects from.
		SkipClientSANVerify: true,
		AllowedCNs:          []string{identity.Identity{Role: role}.CommonName()},
	}
}

// embeddedLog gives the server its logger and returns the logger's level.
func embeddedLog(c *embed.Config, file string) (zap.AtomicLevel, error) {
	z := zap.NewProductionConfig()
	z.Level = zap.NewAtomicLevelAt(zap.ErrorLevel)
	if file != "" {
		z.Level.SetLevel(zap.InfoLevel)
		z.OutputPaths, z.ErrorOutputPaths = []string{file}, []string{file}
	}
	log, err := z.Build()
	if err != nil {
		return z.Level, fmt.Errorf("open etcd log: %w", err)
	}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return z.Level, nil
}

// ClientURL is where the server serves its clients, with the port it really
// listens on.
func (e *Embedded) ClientURL() string {
	return e.scheme + "://" + e.server.Clients[0].Addr().String()
}

// Err delivers the error that ended the server by itself.
func (e *Embedded) Err() <-chan error { return e.server.Err() }

// Close stops the server; what it acknowledged is on disk.
func (e *Embedded) Close() error {
	// An orderly end makes every listener of the server report an error.
	e.level.SetLevel(zap.FatalLevel)
	e.server.Close()
	return nil
}
