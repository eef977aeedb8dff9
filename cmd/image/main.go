// Command image puts static binaries into container images: see package image.
// It is what `make image` runs, and no part of fathom itself.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/fathom-train/fathom/deploy/image"
)

func main() {
	dir := flag.String("out", "bin/image", "directory to write to")
	tag := flag.String("tag", "", "name of the image, such as registry.example/fathom:v1")
	flag.Parse()
	digest, err := image.Write(*dir, *tag, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%s\n%s/oci, and %s/fathom-ARCH.tar for docker load\n", digest, *dir, *dir)
}
