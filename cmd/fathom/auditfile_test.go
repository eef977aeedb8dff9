package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAuditFileKeepsTheNewestLinesWithinItsSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	write := func(from, to int) {
		t.Helper()
		a, err := openAuditFile(path)
		if err != nil {
			t.Fatal(err)
		}
		a.bytesMax = 100
		for i := from; i < to; i++ {
			if _, err := fmt.Fprintf(a, "line %04d\n", i); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.close(); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 95)
	write(95, 1000) // after a restart it goes on in the same file
	var kept string
	for i := auditFilesKept; i >= 0; i-- {
		name := (&auditFile{path: path}).aside(i)
		text, err := os.ReadFile(name)
		if err != nil || len(text) > 100 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		kept += string(text)
	}
	var want strings.Builder
	for i := 1000 - 10*(auditFilesKept+1); i < 1000; i++ {
		fmt.Fprintf(&want, "line %04d\n", i)
	}
	if kept != want.String() {
		t.Errorf("kept:\n%s", kept)
	}
	if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) != auditFilesKept+1 {
		t.Errorf("%d files, %v", len(all), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := openAuditFile(filepath.Dir(path)); err == nil {
		t.Error("a directory was taken")
	}
}
