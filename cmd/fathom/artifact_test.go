package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/export"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
	"github.com/fathom-train/fathom/worker/dataset"
	"github.com/fathom-train/fathom/worker/trainer"
)

// trainedJob is trained by the tests below: on a little data, of which the test
// split has many values that the training split has not.
const trainedJob = `
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: trained}
spec:
  data:
    format: synthetic
    synthetic: {train_rows: 1500, valid_rows: 200, test_rows: 1200, numeric: 2, categorical: 4, vocabulary: 2000, zipf: 0.9, seed: 3}
  model: {name: deepfm, embedding_dim: 8, hidden: [16, 8], dropout: 0.1}
  train:
    epochs: 1
    batch_size: 256
    lanes: 2
    seed: 11
    optimizer: {name: adam, learning_rate: 0.01}
    embedding_init: {kind: normal, scale: 0.1}
`

// localModel is a job's model in state machines of this process.
type localModel struct {
	job    *job.Job // that was submitted
	stage  *job.Job // whose tables there are
	states []*fsm.State
	routes []client.Route
	client *client.Client
	data   *dataset.Set
	at     uint64 // version
}

const localRun = 9

// trainLocally trains a job with the sets in the given number of shards; one with
// a search is trained on with the given widths, without the rows below a norm.
func trainLocally(t *testing.T, shards int, widths []int, sets ...string) *localModel {
	t.Helper()
	j, err := job.Parse("trained.yaml", []byte(trainedJob), sets)
	if err != nil {
		t.Fatal(err)
	}
	m := &localModel{job: j, stage: j}
	if m.data, err = dataset.Open(t.Context(), j.Spec.Data, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.data.Close() })
	for range shards {
		s := fsm.New()
		t.Cleanup(s.Close)
		m.states = append(m.states, s)
	}
	m.form(t, fsm.Schema{})
	m.train(t)
	if j.Spec.Search != nil {
		var dims [][]int
		if j.Spec.Search.ByDimension() || len(j.SelectorParams()) > 0 { // any but the first ones
			for _, w := range widths {
				dims = append(dims, upTo(j.Spec.Model.EmbeddingDim)[j.Spec.Model.EmbeddingDim-w:])
			}
		}
		if m.stage, err = j.Retrain(widths, dims); err != nil {
			t.Fatal(err)
		}
		m.at++
		next := fsm.Schema{Phase: 1, Base: m.at}
		tables, err := m.stage.Tables()
		if err != nil {
			t.Fatal(err)
		}
		for _, tb := range tables {
			if tb.Columns[len(tb.Columns)-1].Name == "embedding" {
				c := fsm.Carry{Table: tb.ID, From: uint16(tb.Fields[0]), Column: "embedding", Norm: supernet.L1, Above: 0.66}
				if j.Spec.Search.OOV {
					c.Always = embedding.OOVKey
				}
				next.Carry = append(next.Carry, c)
			}
		}
		m.form(t, next)
		m.train(t)
	}
	return m
}

// upTo lists the numbers below n.
func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// form gives all shards the tables of the stage.
func (m *localModel) form(t *testing.T, of fsm.Schema) {
	t.Helper()
	tables, err := m.stage.Tables()
	if err != nil {
		t.Fatal(err)
	}
	dense, err := m.stage.Dense()
	if err != nil {
		t.Fatal(err)
	}
	sizes := make([]int, len(dense))
	for i, d := range dense {
		sizes[i] = d.Size
	}
	homes := shard.PlaceDense(sizes, len(m.states))
	m.routes = nil
	for i, s := range shard.Even(len(m.states)).Shards {
		schema := of
		schema.Job, schema.Run, schema.Seed, schema.Lanes = "trained", localRun, m.stage.Spec.Train.Seed, m.stage.Spec.Train.Lanes
		schema.PreImages, schema.PipelineDepth = m.stage.PreImages(), m.stage.Depth()
		for _, tb := range tables {
			st := table.Schema{ID: tb.ID, Name: tb.Name}
			st.Closed = slices.ContainsFunc(of.Carry, func(c fsm.Carry) bool { return c.Table == tb.ID })
			for _, c := range tb.Columns {
				st.Columns = append(st.Columns, table.Column{Name: c.Name, Width: c.Width, Init: c.Init, Optimizer: c.Optimizer})
			}
			schema.Tables = append(schema.Tables, st)
		}
		route := client.Route{Shard: s.ID, Range: s.Range}
		for k, d := range dense {
			if homes[k] == s.ID {
				given := fsm.DenseTensor{ID: d.ID, Name: d.Name, Size: d.Size, Init: d.Init, Optimizer: d.Optimizer}
				if of.Phase > 0 && d.Name == job.MaskTensor {
					for k := range d.Size { // some mask or other
						given.Values = append(given.Values, float32(k*k%7%2))
					}
				} else if of.Phase > 0 && strings.HasPrefix(d.Name, "selector.") {
					given.Carry = true
				}
				schema.Dense = append(schema.Dense, given)
				route.Dense = append(route.Dense, d.ID)
			}
		}
		m.routes = append(m.routes, route)
		body, err := fsm.MarshalSchema(schema)
		if err != nil {
			t.Fatal(err)
		}
		if r := m.states[i].Apply(uint64(1+1_000_000*int(of.Phase)), wire.AppendConfigure(nil, body)); r.Err != nil {
			t.Fatalf("form shard %d: %v", i, r.Err)
		}
	}
	m.client = client.NewLocal(localRun, m.routes, m.states)
}

