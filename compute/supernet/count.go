package supernet

import "fmt"

// BytesPerWeight is the size of an exported weight.
const BytesPerWeight = 4

// Parameters is the exact number of embedding weights when every field has
// rows[f] rows of widths[f] dimensions. First-order weights and the network are
// not counted, as in OptEmbed.
func Parameters(rows []int64, widths []int) int64 {
	if len(rows) != len(widths) {
		panic(fmt.Sprintf("compute/supernet: BUG: rows of %d fields and widths of %d", len(rows), len(widths)))
	}
	var sum int64
	for f, n := range rows {
		sum += n * int64(widths[f])
	}
	return sum
}

// Bytes is the memory of those weights.
func Bytes(rows []int64, widths []int) int64 { return BytesPerWeight * Parameters(rows, widths) }
