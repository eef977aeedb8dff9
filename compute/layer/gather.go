package layer

import "github.com/fathom-train/fathom/compute/kernel"

// Gather overwrites out [n, fields*width]: entry (i, f) is the sum over the
// occurrences o in offsets[i*fields+f] .. offsets[i*fields+f+1] of weights[o]
// times the width values at off in row index[o] of rows [.., stride]. A field
// without occurrences gets zeros. weights nil stands for all ones.
func Gather(out []float32, n, fields, width int, rows []float32, stride, off int, index, offsets []int32, weights []float32) {
	check("output of the gather", len(out), n*fields*width)
	check("offsets of the gather", len(offsets), n*fields+1)
	entries := n * fields
	for entry := 0; entry < entries; entry++ {
		// Nearly all entries of nearly every data set have one occurrence of
		// weight 1: one call moves all of them.
		if run := kernel.Singles(offsets[entry:], weights); run > 0 {
			o := offsets[entry]
			kernel.GatherRows(out[entry*width:(entry+run)*width], width, rows[off:], stride, index[o:int(o)+run])
			if entry += run; entry == entries {
				return
			}
		}
		dst := out[entry*width : (entry+1)*width]
		lo, hi := offsets[entry], offsets[entry+1]
		if lo == hi {
			clear(dst)
			continue
		}
		for o := lo; o < hi; o++ {
			at := int(index[o])*stride + off
			src, weight := rows[at:at+width], float32(1)
			if weights != nil {
				weight = weights[o]
			}
			if o > lo {
				kernel.Axpy(weight, src, dst)
				continue
			}
			for j, v := range src {
				dst[j] = float32(weight * v)
			}
		}
	}
}

// Scatter is the backward pass of Gather: it adds weights[o] times entry (i, f)
// of dout [n, fields*width] to the width values at off in row index[o] of drows
// [.., stride], for every occurrence o of (i, f), samples in ascending order.
// The caller clears drows before the first lane's first Scatter.
func Scatter(drows []float32, stride, off int, dout []float32, n, fields, width int, index, offsets []int32, weights []float32) {
	check("input of the scatter", len(dout), n*fields*width)
	check("offsets of the scatter", len(offsets), n*fields+1)
	entries := n * fields
	for entry := 0; entry < entries; entry++ {
		if run := kernel.Singles(offsets[entry:], weights); run > 0 {
			o := offsets[entry]
			kernel.ScatterRows(drows[off:], stride, dout[entry*width:(entry+run)*width], width, index[o:int(o)+run])
			if entry += run; entry == entries {
				return
			}
		}
		src := dout[entry*width : (entry+1)*width]
		for o := offsets[entry]; o < offsets[entry+1]; o++ {
			at := int(index[o])*stride + off
			weight := float32(1)
			if weights != nil {
				weight = weights[o]
			}
			kernel.Axpy(weight, src, drows[at:at+width])
		}
	}
}
