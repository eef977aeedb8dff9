// Package model owns the click models: which columns of the embedding rows and
// which dense tensors a model has, its forward pass to one logit per sample and
// its backward pass to the gradients of both.
//
// A model sees no keys and no tables: it is given the gathered and pooled
// values of every field, and the dense tensors by position. It is a pure
// function of those, of the lane's dropout stream and of nothing else, with the
// same bits on every machine (see compute/layer). A Model keeps the cache of
// its last Forward and is used by one goroutine at a time.
//
//	m, err := model.New(spec.WithDefaults(), fields)
//	logits := m.Forward(params, model.Input{N: n, Columns: columns, Train: true, Share: share, Stream: stream})
//	loss := layer.BCEWithLogits(logits, labels, dLogits, 1/float32(batch))
//	m.Backward(params, dLogits, dParams, dColumns)
//
// A new model is one file with its definition, and one line in definitions.
package model
