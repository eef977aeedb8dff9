// Package replica binds the state machine of one shard (ps/fsm) to
// hashicorp/raft: one Group is one replica of one shard's raft group. It owns
// everything raft: transport, log, snapshots, elections and their pitfalls.
// See DESIGN.md for what is done about each known fault of the library.
//
// A Group goes through three states: in service; failed, when Err is not nil
// (its disk holds damaged data, or its raft node must be opened again); closed.
// A failed group answers every call with its error and must be closed.
//
// All methods are safe for concurrent use.
//
//	mux, err := replica.ListenMux("127.0.0.1:7001", nil)
//	g, err := replica.Open(replica.Config{Dir: dir, Group: "job/0", Node: "ps-0",
//		Address: mux.Addr(), Members: members, Bootstrap: true}, mux)
//	results, err := g.Propose(ctx, commands)
//	err = g.Read(ctx, version, func(s *fsm.State) error { return s.Lookup(...) })
package replica
