package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/fathom-train/fathom/coordinator/job"
)

// jobBytesMax bounds a job file; real ones have a few kilobytes.
const jobBytesMax = 4 << 20

// loadJob reads and resolves a job file ("-" is standard input). The data root
// and the directory of checkpoints become absolute, because the processes run in
// other directories.
func (a *app) loadJob(path string, sets []string) (*job.Job, error) {
	j, _, err := a.loadGiven(path, sets)
	return j, err
}

// loadGiven is loadJob, and tells what the file and the sets give.
func (a *app) loadGiven(path string, sets []string) (*job.Job, job.Given, error) {
	text, err := a.readJob(path)
	if err != nil {
		return nil, nil, inputError{fmt.Errorf("read job: %w", err)}
	}
	j, given, err := job.ParseGiven(path, text, sets)
	if err != nil {
		return nil, nil, err
	}
	if root := j.Spec.Data.Root; root != "" {
		if j.Spec.Data.Root, err = filepath.Abs(root); err != nil {
			return nil, nil, fmt.Errorf("data root %s: %w", root, err)
		}
	}
	if dir := j.Spec.Checkpoint.Dir; dir != "" && !strings.Contains(dir, "://") {
		if j.Spec.Checkpoint.Dir, err = filepath.Abs(dir); err != nil {
			return nil, nil, fmt.Errorf("directory of checkpoints %s: %w", dir, err)
		}
	}
	return j, given, nil
}

func (a *app) readJob(path string) ([]byte, error) {
	r := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close() // read only
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, jobBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > jobBytesMax {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, jobBytesMax)
	}
	return text, nil
}
