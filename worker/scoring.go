package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/worker/trainer"
)

// score evaluates rows [lo, hi) of the ordered split: the model, or the ordered
// candidates of a supernet.
func (s *assignment) score(ctx context.Context, t *trainer.Trainer, lo, hi int64) (*proto.EvaluationBlock, error) {
	split, version := s.order.GetSplit(), s.order.GetVersion()
	if s.order.GetTask() == proto.Task_TASK_EVALUATE {
		acc, err := t.Evaluate(ctx, split, version, lo, hi)
		if err != nil {
			return nil, err
		}
		return &proto.EvaluationBlock{Scores: acc.Append(nil)}, nil
	}
	var o search.Order
	if err := json.Unmarshal(s.order.GetCandidates(), &o); err != nil {
		return nil, fmt.Errorf("read the ordered candidates: %w", err)
	}
	all, err := t.EvaluateCandidates(ctx, split, version, lo, hi, o)
	if err != nil {
		return nil, err
	}
	report := &proto.EvaluationBlock{}
	for _, acc := range all {
		report.Candidates = append(report.Candidates, acc.Append(nil))
	}
	return report, nil
}

// survey counts the rows of the ordered shards.
func (s *assignment) survey(ctx context.Context, t *trainer.Trainer) error {
	for _, b := range slices.Sorted(slices.Values(s.order.GetBlocks())) {
		found, err := t.Survey(ctx, s.order.GetVersion(), int(b))
		if errors.Is(err, client.ErrVersionGone) {
			return nil // it is over
		}
		if err != nil {
			return err
		}
		text, err := json.Marshal(found)
		if err != nil {
			return fmt.Errorf("encode the survey: %w", err)
		}
		if err := s.deliver(ctx, b, &proto.EvaluationBlock{Survey: text}); err != nil {
			return err
		}
	}
	return nil
}

// deliver reports what was found of a block.
func (s *assignment) deliver(ctx context.Context, block uint64, report *proto.EvaluationBlock) error {
	report.Job, report.Run, report.Epoch = s.order.GetJob(), s.order.GetRun(), s.order.GetEpoch()
	report.Version, report.Split, report.Block, report.Round = s.order.GetVersion(), s.order.GetSplit(), block, s.order.GetRound()
	return s.agent.session.ReportEvaluation(ctx, report)
}
