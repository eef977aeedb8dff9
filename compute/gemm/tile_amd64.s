#include "textflag.h"

// One column of A times one row of B: Y0 and Y1 hold the row, Y2 and Y3 two
// elements of the column at a time, Y4 to Y15 the tile.
#define STEP(a, b) \
	VMOVUPS      (b)(DX), Y0       \
	VMOVUPS      (b+32)(DX), Y1    \
	VBROADCASTSS (a)(SI), Y2       \
	VBROADCASTSS (a+4)(SI), Y3     \
	VFMADD231PS  Y0, Y2, Y4        \
	VFMADD231PS  Y1, Y2, Y5        \
	VFMADD231PS  Y0, Y3, Y6        \
	VFMADD231PS  Y1, Y3, Y7        \
	VBROADCASTSS (a+8)(SI), Y2     \
	VBROADCASTSS (a+12)(SI), Y3    \
	VFMADD231PS  Y0, Y2, Y8        \
	VFMADD231PS  Y1, Y2, Y9        \
	VFMADD231PS  Y0, Y3, Y10       \
	VFMADD231PS  Y1, Y3, Y11       \
	VBROADCASTSS (a+16)(SI), Y2    \
	VBROADCASTSS (a+20)(SI), Y3    \
	VFMADD231PS  Y0, Y2, Y12       \
	VFMADD231PS  Y1, Y2, Y13       \
	VFMADD231PS  Y0, Y3, Y14       \
	VFMADD231PS  Y1, Y3, Y15

// func tileVector(k int, a, b, c *float32, ldc int, load bool)
TEXT ·tileVector(SB), NOSPLIT, $0-41
	MOVQ    k+0(FP), CX
	MOVQ    a+8(FP), SI
	MOVQ    b+16(FP), DX
	MOVQ    c+24(FP), DI
	MOVQ    ldc+32(FP), R8
	MOVBLZX load+40(FP), AX
	SHLQ    $2, R8
	LEAQ    (DI)(R8*1), R9
	LEAQ    (DI)(R8*2), R10
	LEAQ    (R9)(R8*2), R11
	LEAQ    (R10)(R8*2), R12
	LEAQ    (R11)(R8*2), R13
	TESTL   AX, AX
	JZ      zero
	VMOVUPS (DI), Y4
	VMOVUPS 32(DI), Y5
	VMOVUPS (R9), Y6
	VMOVUPS 32(R9), Y7
	VMOVUPS (R10), Y8
	VMOVUPS 32(R10), Y9
	VMOVUPS (R11), Y10
	VMOVUPS 32(R11), Y11
	VMOVUPS (R12), Y12
	VMOVUPS 32(R12), Y13
	VMOVUPS (R13), Y14
	VMOVUPS 32(R13), Y15
	JMP     start
zero:
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
	VXORPS Y8, Y8, Y8
	VXORPS Y9, Y9, Y9
	VXORPS Y10, Y10, Y10
	VXORPS Y11, Y11, Y11
	VXORPS Y12, Y12, Y12
	VXORPS Y13, Y13, Y13
	VXORPS Y14, Y14, Y14
	VXORPS Y15, Y15, Y15
start:
	SUBQ $4, CX
	JL   rest
four:
	STEP(0, 0)
	STEP(24, 64)
	STEP(48, 128)
	STEP(72, 192)
	ADDQ $96, SI
	ADDQ $256, DX
	SUBQ $4, CX
	JGE  four
rest:
	ADDQ $4, CX
	JZ   done
one:
	STEP(0, 0)
	ADDQ $24, SI
	ADDQ $64, DX
	DECQ CX
	JNZ  one
done:
	VMOVUPS Y4, (DI)
	VMOVUPS Y5, 32(DI)
	VMOVUPS Y6, (R9)
	VMOVUPS Y7, 32(R9)
	VMOVUPS Y8, (R10)
	VMOVUPS Y9, 32(R10)
	VMOVUPS Y10, (R11)
	VMOVUPS Y11, 32(R11)
	VMOVUPS Y12, (R12)
	VMOVUPS Y13, 32(R12)
	VMOVUPS Y14, (R13)
	VMOVUPS Y15, 32(R13)
	VZEROUPPER
	RET
