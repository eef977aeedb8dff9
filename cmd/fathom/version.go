package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/compute/kernel"
)

// versions says which build on which machine it is.
type versions struct {
	Fathom   string `json:"fathom"`
	Revision string `json:"revision,omitempty"` // of the source, when the build knows it
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// CPU is the code path of the numeric kernels: all give the same bits.
	CPU string `json:"cpu"`
}

func readVersions() versions {
	v := versions{Fathom: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPU: kernel.Path()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Fathom = info.Main.Version
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		v.Revision += "+modified"
	}
	return v
}

func (a *app) newVersion() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of fathom and Go, the platform and the CPU path",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkCPU(); err != nil {
				return err
			}
			v := readVersions()
			if o == outputJSON {
				return writeJSON(a.out, v)
			}
			text := "fathom " + v.Fathom
			if v.Revision != "" {
				text += " (" + v.Revision + ")"
			}
			_, err := fmt.Fprintf(a.out, "%s, %s, %s, cpu path %s\n", text, v.Go, v.Platform, v.CPU)
			return err
		},
	}
	o.add(cmd)
	return cmd
}
