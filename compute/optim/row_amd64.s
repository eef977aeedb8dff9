#include "textflag.h"

// The one NaN of package kernel.
DATA rowNaN<>(SB)/4, $0x7fc00000
GLOBL rowNaN<>(SB), RODATA|NOPTR, $4

DATA rowOne<>(SB)/4, $0x3f800000
GLOBL rowOne<>(SB), RODATA|NOPTR, $4

// Eight words of ones and eight of zeros: those from word 8-r on select the
// first r of eight elements.
DATA rowMask<>+0(SB)/8, $-1
DATA rowMask<>+8(SB)/8, $-1
DATA rowMask<>+16(SB)/8, $-1
DATA rowMask<>+24(SB)/8, $-1
DATA rowMask<>+32(SB)/8, $0
DATA rowMask<>+40(SB)/8, $0
DATA rowMask<>+48(SB)/8, $0
DATA rowMask<>+56(SB)/8, $0
GLOBL rowMask<>(SB), RODATA|NOPTR, $64

// Any NaN in y becomes the one in n; t is lost.
#define CANONICAL(y, n, t) \
	VCMPPS    $3, y, y, t  \
	VBLENDVPS t, n, y, y

// MOMENTS takes w in Y0, the gradient in Y2, m in Y3 and v in Y5 and leaves the
// new m in Y3, the new v in Y5 and the direction in Y1: the operations of
// kernel.Moments.Direction in their order. Y4 is lost.
#define MOMENTS \
	VMULPS  Y0, Y15, Y1 \
	VADDPS  Y1, Y2, Y2  \
	VMULPS  Y3, Y7, Y3  \
	VMULPS  Y2, Y8, Y4  \
	VADDPS  Y4, Y3, Y3  \
	CANONICAL(Y3, Y6, Y4) \
	VMULPS  Y2, Y2, Y4  \
	VMULPS  Y4, Y10, Y4 \
	VMULPS  Y5, Y9, Y5  \
	VADDPS  Y4, Y5, Y5  \
	CANONICAL(Y5, Y6, Y4) \
	VMULPS  Y12, Y5, Y1 \
	VSQRTPS Y1, Y1      \
	VADDPS  Y13, Y1, Y1 \
	VMULPS  Y11, Y3, Y4 \
	VDIVPS  Y1, Y4, Y1  \
	VMULPS  Y0, Y14, Y4 \
	VADDPS  Y4, Y1, Y1  \
	CANONICAL(Y1, Y6, Y4)

// func updateRow(w, m, v, grad *float32, n int, factors *stepFactors)
//
// The frame holds the direction in its first 256 bytes and the old weights
// behind it, both padded with zeros to a multiple of sixteen: adding +0 to a
// lane of a sum of squares changes nothing.
TEXT ·updateRow(SB), 0, $512-48
	MOVQ w+0(FP), SI
	MOVQ m+8(FP), R8
	MOVQ v+16(FP), R9
	MOVQ grad+24(FP), R10
	MOVQ n+32(FP), CX
	MOVQ factors+40(FP), AX
	VBROADCASTSS 0(AX), Y7        // beta1
	VBROADCASTSS 4(AX), Y8        // rest1
	VBROADCASTSS 8(AX), Y9        // beta2
	VBROADCASTSS 12(AX), Y10      // rest2
	VBROADCASTSS 16(AX), Y11      // correct1
	VBROADCASTSS 20(AX), Y12      // correct2
	VBROADCASTSS 24(AX), Y13      // epsilon
	VBROADCASTSS 28(AX), Y14      // decay
	VBROADCASTSS 32(AX), Y15      // coupled
	VBROADCASTSS rowNaN<>(SB), Y6
	XORQ DX, DX                   // bytes done
	MOVQ CX, BX
	SUBQ $8, BX
	JL   rest

block:
	VMOVUPS (SI)(DX*1), Y0
	VMOVUPS (R10)(DX*1), Y2
	VMOVUPS (R8)(DX*1), Y3
	VMOVUPS (R9)(DX*1), Y5
	MOMENTS
	VMOVUPS Y3, (R8)(DX*1)
	VMOVUPS Y5, (R9)(DX*1)
	VMOVUPS Y1, (SP)(DX*1)
	VMOVUPS Y0, 256(SP)(DX*1)
	ADDQ    $32, DX
	SUBQ    $8, BX
	JGE     block

