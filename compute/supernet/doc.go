// Package supernet owns what makes one model stand for many: prefix masks that
// keep the first dimensions of an embedding, pruning thresholds that drop whole
// rows, and soft gates that learn how much a dimension is worth. Forward and
// backward passes stand side by side, as in compute/layer, and are checked
// against numeric gradients.
//
// An embedding row e of width D under the threshold t of its field and a prefix
// of d dimensions is seen by the model as
//
//	x = [ ||e|| > t ] * (e_1, ..., e_d, 0, ..., 0)
//
// (OptEmbed, Lyu et al. 2022). All sampled masks are functions of (seed, step,
// lane, sample, field); nothing has a state. The package is pure and its
// functions may run concurrently on different buffers.
package supernet
