package local

import (
	"os/exec"
	"runtime"
)

// launcher starts processes from one operating-system thread that lives as
// long as the cluster. The kernel ties "die with the parent" to the thread that
// made the child, and the runtime may end any other thread at any time.
type launcher struct {
	requests chan *exec.Cmd
	results  chan error
	done     chan struct{}
}

func newLauncher() *launcher {
	l := &launcher{requests: make(chan *exec.Cmd), results: make(chan error), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for cmd := range l.requests {
			l.results <- cmd.Start()
		}
	}()
	return l
}

// start starts the command. Only one goroutine at a time may call it.
func (l *launcher) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = childAttributes()
	l.requests <- cmd
	return <-l.results
}

// close ends the thread; all children must have ended.
func (l *launcher) close() {
	close(l.requests)
	<-l.done
}
