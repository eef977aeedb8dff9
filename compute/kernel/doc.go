// Package kernel holds the float32 primitives of training: reductions,
// element-wise operations, exp and log. Each has a portable Go version, which
// is the definition, and where it pays a vector version that performs the same
// correctly rounded operations in the same order, so the results have the same
// bits on every path.
//
// FATHOM_CPU=portable|avx2|avx512 chooses the path once at start; by default it
// is the best one the machine has. avx512 is the avx2 code except where wider
// vectors gain: here in e^x, which is all arithmetic. The rest keeps a first-level
// cache busy with vectors of 256 bits, and a step's matrices come from further away.
// Package gemm has 512-bit code for products.
//
// Products and sums are rounded separately except in FMA. A NaN result is always
// the one NaN 0x7fc00000. Slices of one call must have equal lengths, else the
// call panics; a destination may be the very slice of a source, but not overlap
// it otherwise. Nothing allocates. All functions are safe for concurrent use on
// distinct destinations, except SetPath.
package kernel
