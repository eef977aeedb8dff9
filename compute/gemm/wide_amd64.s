#include "textflag.h"

// The one NaN of package kernel.
DATA wideNaN<>(SB)/4, $0x7fc00000
GLOBL wideNaN<>(SB), RODATA|NOPTR, $4

// One element of a row of A times those of 32 or 16 columns of B, in Z28 and Z29.
#define ROW32(a, z, x, y) \
	VBROADCASTSS a, z      \
	VFMADD231PS  Z28, z, x \
	VFMADD231PS  Z29, z, y

#define ROW16(a, x) VFMADD231PS.BCST a, Z28, x

// A row of C, whose columns are in K1 and K2. AX counts the rows that exist.
#define LOAD16(x) \
	VMOVUPS.Z (DI), K1, x \
	ADDQ      R13, DI     \
	DECQ      AX          \
	JZ        start

#define LOAD32(x, y) \
	VMOVUPS.Z 64(DI), K2, y \
	LOAD16(x)

#define STORE16(x) \
	VMOVUPS x, K1, (DI) \
	ADDQ    R13, DI     \
	DECQ    AX          \
	JZ      stored

#define STORE32(x, y) \
	VMOVUPS y, K2, 64(DI) \
	STORE16(x)

// Any NaN in z becomes the one in Z31.
#define CANONICAL(z) \
	VCMPPS  $3, z, z, K5 \
	VMOVAPS Z31, K5, z

// The bits of K3 stay set where neither x nor y is a NaN.
#define ORDERED(x, y) VCMPPS $7, x, y, K3, K3

// What all strips have in common: R8, R9 and R10 are one, three and five times
// the distance of the rows of A, R11 that of its columns, R12 that of the rows of
// B, R13 that of the rows of C.
#define ARGUMENTS \
	MOVQ  row+32(FP), R8   \
	MOVQ  col+40(FP), R11  \
	MOVQ  ldb+56(FP), R12  \
	MOVQ  ldc+80(FP), R13  \
	MOVL  mask+88(FP), AX  \
	SHLQ  $2, R8           \
	SHLQ  $2, R11          \
	SHLQ  $2, R12          \
	SHLQ  $2, R13          \
	LEAQ  (R8)(R8*2), R9   \
	LEAQ  (R8)(R8*4), R10  \
	KMOVW AX, K1           \
	SHRL  $16, AX          \
	KMOVW AX, K2

// What a strip begins with: SI and BX are rows 0 and 7 of A.
#define STRIP \
	MOVQ k+16(FP), CX      \
	MOVQ a+24(FP), SI      \
	MOVQ b+48(FP), DX      \
	MOVQ c+72(FP), DI      \
	MOVQ rows+8(FP), AX    \
	LEAQ (SI)(R8*1), BX    \
	LEAQ (BX)(R9*2), BX    \
	CMPB load+92(FP), $0

// The way to the next strip, which is bytes further in C.
#define NEXT(bytes) \
	MOVQ step+64(FP), AX  \
	SHLQ $2, AX            \
	ADDQ AX, b+48(FP)      \
	ADDQ $bytes, c+72(FP)  \
	DECQ strips+0(FP)

// func tileWide32(strips, rows, k int, a *float32, row, col int, b *float32, ldb, step int, c *float32, ldc int, mask uint32, load bool)
TEXT ·tileWide32(SB), NOSPLIT, $0-93
	ARGUMENTS
