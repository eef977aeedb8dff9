package kernel

import (
	"fmt"
	"os"
	"sync/atomic"
)

// The names of the code paths, as FATHOM_CPU takes them.
const (
	Portable = "portable"
	AVX2     = "avx2"
	AVX512   = "avx512"
)

// simd tells whether the vector code runs. It is chosen once at start; only
// tests change it.
var simd atomic.Bool

// simd512 tells whether that may be 512-bit code.
var simd512 atomic.Bool

// chosen is the path's name, and what was wrong with FATHOM_CPU.
var (
	chosen    atomic.Value
	chosenErr error
)

func init() {
	path := best()
	if want := os.Getenv("FATHOM_CPU"); want != "" {
		if err := supported(want); err != nil {
			chosenErr = fmt.Errorf("FATHOM_CPU: %w", err)
		} else {
			path = want
		}
	}
	use(path)
}

func use(path string) {
	chosen.Store(path)
	simd.Store(path != Portable)
	simd512.Store(path == AVX512)
}

// best is the fastest path of this machine.
func best() string {
	for _, p := range []string{AVX512, AVX2} {
		if hasPath(p) {
			return p
		}
	}
	return Portable
}

func supported(path string) error {
	switch path {
	case Portable:
		return nil
	case AVX2, AVX512:
		if !hasPath(path) {
			return fmt.Errorf("this machine has no %s", path)
		}
		return nil
	}
	return fmt.Errorf("%q is unknown: want %s, %s or %s", path, Portable, AVX2, AVX512)
}

// Path returns the name of the code path in use.
func Path() string { return chosen.Load().(string) }

// SIMD tells whether vector code is in use.
func SIMD() bool { return simd.Load() }

// wide tells whether vector code of 512 bits is in use, where there is any.
func wide() bool { return simd512.Load() }

// CPU returns the code path in use, and an error when FATHOM_CPU asked for one
// that is unknown or not available here (the best one is in use then).
func CPU() (string, error) { return Path(), chosenErr }

// SetPath switches the code path for a test and returns how to switch back. It
// must not be called while kernels run.
func SetPath(path string) (restore func(), err error) {
	if err := supported(path); err != nil {
		return nil, err
	}
	old := Path()
	use(path)
	return func() { use(old) }, nil
}

// Paths lists the code paths this machine has.
func Paths() []string {
	paths := []string{Portable}
	for _, p := range []string{AVX2, AVX512} {
		if hasPath(p) {
			paths = append(paths, p)
		}
	}
	return paths
}
