package launch

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fathom-train/fathom/deploy/certs"
	"github.com/fathom-train/fathom/deploy/manifest"
	"github.com/fathom-train/fathom/proto/identity"
)

// caSecret holds the authority of a job whose certificates are made here. It is
// mounted nowhere.
func caSecret(job string) string { return job + "-ca" }

// caKeyFile is the authority's own key in that secret.
const caKeyFile = "ca.key"

// SecretsPlan is which secrets are to be made.
type SecretsPlan struct {
	// Make are missing, or hold certificates of our own authority that end soon.
	Make []string

	job       string
	wanted    []manifest.Secret
	authority map[string][]byte // nil: it has to be made, too
}

// PlanSecrets finds which of the job's secrets are missing. Secrets that
// somebody else made are never touched; if only some are there and there is no
// authority to sign the others, that is an error.
func (c *Cluster) PlanSecrets(ctx context.Context, job string, wanted []manifest.Secret) (*SecretsPlan, error) {
	p := &SecretsPlan{job: job, wanted: wanted}
	var err error
	if p.authority, _, err = c.secret(ctx, caSecret(job)); err != nil {
		return nil, err
	}
	var given []string
	for _, s := range wanted {
		data, ours, err := c.secret(ctx, s.Name)
		switch {
		case err != nil:
			return nil, err
		case data == nil && s.Given:
			return nil, fmt.Errorf("%w: there is no secret %s, which is to be that of the role %s", ErrRefused, s.Name, s.Role)
		case data == nil:
			p.Make = append(p.Make, s.Name)
		case ours && p.authority != nil && endsSoon(data[identity.CertFile], time.Now()):
			p.Make = append(p.Make, s.Name)
		default:
			given = append(given, s.Name)
		}
	}
	if len(p.Make) > 0 && len(given) > 0 && p.authority == nil {
		return nil, fmt.Errorf("%w: secrets %v exist, %v do not, and there is no secret %s to sign them: make them as fathom manifest --secrets says, or name a cert-manager issuer with --issuer",
			ErrRefused, given, p.Make, caSecret(job))
	}
	return p, nil
}

// endsSoon tells whether less than a third of a certificate's life is left.
func endsSoon(text []byte, now time.Time) bool {
	block, _ := pem.Decode(text)
	if block == nil {
		return true
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err != nil || cert.NotAfter.Sub(now) < cert.NotAfter.Sub(cert.NotBefore)/3
}

// MakeSecrets makes what the plan says, and the authority first if there is
// none. Processes follow a certificate that was made anew without a restart.
func (c *Cluster) MakeSecrets(ctx context.Context, p *SecretsPlan) (err error) {
	if len(p.Make) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "fathom-certs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ca := filepath.Join(dir, "ca")
	if p.authority == nil {
		if _, err := certs.Create(ca, p.job); err != nil {
			return err
		}
		if err := c.putSecret(ctx, p.job, caSecret(p.job), "Opaque", ca, identity.CAFile, caKeyFile); err != nil {
			return err
		}
	} else if err := writeFiles(ca, p.authority, identity.CAFile, caKeyFile); err != nil {
		return err
	}
	authority, err := certs.Open(ca)
	if err != nil {
		return err
	}
	for _, s := range p.wanted {
		if !slices.Contains(p.Make, s.Name) {
			continue
		}
		out := filepath.Join(dir, s.Name)
		if err := authority.Issue(out, certs.Request{Role: s.Role, Name: s.Identity, Hosts: s.Hosts}); err != nil {
			return err
		}
		if err := c.putSecret(ctx, p.job, s.Name, "kubernetes.io/tls", out, identity.CAFile, identity.CertFile, identity.KeyFile); err != nil {
			return err
		}
	}
	return nil
}

// putSecret makes a secret of files, or replaces what is in ours.
func (c *Cluster) putSecret(ctx context.Context, job, name, kind, dir string, files ...string) error {
	data := map[string]any{}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		data[f] = base64.StdEncoding.EncodeToString(text)
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": kind, "data": data,
		"metadata": map[string]any{"name": name, "namespace": c.namespace,
			"labels": map[string]any{nameLabel: owner, instanceLabel: job, ownerLabel: owner}},
	}}
	_, err := c.at(secrets).Apply(ctx, name, o, metav1.ApplyOptions{FieldManager: manager})
	return c.explain("secret/"+name, err)
}

// secret returns what is in a secret, nil if there is none, and whether it was
// made here.
func (c *Cluster) secret(ctx context.Context, name string) (data map[string][]byte, ours bool, err error) {
	o, err := c.at(secrets).Get(ctx, name, metav1.GetOptions{})
	if gone(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, c.explain("look at secret/"+name, err)
	}
	fields, _, err := unstructured.NestedStringMap(o.Object, "data")
	if err != nil {
		return nil, false, fmt.Errorf("secret/%s: %w", name, err)
	}
	data = map[string][]byte{}
	for k, v := range fields {
		if data[k], err = base64.StdEncoding.DecodeString(v); err != nil {
			return nil, false, fmt.Errorf("secret/%s: %s: %w", name, k, err)
		}
	}
	return data, o.GetLabels()[ownerLabel] == owner, nil
}

// AdminCredentials writes the job's admin credentials into dir, as package
// identity reads them.
func (c *Cluster) AdminCredentials(ctx context.Context, job, dir string) error {
	name := job + "-admin-tls"
	data, _, err := c.secret(ctx, name)
	if err != nil {
		return err
	}
	if data == nil {
		return fmt.Errorf("%w: namespace %s has no secret %s, by which people prove to the job's coordinator who they are", ErrRefused, c.namespace, name)
	}
	return writeFiles(dir, data, identity.CAFile, identity.CertFile, identity.KeyFile)
}

func writeFiles(dir string, data map[string][]byte, files ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if len(data[f]) == 0 {
			return fmt.Errorf("%w: a secret has no %s", ErrRefused, f)
		}
		if err := os.WriteFile(filepath.Join(dir, f), data[f], 0o600); err != nil {
			return err
		}
	}
	return nil
}
