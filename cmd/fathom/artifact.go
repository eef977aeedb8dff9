package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/export"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// exportServers writes the model of a job that stands still from the servers that
// hold it. An artifact of the same model that is there already is kept.
func exportServers(ctx context.Context, c control, self *identity.Source, s *proto.JobStatus, dir string) (m *export.Manifest, err error) {
	if m, err := export.ReadManifest(dir); err == nil && m.StateHash == s.GetModelHash() && m.StateHash != "" {
		return m, nil // the run was killed behind this point and resumed
	}
	groups, err := c.Groups(ctx, s.GetJob())
	if err != nil {
		return nil, err
	}
	ps := client.Dial(groups.GetJob(), groups.GetRun(), grpc.WithTransportCredentials(self.Dialer(identity.PS)), grpc.WithNoProxy())
	defer func() { err = errors.Join(err, ps.Close()) }()
	routes := routesOf(groups)
	ps.SetRoutes(routes)
	version, err := ps.Version(ctx)
	if err != nil {
		return nil, err
	}
	j, err := job.FromJSON(s.GetSpec())
	if err != nil {
		return nil, fmt.Errorf("spec of job %s as the coordinator tells it: %w", s.GetJob(), err)
	}
	schema, _, err := ps.Describe(ctx, 0, version)
	if err != nil {
		return nil, err
	}
	about, err := aboutModel(j, schema.Tables, schema.Phase)
	if err != nil {
		return nil, err
	}
	about.SpecDigest, about.StateHash = s.GetSpecDigest(), s.GetModelHash()
	for _, score := range s.GetScores() {
		if score.GetStage() == s.GetStage() && score.GetVersion() == version {
			about.Scores = append(about.Scores, checkpoint.Score{Split: score.GetSplit(), Samples: score.GetSamples(),
				AUC: score.GetAuc(), LogLoss: score.GetLogLoss(), GAUC: score.GetGauc()})
		}
	}
	if m, err = export.Write(ctx, dir, about, export.FromServers(ps, routes, version, about.Tensors)); err != nil {
		return nil, err
	}
	return m, checkReported(m, s.GetTables())
}

func routesOf(groups *proto.GroupsReply) []client.Route {
	var routes []client.Route
	for _, s := range groups.GetShards() {
		r := client.Route{Shard: shard.ID(s.GetShard()), Leader: s.GetLeader(),
			Range: shard.Range{Lo: shard.Key(s.GetKeyLo()), Hi: shard.Key(s.GetKeyHi())}}
		for _, m := range s.GetMembers() {
			r.Members = append(r.Members, client.Member{Node: m.GetNode(), Address: m.GetAddress()})
		}
		for _, d := range s.GetDense() {
			r.Dense = append(r.Dense, uint16(d))
		}
		routes = append(routes, r)
	}
	slices.SortFunc(routes, func(a, b client.Route) int { return int(a.Shard) - int(b.Shard) })
	return routes
}

// checkReported compares what was written with what the servers reported: they
// count by columns.
func checkReported(m *export.Manifest, reported []*proto.TableStatus) error {
	written := map[string]int64{}
	for _, t := range m.Tables {
		for _, c := range t.Schema.Columns {
			written[c.Name] += 4 * t.Rows * int64(c.Width)
		}
	}
	for _, t := range reported {
		if n, ok := written[t.GetName()]; ok && n != int64(t.GetBytes()) {
			return fmt.Errorf("the artifact has %d bytes of %s, the servers reported %d", n, t.GetName(), t.GetBytes())
		}
	}
	return nil
}

// aboutModel describes a job's model, whose tables in the given phase are those of
// the servers.
func aboutModel(j *job.Job, tables []table.Schema, phase uint32) (export.About, error) {
	about := export.About{Program: readVersions().Fathom, Name: j.Metadata.Name, SpecDigest: j.Digest(), Scores: []checkpoint.Score{}}
	j, err := servedJob(j, tables, phase)
	if err != nil {
		return about, err
	}
	if err := sameTables(j, tables); err != nil {
		return about, err
	}
	about.Job = j.JSON()
	about.Tensors, err = tensorsOf(j)
	return about, err
}

// tensorsOf lists the dense tensors of a job's model.
func tensorsOf(j *job.Job) ([]export.Tensor, error) {
	net, err := model.New(j.Spec.Model, len(j.Spec.Data.ResolvedFields()))
	if err != nil {
		return nil, err
	}
	var all []export.Tensor
	for _, p := range append(net.Params(), j.SelectorParams()...) {
		all = append(all, export.Tensor{Name: p.Name, Shape: p.Shape, Running: p.Kind == model.Running})
	}
	return all, nil
}

// servedJob is the job that a model with the given tables is of: without a search,
// the cluster and the places of files on this machine.
func servedJob(j *job.Job, tables []table.Schema, phase uint32) (*job.Job, error) {
	if j.Spec.Search != nil {
		if phase == 0 {
			return nil, inputError{fmt.Errorf("job %s has only its supernet so far, which is not a model to serve: export it when the winner is trained", j.Metadata.Name)}
		}
		fields, err := j.Tables()
		if err != nil {
			return nil, err
		}
		widths, dims := make([]int, len(fields)), make([][]int, len(fields))
		for i, f := range fields {
			if at := embeddingTable(f.Name, tables); at >= 0 {
				widths[i] = embeddingWidth(tables[at])
				dims[i], _ = embedding.DimsOf(f.Name, tables[at].Name)
			}
		}
		if j, err = j.Retrain(widths, dims); err != nil {
			return nil, err
		}
	}
	served := *j
	served.Spec.Data.Root, served.Spec.Data.CacheBytes = "", 0
	served.Spec.Cluster, served.Spec.Checkpoint = job.Cluster{}, job.Checkpoint{}
	served = served.WithDefaults()
	return &served, nil
}

// embeddingTable finds the table that has the embeddings of a field after a search,
// -1 if they have the width 0.
func embeddingTable(field string, tables []table.Schema) int {
	return slices.IndexFunc(tables, func(t table.Schema) bool {
		w := embeddingWidth(t)
		_, single := embedding.DimsOf(field, t.Name)
		return w > 0 && (single || t.Name == field || t.Name == fmt.Sprintf("%s.%d", field, w))
	})
}

func embeddingWidth(t table.Schema) int {
	for _, c := range t.Columns {
		if c.Name == model.Embedding {
			return c.Width
		}
	}
	return 0
}

// sameTables wants the tables of a job to be the given ones.
func sameTables(j *job.Job, tables []table.Schema) error {
	want, err := j.Tables()
	if err != nil {
		return err
	}
	if len(want) != len(tables) {
		return fmt.Errorf("the model has %d tables, its job %d", len(tables), len(want))
	}
	for i, t := range want {
		same := t.Name == tables[i].Name && len(t.Columns) == len(tables[i].Columns)
		for k := 0; same && k < len(t.Columns); k++ {
			same = t.Columns[k].Name == tables[i].Columns[k].Name && t.Columns[k].Width == tables[i].Columns[k].Width
		}
		if !same {
			return fmt.Errorf("table %d of the model is %q with columns %v, its job has %q with %v", i, tables[i].Name, tables[i].Columns, t.Name, t.Columns)
		}
	}
	return nil
}
