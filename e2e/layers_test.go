package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the prefix of our own import paths.
const module = "github.com/fathom-train/fathom/"

// layers lists, for every package, the packages of this module it may import,
// directly. A package that is not listed is a fault: whoever adds one decides
// here where it belongs. What an import drags in follows, because every package
// on the way is listed too; TestLayersPointDownward checks that they form no
// circle.
var layers = map[string][]string{
	"shard": {},

	"compute/random": {},
	"compute/kernel": {"compute/random"},
	"compute/gemm":   {"compute/kernel"},
	"compute/optim":  {"compute/kernel"},
	"compute/layer":  {"compute/random", "compute/kernel", "compute/gemm"},
	"compute/model":  {"compute/random", "compute/kernel", "compute/gemm", "compute/layer"},
	"compute/eval":   {"compute/kernel"},
	"compute/exact":  {},
	// embedding says which rows of which tables make up a field's values.
	"compute/embedding": {"shard", "compute/kernel", "compute/model"},

	"compute/supernet": {"compute/random", "compute/kernel"},

	"proto": {},
	// identity is who may call what, beside the contract of what can be called.
	"proto/identity": {"proto"},
	"ps/wire":        {"shard"},
	// frame is the gRPC codec that passes encoded bodies through.
	"ps/frame": {"proto"},

	"ps/table": {"shard", "compute/random", "compute/kernel", "compute/optim"},
	"ps/fsm":   {"shard", "compute/random", "compute/kernel", "compute/exact", "compute/optim", "compute/supernet", "ps/wire", "ps/table"},
	// checkpoint is where checkpoints lie and what their manifests say.
	"ps/checkpoint": {"shard"},
	"ps/replica":    {"proto/identity", "ps/fsm", "ps/wire"},
	"ps/client":     {"shard", "compute/exact", "proto", "ps/wire", "ps/frame", "ps/table", "ps/fsm"},
	// export is the artifact: a trained model as files.
	"ps/export": {"shard", "ps/table", "ps/fsm", "ps/checkpoint", "ps/client"},
	"ps":        {"shard", "compute/random", "compute/optim", "compute/supernet", "proto", "proto/identity", "ps/wire", "ps/frame", "ps/table", "ps/fsm", "ps/checkpoint", "ps/replica", "coordinator/client"},

	"coordinator/search":    {"compute/random", "compute/exact", "compute/supernet"},
	"coordinator/job":       {"compute/supernet", "coordinator/search", "compute/random", "compute/optim", "compute/model", "compute/embedding"},
	"coordinator/task":      {},
	"coordinator/placement": {"shard"},
	"coordinator/recipe":    {"proto", "coordinator/job"},
	"coordinator/store":     {"proto/identity"},
	"coordinator/client":    {"proto"},
	"coordinator": {"shard", "coordinator/search", "compute/random", "compute/optim", "compute/model", "compute/eval", "proto", "proto/identity",
		"coordinator/job", "coordinator/task", "coordinator/placement", "coordinator/recipe", "coordinator/store", "coordinator/client", "ps/checkpoint"},

	"worker/dataset": {"shard", "compute/random", "compute/kernel", "compute/eval", "coordinator/job"},
	"worker/trainer": {"shard", "compute/exact", "compute/supernet", "coordinator/search", "compute/random", "compute/kernel", "compute/optim", "compute/layer", "compute/model", "compute/eval",
		"compute/embedding", "ps/wire", "ps/client", "coordinator/job", "worker/dataset"},
	"worker": {"shard", "proto", "proto/identity", "compute/random", "compute/gemm", "compute/optim", "compute/model", "compute/eval",
		"ps/wire", "ps/client", "coordinator/job", "coordinator/search", "coordinator/client", "worker/dataset", "worker/trainer"},

	"deploy/plan":     {"coordinator/job"},
	"deploy/certs":    {"proto/identity"},
	"deploy/image":    {},
	"cmd/image":       {"deploy/image"},
	"deploy/manifest": {"proto/identity", "coordinator/job"},
	"deploy/scale":    {},
	// launch brings the objects into a cluster; launchtest is an API server for its tests.
	"deploy/launch":            {"proto/identity", "deploy/certs", "deploy/manifest", "deploy/launch/launchtest", "coordinator/job"},
	"deploy/launch/launchtest": {},
	"deploy/local":             {"proto/identity", "deploy/plan", "deploy/certs"},

	// The lower layers are for fathom bench, which measures each by itself.
	"cmd/fathom": {"shard", "compute/random", "compute/kernel", "compute/gemm", "compute/optim", "compute/model", "compute/embedding",
		"ps/wire", "ps/table", "ps/checkpoint", "ps/fsm", "ps/client", "ps/export", "worker/trainer", "compute/eval",
		"proto", "proto/identity", "deploy/certs", "deploy/manifest", "deploy/scale", "deploy/launch", "deploy/launch/launchtest", "ps", "worker", "worker/dataset",
		"coordinator", "coordinator/client", "coordinator/job", "coordinator/placement", "coordinator/search", "coordinator/store", "deploy/plan", "deploy/local"},
	"e2e": {"proto", "proto/identity"},
	// sim runs everything in one process, on simulated time, network and disks.
	"e2e/sim": {"ps", "worker", "coordinator"},
}

