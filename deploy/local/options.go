package local

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Errors that callers tell apart.
var (
	// ErrWorkDirInUse: another run has the working directory.
	ErrWorkDirInUse = errors.New("working directory in use")
	// ErrStopped: the cluster is being stopped or has been.
	ErrStopped = errors.New("cluster stopped")
	// ErrUnknownProcess: the plan has no process of that name.
	ErrUnknownProcess = errors.New("unknown process")
	// ErrNotRunning: the process is not running at the moment.
	ErrNotRunning = errors.New("process not running")
)

// Options configure a local cluster. Only WorkDir is required.
type Options struct {
	// WorkDir is created if needed. What processes kept in it in an earlier run
	// is found again.
	WorkDir string
	// Binary is the program that runs every process; default: this one.
	Binary string
	// Env is added to the environment that children inherit.
	Env []string
	// Logger gets what happens to the processes; default: nothing is logged.
	Logger *slog.Logger

	// ReadyTimeout bounds how long a process may take until it is ready when the
	// cluster starts; default 60 s.
	ReadyTimeout time.Duration
	// StopTimeout is how long a process may take to end when asked to, before it
	// is killed; default 10 s.
	StopTimeout time.Duration
	// RestartsMax is how many times one process may be started again within
	// RestartWindow before the cluster gives up; default 10 within 5 minutes.
	RestartsMax   int
	RestartWindow time.Duration
	// BackoffMin and BackoffMax bound the delay before a restart, which doubles
	// while a process keeps dying; default 100 ms and 5 s.
	BackoffMin, BackoffMax time.Duration
	// LogBytesMax is the size at which a log file is put aside; default 64 MiB.
	LogBytesMax int64
}

func (o Options) withDefaults() (Options, error) {
	if o.WorkDir == "" {
		return o, fmt.Errorf("local cluster: no working directory is given")
	}
	dir, err := filepath.Abs(o.WorkDir)
	if err != nil {
		return o, fmt.Errorf("working directory %s: %w", o.WorkDir, err)
	}
	o.WorkDir = dir
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return o, fmt.Errorf("find this program: %w", err)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&o.ReadyTimeout, time.Minute}, {&o.StopTimeout, 10 * time.Second},
		{&o.RestartWindow, 5 * time.Minute}, {&o.BackoffMin, 100 * time.Millisecond}, {&o.BackoffMax, 5 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.standard
		}
	}
	if o.RestartsMax <= 0 {
		o.RestartsMax = 10
	}
	if o.LogBytesMax <= 0 {
		o.LogBytesMax = 64 << 20
	}
	return o, nil
}

// LogFile returns the log file of a process in a working directory.
func LogFile(workDir, process string) string {
	return filepath.Join(workDir, "logs", process+".log")
}

// CredentialsDir returns where the certificate of a process is in a working
// directory, or that of AdminName for whoever drives the cluster.
func CredentialsDir(workDir, process string) string {
	return filepath.Join(workDir, "credentials", process)
}

// AdminName is the name of the certificate for commands.
const AdminName = "admin"

// DataDir returns where a process keeps what a restart must find again.
func DataDir(workDir, process string) string {
	return filepath.Join(workDir, "data", process)
}
