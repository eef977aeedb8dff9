// Package ps is the parameter server: one process of it hosts one replica of
// each raft group it is ordered to host, serves pulls from any of them and
// pushes on those that lead, and reports to the coordinator.
//
// What to host is told by the coordinator and nothing else (package
// coordinator/client): orders are level-triggered, so a restarted server knows
// nothing until its session stands, and then opens again what it is told to.
// Data is only ever deleted because a standing session's order has left the
// group out for a while.
//
// A group that fails (damaged disk, stuck node) is reported with its error and
// leaves service; the others go on. Only a disk that hangs ends the process:
// Run then returns an error.
//
//	s, err := ps.New(ps.Config{Node: "ps-0", Listen: "127.0.0.1:7000",
//		DataDir: dir, Coordinators: addrs})
//	err = s.Run(ctx) // until ctx ends
package ps
