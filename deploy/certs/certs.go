// Package certs is fathom's own certificate authority: it makes the
// authority's key and signs a certificate for every process and person. A
// local cluster gets one of its own; a cluster on several machines may use it
// or bring certificates from elsewhere (the names they need are those of
// package identity).
//
// Keys are ECDSA on P-256 and never leave the directory they are written to.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/fathom-train/fathom/proto/identity"
)

const (
	// authorityLife and certificateLife are how long certificates are valid.
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	// skew lets certificates be valid on machines whose clock is late.
	skew = 5 * time.Minute
	// keyFile is the authority's own key, beside identity.CAFile.
	keyFile = "ca.key"
)

// Authority signs certificates.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// ErrExists: the directory holds an authority already.
var ErrExists = errors.New("there is an authority already")

// Create makes a new authority in dir, which is made when it does not exist.
func Create(dir, cluster string) (*Authority, error) {
	if err := (identity.Identity{Cluster: cluster, Role: identity.Admin, Name: "ca"}).Validate(); err != nil {
		return nil, fmt.Errorf("create authority: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err == nil {
		return nil, fmt.Errorf("create authority in %s: %w", dir, ErrExists)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create authority: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "fathom " + cluster + " authority", Organization: []string{cluster}},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := sign(template, authorityLife, template, key, key)
	if err != nil {
		return nil, fmt.Errorf("create authority: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create authority: %w", err)
	}
	if err := errors.Join(writeKey(filepath.Join(dir, keyFile), key), writeCert(filepath.Join(dir, identity.CAFile), der)); err != nil {
		return nil, fmt.Errorf("create authority: %w", err)
	}
	return Open(dir)
}

// Open reads an authority that Create made.
func Open(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	block, err := readPEM(filepath.Join(dir, identity.CAFile), "CERTIFICATE")
	if err == nil {
		a.cert, err = x509.ParseCertificate(block)
	}
	if err == nil {
		block, err = readPEM(filepath.Join(dir, keyFile), "EC PRIVATE KEY")
	}
	if err == nil {
		a.key, err = x509.ParseECPrivateKey(block)
	}
	if err != nil {
		return nil, fmt.Errorf("open authority in %s: %w", dir, err)
	}
	if len(a.cert.Subject.Organization) != 1 {
		return nil, fmt.Errorf("open authority in %s: its certificate names no cluster", dir)
	}
	return a, nil
}

// OpenOrCreate opens the authority in dir, or makes one when there is none.
func OpenOrCreate(dir, cluster string) (*Authority, error) {
	_, err := os.Stat(filepath.Join(dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Create(dir, cluster)
	}
	return Open(dir)
}

// Cluster is the name all its certificates carry.
func (a *Authority) Cluster() string { return a.cert.Subject.Organization[0] }

// Request says what a certificate is to be for.
type Request struct {
	Role identity.Role
	Name string
	// Hosts are the names and addresses at which others dial the process.
	Hosts []string
	// Life is how long it is valid; default one year.
	Life time.Duration
}

// Issue writes a new key and certificate, and the authority's certificate, into
// dir, and replaces what is there.
func (a *Authority) Issue(dir string, r Request) error {
	who := identity.Identity{Cluster: a.Cluster(), Role: r.Role, Name: r.Name}
	if err := who.Validate(); err != nil {
		return fmt.Errorf("issue certificate: %w", err)
	}
	if r.Life == 0 {
		r.Life = certificateLife
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("issue certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: who.CommonName(), Organization: []string{who.Cluster}},
		URIs:        []*url.URL{who.URI()},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range r.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := sign(template, r.Life, a.cert, key, a.key)
	if err != nil {
		return fmt.Errorf("issue certificate of %s: %w", who, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("issue certificate of %s: %w", who, err)
	}
	err = errors.Join(
		writeCert(filepath.Join(dir, identity.CAFile), a.cert.Raw),
		writeKey(filepath.Join(dir, identity.KeyFile), key),
		writeCert(filepath.Join(dir, identity.CertFile), der),
	)
	if err != nil {
		return fmt.Errorf("issue certificate of %s: %w", who, err)
	}
	return nil
}

// sign fills in what all certificates have and signs the key of owner.
func sign(c *x509.Certificate, life time.Duration, parent *x509.Certificate, owner, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	c.SerialNumber, c.NotBefore, c.NotAfter = serial, now.Add(-skew), now.Add(life)
	return x509.CreateCertificate(rand.Reader, c, parent, &owner.PublicKey, signer)
}

func writeCert(path string, der []byte) error { return replace(path, "CERTIFICATE", der, 0o644) }

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return replace(path, "EC PRIVATE KEY", der, 0o600)
}

// replace writes beside the file and renames, so that a reader finds one or the
// other whole.
func replace(path, kind string, der []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	err = errors.Join(f.Chmod(mode), pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func readPEM(path, kind string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s holds no %s in PEM form", path, kind)
	}
	return block.Bytes, nil
}
