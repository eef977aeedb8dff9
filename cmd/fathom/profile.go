package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
)

const (
	// mutexFraction is which one of so many contended unlocks is recorded, and
	// blockRate the nanoseconds of blocking of which one sample is taken: both
	// rare enough to cost nothing that can be measured.
	mutexFraction = 100
	blockRate     = 1_000_000
	// profileStartsMax bounds the starts of one process that are profiled.
	profileStartsMax = 1000
)

// profileKinds are the profiles written at the end of a process, beside that of
// its CPU time.
var profileKinds = []string{"heap", "mutex", "block"}

// startProfile begins to profile this process and returns how to end that and
// write name.cpu.pprof, name.heap.pprof and so on to dir. A process that was
// started again writes name-2.cpu.pprof: nothing is overwritten. Without a dir
// it does nothing. A process that is killed leaves an empty CPU profile.
func startProfile(dir, name string) (stop func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	cpu, prefix, err := createProfile(dir, name)
	if err != nil {
		return nil, fmt.Errorf("profile this process: %w", err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(fmt.Errorf("profile this process: %w", err), cpu.Close())
	}
	runtime.SetMutexProfileFraction(mutexFraction)
	runtime.SetBlockProfileRate(blockRate)
	return func() error {
		pprof.StopCPUProfile()
		errs := []error{cpu.Close()}
		runtime.GC() // what the heap profile shows is as of the last collection
		for _, kind := range profileKinds {
			errs = append(errs, writeProfile(prefix+"."+kind+".pprof", kind))
		}
		runtime.SetMutexProfileFraction(0)
		runtime.SetBlockProfileRate(0)
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("write profiles: %w", err)
		}
		return nil
	}, nil
}

// createProfile creates the CPU profile of the process's next start.
func createProfile(dir, name string) (f *os.File, prefix string, err error) {
	for start := 1; start <= profileStartsMax; start++ {
		prefix = filepath.Join(dir, name)
		if start > 1 {
			prefix += "-" + strconv.Itoa(start)
		}
		f, err = os.OpenFile(prefix+".cpu.pprof", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if !errors.Is(err, os.ErrExist) {
			return f, prefix, err
		}
	}
	return nil, "", err
}

func writeProfile(path, kind string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(kind).WriteTo(f, 0), f.Close())
}

// makeProfileDir makes the directory of a run's profiles and returns its
// absolute name, which the processes are given. It must hold no profiles.
func makeProfileDir(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("directory of profiles: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the directory of profiles: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("directory of profiles: %w", err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".pprof" {
			return "", inputError{fmt.Errorf("directory of profiles %s has some already (%s): name a new one", dir, e.Name())}
		}
	}
	return dir, nil
}
