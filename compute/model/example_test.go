package model_test

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/random"
)

// Example trains on one small batch as a trainer does: gather, forward, loss,
// backward, scatter, and an update (here plain gradient descent).
func Example() {
	const n, fields, rows = 32, 3, 12
	m, err := model.New(model.Spec{Name: "deepfm", EmbeddingDim: 4, Hidden: []int{8}, BatchNorm: true}, fields)
	if err != nil {
		panic(err)
	}
	width := 0 // of a row: all columns side by side
	for _, c := range m.Columns() {
		width += c.Width
	}
	table, dTable := make([]float32, rows*width), make([]float32, rows*width)
	random.Init{Kind: "normal", Scale: 0.1}.Fill(table, 1)
	var params, dParams, columns, dColumns [][]float32
	for i, p := range m.Params() {
		v := make([]float32, p.Size())
		p.Init.Fill(v, random.Stream(1, random.InitDense, uint64(i), 0, 0))
		params, dParams = append(params, v), append(dParams, make([]float32, p.Size()))
	}
	for _, c := range m.Columns() {
		columns = append(columns, make([]float32, n*fields*c.Width))
		dColumns = append(dColumns, make([]float32, n*fields*c.Width))
	}
	labels, dLogits := make([]float32, n), make([]float32, n)
	var index, offsets []int32 // sample i has one key per field
	for i := range n {
		labels[i] = float32(i % 4 / 3)
		index = append(index, int32(i%4), int32(4+i%3), int32(7+i%5))
	}
	for o := range n*fields + 1 {
		offsets = append(offsets, int32(o))
	}

	var first, last float64
	for step := range 60 {
		off := 0
		for c, column := range m.Columns() {
			layer.Gather(columns[c], n, fields, column.Width, table, width, off, index, offsets, nil)
			off += column.Width
		}
		logits := m.Forward(params, model.Input{N: n, Columns: columns, Train: true, Share: 1, Stream: uint64(step)})
		last = layer.BCEWithLogits(logits, labels, dLogits, 1.0/n) / n
		m.Backward(params, dLogits, dParams, dColumns)
		clear(dTable)
		off = 0
		for c, column := range m.Columns() {
			layer.Scatter(dTable, width, off, dColumns[c], n, fields, column.Width, index, offsets, nil)
			off += column.Width
		}
		kernel.Axpy(-0.3, dTable, table)
		for i, p := range m.Params() {
			if p.Kind == model.Weight {
				kernel.Axpy(-0.3, dParams[i], params[i])
			}
		}
		if step == 0 {
			first = last
		}
	}
	fmt.Println("loss fell below a tenth:", last < first/10)
	// Output: loss fell below a tenth: true
}
