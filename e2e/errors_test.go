package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const csvJob = `
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: files}
spec:
  data:
    format: csv
    train: [train.csv]
    fields: [{name: a}, {name: b}]
  model: {name: lr}
  train: {batch_size: 2, lanes: 1, optimizer: {name: adam}}
  cluster: {ps: 1, replicas: 1, workers: 1, shards: 1}
`

func TestBadInputGetsOneClearMessage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	job := write("job.yaml", csvJob)
	for name, c := range map[string]struct {
		train string // content of train.csv; empty: no file
		args  []string
		want  []string
	}{
		"unknown field":  {"label,a,b\n1,x,y\n", []string{"run", write("typo.yaml", strings.Replace(csvJob, "batch_size", "batchsize", 1))}, []string{"typo.yaml:", "batchsize", "batch_size"}},
		"missing file":   {"", []string{"run", job}, []string{"train.csv"}},
		"malformed line": {"label,a,b\n1,x,y\n0,z\n", []string{"run", job}, []string{"train.csv:3"}},
		"bad label":      {"label,a,b\n1,x,y\n2,x,y\n", []string{"run", job}, []string{"train.csv:3", "label"}},
		"no such column": {"label,a,c\n1,x,y\n", []string{"run", job}, []string{"train.csv", `"b"`}},
	} {
		t.Run(name, func(t *testing.T) {
			data := filepath.Join(dir, "train.csv")
			if err := os.RemoveAll(data); err != nil {
				t.Fatal(err)
			}
			if c.train != "" {
				write("train.csv", c.train)
			}
			r := start(t, nil, c.args...)
			if code := r.wait(limit); code != 64 {
				t.Errorf("exit code %d, want 64", code)
			}
			text := r.stderr.String()
			for _, w := range c.want {
				if !strings.Contains(text, w) {
					t.Errorf("the message does not name %q:\n%s", w, text)
				}
			}
			if strings.Contains(text, "goroutine ") || strings.Contains(text, "panic") {
				t.Errorf("a stack trace:\n%s", text)
			}
			if _, err := os.Stat(filepath.Join(r.workdir, "result.json")); err == nil {
				t.Error("result.json was written although the job failed")
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := start(t, nil, "ps", "--name", "ps-0", "--listen", l.Addr().String(), "--data-dir", t.TempDir(), "--coordinator", "127.0.0.1:1", "--insecure")
	if code := r.wait(limit); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	if text := r.stderr.String(); !strings.Contains(text, port) || !strings.Contains(text, "in use") {
		t.Errorf("the message does not say that port %s is in use:\n%s", port, text)
	}
}

// A process that could not open its files and connections says so at once.
func TestTooFewOpenFiles(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"run " + writeFile(t, "small.yaml", smallJob),
		"ps --name ps-0 --listen 127.0.0.1:0 --data-dir " + t.TempDir() + " --coordinator 127.0.0.1:1 --insecure",
	} {
		out, err := exec.Command("sh", "-c", "ulimit -n 64; exec "+path+" "+args).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: %v, want exit code 1", args, err)
		}
		if text := string(out); !strings.Contains(text, "may open 64 files") || strings.Count(text, "\n") != 1 {
			t.Errorf("the message is not one line about the open files:\n%s", text)
		}
	}
}

// A data directory that belongs to somebody else is refused, and named.
func TestDataDirectoryOfSomebodyElse(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "fathom-e2e-") // others may look into it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o500); err != nil {
		t.Fatal(err)
	}
	ps := exec.Command(path, "ps", "--name", "ps-0", "--listen", "127.0.0.1:0", "--data-dir", data, "--coordinator", "127.0.0.1:1", "--insecure")
	if os.Getuid() == 0 {
		ps.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := ps.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v, want exit code 1", err)
	}
	if text := string(out); !strings.Contains(text, data) || !strings.Contains(text, "permission denied") {
		t.Errorf("the message does not name the directory:\n%s", text)
	}
}