strip:
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	VPXORD Z6, Z6, Z6
	VPXORD Z7, Z7, Z7
	VPXORD Z8, Z8, Z8
	VPXORD Z9, Z9, Z9
	VPXORD Z10, Z10, Z10
	VPXORD Z11, Z11, Z11
	VPXORD Z12, Z12, Z12
	VPXORD Z13, Z13, Z13
	VPXORD Z14, Z14, Z14
	VPXORD Z15, Z15, Z15
	VPXORD Z16, Z16, Z16
	VPXORD Z17, Z17, Z17
	VPXORD Z18, Z18, Z18
	VPXORD Z19, Z19, Z19
	VPXORD Z20, Z20, Z20
	VPXORD Z21, Z21, Z21
	VPXORD Z22, Z22, Z22
	VPXORD Z23, Z23, Z23
	VPXORD Z24, Z24, Z24
	VPXORD Z25, Z25, Z25
	VPXORD Z26, Z26, Z26
	VPXORD Z27, Z27, Z27
	STRIP
	JEQ    start
	LOAD32(Z0, Z1)
	LOAD32(Z2, Z3)
	LOAD32(Z4, Z5)
	LOAD32(Z6, Z7)
	LOAD32(Z8, Z9)
	LOAD32(Z10, Z11)
	LOAD32(Z12, Z13)
	LOAD32(Z14, Z15)
	LOAD32(Z16, Z17)
	LOAD32(Z18, Z19)
	LOAD32(Z20, Z21)
	LOAD32(Z22, Z23)
	LOAD32(Z24, Z25)
	LOAD32(Z26, Z27)
start:
	VMOVUPS    (DX), Z28
	VMOVUPS    64(DX), Z29
	PREFETCHT0 (DX)(R12*8)
	PREFETCHT0 64(DX)(R12*8)
	ROW32((SI), Z30, Z0, Z1)
	ROW32((SI)(R8*1), Z31, Z2, Z3)
	ROW32((SI)(R8*2), Z30, Z4, Z5)
	ROW32((SI)(R9*1), Z31, Z6, Z7)
	ROW32((SI)(R8*4), Z30, Z8, Z9)
	ROW32((SI)(R10*1), Z31, Z10, Z11)
	ROW32((SI)(R9*2), Z30, Z12, Z13)
	ROW32((BX), Z31, Z14, Z15)
	ROW32((BX)(R8*1), Z30, Z16, Z17)
	ROW32((BX)(R8*2), Z31, Z18, Z19)
	ROW32((BX)(R9*1), Z30, Z20, Z21)
	ROW32((BX)(R8*4), Z31, Z22, Z23)
	ROW32((BX)(R10*1), Z30, Z24, Z25)
	ROW32((BX)(R9*2), Z31, Z26, Z27)
	ADDQ       R11, SI
	ADDQ       R11, BX
	ADDQ       R12, DX
	DECQ       CX
	JNZ        start

	KXNORW    K3, K3, K3
	ORDERED(Z0, Z1)
	ORDERED(Z2, Z3)
	ORDERED(Z4, Z5)
	ORDERED(Z6, Z7)
	ORDERED(Z8, Z9)
	ORDERED(Z10, Z11)
	ORDERED(Z12, Z13)
	ORDERED(Z14, Z15)
	ORDERED(Z16, Z17)
	ORDERED(Z18, Z19)
	ORDERED(Z20, Z21)
	ORDERED(Z22, Z23)
	ORDERED(Z24, Z25)
	ORDERED(Z26, Z27)
	KORTESTW  K3, K3
	JCS       store
	VBROADCASTSS wideNaN<>(SB), Z31
	CANONICAL(Z0)
	CANONICAL(Z1)
	CANONICAL(Z2)
	CANONICAL(Z3)
	CANONICAL(Z4)
	CANONICAL(Z5)
	CANONICAL(Z6)
	CANONICAL(Z7)
	CANONICAL(Z8)
	CANONICAL(Z9)
	CANONICAL(Z10)
	CANONICAL(Z11)
	CANONICAL(Z12)
	CANONICAL(Z13)
	CANONICAL(Z14)
	CANONICAL(Z15)
	CANONICAL(Z16)
	CANONICAL(Z17)
	CANONICAL(Z18)
	CANONICAL(Z19)
	CANONICAL(Z20)
	CANONICAL(Z21)
	CANONICAL(Z22)
	CANONICAL(Z23)
	CANONICAL(Z24)
	CANONICAL(Z25)
	CANONICAL(Z26)
	CANONICAL(Z27)
