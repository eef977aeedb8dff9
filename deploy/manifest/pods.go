package manifest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto/identity"
)

// Where things are in the containers.
const (
	credentialsPath = "/etc/fathom/credentials"
	etcdPath        = "/etc/fathom/etcd"
	jobPath         = "/etc/fathom/job"
	dataPath        = "/var/lib/fathom"
	podName         = "$(POD_NAME)"
)

// user is who the processes run as; nobody on the node has this number.
const user = 65532

// named is a job of which only the name matters.
func named(name string) *job.Job { return &job.Job{Metadata: job.Metadata{Name: name}} }

// coordinators are the addresses of all coordinators.
func (r render) coordinators() string {
	var all []string
	for i := range r.o.Coordinators {
		all = append(all, r.host(compCoordinator, r.name(compCoordinator)+"-"+strconv.Itoa(i))+":"+strconv.Itoa(grpcPort))
	}
	return strings.Join(all, ",")
}

// etcdMembers is the size of the etcd that is rendered.
const etcdMembers = 3

func (r render) etcdURL(member, port int) string {
	return "https://" + r.host(compEtcd, r.name(compEtcd)+"-"+strconv.Itoa(member)) + ":" + strconv.Itoa(port)
}

func (r render) etcdURLs() string {
	if len(r.o.Etcd) > 0 {
		return strings.Join(r.o.Etcd, ",")
	}
	var all []string
	for i := range etcdMembers {
		all = append(all, r.etcdURL(i, clientPort))
	}
	return strings.Join(all, ",")
}

func (r render) etcd() Object {
	var members []string
	for i := range etcdMembers {
		members = append(members, r.name(compEtcd)+"-"+strconv.Itoa(i)+"="+r.etcdURL(i, peerPort))
	}
	self := "https://" + r.host(compEtcd, podName)
	p := r.pod(compEtcd, []string{"etcd", "--name", podName, "--data-dir", dataPath,
		"--client-url", fmt.Sprintf("https://0.0.0.0:%d", clientPort), "--advertise-client-url", fmt.Sprintf("%s:%d", self, clientPort),
		"--peer-url", fmt.Sprintf("https://0.0.0.0:%d", peerPort), "--advertise-peer-url", fmt.Sprintf("%s:%d", self, peerPort),
		"--initial-cluster", strings.Join(members, ","), "--credentials", credentialsPath})
	p.resources(500, 512<<20)
	return r.statefulSet(compEtcd, p, set{replicas: etcdMembers, storage: r.o.EtcdStorage, class: r.o.StorageClass})
}

func (r render) coordinator() Object {
	args := []string{"coordinator", "--name", podName, "--listen", fmt.Sprintf(":%d", grpcPort),
		"--advertise", fmt.Sprintf("%s:%d", r.host(compCoordinator, podName), grpcPort), "--etcd", r.etcdURLs(),
		"--cluster", "fathom/" + r.job.Metadata.Name, "--submit", jobPath + "/" + JobFile,
		"--workers-job", r.name(compWorker), "--credentials", credentialsPath}
	p := r.pod(compCoordinator, args)
	p.mount("job", jobPath, Object{"configMap": Object{"name": JobConfig(r.job.Metadata.Name)}})
	if r.o.EtcdSecret != "" {
		p.args("--etcd-credentials", etcdPath)
		p.mount("etcd", etcdPath, Object{"secret": Object{"secretName": r.o.EtcdSecret, "defaultMode": 0o440}})
	}
	p.resources(500, 512<<20)
	return r.statefulSet(compCoordinator, p, set{replicas: r.o.Coordinators})
}

// servers are one set for each pool.
func (r render) servers() []Object {
	var all []Object
	for _, q := range r.pools() {
		p := r.pod(compPS, []string{"ps", "--name", podName, "--listen", fmt.Sprintf(":%d", grpcPort),
			"--advertise", fmt.Sprintf("%s:%d", r.host(compPS, podName), grpcPort), "--data-dir", dataPath,
			"--coordinator", r.coordinators(), "--credentials", credentialsPath})
		if q.Name != "" {
			p.args("--pool", q.Name)
			p.labels = r.poolLabels(q.Name)
		}
		p.resources(q.CPU, q.Memory)
		s := r.statefulSet(compPS, p, set{q.Name, q.Servers, q.Storage, q.StorageClass})
		q.place(s["spec"].(Object)["template"].(Object)["spec"].(Object))
		all = append(all, s)
	}
	return all
}

