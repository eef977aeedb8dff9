// Package plan decides which processes run a job and how they are called. It is
// pure: addresses and directories stay symbols (Port, DataDir) until whoever
// runs the plan knows them, so one plan serves every way of running it.
//
//	p, err := plan.New(j, plan.Options{Threads: 1})
//	for _, process := range p.Processes {
//		args := p.Expand(process.Args, addressOf, dirOf(process.Name))
//		...
//	}
package plan
