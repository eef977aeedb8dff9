// Package image writes container images of the static binary, without a
// daemon: an OCI layout with an image for every architecture, and an archive
// for `docker load` of each. The same binaries give the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user of the processes; nobody else on a node has this number.
const user = "65532:65532"

// binaryPath is where the program is in the image.
const binaryPath = "fathom"

// epoch is the time of everything in the image: it depends on the content alone.
var epoch = time.Unix(0, 0).UTC()

// ErrBinary is what every error about a binary is.
var ErrBinary = errors.New("cannot be put into an image")

// architectures by what the binary's header says.
var architectures = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

// Write makes dir/oci, an OCI layout of an index with one image for each binary, and
// dir/fathom-ARCH.tar for each. tag is the name under which docker knows it. It
// returns the digest of the index.
func Write(dir, tag string, binaries []string) (digest string, err error) {
	ref, err := name.NewTag(tag, name.StrictValidation)
	if err != nil {
		return "", fmt.Errorf("image: tag %s: %w", tag, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	seen := map[string]bool{}
	for _, path := range binaries {
		arch, err := architecture(path)
		if err != nil {
			return "", fmt.Errorf("image: %s %w: %w", path, ErrBinary, err)
		}
		if seen[arch] {
			return "", fmt.Errorf("image: %s %w: there is one for %s already", path, ErrBinary, arch)
		}
		seen[arch] = true
		image, err := build(path, arch)
		if err != nil {
			return "", fmt.Errorf("image of %s: %w", path, err)
		}
		if err := tarball.WriteToFile(filepath.Join(dir, "fathom-"+arch+".tar"), ref, image); err != nil {
			return "", fmt.Errorf("image of %s: %w", path, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: described{image}, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	oci := filepath.Join(dir, "oci")
	if err := os.RemoveAll(oci); err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	// The layout has one entry, so that tools need not be told which is meant.
	files, err := layout.Write(oci, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err == nil {
		err = files.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref.TagStr()}))
	}
	if err != nil {
		return "", fmt.Errorf("image: write %s: %w", oci, err)
	}
	h, err := index.Digest()
	if err != nil {
		return "", fmt.Errorf("image: %w", err)
	}
	return h.String(), nil
}

// described is an image whose entry in an index says no more than it must: tools
// leave out what they do not know, and the digest would be another one.
type described struct{ v1.Image }

// Descriptor returns the entry.
func (d described) Descriptor() (*v1.Descriptor, error) {
	digest, err := d.Digest()
	if err != nil {
		return nil, err
	}
	size, err := d.Size()
	return &v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digest, Size: size}, err
}

// architecture tells for which one a binary is, which must need nothing else.
func architecture(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // read only
	arch, ok := architectures[f.Machine]
	if !ok {
		return "", fmt.Errorf("it is for %v", f.Machine)
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return "", err
	}
	if len(libraries) > 0 {
		return "", fmt.Errorf("it is not static, it needs %v: build with CGO_ENABLED=0", libraries)
	}
	return arch, nil
}

func build(path, arch string) (v1.Image, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"tmp/", 0o1777, nil}, {binaryPath, 0o755, program},
	} {
		kind := byte(tar.TypeReg)
		if f.content == nil {
			kind = tar.TypeDir
		}
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: kind, ModTime: epoch, Format: tar.FormatPAX}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "fathom"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: epoch}
	config.Config = v1.Config{User: user, Entrypoint: []string{"/" + binaryPath}, WorkingDir: "/tmp",
		Labels: map[string]string{"org.opencontainers.image.title": "fathom", "org.opencontainers.image.licenses": "Apache-2.0"}}
	return mutate.ConfigFile(image, config)
}