func (m *localModel) trainer(t *testing.T) *trainer.Trainer {
	t.Helper()
	tr, err := trainer.New(trainer.Config{Job: m.stage, Run: localRun, Data: m.data, Client: m.client, Base: m.at, Start: m.at, Factor: 1})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (m *localModel) train(t *testing.T) {
	t.Helper()
	split, _ := m.data.Split("train")
	last := m.at + uint64(m.stage.Steps(split.Rows()))
	lanes := []int{0, 1}
	if err := m.trainer(t).Train(t.Context(), lanes, last, nil); err != nil {
		t.Fatal(err)
	}
	m.at = last
}

// about describes the model with the score that it has on the servers.
func (m *localModel) about(t *testing.T) export.About {
	t.Helper()
	schema, _, err := m.client.Describe(t.Context(), 0, m.at)
	if err != nil {
		t.Fatal(err)
	}
	about, err := aboutModel(m.job, schema.Tables, schema.Phase)
	if err != nil {
		t.Fatal(err)
	}
	split, _ := m.data.Split("test")
	acc, err := m.trainer(t).Evaluate(t.Context(), "test", m.at, 0, split.Rows())
	if err != nil {
		t.Fatal(err)
	}
	r := eval.Merge([]*eval.Accumulator{acc})
	about.Scores = []checkpoint.Score{{Split: "test", Samples: r.Samples, AUC: r.AUC, LogLoss: r.LogLoss, GAUC: r.GAUC}}
	return about
}

// checkpoint writes the model as a checkpoint.
func (m *localModel) checkpoint(t *testing.T) (checkpoint.Bucket, *checkpoint.Manifest) {
	t.Helper()
	b, err := checkpoint.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	manifest := &checkpoint.Manifest{Format: checkpoint.Format, Job: "trained", Run: "0000000000000009", Step: m.at, Spec: m.job.JSON()}
	for i, s := range m.states {
		var text bytes.Buffer
		v := s.View()
		f, err := v.WriteCheckpoint(&text)
		v.Release()
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text.Bytes())
		name := fmt.Sprintf("shard-%d", i)
		file := checkpoint.File{Shard: m.routes[i].Shard, Name: name, Lo: uint64(m.routes[i].Range.Lo), Hi: uint64(m.routes[i].Range.Hi),
			Bytes: f.Bytes, SHA256: hex.EncodeToString(sum[:]), Rows: f.Rows}
		if err := b.Create(t.Context(), name, func(w io.Writer) error { _, err := w.Write(text.Bytes()); return err }); err != nil {
			t.Fatal(err)
		}
		manifest.Files = append(manifest.Files, file)
	}
	return b, manifest
}

// files reads a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

// predicted is what predict -o json prints.
type predicted struct {
	Predictions []struct {
		Prediction float32 `json:"prediction"`
		Label      *int    `json:"label"`
	} `json:"predictions"`
	Samples    uint64  `json:"samples"`
	AUC        float64 `json:"auc"`
	LogLoss    float64 `json:"logloss"`
	AsReported *bool   `json:"as_reported"`
}

func predict(t *testing.T, args ...string) (p predicted) {
	t.Helper()
	code, out, errs := command(t, nil, append([]string{"predict", "-o", "json"}, args...)...)
	if code != 0 || errs != "" {
		t.Fatalf("predict %v: code %d\n%s", args, code, errs)
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("predict %v: %v in\n%s", args, err, out)
	}
	return p
}

