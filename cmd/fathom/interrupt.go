package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interrupts turns signals into a context that ends at the first one; the
// second one ends the process at once.
type interrupts struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	// mu guards kill.
	mu   sync.Mutex
	kill func()
}

// newInterrupts returns interrupts nobody has raised yet.
func newInterrupts(ctx context.Context) *interrupts {
	ctx, cancel := context.WithCancelCause(ctx)
	return &interrupts{ctx: ctx, cancel: cancel}
}

// watchInterrupts raises SIGINT and SIGTERM; stop must be called in the end.
func watchInterrupts() (i *interrupts, stop func()) {
	i = newInterrupts(context.Background())
	signals := make(chan os.Signal, 2) // so that a quick second one is not lost
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-signals:
				if second := i.raise(); second {
					os.Exit(exitInterrupted)
				}
			case <-done:
				return
			}
		}
	}()
	return i, func() {
		signal.Stop(signals)
		close(done)
		i.cancel(nil)
	}
}

// raise notes one signal. At the second one it calls what onSecond was given
// and returns true.
func (i *interrupts) raise() (second bool) {
	if i.ctx.Err() == nil {
		i.cancel(errInterrupted)
		return false
	}
	i.mu.Lock()
	kill := i.kill
	i.mu.Unlock()
	if kill != nil {
		kill()
	}
	return true
}

// onSecond has kill called when a second signal comes, just before the process
// exits.
func (i *interrupts) onSecond(kill func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kill = kill
}
