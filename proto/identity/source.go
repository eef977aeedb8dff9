package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The files of a directory of credentials, as in a Kubernetes secret of type
// kubernetes.io/tls.
const (
	CertFile = "tls.crt"
	KeyFile  = "tls.key"
	// CAFile may hold several authorities, so that they can be replaced one
	// after the other.
	CAFile = "ca.crt"
)

// fileBytesMax bounds what is read of a file.
const fileBytesMax = 1 << 20

// lookEvery is how often a Source looks whether its files have changed.
const lookEvery = time.Second

// Source is a process's own credentials. The files are read again when they
// change, so new connections use new certificates without a restart. Files that
// cannot be used are reported, and the ones before stay in use.
type Source struct {
	dir string
	log *slog.Logger
	// refusals paces the lines about refused connections.
	refusals rate
	// audit is the trail of the process; nil: none. It is set before use.
	audit *Audit

	// mu guards the rest.
	mu     sync.Mutex
	looked time.Time
	stamp  stamp
	now    material
}

// material is what the files say.
type material struct {
	cert     tls.Certificate
	pool     *x509.CertPool
	identity Identity
}

// stamp tells whether a file is another one.
type stamp [3]struct {
	modified time.Time
	size     int64
}

// Load reads the credentials in dir. log gets a line for every rotation and for
// every refused connection; nil: nobody.
func Load(dir string, log *slog.Logger) (*Source, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Source{dir: dir, log: log, looked: time.Now()}
	var err error
	if s.stamp, err = s.files(); err != nil {
		return nil, err
	}
	if s.now, err = s.read(); err != nil {
		return nil, err
	}
	return s, nil
}

// Identity returns who the process is.
func (s *Source) Identity() Identity { return s.current().identity }

// Certificate returns the process's own certificate.
func (s *Source) Certificate() *x509.Certificate { return s.current().cert.Leaf }

// Dir returns the directory the credentials are read from.
func (s *Source) Dir() string { return s.dir }

// current returns the credentials in use, after a look at the files.
func (s *Source) current() material {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.looked) >= lookEvery {
		s.looked = now
		s.refresh()
	}
	return s.now
}

// refresh is called with mu held.
func (s *Source) refresh() {
	stamp, err := s.files()
	if err == nil && stamp == s.stamp {
		return
	}
	var next material
	if err == nil {
		next, err = s.read()
	}
	if err == nil && next.identity != s.now.identity {
		err = fmt.Errorf("they are of %s, not of %s as before", next.identity, s.now.identity)
	}
	if err != nil {
		s.log.Error("new credentials cannot be used, the ones before stay in use", "dir", s.dir, "error", err)
		s.stamp = stamp // told once for every change
		return
	}
	s.stamp, s.now = stamp, next
	s.log.Info("credentials were replaced", "dir", s.dir, "valid_until", next.cert.Leaf.NotAfter)
}

func (s *Source) files() (st stamp, err error) {
	for i, name := range []string{CertFile, KeyFile, CAFile} {
		info, err := os.Stat(filepath.Join(s.dir, name))
		if err != nil {
			return stamp{}, fmt.Errorf("credentials: %w", err)
		}
		if info.Size() > fileBytesMax {
			return stamp{}, fmt.Errorf("credentials: %s has %d bytes, at most %d", filepath.Join(s.dir, name), info.Size(), fileBytesMax)
		}
		st[i].modified, st[i].size = info.ModTime(), info.Size()
	}
	return st, nil
}

func (s *Source) read() (m material, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("credentials in %s: %w", s.dir, err)
		}
	}()
	if m.cert, m.pool, err = readFiles(s.dir); err != nil {
		return m, err
	}
	if m.identity, err = Of(m.cert.Leaf); err != nil {
		return m, fmt.Errorf("%s: %w", CertFile, err)
	}
	// Whoever else is given this certificate must find it good, so we must.
	_, err = m.cert.Leaf.Verify(x509.VerifyOptions{Roots: m.pool, Intermediates: intermediates(m.cert), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return m, fmt.Errorf("%s: %w", CertFile, err)
	}
	return m, nil
}

// readFiles reads a directory of credentials of anybody.
func readFiles(dir string) (cert tls.Certificate, pool *x509.CertPool, err error) {
	cert, err = tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	if err != nil {
		return cert, nil, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		return cert, nil, err
	}
	pool = x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return cert, nil, errors.New(CAFile + " holds no certificate in PEM form")
	}
	return cert, pool, nil
}

func intermediates(cert tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(c)
		}
	}
	return pool
}
