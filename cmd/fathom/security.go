package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/proto/identity"
)

// credentialsEnv is the default of --credentials.
const credentialsEnv = "FATHOM_CREDENTIALS"

// securityFlags say how connections are secured.
type securityFlags struct {
	dir      string
	insecure bool
}

func (f *securityFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "credentials", "",
		"directory of "+identity.CertFile+", "+identity.KeyFile+" and "+identity.CAFile+" (default $"+credentialsEnv+")")
	cmd.Flags().BoolVar(&f.insecure, "insecure", false, "plain text and no checks; on loopback addresses only")
	cmd.MarkFlagsMutuallyExclusive("credentials", "insecure")
}

// load returns the credentials, or nil for plain text, which all of the
// addresses must be fit for: empty ones count as loopback.
func (f *securityFlags) load(log *slog.Logger, addresses ...string) (*identity.Source, error) {
	if f.insecure {
		for _, a := range addresses {
			if !loopback(a) {
				return nil, inputError{fmt.Errorf("--insecure is for loopback addresses only, %s is none: give --credentials DIR (fathom certs makes one)", a)}
			}
		}
		return nil, nil
	}
	dir := f.dir
	if dir == "" {
		dir = os.Getenv(credentialsEnv)
	}
	if dir == "" {
		return nil, inputError{fmt.Errorf("no credentials: give --credentials DIR or set %s (fathom certs makes one), or --insecure if the cluster is so, too", credentialsEnv)}
	}
	s, err := identity.Load(dir, log)
	if err != nil {
		return nil, inputError{err}
	}
	return s, nil
}

// loadAs is load for processes, whose certificate must be of their role and
// cover their name.
func (f *securityFlags) loadAs(role identity.Role, name string, log *slog.Logger, addresses ...string) (*identity.Source, error) {
	s, err := f.load(log, addresses...)
	if err != nil || s == nil {
		return nil, err
	}
	if who := s.Identity(); who.Role != role || !who.Covers(name) {
		return nil, inputError{fmt.Errorf("the certificate in %s is of %s, this is %s %s", s.Dir(), who, role, name)}
	}
	return s, nil
}

// loopback tells whether only this machine reaches the address, which may be
// host:port or a URL.
func loopback(address string) bool {
	if address == "" {
		return true
	}
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		address = u.Host
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
