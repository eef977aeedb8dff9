package image_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/fathom-train/fathom/deploy/image"
)

const program = "package main\n\nfunc main() { println(1) }\n"

// compile builds a small static program for an architecture.
func compile(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "fathom-"+arch)
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return out
}

func TestImagesAreWholeAndRepeatable(t *testing.T) {
	binaries := []string{compile(t, "amd64"), compile(t, "arm64")}
	dir := t.TempDir()
	digest, err := image.Write(dir, "registry.example/fathom:v1", binaries)
	if err != nil {
		t.Fatal(err)
	}
	again, err := image.Write(t.TempDir(), "registry.example/fathom:v1", binaries)
	if err != nil || again != digest {
		t.Errorf("written again: %s, %v, want %s", again, err, digest)
	}
	whole, err := layout.ImageIndexFromPath(filepath.Join(dir, "oci"))
	if err != nil {
		t.Fatal(err)
	}
	// Tools that copy the layout want one thing in it, of the kinds of OCI.
	top, err := whole.IndexManifest()
	if err != nil || len(top.Manifests) != 1 || top.Manifests[0].Digest.String() != digest || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "v1" {
		t.Fatalf("the layout holds %+v, %v", top, err)
	}
	index, err := whole.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("the layout: %v", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 2 {
		t.Fatalf("%d images, %v, want 2", len(manifest.Manifests), err)
	}
	for i, arch := range []string{"amd64", "arm64"} {
		if p := manifest.Manifests[i].Platform; p == nil || p.Architecture != arch || p.OS != "linux" || manifest.Manifests[i].ArtifactType != "" {
			t.Errorf("image %d is for %v, %+v", i, p, manifest.Manifests[i])
		}
		stored, err := index.Image(manifest.Manifests[i].Digest)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := stored.Manifest(); err != nil || m.Config.MediaType != types.OCIConfigJSON || m.MediaType != types.OCIManifestSchema1 || m.Layers[0].MediaType != types.OCILayer {
			t.Errorf("%s: %+v, %v", arch, m, err)
		}
		im, err := tarball.ImageFromPath(filepath.Join(dir, "fathom-"+arch+".tar"), nil)
		if err != nil {
			t.Fatal(err)
		}
		config, err := im.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Config.User != "65532:65532" || config.Architecture != arch || config.Config.Entrypoint[0] != "/fathom" {
			t.Errorf("%s: %+v", arch, config.Config)
		}
		content := mutate.Extract(im)
		got := entry(t, tar.NewReader(content), "fathom")
		content.Close()
		want, err := os.ReadFile(binaries[i])
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: the image holds another program", arch)
		}
	}
}

func entry(t *testing.T, r *tar.Reader, name string) []byte {
	t.Helper()
	for {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("no %s in the image: %v", name, err)
		}
		if h.Name == name {
			if h.Mode != 0o755 {
				t.Errorf("mode %o", h.Mode)
			}
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
}

func TestWhatCannotBeAnImage(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	static := compile(t, "amd64")
	for name, binaries := range map[string][]string{"a script": {text}, "twice the same": {static, static}, "nothing there": {text + "x"}} {
		if _, err := image.Write(t.TempDir(), "registry.example/fathom:v1", binaries); !errors.Is(err, image.ErrBinary) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if sh, err := filepath.EvalSymlinks("/bin/sh"); err == nil {
		if _, err := image.Write(t.TempDir(), "registry.example/fathom:v1", []string{sh}); err == nil || !strings.Contains(err.Error(), "not static") {
			t.Errorf("a program with libraries: %v", err)
		}
	}
	if _, err := image.Write(t.TempDir(), "Not A Tag", []string{static}); err == nil {
		t.Error("a bad tag was taken")
	}
}
