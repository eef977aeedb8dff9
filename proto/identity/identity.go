// Package identity says who a process is and what it may ask of others. An
// identity is a certificate: its URI name spiffe://fathom/CLUSTER/ROLE/NAME
// gives the cluster, the role and the name. The package loads certificates and
// follows their rotation (Source), makes TLS connections that check the other
// side's role, and checks every call against the table of rules (Rules).
//
// All of it may be used by several goroutines.
package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Role is what a process or a person may do.
type Role string

// The roles.
const (
	Etcd        Role = "etcd"        // the store of the coordinators
	Coordinator Role = "coordinator" // may use the store
	PS          Role = "ps"          // holds shards; may speak raft
	Worker      Role = "worker"      // may pull and push
	Admin       Role = "admin"       // a person who may do everything
	Viewer      Role = "viewer"      // a person, or a monitor, who may look
)

// Roles returns all roles.
func Roles() []Role { return []Role{Etcd, Coordinator, PS, Worker, Admin, Viewer} }

// Valid tells whether r is one of Roles.
func (r Role) Valid() bool {
	for _, role := range Roles() {
		if r == role {
			return true
		}
	}
	return false
}

// authority is the first part of every identity, for all clusters.
const authority = "fathom"

// Identity is who a certificate is of.
type Identity struct {
	// Cluster is the name that all processes of one cluster share.
	Cluster string
	Role    Role
	// Name is the node's, or the person's.
	Name string
}

// ErrIdentity is what every error about a certificate's name is.
var ErrIdentity = errors.New("no identity of fathom")

// String returns role and name, as in messages.
func (i Identity) String() string { return string(i.Role) + " " + i.Name }

// URI returns the name in certificates.
func (i Identity) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: authority, Path: "/" + i.Cluster + "/" + string(i.Role) + "/" + i.Name}
}

// Covers tells whether the identity may act for a node: the one of its own name,
// or, when the replicas of a set share a certificate, NAME-N for a number N. The
// certificate CLUSTER-ROLE of all sets of a role is for those of its pools, too:
// CLUSTER-ROLE-POOL-N.
func (i Identity) Covers(node string) bool {
	rest, ok := strings.CutPrefix(node, i.Name+"-")
	if !ok {
		return node == i.Name
	}
	pool, number := "", rest
	if cut := strings.LastIndexByte(rest, '-'); cut >= 0 {
		pool, number = rest[:cut], rest[cut+1:]
		if pool == "" || i.Name != i.Cluster+"-"+string(i.Role) {
			return false
		}
	}
	return number != "" && !strings.ContainsFunc(number, func(r rune) bool { return r < '0' || r > '9' })
}

// CommonName is the name under which etcd's users are told apart; it is the
// same for all nodes of a role.
func (i Identity) CommonName() string { return authority + "-" + string(i.Role) }

// Validate reports what a certificate could not carry.
func (i Identity) Validate() error {
	if !i.Role.Valid() {
		return fmt.Errorf("%w: role %q is none of %v", ErrIdentity, i.Role, Roles())
	}
	for _, s := range []string{i.Cluster, i.Name} {
		if s == "" || len(s) > nameBytesMax || strings.ContainsFunc(s, foreign) {
			return fmt.Errorf("%w: %q must have 1 to %d letters, digits, '-', '.' or '_'", ErrIdentity, s, nameBytesMax)
		}
	}
	return nil
}

// nameBytesMax is the length of a DNS name.
const nameBytesMax = 253

// foreign tells whether a name must not have the character.
func foreign(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._", r))
}

// Of reads the identity from a certificate, which must name exactly one.
func Of(c *x509.Certificate) (Identity, error) {
	if len(c.URIs) != 1 {
		return Identity{}, fmt.Errorf("%w: the certificate has %d URI names, want one spiffe://%s/CLUSTER/ROLE/NAME", ErrIdentity, len(c.URIs), authority)
	}
	u := c.URIs[0]
	part := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if u.Scheme != "spiffe" || u.Host != authority || len(part) != 3 {
		return Identity{}, fmt.Errorf("%w: the certificate's URI name is %s, want spiffe://%s/CLUSTER/ROLE/NAME", ErrIdentity, u, authority)
	}
	i := Identity{Cluster: part[0], Role: Role(part[1]), Name: part[2]}
	return i, i.Validate()
}
