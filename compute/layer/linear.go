package layer

import (
	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
)

// Linear is y = x W^T + b with W [Out, In] and b [Out], laid out as in PyTorch.
type Linear struct {
	In, Out int
	// BF16 rounds the operands of the products (not the sums, and not the bias)
	// to bfloat16; see gemm.GemmBF16. A layer with one output ignores it.
	BF16 bool

	x      []float32 // [n, In], the caller's
	goesOn bool
}

// Continue says that the samples of the next Backward follow those of the last
// one: it goes on with the sums in dw and db. It is not for layers with BF16.
func (l *Linear) Continue() { l.goesOn = true }

// Forward computes y [n, Out] from x [n, In].
func (l *Linear) Forward(y, x, w, b []float32, n int) { l.forward(y, x, w, b, n, false) }

// forward is Forward, followed by ReLU if asked for.
func (l *Linear) forward(y, x, w, b []float32, n int, relu bool) {
	check("output of the linear layer", len(y), n*l.Out)
	check("input of the linear layer", len(x), n*l.In)
	check("weight of the linear layer", len(w), l.Out*l.In)
	check("bias of the linear layer", len(b), l.Out)
	l.x = x
	if n == 0 {
		return
	}
	l.multiply(false, true, n, l.Out, l.In, x, l.In, w, l.In, y, l.Out, gemm.Epilogue{Bias: b, ReLU: relu})
}

// Backward overwrites dw [Out, In] = dy^T x, db [Out] = sum of dy over samples
// in ascending order, and, unless dx is nil, dx [n, In] = dy w; dy is [n, Out].
func (l *Linear) Backward(dx, dw, db, dy, w []float32) {
	if !l.goesOn {
		clear(db)
	}
	l.backward(dx, dw, dy, w)
	kernel.SumRows(db, dy)
}

// backward is Backward without db.
func (l *Linear) backward(dx, dw, dy, w []float32) {
	n := len(l.x) / l.In
	check("gradient of the linear layer", len(dy), n*l.Out)
	check("weight gradient of the linear layer", len(dw), l.Out*l.In)
	if n == 0 {
		clear(dw)
		return
	}
	if l.goesOn {
		gemm.Gemm(true, false, l.Out, l.In, n, dy, l.Out, l.x, l.In, dw, l.In, true)
	} else {
		l.multiply(true, false, l.Out, l.In, n, dy, l.Out, l.x, l.In, dw, l.In, gemm.Epilogue{})
	}
	l.goesOn = false
	if dx != nil {
		check("input gradient of the linear layer", len(dx), n*l.In)
		l.multiply(false, false, n, l.In, l.Out, dy, l.Out, w, l.In, dx, l.In, gemm.Epilogue{})
	}
}
