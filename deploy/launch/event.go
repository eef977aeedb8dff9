package launch

import (
	"context"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Event is something that Kubernetes noted about an object.
type Event struct {
	Time    time.Time `json:"time"`
	Type    string    `json:"type"` // Normal or Warning
	Reason  string    `json:"reason"`
	Object  string    `json:"object"` // such as pod/quickstart-ps-0
	Message string    `json:"message"`
	Count   int       `json:"count"`
}

// Events returns what was noted about a job's objects, the oldest first.
// Kubernetes keeps events for about an hour.
func (c *Cluster) Events(ctx context.Context, job string) ([]Event, error) {
	return c.events(ctx, func(e Event) bool { return concerns(e, job) })
}

// concerns tells whether an event is about an object of the job: all their
// names begin with a component's.
func concerns(e Event, job string) bool {
	_, name, _ := strings.Cut(e.Object, "/")
	for _, component := range []string{"etcd", "coordinator", "ps", "worker"} {
		of := job + "-" + component
		if name == of || strings.HasPrefix(name, of+"-") || name == "data-"+of || strings.HasPrefix(name, "data-"+of+"-") {
			return true
		}
	}
	return false
}

func (c *Cluster) events(ctx context.Context, wanted func(Event) bool) ([]Event, error) {
	list, err := c.at(events).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.explain("list events", err)
	}
	all := []Event{}
	for _, o := range list.Items {
		var raw struct {
			Type           string       `json:"type"`
			Reason         string       `json:"reason"`
			Message        string       `json:"message"`
			Count          int64        `json:"count"`
			LastTimestamp  *metav1.Time `json:"lastTimestamp"`
			EventTime      *metav1.Time `json:"eventTime"`
			InvolvedObject struct {
				Kind string `json:"kind"`
				Name string `json:"name"`
			} `json:"involvedObject"`
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &raw); err != nil {
			continue // of a form that is none of ours
		}
		e := Event{Type: raw.Type, Reason: raw.Reason, Message: strings.TrimSpace(raw.Message), Count: int(max(1, raw.Count)),
			Object: strings.ToLower(raw.InvolvedObject.Kind) + "/" + raw.InvolvedObject.Name, Time: o.GetCreationTimestamp().Time}
		for _, t := range []*metav1.Time{raw.EventTime, raw.LastTimestamp} {
			if t != nil && !t.IsZero() {
				e.Time = t.Time
			}
		}
		if wanted(e) {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return all, nil
}
