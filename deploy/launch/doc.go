// Package launch brings a job's objects into a Kubernetes cluster and looks
// after them there: it applies what package manifest renders, waits, says what
// is wrong, and scales, suspends, restarts and deletes.
//
// It owns the objects that carry the labels of the job, and no others. What it
// writes it writes by server-side apply in the name "fathom", so that fields
// that belong to somebody else are never overwritten unasked. Nothing of it runs
// in the cluster: StatefulSets and Jobs repair what they own, the coordinator
// the rest.
//
// The dynamic client and this package's own few structs stand in for typed
// clients, which would double the time to build the program.
package launch