// set is how many pods of a kind there are, with volumes of which size and class;
// no size: without.
type set struct {
	pool           string
	replicas       int
	storage, class string
}

// statefulSet runs pods with names and, if there is a size, volumes that stay.
func (r render) statefulSet(c component, p *pod, s set) Object {
	spec := Object{
		"serviceName":         r.name(c),
		"replicas":            s.replicas,
		"podManagementPolicy": "Parallel", // a quorum needs several at once
		"minReadySeconds":     5,
		"selector":            Object{"matchLabels": p.labels},
		"updateStrategy":      Object{"type": "RollingUpdate"},
	}
	if s.storage != "" {
		p.volumeMounts = append(p.volumeMounts, Object{"name": "data", "mountPath": dataPath})
		claim := Object{"accessModes": []any{"ReadWriteOnce"}, "resources": Object{"requests": Object{"storage": s.storage}}}
		if s.class != "" {
			claim["storageClassName"] = s.class
		}
		spec["volumeClaimTemplates"] = []any{Object{"metadata": Object{"name": "data"}, "spec": claim}}
		spec["persistentVolumeClaimRetentionPolicy"] = Object{"whenDeleted": "Retain", "whenScaled": "Retain"}
	}
	spec["template"] = r.template(c, p, "Always")
	meta := r.meta(r.name(c), c)
	if s.pool != "" {
		meta = r.poolMeta(s.pool)
	}
	return object("apps/v1", "StatefulSet", meta, Object{"spec": spec})
}

// workers are one Indexed Job: a pod that is lost is replaced under its number,
// and one that finds the job at fault ends it all. The coordinator that leads
// changes how many there are (deploy/scale).
func (r render) workers() Object {
	n := r.job.Spec.Cluster.Workers
	p := r.pod(compWorker, []string{"worker", "--name", r.name(compWorker) + "-$(JOB_COMPLETION_INDEX)",
		"--coordinator", r.coordinators(), "--threads", strconv.Itoa(max(1, r.o.WorkerCPU/1000)), "--credentials", credentialsPath})
	if !r.o.Standing {
		p.args("--until", r.job.Metadata.Name)
	}
	p.resources(r.o.WorkerCPU, r.o.WorkerMemory)
	if r.o.DataClaim != "" {
		p.mount("samples", r.job.Spec.Data.Root, Object{"persistentVolumeClaim": Object{"claimName": r.o.DataClaim, "readOnly": true}})
	}
	meta := r.meta(r.name(compWorker), compWorker)
	template := r.template(compWorker, p, "Never")
	if r.o.Scheduler != "" {
		template["spec"].(Object)["schedulerName"] = r.o.Scheduler
	}
	switch {
	case r.o.Queue != "" && r.o.Scheduler == volcano:
		// Volcano makes the group of the pods itself, and reads its queue from them.
		template["metadata"].(Object)["annotations"] = Object{"scheduling.volcano.sh/queue-name": r.o.Queue}
	case r.o.Queue != "":
		meta["labels"].(Object)["kueue.x-k8s.io/queue-name"] = r.o.Queue
	}
	return object("batch/v1", "Job", meta, Object{"spec": Object{
		"completionMode": "Indexed",
		"completions":    n,
		"parallelism":    n,
		// A worker that was lost costs time and nothing else.
		"backoffLimitPerIndex": 20,
		"maxFailedIndexes":     0,
		"podReplacementPolicy": "Failed",
		"podFailurePolicy": Object{"rules": []any{
			Object{"action": "FailJob", "onExitCodes": Object{"containerName": "fathom", "operator": "In", "values": []any{exitInput}}},
			Object{"action": "Ignore", "onPodConditions": []any{Object{"type": "DisruptionTarget", "status": "True"}}},
		}},
		"template": template,
	}})
}

// volcano is the name of the scheduler of that project.
const volcano = "volcano"

// exitInput is the exit status of a process that finds the job or the data at
// fault.
const exitInput = 64

