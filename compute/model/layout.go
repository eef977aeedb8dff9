package model

import "github.com/fathom-train/fathom/compute/random"

// layout collects the tensors of a model's parts in their fixed order. A part
// is given p[at:], where at is what add returned for it.
type layout []Param

func (l *layout) add(params ...Param) (at int) {
	at = len(*l)
	*l = append(*l, params...)
	return at
}

// substream returns the random stream of one of several networks of a model.
// Network 0 is the one that takes the lane's stream itself.
func substream(stream, network uint64) uint64 {
	return random.Stream(stream, random.Dropout, 0, network, 0)
}