// owners lists the packages that may import a third-party module; a module
// that is not listed belongs to nobody and must not be imported.
var owners = map[string][]string{
	"github.com/apache/arrow/go/v17":         {"worker/dataset", "ps/export"},
	"github.com/hashicorp/raft":              {"ps/replica", "e2e/sim"},
	"github.com/hashicorp/raft-wal":          {"ps/replica", "e2e/sim"}, // sim: disks of its own under and above the log
	"github.com/hashicorp/go-hclog":          {"ps/replica"},
	"go.etcd.io/etcd":                        {"coordinator/store"},
	"go.uber.org/zap":                        {"coordinator/store"},
	"github.com/spf13/cobra":                 {"cmd/fathom"},
	"github.com/mattn/go-isatty":             {"cmd/fathom"},
	"github.com/prometheus/client_golang":    {"ps", "ps/replica", "worker", "worker/dataset", "worker/trainer", "coordinator", "cmd/fathom"},
	"google.golang.org/grpc":                 {"proto", "proto/identity", "ps", "ps/frame", "ps/replica", "ps/client", "worker", "coordinator", "coordinator/store", "coordinator/client", "cmd/fathom"},
	"google.golang.org/protobuf":             {"proto", "ps", "ps/frame", "coordinator", "coordinator/client", "worker"},
	"github.com/google/go-containerregistry": {"deploy/image"},
	"sigs.k8s.io/yaml":                       {"deploy/manifest", "deploy/launch"},
	"k8s.io/apimachinery":                    {"deploy/scale", "deploy/launch", "deploy/launch/launchtest"},
	"k8s.io/client-go":                       {"deploy/scale", "deploy/launch"},
	"k8s.io/streaming":                       {"deploy/launch/launchtest"},
	"github.com/aymanbagabas/go-udiff":       {"deploy/launch"},
	"github.com/zeebo/xxh3":                  {"ps/table", "ps/fsm", "worker/dataset"},
	"go.yaml.in/yaml/v3":                     {"coordinator/job"},
	"gocloud.dev":                            {"ps/checkpoint"},
	"golang.org/x/sync":                      {"ps", "ps/replica", "ps/client", "worker", "worker/dataset", "worker/trainer", "coordinator", "coordinator/client", "deploy/local", "deploy/launch", "cmd/fathom"},
	"golang.org/x/sys":                       {"compute/kernel", "compute/gemm", "ps", "ps/table", "ps/replica", "deploy/local", "cmd/fathom"},
}

// testModules are for tests only, of every package.
var testModules = []string{
	"github.com/johannesboyne/gofakes3",
	"github.com/google/go-cmp", "golang.org/x/net", "k8s.io/api", "k8s.io/apimachinery", "k8s.io/pod-security-admission", "sigs.k8s.io/yaml", "pgregory.net/rapid", "go.uber.org/goleak", "github.com/anishathalye/porcupine",
	"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/prometheus/client_golang",
}

