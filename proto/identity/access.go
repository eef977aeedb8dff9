package identity

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
)

// Rule says who may call a method.
type Rule struct {
	Roles []Role
	// Audited calls of people are noted in the audit trail: what changes
	// something, and what takes a model away.
	Audited bool
}

var (
	people = []Role{Admin, Viewer}
	admins = []Role{Admin}
)

// Rules lists every method of every service; one that is not listed is refused
// to everybody. Paths of the HTTP endpoint are listed like methods.
var Rules = map[string]Rule{
	proto.Control_Submit_FullMethodName:     {Roles: admins, Audited: true},
	proto.Control_Cancel_FullMethodName:     {Roles: admins, Audited: true},
	proto.Control_Drain_FullMethodName:      {Roles: admins, Audited: true},
	proto.Control_Checkpoint_FullMethodName: {Roles: admins, Audited: true},
	proto.Control_Groups_FullMethodName:     {Roles: people},
	proto.Control_List_FullMethodName:       {Roles: people},
	proto.Control_Status_FullMethodName:     {Roles: people},
	proto.Control_Watch_FullMethodName:      {Roles: people},
	proto.Control_Nodes_FullMethodName:      {Roles: people},

	proto.Membership_Join_FullMethodName:             {Roles: []Role{PS, Worker}},
	proto.Membership_ReportEvaluation_FullMethodName: {Roles: []Role{Worker}},

	proto.ParameterServer_Pull_FullMethodName:        {Roles: []Role{Worker, Admin}}, // Admin: fathom export
	proto.ParameterServer_Scan_FullMethodName:        {Roles: []Role{Worker, Admin}, Audited: true},
	proto.ParameterServer_Push_FullMethodName:        {Roles: []Role{Worker}},
	proto.ParameterServer_Partial_FullMethodName:     {Roles: []Role{Worker}},
	proto.ParameterServer_Hashes_FullMethodName:      {Roles: people},
	proto.ParameterServer_ShardStatus_FullMethodName: {Roles: []Role{Worker, Admin, Viewer}},

	"/metrics": {Roles: people},
	"/logs":    {Roles: people},
}

// Allowed tells whether the role may call the method.
func Allowed(method string, role Role) bool { return slices.Contains(Rules[method].Roles, role) }

// Interceptors check every call of a server against Rules and note those of the
// audit trail. They are for servers whose credentials are a Source's; a nil
// Source checks nothing.
func (s *Source) Interceptors(log *slog.Logger) []grpc.ServerOption {
	if s == nil {
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
			began := time.Now()
			who, err := admit(ctx, info.FullMethod, log)
			refused := err != nil
			if !refused {
				reply, err = handler(context.WithValue(ctx, callerKey{}, who), req)
			}
			s.audit.call(info.FullMethod, who, began, req, reply, refused, err)
			return reply, err
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			began := time.Now()
			who, err := admit(stream.Context(), info.FullMethod, log)
			refused := err != nil
			if !refused {
				err = handler(srv, admitted{stream, context.WithValue(stream.Context(), callerKey{}, who)})
			}
			s.audit.call(info.FullMethod, who, began, nil, nil, refused, err)
			return err
		}),
	}
}

// admitted is a stream whose context knows the caller.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

func (a admitted) Context() context.Context { return a.ctx }

// admit tells who makes a call, and whether the rules let them.
func admit(ctx context.Context, method string, log *slog.Logger) (who caller, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return who, status.Error(codes.Unauthenticated, "the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return who, status.Error(codes.Unauthenticated, "the connection is not secured")
	}
	if who, err = callerOf(info.State, p.Addr.String()); err != nil {
		return who, status.Error(codes.Unauthenticated, err.Error())
	}
	if roles := Rules[method].Roles; !slices.Contains(roles, who.Role) {
		log.Warn("refused a call", "method", method, "caller", who.String(), "from", p.Addr)
		return who, status.Errorf(codes.PermissionDenied, "%s may not call %s: it is for the roles %v", who, method, roles)
	}
	return who, nil
}
