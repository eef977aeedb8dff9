package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/deploy/certs"
	"github.com/fathom-train/fathom/proto/identity"
)

func (a *app) newCerts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Make the certificates by which processes and people prove who they are",
		Long: `Make the certificates by which processes and people prove who they are.

  fathom certs create --ca ca --cluster shop
  fathom certs issue ps ps-0 --ca ca --host ps-0.example.net --out ps-0
  fathom ps --name ps-0 --credentials ps-0 ...

A local run makes its own. Issuing again into the directory of a running process
replaces its certificate; the process follows within a second.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newCertsCreate(), a.newCertsIssue(), a.newCertsShow())
	return cmd
}

func (a *app) newCertsCreate() *cobra.Command {
	var dir, cluster string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a certificate authority",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := certs.Create(dir, cluster); err != nil {
				if errors.Is(err, certs.ErrExists) || errors.Is(err, identity.ErrIdentity) {
					return inputError{err}
				}
				return err
			}
			fmt.Fprintf(a.out, "authority of cluster %s in %s; keep its key there secret\n", cluster, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "ca", "ca", "directory of the authority")
	cmd.Flags().StringVar(&cluster, "cluster", "fathom", "name of the cluster; certificates of another one are refused")
	return cmd
}

func (a *app) newCertsIssue() *cobra.Command {
	var (
		dir, out string
		r        certs.Request
	)
	cmd := &cobra.Command{
		Use:   "issue ROLE NAME",
		Short: "Sign a certificate for etcd, coordinator, ps, worker, admin or viewer",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			r.Role, r.Name = identity.Role(args[0]), args[1]
			if r.Life < 0 {
				return inputError{fmt.Errorf("--life %s is in the past", r.Life)}
			}
			ca, err := certs.Open(dir)
			if err != nil {
				return inputError{err}
			}
			if out == "" {
				out = r.Name
			}
			if err := ca.Issue(out, r); err != nil {
				if errors.Is(err, identity.ErrIdentity) {
					return inputError{err}
				}
				return err
			}
			return a.showCertificate(out)
		},
	}
	cmd.Flags().StringVar(&dir, "ca", "ca", "directory of the authority")
	cmd.Flags().StringVar(&out, "out", "", "directory to write to (default NAME)")
	cmd.Flags().StringSliceVar(&r.Hosts, "host", nil, "names and addresses at which others dial the process")
	cmd.Flags().DurationVar(&r.Life, "life", 0, "how long it is valid (default one year)")
	return cmd
}

func (a *app) newCertsShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show DIR",
		Short: "Say who the credentials in a directory are of, and until when",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.showCertificate(args[0]) },
	}
}

func (a *app) showCertificate(dir string) error {
	s, err := identity.Load(dir, nil)
	if err != nil {
		return inputError{err}
	}
	who, cert := s.Identity(), s.Certificate()
	hosts := cert.DNSNames
	for _, ip := range cert.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	fmt.Fprintf(a.out, "%s of cluster %s, in %s, valid until %s, for %v\n",
		who, who.Cluster, filepath.Join(dir, identity.CertFile), cert.NotAfter.Format(time.RFC3339), hosts)
	return nil
}