store:
	MOVQ rows+8(FP), AX
	MOVQ c+72(FP), DI
	STORE32(Z0, Z1)
	STORE32(Z2, Z3)
	STORE32(Z4, Z5)
	STORE32(Z6, Z7)
	STORE32(Z8, Z9)
	STORE32(Z10, Z11)
	STORE32(Z12, Z13)
	STORE32(Z14, Z15)
	STORE32(Z16, Z17)
	STORE32(Z18, Z19)
	STORE32(Z20, Z21)
	STORE32(Z22, Z23)
	STORE32(Z24, Z25)
	STORE32(Z26, Z27)
stored:
	NEXT(128)
	JNZ  strip
	VZEROUPPER
	RET

// func tileWide16(strips, rows, k int, a *float32, row, col int, b *float32, ldb, step int, c *float32, ldc int, mask uint32, load bool)
TEXT ·tileWide16(SB), NOSPLIT, $0-93
	ARGUMENTS
strip:
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	VPXORD Z6, Z6, Z6
	VPXORD Z7, Z7, Z7
	VPXORD Z8, Z8, Z8
	VPXORD Z9, Z9, Z9
	VPXORD Z10, Z10, Z10
	VPXORD Z11, Z11, Z11
	VPXORD Z12, Z12, Z12
	VPXORD Z13, Z13, Z13
	STRIP
	JEQ    start
	LOAD16(Z0)
	LOAD16(Z1)
	LOAD16(Z2)
	LOAD16(Z3)
	LOAD16(Z4)
	LOAD16(Z5)
	LOAD16(Z6)
	LOAD16(Z7)
	LOAD16(Z8)
	LOAD16(Z9)
	LOAD16(Z10)
	LOAD16(Z11)
	LOAD16(Z12)
	LOAD16(Z13)
start:
	VMOVUPS    (DX), Z28
	PREFETCHT0 (DX)(R12*8)
	ROW16((SI), Z0)
	ROW16((SI)(R8*1), Z1)
	ROW16((SI)(R8*2), Z2)
	ROW16((SI)(R9*1), Z3)
	ROW16((SI)(R8*4), Z4)
	ROW16((SI)(R10*1), Z5)
	ROW16((SI)(R9*2), Z6)
	ROW16((BX), Z7)
	ROW16((BX)(R8*1), Z8)
	ROW16((BX)(R8*2), Z9)
	ROW16((BX)(R9*1), Z10)
	ROW16((BX)(R8*4), Z11)
	ROW16((BX)(R10*1), Z12)
	ROW16((BX)(R9*2), Z13)
	ADDQ       R11, SI
	ADDQ       R11, BX
	ADDQ       R12, DX
	DECQ       CX
	JNZ        start

	KXNORW K3, K3, K3
	ORDERED(Z0, Z1)
	ORDERED(Z2, Z3)
	ORDERED(Z4, Z5)
	ORDERED(Z6, Z7)
	ORDERED(Z8, Z9)
	ORDERED(Z10, Z11)
	ORDERED(Z12, Z13)
	KORTESTW K3, K3
	JCS    store
	VBROADCASTSS wideNaN<>(SB), Z31
	CANONICAL(Z0)
	CANONICAL(Z1)
	CANONICAL(Z2)
	CANONICAL(Z3)
	CANONICAL(Z4)
	CANONICAL(Z5)
	CANONICAL(Z6)
	CANONICAL(Z7)
	CANONICAL(Z8)
	CANONICAL(Z9)
	CANONICAL(Z10)
	CANONICAL(Z11)
	CANONICAL(Z12)
	CANONICAL(Z13)
store:
	MOVQ rows+8(FP), AX
	MOVQ c+72(FP), DI
	STORE16(Z0)
	STORE16(Z1)
	STORE16(Z2)
	STORE16(Z3)
	STORE16(Z4)
	STORE16(Z5)
	STORE16(Z6)
	STORE16(Z7)
	STORE16(Z8)
	STORE16(Z9)
	STORE16(Z10)
	STORE16(Z11)
	STORE16(Z12)
	STORE16(Z13)
stored:
	NEXT(64)
	JNZ  strip
	VZEROUPPER
	RET
