// Package local runs a plan on this machine: every process of the plan is a
// child process that logs to a file of its own, is started again when it dies,
// and never outlives this process.
//
//	c, err := local.Start(ctx, p, local.Options{WorkDir: dir})
//	...                                  // talk to c.CoordinatorAddress()
//	select {
//	case err := <-c.Err(): ...           // a process cannot be kept running
//	}
//	c.Stop(ctx)
//
// The working directory has this layout:
//
//	lock             held while the cluster runs
//	ports.json       the ports of the last run, used again when they are free
//	logs/<name>.log  standard output and error; the part before is <name>.log.1
//	data/<name>      what etcd and the servers keep
//
// Children are in process groups of their own, so that an interrupt of the
// terminal reaches only this process, which then stops them in order. On Linux
// the kernel kills them when this process dies in whatever way.
//
// All methods are safe for concurrent use.
package local