// TestArtifactPredictsWhatTheServersDid: the artifact alone gives the score that
// the servers gave, to the last bit, and its files do not tell how many there were
// or whether it came from a checkpoint.
func TestArtifactPredictsWhatTheServersDid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		widths []int
		sets   []string
	}{
		"plain":        {},
		"batch norm":   {sets: []string{"spec.model.batch_norm=true"}},
		"calibrated":   {sets: []string{"spec.data.negative_rate=0.5"}},
		"per field":    {sets: []string{"spec.embedding.tables=per_field", "spec.embedding.fields=[{name: c1, width: 3}]"}},
		"unified":      {sets: []string{"spec.embedding.method=unified", "spec.embedding.buckets=300", "spec.embedding.chunk_width=4"}},
		"qr":           {sets: []string{"spec.embedding.method=qr", "spec.embedding.buckets=100", "spec.embedding.remainders=20"}},
		"hashed":       {sets: []string{"spec.embedding.method=hash", "spec.embedding.buckets=100"}},
		"lazy rows":    {sets: []string{"spec.train.optimizer.every_row=true", "spec.train.optimizer.weight_decay=0.01"}},
		"bf16 and dcn": {sets: []string{"spec.model.name=dcnv2", "spec.train.compute=bf16"}},
		"searched": {[]int{1, 8, 3, 2, 4, 1}, []string{"spec.embedding.tables=per_field",
			"spec.search={budget: {fraction: 0.5}, pruning: {}}"}},
		"searched, with a vector for dropped rows": {[]int{1, 8, 3, 2, 4, 1}, []string{"spec.embedding.tables=per_field",
			"spec.search={budget: {fraction: 0.5}, rows: [0.5, 1], oov: true}"}},
		"searched by dimension": {[]int{1, 8, 3, 2, 4, 1}, []string{"spec.embedding.tables=per_field",
			"spec.search={strategy: dnis, gates: {kind: dimension}, pruning: {}}"}},
		"searched by cluster": {[]int{1, 8, 3, 2, 4, 1}, []string{"spec.embedding.tables=per_field",
			"spec.search={strategy: ihas, gates: {clusters: 3, hidden: 8}}"}},
		"fields dropped": {[]int{1, 0, 3, 2, 0, 1}, []string{"spec.embedding.tables=per_field",
			"spec.search={widths: [0, 1, 2, 3, 8]}"}},
		"fields dropped, no first order": {[]int{1, 0, 3, 2, 0, 1}, []string{"spec.embedding.tables=per_field",
			"spec.model={name: dnn, embedding_dim: 8, hidden: [8]}", "spec.search={widths: [0, 1, 2, 3, 8], pruning: {}}"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want map[string]string
			for _, shards := range []int{1, 3} {
				m := trainLocally(t, shards, c.widths, c.sets...)
				about := m.about(t)
				dir := filepath.Join(t.TempDir(), "artifact")
				manifest, err := export.Write(t.Context(), dir, about, export.FromServers(m.client, m.routes, m.at, about.Tensors))
				if err != nil {
					t.Fatal(err)
				}
				got := files(t, dir)
				if want == nil {
					want = got
					checkPredictions(t, dir, about.Scores[0])
				}
				sameFiles(t, fmt.Sprintf("%d shards", shards), want, got)
				b, from := m.checkpoint(t)
				slices.Reverse(from.Files) // their order is no matter
				dir = filepath.Join(t.TempDir(), "artifact")
				if _, err := export.Write(t.Context(), dir, about, export.FromCheckpoint(b, from)); err != nil {
					t.Fatal(err)
				}
				sameFiles(t, "checkpoint", want, files(t, dir))
				m.checkBytes(t, manifest)
			}
		})
	}
}

func sameFiles(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d files, want %d", what, len(got), len(want))
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: %s has other bytes", what, name)
		}
	}
}

func checkPredictions(t *testing.T, dir string, want checkpoint.Score) {
	t.Helper()
	p := predict(t, "--model", dir, "--split", "test")
	if p.AUC != want.AUC || p.LogLoss != want.LogLoss || p.Samples != want.Samples || p.AsReported == nil || !*p.AsReported {
		t.Errorf("predicted %d samples, AUC %v, log loss %v, as reported: %v; the servers gave %+v", p.Samples, p.AUC, p.LogLoss, p.AsReported, want)
	}
	if len(p.Predictions) != int(want.Samples) || p.Predictions[0].Label == nil {
		t.Errorf("%d predictions, want %d with labels", len(p.Predictions), want.Samples)
	}
	if p = predict(t, "--model", dir, "--split", "valid"); p.AsReported != nil || p.Samples != 200 {
		t.Errorf("valid: %d samples, compared with a score that was not reported: %v", p.Samples, p.AsReported)
	}
}

