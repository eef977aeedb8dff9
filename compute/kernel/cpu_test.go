package kernel

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestSetPathSwitchesAndRestores(t *testing.T) {
	before := Path()
	restore, err := SetPath(Portable)
	if err != nil {
		t.Fatal(err)
	}
	if Path() != Portable || SIMD() {
		t.Errorf("path is %s, SIMD %v, want portable without", Path(), SIMD())
	}
	restore()
	if Path() != before {
		t.Errorf("path is %s after restore, want %s", Path(), before)
	}
	if _, err := SetPath("mmx"); err == nil || !strings.Contains(err.Error(), `"mmx"`) {
		t.Errorf("SetPath(mmx): %v, want an error that names it", err)
	}
}

func TestEveryListedPathIsSupported(t *testing.T) {
	if p := Paths(); p[0] != Portable || !slices.Contains(p, best()) {
		t.Errorf("paths %v, best %s", p, best())
	}
	for _, p := range []string{Portable, AVX2, AVX512} {
		err := supported(p)
		if slices.Contains(Paths(), p) != (err == nil) {
			t.Errorf("%s: %v, but the paths are %v", p, err, Paths())
		}
	}
}

// The variable is read once, at the start of the process.
func TestEnvironmentChoosesThePath(t *testing.T) {
	if os.Getenv("KERNEL_TEST_CHILD") != "" {
		path, err := CPU()
		os.Stdout.WriteString("path=" + path + ";")
		if err != nil {
			os.Stdout.WriteString("err=" + err.Error() + ";")
		}
		return
	}
	for _, c := range []struct{ env, want string }{
		{"portable", "path=portable;"},
		{"", "path=" + best() + ";"},
		{"sse9", "path=" + best() + `;err=FATHOM_CPU: "sse9" is unknown`},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestEnvironmentChoosesThePath$")
		cmd.Env = append(os.Environ(), "KERNEL_TEST_CHILD=1", "FATHOM_CPU="+c.env)
		out, err := cmd.Output()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("FATHOM_CPU=%s: %s %v, want %s", c.env, out, err, c.want)
		}
	}
}
