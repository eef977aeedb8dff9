package identity

import (
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/fathom-train/fathom/proto"
)

// Every method of every service has a rule, and every rule a method: whoever
// adds a method says here who may call it.
func TestEveryMethodHasARule(t *testing.T) {
	known := map[string]bool{"/metrics": true, "/logs": true}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if file.Package() != protoreflect.FullName(strings.Split(proto.Control_ServiceDesc.ServiceName, ".Control")[0]) {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				known[method] = true
				if rule := Rules[method]; len(rule.Roles) == 0 {
					t.Errorf("%s has no rule", method)
				}
			}
		}
		return true
	})
	if len(known) < 10 {
		t.Fatalf("found %d methods only", len(known))
	}
	for method := range Rules {
		if !known[method] {
			t.Errorf("a rule for %s, which does not exist", method)
		}
	}
}

// What only people may decide is closed to processes and to viewers.
func TestOnlyAdminsDecide(t *testing.T) {
	for method, rule := range Rules {
		for _, role := range Roles() {
			if rule.Audited && role != Admin && Allowed(method, role) && method != proto.ParameterServer_Scan_FullMethodName {
				t.Errorf("%s may call %s", role, method)
			}
		}
		if strings.Contains(method, "ParameterServer") && strings.Contains(method, "Pu") && (Allowed(method, Viewer) || Allowed(method, Coordinator)) {
			t.Errorf("others than workers may call %s", method)
		}
	}
	if Allowed("/fathom.v1.Control/Unheard", Admin) {
		t.Error("a method without a rule is open")
	}
}

func TestIdentityOfACertificate(t *testing.T) {
	want := Identity{Cluster: "shop", Role: PS, Name: "ps-0.example"}
	got, err := Of(&x509.Certificate{URIs: []*url.URL{want.URI()}})
	if err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{
		"spiffe://fathom/shop/ps", "spiffe://fathom/shop/ps/a/b", "spiffe://other/shop/ps/a", "https://fathom/shop/ps/a",
		"spiffe://fathom/shop/root/a", "spiffe://fathom//ps/a", "spiffe://fathom/shop/ps/", "spiffe://fathom/shop/ps/a%20b",
	} {
		u, err := url.Parse(bad)
		if err != nil {
			t.Fatal(err)
		}
		if i, err := Of(&x509.Certificate{URIs: []*url.URL{u}}); !errors.Is(err, ErrIdentity) {
			t.Errorf("%s: got %v, %v", bad, i, err)
		}
	}
	two := []*url.URL{want.URI(), want.URI()}
	if _, err := Of(&x509.Certificate{URIs: two}); !errors.Is(err, ErrIdentity) {
		t.Errorf("two names: got %v", err)
	}
	if _, err := Of(&x509.Certificate{}); !errors.Is(err, ErrIdentity) {
		t.Errorf("no name: got %v", err)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add("spiffe://fathom/shop/ps/ps-0")
	f.Add("spiffe://fathom/a/b/c/d")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		i, err := Of(&x509.Certificate{URIs: []*url.URL{u}})
		if err == nil && i.Validate() != nil {
			t.Errorf("%q gives the invalid %+v", s, i)
		}
		if err == nil {
			if again, err := Of(&x509.Certificate{URIs: []*url.URL{i.URI()}}); err != nil || again != i {
				t.Errorf("%+v reads back as %+v, %v", i, again, err)
			}
		}
	})
}
