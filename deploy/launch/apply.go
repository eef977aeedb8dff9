package launch

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// lookEvery is how often a state that is waited for is looked at.
const lookEvery = time.Second

// Apply does what the plan says, in its order, and reports every change. What
// was done before an error stays.
func (c *Cluster) Apply(ctx context.Context, p *Plan, report func(Change)) error {
	for _, ch := range p.Changes {
		var err error
		switch ch.Action {
		case Pruned:
			err = c.remove(ctx, ch.resource, ch.apply.GetName(), ch.apply.GetUID())
		case Replaced:
			if err = c.removeAndWait(ctx, ch.resource, ch.apply.GetName()); err == nil {
				_, err = c.applyOne(ctx, &ch, p.force, false)
			}
		default: // also what is unchanged, so that its fields are ours
			_, err = c.applyOne(ctx, &ch, p.force, false)
		}
		if err != nil {
			return c.refusal(ch.Object, err)
		}
		report(ch)
	}
	return nil
}

// remove deletes an object, if it is still the one that was looked at; what
// belongs to it goes first.
func (c *Cluster) remove(ctx context.Context, r schema.GroupVersionResource, name string, uid types.UID) error {
	foreground := metav1.DeletePropagationForeground
	o := metav1.DeleteOptions{PropagationPolicy: &foreground}
	if uid != "" {
		o.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	err := c.at(r).Delete(ctx, name, o)
	if gone(err) {
		return nil
	}
	return err
}

// removeAndWait deletes an object and returns when its pods are gone, too.
func (c *Cluster) removeAndWait(ctx context.Context, r schema.GroupVersionResource, name string) error {
	if err := c.remove(ctx, r, name, ""); err != nil {
		return err
	}
	return every(ctx, c.look, func() (bool, error) {
		_, err := c.at(r).Get(ctx, name, metav1.GetOptions{})
		if gone(err) {
			return true, nil
		}
		return false, err
	})
}

// every calls f until it is done, fails, or ctx ends.
func every(ctx context.Context, pause time.Duration, f func() (done bool, err error)) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