// pod is a pod being put together.
type pod struct {
	labels       Object // by which its set and others select it
	arguments    []any
	env          []any
	ports        []any
	volumes      []any
	volumeMounts []any
	limits       Object
}

func (r render) pod(c component, args []string) *pod {
	p := &pod{labels: r.labels(c), env: []any{Object{"name": "POD_NAME", "valueFrom": Object{"fieldRef": Object{"fieldPath": "metadata.name"}}}}}
	p.args(append(args, "--metrics", fmt.Sprintf(":%d", metricsPort))...)
	name := podName
	if c == compWorker {
		name = r.name(c) + "-$(JOB_COMPLETION_INDEX)" // what the Job calls the pod's host
	}
	p.args("--advertise-metrics", fmt.Sprintf("%s:%d", r.host(c, name), metricsPort))
	for _, q := range portsOf(c) {
		p.ports = append(p.ports, Object{"name": q.name, "containerPort": q.number})
	}
	p.mount("credentials", credentialsPath, Object{"secret": Object{"secretName": r.secret(identity.Role(c)), "defaultMode": 0o440}})
	p.volumes = append(p.volumes, Object{"name": "tmp", "emptyDir": Object{}})
	p.volumeMounts = append(p.volumeMounts, Object{"name": "tmp", "mountPath": "/tmp"})
	return p
}

func (p *pod) args(args ...string) { p.arguments = append(p.arguments, list(args)...) }

func (p *pod) mount(name, path string, source Object) {
	source["name"] = name
	p.volumes = append(p.volumes, source)
	p.volumeMounts = append(p.volumeMounts, Object{"name": name, "mountPath": path, "readOnly": true})
}

// resources are requested; memory is also the limit, so that a pod is refused
// rather than killed later. CPU has no limit: a pause looks like a failure.
func (p *pod) resources(milliCPU int, memory int64) {
	p.limits = Object{
		"requests": Object{"cpu": fmt.Sprintf("%dm", milliCPU), "memory": strconv.FormatInt(memory, 10)},
		"limits":   Object{"memory": strconv.FormatInt(memory, 10)},
	}
	p.env = append(p.env, Object{"name": "GOMEMLIMIT", "value": strconv.FormatInt(memory/10*9, 10)})
}

func (r render) template(c component, p *pod, restart string) Object {
	probe := func(path string, failures, period int) Object {
		return Object{"httpGet": Object{"path": path, "port": "metrics", "scheme": "HTTPS"},
			"failureThreshold": failures, "periodSeconds": period, "timeoutSeconds": 5}
	}
	container := Object{
		"name": "fathom", "image": r.o.Image, "args": p.arguments, "env": p.env, "ports": p.ports,
		"resources": p.limits, "volumeMounts": p.volumeMounts,
		"securityContext": Object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"capabilities": Object{"drop": []any{"ALL"}}},
		"terminationMessagePolicy": "FallbackToLogsOnError",
		// A big snapshot takes its time; afterwards only a process that hangs is
		// restarted, never one that waits for others.
		"startupProbe":  probe("/healthz", 180, 5),
		"livenessProbe": probe("/healthz", 6, 10),
	}
	spec := Object{
		"serviceAccountName":            r.name(c),
		"automountServiceAccountToken":  c == compCoordinator, // it keeps the workers' Job
		"enableServiceLinks":            false,
		"restartPolicy":                 restart,
		"terminationGracePeriodSeconds": 60,
		"securityContext": Object{"runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
			"fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": Object{"type": "RuntimeDefault"}},
		"containers": []any{container},
		"volumes":    p.volumes,
	}
	if c == compWorker {
		spec["subdomain"] = r.name(c) // a StatefulSet sets it by itself
	} else {
		container["readinessProbe"] = probe("/readyz", 3, 5)
		// Others must stop sending before the process stops taking.
		container["lifecycle"] = Object{"preStop": Object{"sleep": Object{"seconds": 2}}}
		spec["topologySpreadConstraints"] = []any{
			p.spread("kubernetes.io/hostname"), p.spread("topology.kubernetes.io/zone"),
		}
	}
	return Object{"metadata": Object{"labels": p.labels}, "spec": spec}
}

func (p *pod) spread(key string) Object {
	return Object{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
		"labelSelector": Object{"matchLabels": p.labels}}
}