// pure lists the packages whose results may depend on their arguments alone:
// they open no file or connection and read no clock. A name that ends in / means
// the whole folder.
var pure = []string{"shard", "compute/", "ps/wire", "ps/table", "ps/fsm", "coordinator/job", "coordinator/task", "coordinator/placement", "coordinator/recipe", "coordinator/search", "deploy/plan", "deploy/manifest"}

// impureImports must not be imported by a pure package.
var impureImports = []string{
	"net", "net/http", "os", "os/exec", "os/signal", "os/user", "io/ioutil", "log", "log/slog",
	"math/rand", "math/rand/v2", "crypto/rand", "google.golang.org/grpc",
}

// impureExceptions names what a pure package may import all the same, and why.
var impureExceptions = map[string][]string{
	"compute/kernel": {"os"}, // FATHOM_CPU, read once
}

// impureCalls must not be called by a pure package.
var impureCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
}

// goPackage is what `go list -json` says about a package.
type goPackage struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Error        *struct{ Err string }
}

// name is the package's folder in the repository.
func (p goPackage) name() string { return strings.TrimPrefix(p.ImportPath, module) }

// listPackages lists the packages of this module that have Go files.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports,Error", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if p.Error != nil {
			t.Fatalf("go list: %s: %s", p.ImportPath, p.Error.Err)
		}
		all = append(all, p)
	}
}

func TestLayersPointDownward(t *testing.T) {
	rank := map[string]int{}
	var visit func(path []string, name string) int
	visit = func(path []string, name string) int {
		if slices.Contains(path, name) {
			t.Fatalf("the layers go in a circle: %s", strings.Join(append(path, name), " -> "))
		}
		if r, ok := rank[name]; ok {
			return r
		}
		deepest := 0
		for _, d := range layers[name] {
			if _, known := layers[d]; !known {
				t.Errorf("%s may import %s, which is in no layer", name, d)
			}
			deepest = max(deepest, 1+visit(append(path, name), d))
		}
		rank[name] = deepest
		return deepest
	}
	for name := range layers {
		visit(nil, name)
	}
}

func TestPackagesImportOnlyTheirLayers(t *testing.T) {
	for _, p := range listPackages(t) {
		allowed, known := layers[p.name()]
		if !known {
			t.Errorf("%s is in no layer: add it to layers in e2e/layers_test.go", p.name())
			continue
		}
		check := func(kind string, imports, allowed []string) {
			for _, i := range imports {
				dep, ours := strings.CutPrefix(i, module)
				if ours && dep != p.name() && !slices.Contains(allowed, dep) {
					t.Errorf("%s%s imports %s, which is not below it", p.name(), kind, dep)
				}
			}
		}
		check("", p.Imports, allowed)
		allowed = below(p.name()) // a test may build what its package is only handed
		check(" (test)", p.TestImports, allowed)
		check(" (test)", p.XTestImports, allowed)
	}
}

func TestThirdPartyModulesHaveOwners(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, i := range p.Imports {
			if m, third := thirdParty(i); third && !slices.Contains(owners[m], p.name()) {
				t.Errorf("%s imports %s, which is for %v only", p.name(), i, owners[m])
			}
		}
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			if m, third := thirdParty(i); third && !slices.Contains(owners[m], p.name()) && !slices.Contains(testModules, m) {
				t.Errorf("%s (test) imports %s, which is for %v only", p.name(), i, owners[m])
			}
		}
	}
}

// below returns all packages that the named one may reach.
func below(name string) []string {
	var all []string
	for _, d := range layers[name] {
		all = append(all, d)
		all = append(all, below(d)...)
	}
	return all
}

