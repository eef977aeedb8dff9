package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/proto"
)

func (a *app) newStatus() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "status [JOB]",
		Short: "Show a job (the newest when none is named)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.cluster.prefer(optional(args))
			if on, err := a.inCluster(&f.cluster); err != nil {
				return err
			} else if on {
				return a.launchedStatus(cmd.Context(), &f, optional(args))
			}
			return a.withControl(&f, func(c control) error {
				s, err := c.Status(cmd.Context(), optional(args))
				if err != nil {
					return err
				}
				return a.printStatus(f.output, s)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// optional is the only argument, or the empty string.
func optional(args []string) string {
	return strings.Join(args, "")
}

// printStatus writes one status in the wanted form.
func (a *app) printStatus(o output, s *proto.JobStatus) error {
	if o == outputJSON {
		return writeJSON(a.out, newJobJSON(s))
	}
	for _, l := range renderBlock(s, nil, 80) {
		fmt.Fprintln(a.out, l)
	}
	if s.GetError() != "" {
		fmt.Fprintln(a.out, "error: "+s.GetError())
	}
	if s.GetPhase() != proto.Phase_PHASE_DONE {
		return nil
	}
	r, err := newResult(s)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	r.writeSummary(a.out)
	return nil
}

// jobJSON is a job's status for programs.
type jobJSON struct {
	Job              string          `json:"job"`
	Phase            string          `json:"phase"`
	Detail           string          `json:"detail,omitempty"`
	Error            string          `json:"error,omitempty"`
	InputError       bool            `json:"error_is_input,omitempty"`
	Epoch            uint64          `json:"epoch"`
	Epochs           uint64          `json:"epochs"`
	Step             uint64          `json:"step"`
	Steps            uint64          `json:"steps"`
	SamplesPerSecond float64         `json:"samples_per_second"`
	ETASeconds       float64         `json:"eta_seconds"`
	Loss             float64         `json:"loss"`
	Scores           []scoreJSON     `json:"scores"`
	Created          *time.Time      `json:"created,omitempty"`
	Started          *time.Time      `json:"started,omitempty"`
	Ended            *time.Time      `json:"ended,omitempty"`
	SpecDigest       string          `json:"spec_digest"`
	ModelHash        string          `json:"model_hash,omitempty"`
	Spec             json.RawMessage `json:"spec,omitempty"`
}

type scoreJSON struct {
	Epoch   uint64 `json:"epoch"`
	Split   string `json:"split"`
	Version uint64 `json:"version"`
	quality
}

func newJobJSON(s *proto.JobStatus) jobJSON {
	j := jobJSON{
		Job: s.GetJob(), Phase: phaseName(s.GetPhase()), Detail: s.GetDetail(), Error: s.GetError(), InputError: s.GetErrorIsInput(),
		Epoch: s.GetEpoch(), Epochs: s.GetEpochs(), Step: s.GetStep(), Steps: s.GetSteps(),
		SamplesPerSecond: finite(s.GetSamplesPerSecond()), ETASeconds: finite(s.GetEtaSeconds()), Loss: finite(s.GetLoss()),
		Scores:  []scoreJSON{},
		Created: unixNano(s.GetCreatedUnixNano()), Started: unixNano(s.GetStartedUnixNano()), Ended: unixNano(s.GetEndedUnixNano()),
		SpecDigest: s.GetSpecDigest(), ModelHash: s.GetModelHash(),
	}
	if json.Valid(s.GetSpec()) {
		j.Spec = s.GetSpec()
	}
	for _, c := range s.GetScores() {
		j.Scores = append(j.Scores, scoreJSON{c.GetEpoch(), c.GetSplit(), c.GetVersion(), qualityOf(c)})
	}
	return j
}

// unixNano converts a time of the wire; 0 means not yet.
func unixNano(n int64) *time.Time {
	if n == 0 {
		return nil
	}
	t := time.Unix(0, n).UTC()
	return &t
}
