#include "textflag.h"

// The one NaN of the package.
DATA nanConst<>(SB)/4, $0x7fc00000
GLOBL nanConst<>(SB), RODATA|NOPTR, $4

// Sixteen words of ones and sixteen of zeros: eight from word 16-r on select the
// first r of eight elements.
DATA maskConst<>+0(SB)/8, $-1
DATA maskConst<>+8(SB)/8, $-1
DATA maskConst<>+16(SB)/8, $-1
DATA maskConst<>+24(SB)/8, $-1
DATA maskConst<>+32(SB)/8, $-1
DATA maskConst<>+40(SB)/8, $-1
DATA maskConst<>+48(SB)/8, $-1
DATA maskConst<>+56(SB)/8, $-1
DATA maskConst<>+64(SB)/8, $0
DATA maskConst<>+72(SB)/8, $0
DATA maskConst<>+80(SB)/8, $0
DATA maskConst<>+88(SB)/8, $0
DATA maskConst<>+96(SB)/8, $0
DATA maskConst<>+104(SB)/8, $0
DATA maskConst<>+112(SB)/8, $0
DATA maskConst<>+120(SB)/8, $0
GLOBL maskConst<>(SB), RODATA|NOPTR, $128

// Any NaN in y becomes the one in n; t is lost.
#define CANONICAL(y, n, t) \
	VCMPPS    $3, y, y, t  \
	VBLENDVPS t, n, y, y

// MASKS loads the masks of the CX (below 16) elements left into Y6 and Y7. The
// masked-out elements read as +0, and adding +0 (or +0*+0) to a lane changes
// nothing: a sum that started from +0 is never -0.
#define MASKS \
	NEGQ    CX                        \
	LEAQ    maskConst<>+64(SB), AX    \
	LEAQ    (AX)(CX*4), AX            \
	VMOVUPS (AX), Y6                  \
	VMOVUPS 32(AX), Y7

// TREE adds the lanes in Y0 and Y1 and leaves the sum in X0.
#define TREE \
	VADDPS       Y1, Y0, Y0       \
	VEXTRACTF128 $1, Y0, X1       \
	VADDPS       X1, X0, X0       \
	VMOVHLPS     X0, X0, X1       \
	VADDPS       X1, X0, X0       \
	VMOVSHDUP    X0, X1           \
	VADDSS       X1, X0, X0

// func dotVector(x, y *float32, n int) float32
TEXT ·dotVector(SB), NOSPLIT, $0-28
	MOVQ   x+0(FP), SI
	MOVQ   y+8(FP), DX
	MOVQ   n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	SUBQ   $16, CX
	JL     dotrest

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
	JGE     dot

dotrest:
	ADDQ       $16, CX
	JZ         dotdone
	MASKS
	VMASKMOVPS (SI), Y6, Y2
	VMASKMOVPS (DX), Y6, Y4
	VMASKMOVPS 32(SI), Y7, Y3
	VMASKMOVPS 32(DX), Y7, Y5
	VMULPS     Y4, Y2, Y2
	VMULPS     Y5, Y3, Y3
	VADDPS     Y2, Y0, Y0
	VADDPS     Y3, Y1, Y1

dotdone:
	TREE
	VMOVSS X0, ret+24(FP)
	VZEROUPPER
	RET

// func sumVector(x *float32, n int) float32
TEXT ·sumVector(SB), NOSPLIT, $0-20
	MOVQ   x+0(FP), SI
	MOVQ   n+8(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	SUBQ   $16, CX
	JL     sumrest

sum:
	VADDPS (SI), Y0, Y0
	VADDPS 32(SI), Y1, Y1
	ADDQ   $64, SI
	SUBQ   $16, CX
	JGE    sum

sumrest:
	ADDQ       $16, CX
	JZ         sumdone
	MASKS
	VMASKMOVPS (SI), Y6, Y2
	VMASKMOVPS 32(SI), Y7, Y3
	VADDPS     Y2, Y0, Y0
	VADDPS     Y3, Y1, Y1

sumdone:
	TREE
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET

// func axpyVector(alpha float32, x, y *float32, n int)
TEXT ·axpyVector(SB), NOSPLIT, $0-32
	VBROADCASTSS alpha+0(FP), Y0
	MOVQ x+8(FP), SI
	MOVQ y+16(FP), DI
	MOVQ n+24(FP), CX
	VBROADCASTSS nanConst<>(SB), Y15

axpy:
	VMULPS  (SI), Y0, Y1
	VMOVUPS (DI), Y2
	VADDPS  Y1, Y2, Y2
	CANONICAL(Y2, Y15, Y3)
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
	VBROADCASTSS nanConst<>(SB), Y15
	// The last eight are computed before anything is stored, because they may
	// overlap the eight before them.
	VMOVUPS -32(DI)(CX*4), Y2
	VMULPS  Y0, Y2, Y2
	CANONICAL(Y2, Y15, Y3)
	LEAQ    -32(DI)(CX*4), AX
	JMP     scalecheck

scale:
	VMOVUPS (DI), Y1
	VMULPS  Y0, Y1, Y1
	CANONICAL(Y1, Y15, Y3)
	VMOVUPS Y1, (DI)
	ADDQ    $32, DI
scalecheck:
	CMPQ    DI, AX
	JLT     scale
	VMOVUPS Y2, (AX)
	VZEROUPPER
	RET

// func addVector(dst, x *float32, n int)
TEXT ·addVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS nanConst<>(SB), Y15

add:
	VMOVUPS (DI), Y0
	VADDPS  (SI), Y0, Y0
	CANONICAL(Y0, Y15, Y3)
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
	VBROADCASTSS nanConst<>(SB), Y15

mul:
	VMOVUPS (SI), Y0
	VMULPS  (DX), Y0, Y0
	CANONICAL(Y0, Y15, Y3)
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
	VBROADCASTSS nanConst<>(SB), Y15

relu:
	// Zero the elements that are at most 0; a comparison with NaN is false.
	VMOVUPS (SI), Y1
	VCMPPS  $2, Y0, Y1, Y2
	VANDNPS Y1, Y2, Y1
	CANONICAL(Y1, Y15, Y2)
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
	VBROADCASTSS nanConst<>(SB), Y15

relugrad:
	VMOVUPS (DX), Y1
	VCMPPS  $1, Y1, Y0, Y2
	VANDPS  (SI), Y2, Y3
	CANONICAL(Y3, Y15, Y4)
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
	VBROADCASTSS nanConst<>(SB), Y6

moments:
	VMOVUPS (SI), Y0         // w
	VMULPS  Y0, Y15, Y1
	VMOVUPS (R10), Y2
	VADDPS  Y1, Y2, Y2       // g'
	VMULPS  (R8), Y7, Y3
	VMULPS  Y2, Y8, Y4
	VADDPS  Y4, Y3, Y3       // m
	CANONICAL(Y3, Y6, Y4)
	VMOVUPS Y3, (R8)
	VMULPS  Y2, Y2, Y4
	VMULPS  Y4, Y10, Y4
	VMULPS  (R9), Y9, Y5
	VADDPS  Y4, Y5, Y5       // v
	CANONICAL(Y5, Y6, Y4)
	VMOVUPS Y5, (R9)
	VMULPS  Y12, Y5, Y5
	VSQRTPS Y5, Y5
	VADDPS  Y13, Y5, Y5
	VMULPS  Y11, Y3, Y3
	VDIVPS  Y5, Y3, Y3
	VMULPS  Y0, Y14, Y1
	VADDPS  Y1, Y3, Y3       // u
	CANONICAL(Y3, Y6, Y4)
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