// thirdParty returns the known module an import path belongs to (the path
// itself when it belongs to none), and whether it is neither ours nor Go's.
func thirdParty(path string) (mod string, third bool) {
	if strings.HasPrefix(path, module) || !strings.Contains(strings.Split(path, "/")[0], ".") {
		return "", false
	}
	mod = path
	best := 0
	for _, m := range slices.Concat(testModules, sortedKeys(owners)) {
		if len(m) > best && (path == m || strings.HasPrefix(path, m+"/")) {
			mod, best = m, len(m)
		}
	}
	return mod, true
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestPurePackagesTouchNothingOutside(t *testing.T) {
	isPure := func(name string) bool {
		return slices.ContainsFunc(pure, func(p string) bool {
			return name == p || strings.HasSuffix(p, "/") && strings.HasPrefix(name, p)
		})
	}
	for _, p := range listPackages(t) {
		if !isPure(p.name()) {
			continue
		}
		for _, i := range p.Imports {
			if slices.Contains(impureImports, i) && !slices.Contains(impureExceptions[p.name()], i) {
				t.Errorf("%s is pure but imports %s", p.name(), i)
			}
		}
		for _, name := range p.GoFiles {
			for _, call := range selectors(t, filepath.Join(p.Dir, name), impureCalls) {
				t.Errorf("%s: a pure package uses %s", call.at, call.name)
			}
		}
	}
}

// TestPrometheusStaysInMetricsFiles allows other files to name only the type
// of the registry that they hand down.
func TestPrometheusStaysInMetricsFiles(t *testing.T) {
	const path = "github.com/prometheus/client_golang/prometheus"
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.name(), "cmd/") || !slices.Contains(p.Imports, path) {
			continue
		}
		for _, name := range p.GoFiles {
			if name == "metrics.go" {
				continue
			}
			for _, use := range selectors(t, filepath.Join(p.Dir, name), map[string][]string{path: nil}) {
				if use.name != "prometheus.Registerer" {
					t.Errorf("%s: %s belongs to metrics.go", use.at, use.name)
				}
			}
		}
	}
}

// TestOnlyMainExits keeps os.Exit and the environment at the edge.
func TestOnlyMainExits(t *testing.T) {
	wanted := map[string][]string{"os": {"Exit", "Getenv", "LookupEnv", "Environ", "Setenv"}, "log": {"Fatal", "Fatalf", "Fatalln"}}
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.name(), "cmd/") {
			continue
		}
		for _, name := range p.GoFiles {
			for _, use := range selectors(t, filepath.Join(p.Dir, name), wanted) {
				if p.name() == "compute/kernel" && (use.name == "os.Getenv" || use.name == "os.LookupEnv") {
					continue // FATHOM_CPU
				}
				t.Errorf("%s: %s belongs to cmd/", use.at, use.name)
			}
		}
	}
}

// use is one selector of an imported package.
type use struct {
	at   string // file:line
	name string // package.Name
}

// selectors finds the uses of the named identifiers of imported packages in a
// file; no names means all of the package's.
func selectors(t *testing.T, file string, wanted map[string][]string) []use {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	local := map[string][]string{} // name in this file -> identifiers
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		names, ok := wanted[path]
		if !ok {
			continue
		}
		as := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			as = spec.Name.Name
		}
		local[as] = names
	}
	var found []use
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := s.X.(*ast.Ident)
		if !ok || x.Obj != nil {
			return true
		}
		if names, ok := local[x.Name]; ok && (names == nil || slices.Contains(names, s.Sel.Name)) {
			pos := fset.Position(s.Pos())
			found = append(found, use{fmt.Sprintf("%s:%d", filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), pos.Line), x.Name + "." + s.Sel.Name})
		}
		return true
	})
	return found
}

// topLevel is everything that may lie in the root of the repository.
var topLevel = []string{
	"go.mod", "go.sum", "README.md", "LICENSE", "Makefile",
	"cmd", "ps", "worker", "coordinator", "shard", "proto", "compute", "deploy", "e2e", "docs",
}

func TestTopLevelIsFixed(t *testing.T) {
	tracked, err := exec.Command("git", "-C", "..", "ls-tree", "--name-only", "HEAD").Output()
	if err != nil {
		if _, serr := os.Stat("../.git"); serr != nil {
			t.Skip("not a git checkout")
		}
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(tracked)) {
		if !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			t.Errorf("%s does not belong in the root of the repository", name)
		}
	}
}
