#include "textflag.h"

// func dotLanes(s *[lanes]float32, x, y *float32, n int)
TEXT ·dotLanes(SB), NOSPLIT, $0-32
	MOVQ s+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ y+16(FP), DX
	MOVQ n+24(FP), CX
	VMOVUPS (DI), Y0
	VMOVUPS 32(DI), Y1
dot:
	VMOVUPS (SI), Y2
	VMOVUPS 32(SI), Y3
	VMULPS  (DX), Y2, Y2
	VMULPS  32(DX), Y3, Y3
	VADDPS  Y2, Y0, Y0
	VADDPS  Y3, Y1, Y1
	ADDQ    $64, SI
	ADDQ    $64, DX
	SUBQ    $16, CX
	JNZ     dot
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	VZEROUPPER
	RET

// func sumLanes(s *[lanes]float32, x *float32, n int)
TEXT ·sumLanes(SB), NOSPLIT, $0-24
	MOVQ s+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VMOVUPS (DI), Y0
	VMOVUPS 32(DI), Y1
sum:
	VADDPS (SI), Y0, Y0
	VADDPS 32(SI), Y1, Y1
	ADDQ   $64, SI
	SUBQ   $16, CX
	JNZ    sum
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	VZEROUPPER
	RET

// func axpyVector(alpha float32, x, y *float32, n int)
TEXT ·axpyVector(SB), NOSPLIT, $0-32
	VBROADCASTSS alpha+0(FP), Y0
	MOVQ x+8(FP), SI
	MOVQ y+16(FP), DI
	MOVQ n+24(FP), CX
axpy:
	VMULPS  (SI), Y0, Y1
	VMOVUPS (DI), Y2
	VADDPS  Y1, Y2, Y2
	VMOVUPS Y2, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     axpy
	VZEROUPPER
	RET

// func scaleVector(alpha float32, x *float32, n int)
TEXT ·scaleVector(SB), NOSPLIT, $0-24
	VBROADCASTSS alpha+0(FP), Y0
	MOVQ x+8(FP), DI
	MOVQ n+16(FP), CX
scale:
	VMOVUPS (DI), Y1
	VMULPS  Y0, Y1, Y1
	VMOVUPS Y1, (DI)
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     scale
	VZEROUPPER
	RET

// func addVector(dst, x *float32, n int)
TEXT ·addVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
add:
	VMOVUPS (DI), Y0
	VADDPS  (SI), Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     add
	VZEROUPPER
	RET

// func mulVector(dst, x, y *float32, n int)
TEXT ·mulVector(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ y+16(FP), DX
	MOVQ n+24(FP), CX
mul:
	VMOVUPS (SI), Y0
	VMULPS  (DX), Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DX
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     mul
	VZEROUPPER
	RET

// func reluVector(dst, x *float32, n int)
TEXT ·reluVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VXORPS Y0, Y0, Y0
relu:
	VMOVUPS (SI), Y1
	// Where 0 < x keep x, else 0; a comparison with NaN is false.
	VCMPPS  $1, Y1, Y0, Y2
	VANDPS  Y2, Y1, Y1
	VMOVUPS Y1, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     relu
	VZEROUPPER
	RET

// func reluGradVector(dx, dy, y *float32, n int)
TEXT ·reluGradVector(SB), NOSPLIT, $0-32
	MOVQ dx+0(FP), DI
	MOVQ dy+8(FP), SI
	MOVQ y+16(FP), DX
	MOVQ n+24(FP), CX
	VXORPS Y0, Y0, Y0
relugrad:
	VMOVUPS (DX), Y1
	VCMPPS  $1, Y1, Y0, Y2
	VANDPS  (SI), Y2, Y3
	VMOVUPS Y3, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DX
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     relugrad
	VZEROUPPER
	RET

// func momentsVector(u, w, m, v, grad *float32, n int, c *Moments)
TEXT ·momentsVector(SB), NOSPLIT, $0-56
	MOVQ u+0(FP), DI
	MOVQ w+8(FP), SI
	MOVQ m+16(FP), R8
	MOVQ v+24(FP), R9
	MOVQ grad+32(FP), R10
	MOVQ n+40(FP), CX
	MOVQ c+48(FP), AX
	VBROADCASTSS 0(AX), Y7   // beta1
	VBROADCASTSS 4(AX), Y8   // rest1
	VBROADCASTSS 8(AX), Y9   // beta2
	VBROADCASTSS 12(AX), Y10 // rest2
	VBROADCASTSS 16(AX), Y11 // correct1
	VBROADCASTSS 20(AX), Y12 // correct2
	VBROADCASTSS 24(AX), Y13 // epsilon
	VBROADCASTSS 28(AX), Y14 // decay
	VBROADCASTSS 32(AX), Y15 // coupled
moments:
	VMOVUPS (SI), Y0         // w
	VMULPS  Y0, Y15, Y1
	VMOVUPS (R10), Y2
	VADDPS  Y1, Y2, Y2       // g'
	VMULPS  (R8), Y7, Y3
	VMULPS  Y2, Y8, Y4
	VADDPS  Y4, Y3, Y3       // m
	VMOVUPS Y3, (R8)
	VMULPS  Y2, Y2, Y4
	VMULPS  Y4, Y10, Y4
	VMULPS  (R9), Y9, Y5
	VADDPS  Y4, Y5, Y5       // v
	VMOVUPS Y5, (R9)
	VMULPS  Y12, Y5, Y5
	VSQRTPS Y5, Y5
	VADDPS  Y13, Y5, Y5
	VMULPS  Y11, Y3, Y3
	VDIVPS  Y5, Y3, Y3
	VMULPS  Y0, Y14, Y1
	VADDPS  Y1, Y3, Y3       // u
	VMOVUPS Y3, (DI)
	ADDQ    $32, DI
	ADDQ    $32, SI
	ADDQ    $32, R8
	ADDQ    $32, R9
	ADDQ    $32, R10
	SUBQ    $8, CX
	JNZ     moments
	VZEROUPPER
	RET
