package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/worker"
	"github.com/fathom-train/fathom/worker/dataset"
)

// The exit codes. 64 is sysexits' EX_USAGE: whoever supervises the process must
// not try the same thing again.
const (
	exitDone        = 0
	exitFailed      = 1
	exitInput       = 64
	exitInterrupted = 130
)

// usageError is a command line that was not accepted.
type usageError struct {
	error
	use string // how the command is called
}

func (e usageError) Unwrap() error { return e.error }

// inputError is a job or data that cannot be used, whatever is tried.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// errInterrupted is what a command returns when a signal ended it.
var errInterrupted = errors.New("interrupted")

// exitCode maps an error to the process's exit code.
func exitCode(err error) int {
	var (
		usage  usageError
		input  inputError
		faults *job.Faults
		data   *dataset.InputError
		coded  codedError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, worker.ErrJobFailed):
		return exitInput // nothing that a restart of the worker changes
	case errors.As(err, &usage), errors.As(err, &input), errors.As(err, &faults), errors.As(err, &data):
		return exitInput
	case rpcStatus(err).Code() == codes.InvalidArgument:
		return exitInput
	}
	return exitFailed
}

// report writes the error, one line per fault, in the words of the command
// line: without the transport's decoration.
func report(w io.Writer, err error) {
	if err == nil {
		return
	}
	text := err.Error()
	if s := rpcStatus(err); s.Code() != codes.OK {
		text = strings.Replace(text, s.Err().Error(), rpcMessage(s), 1)
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(w, "fathom: "+line)
		}
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(w, "fathom: usage: "+usage.use+"; --help says more")
	}
}

// rpcStatus returns the gRPC status somewhere in err, or an OK status.
func rpcStatus(err error) *status.Status {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus()
	}
	return status.New(codes.OK, "")
}

func rpcMessage(s *status.Status) string {
	if s.Message() == "" {
		return strings.ToLower(s.Code().String())
	}
	// gRPC wraps why it could not connect in a text of its own.
	if _, cause, ok := strings.Cut(s.Message(), "Error while dialing: "); ok {
		return strings.TrimSuffix(cause, `"`)
	}
	return s.Message()
}