rest:
	ADDQ $8, BX                   // elements left, below 8
	JZ   pad
	LEAQ rowMask<>+32(SB), DI
	MOVQ BX, R11
	NEGQ R11
	VMOVUPS    (DI)(R11*4), Y4
	VMASKMOVPS (SI)(DX*1), Y4, Y0
	VMASKMOVPS (R10)(DX*1), Y4, Y2
	VMASKMOVPS (R8)(DX*1), Y4, Y3
	VMASKMOVPS (R9)(DX*1), Y4, Y5
	MOMENTS
	VMOVUPS    (DI)(R11*4), Y4
	VMASKMOVPS Y3, Y4, (R8)(DX*1)
	VMASKMOVPS Y5, Y4, (R9)(DX*1)
	VMOVUPS    Y1, (SP)(DX*1)
	VMOVUPS    Y0, 256(SP)(DX*1)
	ADDQ       $32, DX

pad:
	VMOVSS 36(AX), X13            // rate
	CMPL   52(AX), $0
	JEQ    apply                  // adam
	TESTQ  $32, DX
	JZ     sums
	VXORPS  Y0, Y0, Y0
	VMOVUPS Y0, (SP)(DX*1)
	VMOVUPS Y0, 256(SP)(DX*1)

sums:
	// Lanes of package kernel: Y0 and Y1 of the weights, Y2 and Y3 of the direction.
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	XORQ   DI, DI

sum:
	VMOVUPS 256(SP)(DI*1), Y4
	VMOVUPS 288(SP)(DI*1), Y5
	VMULPS  Y4, Y4, Y4
	VMULPS  Y5, Y5, Y5
	VADDPS  Y4, Y0, Y0
	VADDPS  Y5, Y1, Y1
	VMOVUPS (SP)(DI*1), Y4
	VMOVUPS 32(SP)(DI*1), Y5
	VMULPS  Y4, Y4, Y4
	VMULPS  Y5, Y5, Y5
	VADDPS  Y4, Y2, Y2
	VADDPS  Y5, Y3, Y3
	ADDQ    $64, DI
	CMPQ    DI, DX
	JLT     sum

	VADDPS       Y1, Y0, Y0
	VADDPS       Y3, Y2, Y2
	VEXTRACTF128 $1, Y0, X1
	VEXTRACTF128 $1, Y2, X3
	VADDPS       X1, X0, X0
	VADDPS       X3, X2, X2
	VMOVHLPS     X0, X0, X1
	VMOVHLPS     X2, X2, X3
	VADDPS       X1, X0, X0
	VADDPS       X3, X2, X2
	VMOVSHDUP    X0, X1
	VMOVSHDUP    X2, X3
	VADDSS       X1, X0, X0
	VADDSS       X3, X2, X2
	VSQRTSS      X0, X0, X0       // norm of the weights
	VSQRTSS      X2, X2, X2       // norm of the direction

	// The trust ratio. Of two operands of which one is NaN, VMAXSS and VMINSS
	// give the first one named here, as max and min of Go give the NaN.
	VMOVSS    40(AX), X4
	VMAXSS    X0, X4, X0          // floor
	VDIVSS    X2, X0, X5
	VMOVSS    44(AX), X4
	VMAXSS    X5, X4, X5          // least ratio
	VMOVSS    48(AX), X4
	VMINSS    X5, X4, X5          // greatest ratio
	VXORPS    X1, X1, X1
	VCMPSS    $1, X0, X1, X3      // 0 < norm
	VCMPSS    $1, X2, X1, X4
	VANDPS    X4, X3, X3
	VMOVSS    rowOne<>(SB), X4
	VBLENDVPS X3, X5, X4, X5
	VMULSS    X5, X13, X13

apply:
	VBROADCASTSS X13, Y13
	XORQ DX, DX
	SUBQ $8, CX
	JL   applyrest

applyblock:
	VMULPS  (SP)(DX*1), Y13, Y1
	VMOVUPS 256(SP)(DX*1), Y0
	VSUBPS  Y1, Y0, Y0
	CANONICAL(Y0, Y6, Y4)
	VMOVUPS Y0, (SI)(DX*1)
	ADDQ    $32, DX
	SUBQ    $8, CX
	JGE     applyblock

applyrest:
	ADDQ $8, CX
	JZ   done
	LEAQ rowMask<>+32(SB), DI
	NEGQ CX
	VMULPS  (SP)(DX*1), Y13, Y1
	VMOVUPS 256(SP)(DX*1), Y0
	VSUBPS  Y1, Y0, Y0
	CANONICAL(Y0, Y6, Y4)
	VMOVUPS (DI)(CX*4), Y4
	VMASKMOVPS Y0, Y4, (SI)(DX*1)

done:
	VZEROUPPER
	RET
