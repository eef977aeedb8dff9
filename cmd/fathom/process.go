package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/proto/identity"
)

// processFlags are the flags of every long-running process.
type processFlags struct {
	name    string
	metrics string
	// advertised is the address of metrics told to others.
	advertised string
	profile    string
	// auditFile is where the audit trail goes besides standard output.
	auditFile string
	log       logLevel
	security  securityFlags
}

func (f *processFlags) add(cmd *cobra.Command, role string) {
	cmd.Flags().StringVar(&f.name, "name", "", "name of this "+role+", stable over restarts and unique in the cluster")
	cmd.Flags().StringVar(&f.metrics, "metrics", "127.0.0.1:0", "HTTP address of /metrics, /healthz and /logs")
	cmd.Flags().StringVar(&f.advertised, "advertise-metrics", "", "address of them told to others (default the one listened on)")
	cmd.Flags().StringVar(&f.profile, "profile", "", "write pprof files of this process to this directory when it ends")
	cmd.Flags().StringVar(&f.auditFile, "audit-file", "", "append the audit trail to this file, too; it is put aside at 16 MiB, the newest 4 are kept")
	f.log.add(cmd)
	f.security.add(cmd)
	mustRequire(cmd, "name")
}

// logLevel is the --log-level flag; the zero value is info.
type logLevel struct{ level slog.Level }

func (l *logLevel) add(cmd *cobra.Command) {
	cmd.Flags().Var(l, "log-level", "least level of logged lines: debug, info, warn or error")
}

// String, Set and Type make logLevel a pflag.Value.
func (l *logLevel) String() string { return strings.ToLower(l.level.String()) }

// Set accepts the four levels that slog names.
func (l *logLevel) Set(s string) error {
	switch s {
	case "debug", "info", "warn", "error":
		return l.level.UnmarshalText([]byte(s))
	}
	return errors.New("want debug, info, warn or error")
}

// Type is the flag's placeholder in the help.
func (l *logLevel) Type() string { return "level" }

// mustRequire marks flags without which the command is refused.
func mustRequire(cmd *cobra.Command, names ...string) {
	for _, n := range names {
		if err := cmd.MarkFlagRequired(n); err != nil {
			panic(fmt.Sprintf("cmd/fathom: BUG: %v", err))
		}
	}
}

// process is the shell around the component that a node command runs.
type process struct {
	name     string
	log      *slog.Logger
	endpoint *endpoint
	// identity secures all connections; nil: plain text.
	identity *identity.Source
	out      io.Writer
}

// component is a started part of the system. Run returns when ctx ends, with
// nil or ctx's error, or earlier when it cannot go on.
type component interface {
	Run(ctx context.Context) error
}

// runProcess sets up logging and the endpoint, lets build make the component,
// announces it on standard output and runs it. The addresses are what the
// process listens on and tells others. The end of ctx is the orderly way to stop
// a process, so it is no error.
func (a *app) runProcess(ctx context.Context, role identity.Role, f *processFlags, addresses []string, build func(*process) (component, []string, error)) (err error) {
	if err := checkOpenFiles(); err != nil {
		return fmt.Errorf("%s %s: %w", role, f.name, err)
	}
	stopProfile, err := startProfile(f.profile, f.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	ring := newLogRing(logRingBytes)
	log := newLogger(io.MultiWriter(a.err, ring), f.log.level).With("node", f.name)
	slog.SetDefault(log) // for libraries that write to the standard logger
	self, err := f.security.loadAs(role, f.name, log, append(addresses, f.metrics)...)
	if err != nil {
		return fmt.Errorf("%s %s: %w", role, f.name, err)
	}
	closeAudit, err := f.audit(self, log, a.out)
	if err != nil {
		return inputError{err}
	}
	defer func() { err = errors.Join(err, closeAudit()) }()
	e, err := openEndpoint(f.metrics, ring, self)
	if err != nil {
		return err
	}
	if f.advertised != "" {
		e.advertised = f.advertised
	}
	e.serve()
	defer func() { err = errors.Join(err, e.close()) }()

	p := &process{name: f.name, log: log, endpoint: e, identity: self, out: a.out}
	c, facts, err := build(p)
	if err != nil {
		return fmt.Errorf("%s %s: %w", role, f.name, err)
	}
	e.running(c)
	var ready strings.Builder
	fmt.Fprintf(&ready, "ready role=%s name=%s", role, f.name)
	for i := 0; i+1 < len(facts); i += 2 {
		fmt.Fprintf(&ready, " %s=%s", facts[i], facts[i+1])
	}
	fmt.Fprintln(a.out, ready.String()+" metrics="+e.address())
	if err := c.Run(ctx); err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		return fmt.Errorf("%s %s: %w", role, f.name, err)
	}
	log.Info("stopped")
	return nil
}

// audit begins the audit trail of the process, on its standard output and in the
// file that was asked for. The process closes it after all that serves.
func (f *processFlags) audit(self *identity.Source, log *slog.Logger, out io.Writer) (closeFile func() error, err error) {
	trail, closeFile := []io.Writer{out}, func() error { return nil }
	if f.auditFile != "" {
		if self == nil {
			return nil, errors.New("--audit-file goes with certificates, which tell who asked: not with --insecure")
		}
		file, err := openAuditFile(f.auditFile)
		if err != nil {
			return nil, err
		}
		trail, closeFile = append(trail, file), file.close
	}
	self.SetAudit(identity.NewAudit(f.name, log, trail...))
	return closeFile, nil
}

// newLogger writes text lines of at least the level.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
