package client

import (
	"context"
	"errors"
	"log/slog"

	"github.com/fathom-train/fathom/proto"
)

// Session is one node's membership of the cluster.
type Session struct {
	log *slog.Logger
}

// NewSession prepares a session with the coordinators at addrs; nothing is
// dialled before Run or ReportEvaluation.
func NewSession(addrs []string, log *slog.Logger) *Session {
	return &Session{log: log}
}

// Run keeps the session until ctx ends and returns ctx's error.
func (s *Session) Run(ctx context.Context, report func() *proto.NodeReport, obey func(*proto.NodeOrder)) error {
	return errors.ErrUnsupported
}

// Poke makes the session send a report now.
func (s *Session) Poke() {}

// ReportEvaluation delivers one block; it tries again until ctx ends.
func (s *Session) ReportEvaluation(ctx context.Context, b *proto.EvaluationBlock) error {
	return errors.ErrUnsupported
}