// checkBytes wants the bytes of the manifest to be those the servers report.
func (m *localModel) checkBytes(t *testing.T, manifest *export.Manifest) {
	t.Helper()
	rows := int64(0)
	for i, tb := range manifest.Tables {
		var have int64
		for _, s := range m.states {
			have += int64(s.Stats().Tables[i].Rows)
		}
		if tb.Rows != have || tb.Bytes != 4*have*int64(tb.Schema.Width()) {
			t.Errorf("table %s: %d rows, %d bytes; the servers have %d rows", tb.Schema.Name, tb.Rows, tb.Bytes, have)
		}
		rows += have
	}
	if rows == 0 {
		t.Error("the model has no rows")
	}
}

// exported is a small model as an artifact.
func exported(t *testing.T, sets ...string) (dir string) {
	t.Helper()
	m := trainLocally(t, 1, nil, sets...)
	about := m.about(t)
	dir = filepath.Join(t.TempDir(), "artifact")
	if _, err := export.Write(t.Context(), dir, about, export.FromServers(m.client, m.routes, m.at, about.Tensors)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPredictReadsFiles scores the same records as CSV with and without a label.
func TestPredictReadsFiles(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	var train, records, bare strings.Builder
	train.WriteString("label,user,item,price\n")
	records.WriteString("price,label,item,user,other\n")
	bare.WriteString("item,user,price\n")
	for i := range 600 {
		label, user, item, price := i*i%7%2, i%13, i%5, i%17
		fmt.Fprintf(&train, "%d,u%d,i%d,%d\n", label, user, item, price)
		user += i / 400 * 100 // some that are new
		fmt.Fprintf(&records, "%d,%d,i%d,u%d,x\n", price, label, item, user)
		fmt.Fprintf(&bare, "i%d,u%d,%d\n", item, user, price)
	}
	for name, text := range map[string]string{"train.csv": train.String(), "records.csv": records.String(), "bare.csv": bare.String(),
		"bad.csv": "label,user,item,price\n1,u1,i1,many\n", "none.csv": "label,user\n1,u1\n"} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := exported(t, "spec.data={format: csv, root: "+work+", train: [train.csv], test: [records.csv], fields: [{name: user}, {name: item}, {name: price, type: numeric, transform: log}]}")
	want := predict(t, "--model", dir, "--split", "test", "--root", work)
	if want.AsReported == nil || !*want.AsReported {
		t.Errorf("the split of the job has another score than on the servers: %+v", want.AsReported)
	}
	got := predict(t, "--model", dir, "--data", filepath.Join(work, "bare.csv"))
	if len(got.Predictions) != 600 || got.AUC != 0 {
		t.Fatalf("%d predictions, AUC %v without labels", len(got.Predictions), got.AUC)
	}
	for i, p := range got.Predictions {
		if p.Prediction != want.Predictions[i].Prediction || p.Label != nil {
			t.Fatalf("record %d: %+v without a label, %+v with one", i, p, want.Predictions[i])
		}
	}
	out := filepath.Join(work, "out.csv")
	code, printed, errs := command(t, nil, "predict", "--model", dir, "--root", work, "--data", "records.csv", "--out", out)
	text, err := os.ReadFile(out)
	if err != nil || code != 0 || printed != "" || !strings.Contains(errs, "600 records, AUC ") {
		t.Fatalf("code %d, error %v, printed %q, errors %q", code, err, printed, errs)
	}
	if first := fmt.Sprintf("prediction,label\n%v,%d\n", want.Predictions[0].Prediction, *want.Predictions[0].Label); !strings.HasPrefix(string(text), first) || strings.Count(string(text), "\n") != 601 {
		t.Errorf("%d lines, beginning\n%.60s\nwant %s", strings.Count(string(text), "\n"), text, first)
	}
	for args, want := range map[string]string{
		"--data bad.csv":                     "bad.csv:2",
		"--data none.csv":                    `no column "item"`,
		"--data missing.csv":                 "no such file",
		"--data train.csv --split test":      "either --data or --split",
		"--split valid":                      "no data of the valid split",
		"--split more":                       `no split "more"`,
		"":                                   "nothing to score",
		"--data train.csv -o yaml":           "want csv or json",
		"--data train.csv --out /no/where/x": "no such file or directory",
	} {
		code, _, errs := command(t, nil, append([]string{"predict", "--model", dir, "--root", work}, strings.Fields(args)...)...)
		if code != exitInput || !strings.Contains(errs, want) {
			t.Errorf("%s: code %d, errors %q, want %q", args, code, errs, want)
		}
	}
}

// TestDamagedArtifactsAreRefused changes one byte of every file.
func TestDamagedArtifactsAreRefused(t *testing.T) {
	t.Parallel()
	dir := exported(t)
	for name, text := range files(t, dir) {
		path := filepath.Join(dir, name)
		for what, changed := range map[string]string{
			"byte": text[:len(text)/2] + string(text[len(text)/2]^4) + text[len(text)/2+1:],
			"end":  text[:len(text)-9],
		} {
			if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out, errs := command(t, nil, "predict", "--model", dir, "--split", "test"); code != exitFailed || out != "" || !strings.Contains(errs, "damaged") || !strings.Contains(errs, name) {
				t.Errorf("%s of %s: code %d, %d bytes printed, errors %q", what, name, code, len(out), errs)
			}
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	predict(t, "--model", dir, "--split", "test")
	if code, _, errs := command(t, nil, "predict", "--model", t.TempDir(), "--split", "test"); code != exitInput || !strings.Contains(errs, "no artifact") {
		t.Errorf("an empty directory: code %d, errors %q", code, errs)
	}
}

// TestExportOfACheckpoint is the command, and that it overwrites nothing.
func TestExportOfACheckpoint(t *testing.T) {
	t.Parallel()
	m := trainLocally(t, 2, nil)
	b, manifest := m.checkpoint(t)
	if err := checkpoint.Commit(t.Context(), b, manifest); err != nil {
		t.Fatal(err)
	}
	// The files belong into the folder of the manifest.
	folder := t.TempDir()
	into, err := checkpoint.Open(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range manifest.Files {
		r, err := b.Open(t.Context(), f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := into.Create(t.Context(), manifest.Name()+"/"+f.Name, func(w io.Writer) error { _, err := io.Copy(w, r); return err }); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	if err := checkpoint.Commit(t.Context(), into, manifest); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new", "artifact")
	code, out, errs := command(t, nil, "export", "--checkpoint", folder, "--out", dir, "-o", "json")
	var r artifactResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || r.Dir != dir || r.TableBytes == 0 || r.Step != m.at {
		t.Fatalf("code %d, %+v, error %v, errors %q", code, r, err, errs)
	}
	if p := predict(t, "--model", dir, "--split", "test"); p.AUC != m.about(t).Scores[0].AUC {
		t.Errorf("AUC %v, on the servers %v", p.AUC, m.about(t).Scores[0].AUC)
	}
	for args, want := range map[string]string{
		"--checkpoint " + folder + " --out " + dir: "never overwrites",
		"--checkpoint " + folder:                   "--out DIR is missing",
		"--checkpoint " + t.TempDir() + " --out x": "no checkpoint in",
		"job --checkpoint x --out y":               "either a job or --checkpoint",
	} {
		if code, _, errs := command(t, nil, append([]string{"export"}, strings.Fields(args)...)...); code != exitInput || !strings.Contains(errs, want) {
			t.Errorf("%s: code %d, errors %q, want %q", args, code, errs, want)
		}
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

// TestExportOfAJob goes by the job's phase: the servers when it is done, a
// checkpoint while it trains.
func TestExportOfAJob(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		phase proto.Phase
		code  int
		want  string
	}{
		"done":      {proto.Phase_PHASE_DONE, 0, "small, step 20: "},
		"failed":    {proto.Phase_PHASE_FAILED, exitInput, "no trained model: it is failed"},
		"cancelled": {proto.Phase_PHASE_CANCELLED, exitInput, "no trained model: it is cancelled"},
		"trains":    {proto.Phase_PHASE_TRAINING, exitInput, "no checkpoint in /checkpoints/small-00/7"}, // where the fake says it made one
	} {
		s := doneStatus()
		s.Phase = c.phase
		code, out, errs := command(t, &fakeControl{jobs: []*proto.JobStatus{s}}, "export", "small", "--out", filepath.Join(t.TempDir(), "a"), "--coordinator", "127.0.0.1:1", "--insecure")
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: code %d, output %q, errors %q, want %q", name, code, out, errs, c.want)
		}
	}
}
