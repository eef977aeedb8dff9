package identity

import (
	"context"
	"log/slog"
	"slices"

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
	// Audited calls change what people decide about: each is logged with who
	// made it.
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
	proto.ParameterServer_Scan_FullMethodName:        {Roles: []Role{Worker, Admin}},
	proto.ParameterServer_Push_FullMethodName:        {Roles: []Role{Worker}},
	proto.ParameterServer_Partial_FullMethodName:     {Roles: []Role{Worker}},
	proto.ParameterServer_Hashes_FullMethodName:      {Roles: people},
	proto.ParameterServer_ShardStatus_FullMethodName: {Roles: []Role{Worker, Admin, Viewer}},

	"/metrics": {Roles: people},
	"/logs":    {Roles: people},
}

// Allowed tells whether the role may call the method.
func Allowed(method string, role Role) bool { return slices.Contains(Rules[method].Roles, role) }

// contextKey is of the caller in a call's context.
type contextKey struct{}

// Caller returns who makes the call that ctx is of; false where connections
// are not secured.
func Caller(ctx context.Context) (Identity, bool) {
	i, ok := ctx.Value(contextKey{}).(Identity)
	return i, ok
}

// Interceptors check every call of a server against Rules. They are for servers
// whose credentials are a Source's; a nil Source checks nothing.
func (s *Source) Interceptors(log *slog.Logger) []grpc.ServerOption {
	if s == nil {
		return nil
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx, err := admit(ctx, info.FullMethod, log)
			if err != nil {
				return nil, err
			}
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ctx, err := admit(stream.Context(), info.FullMethod, log)
			if err != nil {
				return err
			}
			return handler(srv, admitted{stream, ctx})
		}),
	}
}

// admitted is a stream whose context knows the caller.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

func (a admitted) Context() context.Context { return a.ctx }

func admit(ctx context.Context, method string, log *slog.Logger) (context.Context, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the connection is not secured")
	}
	caller, err := peerOf(info.State)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	rule := Rules[method]
	if !slices.Contains(rule.Roles, caller.Role) {
		log.Warn("refused a call", "method", method, "caller", caller.String(), "from", p.Addr)
		return nil, status.Errorf(codes.PermissionDenied, "%s may not call %s: it is for the roles %v", caller, method, rule.Roles)
	}
	if rule.Audited {
		log.Info("audit", "method", method, "caller", caller.String(), "from", p.Addr)
	}
	return context.WithValue(ctx, contextKey{}, caller), nil
}
