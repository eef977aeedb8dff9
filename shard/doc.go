// Package shard owns the key space: how a feature value becomes a 64-bit key,
// how the keys are cut into contiguous ranges, and which shard holds a dense
// tensor.
//
// Everything here is a pure function of its arguments and part of the model's
// format: a key that changed would be another row. The package imports only
// the standard library and every other package may import it.
//
//	h := shard.NewHasher("user_id")
//	k := h.String("42")
//	m := shard.Even(4)
//	id := m.Locate(k)
package shard
