package main

import (
	"context"
	"fmt"

	"github.com/fathom-train/fathom/compute/gemm"
)

// product is one matrix product C[m,n] = op(A) op(B).
type product struct {
	name           string
	transA, transB bool
	m, n, k        int
	bf16           bool
}

// run computes the product of v.x and v.y.
func (p product) run(v *vectors) {
	lda, ldb := p.k, p.n
	if p.transA {
		lda = p.m
	}
	if p.transB {
		ldb = p.k
	}
	if p.bf16 {
		gemm.GemmBF16(p.transA, p.transB, p.m, p.n, p.k, v.x, lda, v.y, ldb, v.z, p.n)
	} else {
		gemm.Gemm(p.transA, p.transB, p.m, p.n, p.k, v.x, lda, v.y, ldb, v.z, p.n, false)
	}
}

// ctrProducts are the products of the layers of click models: Y = X W, its
// gradients dX = dY W^T and dW = X^T dY, for batches and widths as they are
// usual. The same shapes and transposes are what other libraries are compared
// on (docs/benchmarks.md). The last layer is never in bf16.
func ctrProducts(quick bool) []product {
	if quick {
		return []product{
			{"square", false, false, 64, 64, 64, false}, {"fwd Y=XW", false, false, 128, 40, 32, false},
			{"dX=dY.Wt", false, true, 128, 32, 40, false}, {"dW=Xt.dY", true, false, 32, 40, 128, false},
			{"fwd head", false, false, 128, 1, 40, false}, {"bf16 fwd Y=XW", false, false, 128, 40, 32, true},
		}
	}
	all := []product{{"square", false, false, 1024, 1024, 1024, false}}
	layer := func(format string, batch, in, out int) {
		bf16 := format != ""
		all = append(all,
			product{format + "fwd Y=XW", false, false, batch, out, in, bf16},
			product{format + "dX=dY.Wt", false, true, batch, in, out, bf16},
			product{format + "dW=Xt.dY", true, false, in, out, batch, bf16})
	}
	for _, in := range []int{160, 320, 640} {
		layer("", 4096, in, 400)
	}
	for _, batch := range []int{1024, 2048, 4096, 8192} {
		layer("", batch, 400, 400)
	}
	all = append(all, product{"fwd head", false, false, 4096, 1, 400, false})
	layer("bf16 ", 4096, 640, 400)
	layer("bf16 ", 4096, 400, 400)
	return all
}

// benchGemm measures matrix products, packing included.
func benchGemm(ctx context.Context, b *bencher) error {
	for _, threads := range b.flags.threads {
		for i, p := range ctrProducts(b.flags.quick) {
			v := newVectors(max(p.m*p.k, p.k*p.n, p.m*p.n), uint64(i)*16)
			c := benchCase{name: fmt.Sprintf("%s m=%d n=%d k=%d", p.name, p.m, p.n, p.k), threads: threads,
				unit: "GFLOP/s", work: 2 * float64(p.m) * float64(p.n) * float64(p.k) / 1e9}
			err := b.measure(ctx, c, nil, func(rounds int) error {
				for range rounds {
					p.run(&v)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
