package launchtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// reconcile makes what the controllers of a cluster would have made by now: the
// pods and claims of StatefulSets and Jobs, and what these say of them.
func (s *Server) reconcile() {
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		resource, name, _ := strings.Cut(key, "/")
		if s.objects[key] == nil {
			continue // it went with its set
		}
		o := s.objects[key].Object
		switch resource {
		case "statefulsets":
			n := int(number(nested(o, "spec")["replicas"], 1))
			ready := s.pods(key, o, n)
			generation := nested(o, "metadata")["generation"]
			o["status"] = Object{"observedGeneration": generation, "readyReplicas": ready, "updatedReplicas": n, "replicas": n}
			if nested(o, "spec")["volumeClaimTemplates"] != nil {
				for i := range n {
					claim := fmt.Sprintf("data-%s-%d", name, i)
					if s.objects["persistentvolumeclaims/"+claim] == nil {
						s.store("persistentvolumeclaims", Object{"apiVersion": "v1", "kind": "PersistentVolumeClaim",
							"metadata": Object{"name": claim, "labels": nested(o, "spec", "selector", "matchLabels")}}, "controller", nil)
					}
				}
			}
		case "jobs":
			n := int(number(nested(o, "spec")["parallelism"], 1))
			if nested(o, "spec")["suspend"] == true {
				n = 0
			}
			status := nested(o, "status")
			if status["conditions"] == nil {
				status["ready"] = s.pods(key, o, n)
			}
		}
	}
}

// pods makes the pods of a set and returns how many are ready.
func (s *Server) pods(of string, set Object, n int) (ready int) {
	_, name, _ := strings.Cut(of, "/")
	wanted := map[string]bool{}
	for i := range n {
		pod := fmt.Sprintf("%s-%d", name, i)
		wanted["pods/"+pod] = true
		if s.objects["pods/"+pod] == nil {
			s.store("pods", Object{"apiVersion": "v1", "kind": "Pod",
				"metadata": Object{"name": pod, "owner": of, "labels": nested(set, "spec", "template", "metadata", "labels")}}, "controller", nil)
		}
		status, ok := s.podStatus(pod)
		s.objects["pods/"+pod].Object["status"] = status
		if ok {
			ready++
		}
	}
	for key, o := range s.objects {
		if strings.HasPrefix(key, "pods/") && nested(o.Object, "metadata")["owner"] == of && !wanted[key] {
			delete(s.objects, key)
		}
	}
	return ready
}

func (s *Server) podStatus(pod string) (status Object, ready bool) {
	for prefix, b := range s.broken {
		if !strings.HasPrefix(pod, prefix) {
			continue
		}
		state := Object{"running": Object{}}
		if b.Waiting != "" {
			state = Object{"waiting": Object{"reason": b.Waiting, "message": b.Message}}
		}
		container := Object{"name": "fathom", "restartCount": b.Restarts, "state": state}
		if b.Restarts > 0 {
			container["lastState"] = Object{"terminated": Object{"exitCode": b.ExitCode, "reason": "Error", "message": b.Message}}
		}
		phase := "Pending"
		if b.Failed != "" {
			phase = "Failed"
			container["state"] = Object{"terminated": Object{"exitCode": b.ExitCode, "reason": "Error"}}
		}
		return clone(Object{"phase": phase, "containerStatuses": []any{container},
			"conditions": []any{Object{"type": "Ready", "status": "False"}}}), false
	}
	return clone(Object{"phase": "Running", "conditions": []any{Object{"type": "Ready", "status": "True"}},
		"containerStatuses": []any{Object{"name": "fathom", "restartCount": 0, "state": Object{"running": Object{}}}}}), true
}

func number(v any, standard float64) float64 {
	if n, ok := v.(float64); ok {
		return n
	}
	return standard
}
