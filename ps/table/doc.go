// Package table holds the rows of one table of one shard: weights and
// optimizer slots side by side, in pages outside the Go heap.
//
// A table knows nothing of versions, lanes or locks. Reading methods (Row,
// Gather, Init, Hash, Rows) may run at the same time; Update and View must run
// alone. A View stays readable, from any goroutine, while updates go on: rows
// are put aside before they are changed.
//
// Reading never creates a row. An absent row reads as Init, which is a pure
// function of seed, table, column and key, so neither the order of arrival nor
// the cut into shards can be seen in a model.
//
//	t, err := table.New(schema, seed)
//	t.Update(key, gradient, optim.At(step))
//	row, ok := t.Row(key)
//	v := t.View()
//	defer v.Release()
package table
