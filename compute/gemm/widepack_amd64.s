#include "textflag.h"

DATA packNaN<>(SB)/4, $0x7fc00000
GLOBL packNaN<>(SB), RODATA|NOPTR, $4

// The numbers of the lanes.
DATA packLanes<>+0(SB)/8, $0x0000000100000000
DATA packLanes<>+8(SB)/8, $0x0000000300000002
DATA packLanes<>+16(SB)/8, $0x0000000500000004
DATA packLanes<>+24(SB)/8, $0x0000000700000006
DATA packLanes<>+32(SB)/8, $0x0000000900000008
DATA packLanes<>+40(SB)/8, $0x0000000b0000000a
DATA packLanes<>+48(SB)/8, $0x0000000d0000000c
DATA packLanes<>+56(SB)/8, $0x0000000f0000000e
GLOBL packLanes<>(SB), RODATA|NOPTR, $64

// Of sixteen rows from SI on, stride elements (R8) apart: R10, R11 and R12 are
// rows 4, 8 and 12, R9 is three times the distance in bytes, Z9 has the numbers
// of elements between row 0 and the others.
#define ROWS \
	VPBROADCASTD R8, Z9                  \
	VPMULLD      packLanes<>(SB), Z9, Z9 \
	SHLQ         $2, R8                  \
	LEAQ         (R8)(R8*2), R9          \
	LEAQ         (SI)(R8*4), R10         \
	LEAQ         (SI)(R8*8), R11         \
	LEAQ         (R10)(R8*8), R12

// The next four columns of the rows, in Z0 to Z3.
#define FOUR \
	VMOVUPS      (SI), X0                  \
	VMOVUPS      (SI)(R8*1), X1            \
	VMOVUPS      (SI)(R8*2), X2            \
	VMOVUPS      (SI)(R9*1), X3            \
	VINSERTF32X4 $1, (R10), Z0, Z0         \
	VINSERTF32X4 $1, (R10)(R8*1), Z1, Z1   \
	VINSERTF32X4 $1, (R10)(R8*2), Z2, Z2   \
	VINSERTF32X4 $1, (R10)(R9*1), Z3, Z3   \
	VINSERTF32X4 $2, (R11), Z0, Z0         \
	VINSERTF32X4 $2, (R11)(R8*1), Z1, Z1   \
	VINSERTF32X4 $2, (R11)(R8*2), Z2, Z2   \
	VINSERTF32X4 $2, (R11)(R9*1), Z3, Z3   \
	VINSERTF32X4 $3, (R12), Z0, Z0         \
	VINSERTF32X4 $3, (R12)(R8*1), Z1, Z1   \
	VINSERTF32X4 $3, (R12)(R8*2), Z2, Z2   \
	VINSERTF32X4 $3, (R12)(R9*1), Z3, Z3   \
	VUNPCKLPS    Z1, Z0, Z4                \
	VUNPCKHPS    Z1, Z0, Z5                \
	VUNPCKLPS    Z3, Z2, Z6                \
	VUNPCKHPS    Z3, Z2, Z7                \
	VUNPCKLPD    Z6, Z4, Z0                \
	VUNPCKHPD    Z6, Z4, Z1                \
	VUNPCKLPD    Z7, Z5, Z2                \
	VUNPCKHPD    Z7, Z5, Z3                \
	ADDQ         $16, SI                   \
	ADDQ         $16, R10                  \
	ADDQ         $16, R11                  \
	ADDQ         $16, R12

// The next column of the rows, in Z0.
#define ONE \
	KXNORW     K1, K1, K1       \
	VGATHERDPS (SI)(Z9*4), K1, Z0 \
	ADDQ       $4, SI

// func chainsVector(k int, x, b *float32, stride int, c *float32, load bool)
TEXT ·chainsVector(SB), NOSPLIT, $0-41
	MOVQ   k+0(FP), CX
	MOVQ   x+8(FP), DX
	MOVQ   b+16(FP), SI
	MOVQ   stride+24(FP), R8
	MOVQ   c+32(FP), DI
	ROWS
	VPXORD Z8, Z8, Z8
	CMPB   load+40(FP), $0
	JEQ    start
	VMOVUPS (DI), Z8
start:
	SUBQ $4, CX
	JL   rest
four:
	FOUR
	VFMADD231PS.BCST (DX), Z0, Z8
	VFMADD231PS.BCST 4(DX), Z1, Z8
	VFMADD231PS.BCST 8(DX), Z2, Z8
	VFMADD231PS.BCST 12(DX), Z3, Z8
	ADDQ $16, DX
	SUBQ $4, CX
	JGE  four
rest:
	ADDQ $4, CX
	JZ   done
one:
	ONE
	VFMADD231PS.BCST (DX), Z0, Z8
	ADDQ $4, DX
	DECQ CX
	JNZ  one
done:
	VBROADCASTSS packNaN<>(SB), Z0
	VCMPPS  $3, Z8, Z8, K1
	VMOVAPS Z0, K1, Z8
	VMOVUPS Z8, (DI)
	VZEROUPPER
	RET

// func transposeWide(dst *float32, width int, src *float32, stride, k int)
TEXT ·transposeWide(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ width+8(FP), DX
	MOVQ src+16(FP), SI
	MOVQ stride+24(FP), R8
	MOVQ k+32(FP), CX
	SHLQ $2, DX
	LEAQ (DX)(DX*2), BX
	ROWS
	SUBQ $4, CX
	JL   rest
four:
	FOUR
	VMOVUPS Z0, (DI)
	VMOVUPS Z1, (DI)(DX*1)
	VMOVUPS Z2, (DI)(DX*2)
	VMOVUPS Z3, (DI)(BX*1)
	LEAQ (DI)(DX*4), DI
	SUBQ $4, CX
	JGE  four
rest:
	ADDQ $4, CX
	JZ   done
one:
	ONE
	VMOVUPS Z0, (DI)
	ADDQ DX, DI
	DECQ CX
	JNZ  one
done:
	VZEROUPPER
	RET

// func copyColumns(dst *float32, width int, src *float32, stride, k int, mask uint32)
TEXT ·copyColumns(SB), NOSPLIT, $0-44
	MOVQ  dst+0(FP), DI
	MOVQ  width+8(FP), R8
	MOVQ  src+16(FP), SI
	MOVQ  stride+24(FP), R9
	MOVQ  k+32(FP), CX
	MOVL  mask+40(FP), AX
	KMOVW AX, K1
	SHRL  $16, AX
	KMOVW AX, K2
	SHLQ  $2, R8
	SHLQ  $2, R9
	CMPQ  R8, $64
	JGT   two
one:
	VMOVUPS.Z (SI), K1, Z0
	VMOVUPS   Z0, (DI)
	ADDQ      R9, SI
	ADDQ      R8, DI
	DECQ      CX
	JNZ       one
	VZEROUPPER
	RET
two:
	VMOVUPS.Z (SI), K1, Z0
	VMOVUPS.Z 64(SI), K2, Z1
	VMOVUPS   Z0, (DI)
	VMOVUPS   Z1, 64(DI)
	ADDQ      R9, SI
	ADDQ      R8, DI
	DECQ      CX
	JNZ       two
	VZEROUPPER
	RET
