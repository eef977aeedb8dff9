#include "textflag.h"

// func intel() bool
TEXT ·intel(SB), NOSPLIT, $0-1
	XORL  AX, AX
	XORL  CX, CX
	CPUID
	CMPL  BX, $0x756e6547 // Genu
	SETEQ ret+0(FP)
	RET

// Go's assembler does not know the bfloat16 instructions, so they are written
// as bytes: the EVEX prefix, which has the upper bits of the register numbers
// inverted, the opcode and the lower bits.
#define EVEX(p1, p2, opcode, d, v, s) \
	BYTE $0x62                                    \
	BYTE $(0x02 | ((1-(((d)>>3)&1))<<7) | ((1-(((s)>>4)&1))<<6) | ((1-(((s)>>3)&1))<<5) | ((1-(((d)>>4)&1))<<4)) \
	BYTE $((p1) | ((15-((v)&15))<<3))             \
	BYTE $((p2) | ((1-(((v)>>4)&1))<<3))          \
	BYTE $(opcode)                                \
	BYTE $(0xc0 | (((d)&7)<<3) | ((s)&7))

// VDPBF16PS Zs, Zv, Zd: Zd += the upper halves of Zs times those of Zv, rounded,
// then += the lower halves.
#define DP(d, v, s) EVEX(0x06, 0x40, 0x52, d, v, s)

// VCVTNE2PS2BF16 Zs, Zv, Zd: the lower 16 words of Zd are those of Zs as
// bfloat16, the upper 16 those of Zv.
#define CONVERT(d, v, s) EVEX(0x07, 0x40, 0x72, d, v, s)

// The one NaN of package kernel.
DATA bfNaN<>(SB)/4, $0x7fc00000
GLOBL bfNaN<>(SB), RODATA|NOPTR, $4

// Two words: without the sign, and the least operand.
DATA bfAbs<>(SB)/4, $0x7fff7fff
GLOBL bfAbs<>(SB), RODATA|NOPTR, $4
DATA bfTiny<>(SB)/4, $0x23802380
GLOBL bfTiny<>(SB), RODATA|NOPTR, $4

// Word 2j from word j, word 2j+1 from word 16+j.
DATA bfPair<>+0(SB)/8, $0x0011000100100000
DATA bfPair<>+8(SB)/8, $0x0013000300120002
DATA bfPair<>+16(SB)/8, $0x0015000500140004
DATA bfPair<>+24(SB)/8, $0x0017000700160006
DATA bfPair<>+32(SB)/8, $0x0019000900180008
DATA bfPair<>+40(SB)/8, $0x001b000b001a000a
DATA bfPair<>+48(SB)/8, $0x001d000d001c000c
DATA bfPair<>+56(SB)/8, $0x001f000f001e000e
GLOBL bfPair<>(SB), RODATA|NOPTR, $64

// Any NaN in y becomes the one in Z31.
#define CANONICAL(z) \
	VCMPPS  $3, z, z, K1 \
	VMOVAPS Z31, K1, z


// One pair of a row of A, in Z30 or Z31 (t), times those of 32 or 16 columns of
// B, in Z28 and Z29.
#define ROW32(a, z, t, d) \
	VPBROADCASTD a, z    \
	DP(d, t, 28)         \
	DP((d+1), t, 29)

#define ROW16(a, z, t, d) \
	VPBROADCASTD a, z \
	DP(d, t, 28)

#define LOAD32(x, y) \
	VMOVUPS (DI), x   \
	VMOVUPS 64(DI), y \
	ADDQ    R13, DI

#define STORE32(x, y) \
	CANONICAL(x)      \
	CANONICAL(y)      \
	VMOVUPS x, (DI)   \
	VMOVUPS y, 64(DI) \
	ADDQ    R13, DI

#define LOAD16(x) \
	VMOVUPS (DI), x \
	ADDQ    R13, DI

#define STORE16(x) \
	CANONICAL(x)    \
	VMOVUPS x, (DI) \
	ADDQ    R13, DI

// The arguments of a tile. SI and BX are rows 0 and 7 of A, R8, R9 and R10 one,
// three and five times their distance, R11 the step; DX is B, R12 C, R13 the
// distance of its rows.
#define ARGUMENTS \
	MOVQ    pairs+0(FP), CX \
	MOVQ    a+8(FP), SI     \
	MOVQ    row+16(FP), R8  \
	MOVQ    step+24(FP), R11 \
	MOVQ    b+32(FP), DX    \
	MOVQ    c+40(FP), R12   \
	MOVQ    ldc+48(FP), R13 \
	MOVBLZX load+56(FP), AX \
	SHLQ    $2, R8          \
	SHLQ    $2, R11         \
	SHLQ    $2, R13         \
	LEAQ    (R8)(R8*2), R9  \
	LEAQ    (R8)(R8*4), R10 \
	LEAQ    (SI)(R8*1), BX  \
	LEAQ    (BX)(R9*2), BX  \
	MOVQ    R12, DI

// func tileBF16x32(pairs int, a *uint32, row, step int, b *uint32, c *float32, ldc int, load bool)
TEXT ·tileBF16x32(SB), NOSPLIT, $0-57
	ARGUMENTS
	TESTL AX, AX
	JZ    zero
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
	JMP   next
zero:
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
next:
	VMOVUPS (DX), Z28
	VMOVUPS 64(DX), Z29
	ROW32((SI), Z30, 30, 0)
	ROW32((SI)(R8*1), Z31, 31, 2)
	ROW32((SI)(R8*2), Z30, 30, 4)
	ROW32((SI)(R9*1), Z31, 31, 6)
	ROW32((SI)(R8*4), Z30, 30, 8)
	ROW32((SI)(R10*1), Z31, 31, 10)
	ROW32((SI)(R9*2), Z30, 30, 12)
	ROW32((BX), Z31, 31, 14)
	ROW32((BX)(R8*1), Z30, 30, 16)
	ROW32((BX)(R8*2), Z31, 31, 18)
	ROW32((BX)(R9*1), Z30, 30, 20)
	ROW32((BX)(R8*4), Z31, 31, 22)
	ROW32((BX)(R10*1), Z30, 30, 24)
	ROW32((BX)(R9*2), Z31, 31, 26)
	ADDQ R11, SI
	ADDQ R11, BX
	ADDQ $128, DX
	DECQ CX
	JNZ  next
	VBROADCASTSS bfNaN<>(SB), Z31
	MOVQ R12, DI
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
	VZEROUPPER
	RET

// func tileBF16x16(pairs int, a *uint32, row, step int, b *uint32, c *float32, ldc int, load bool)
TEXT ·tileBF16x16(SB), NOSPLIT, $0-57
	ARGUMENTS
	TESTL AX, AX
	JZ    zero
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
	JMP   next
zero:
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
next:
	VMOVUPS (DX), Z28
	ROW16((SI), Z30, 30, 0)
	ROW16((SI)(R8*1), Z31, 31, 1)
	ROW16((SI)(R8*2), Z30, 30, 2)
	ROW16((SI)(R9*1), Z31, 31, 3)
	ROW16((SI)(R8*4), Z30, 30, 4)
	ROW16((SI)(R10*1), Z31, 31, 5)
	ROW16((SI)(R9*2), Z30, 30, 6)
	ROW16((BX), Z31, 31, 7)
	ROW16((BX)(R8*1), Z30, 30, 8)
	ROW16((BX)(R8*2), Z31, 31, 9)
	ROW16((BX)(R9*1), Z30, 30, 10)
	ROW16((BX)(R8*4), Z31, 31, 11)
	ROW16((BX)(R10*1), Z30, 30, 12)
	ROW16((BX)(R9*2), Z31, 31, 13)
	ADDQ R11, SI
	ADDQ R11, BX
	ADDQ $64, DX
	DECQ CX
	JNZ  next
	VBROADCASTSS bfNaN<>(SB), Z31
	MOVQ R12, DI
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
	VZEROUPPER
	RET

// Words of Z2 whose magnitude is too small become zero; Z16 is bfAbs and Z17
// bfTiny.
#define FLUSH \
	VPANDD     Z16, Z2, Z3    \
	VPCMPUW    $5, Z17, Z3, K7 \
	VMOVDQU16.Z Z2, K7, Z2

// func packRowVector(dst *uint32, src *float32, k int)
TEXT ·packRowVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ k+16(FP), CX
	VPBROADCASTD bfAbs<>(SB), Z16
	VPBROADCASTD bfTiny<>(SB), Z17
	SUBQ $32, CX
	JL   rest
next:
	VMOVUPS (SI), Z0
	VMOVUPS 64(SI), Z1
	CONVERT(2, 1, 0)
	FLUSH
	VPROLD  $16, Z2, Z2
	VMOVDQU32 Z2, (DI)
	ADDQ $128, SI
	ADDQ $64, DI
	SUBQ $32, CX
	JGE  next
rest:
	ADDQ $32, CX
	JZ   done
	MOVL  $1, AX
	SHLQ  CX, AX
	DECQ  AX
	KMOVW AX, K1
	SHRQ  $16, AX
	KMOVW AX, K2
	VMOVUPS.Z (SI), K1, Z0
	VMOVUPS.Z 64(SI), K2, Z1
	CONVERT(2, 1, 0)
	FLUSH
	VPROLD  $16, Z2, Z2
	VMOVDQU32 Z2, (DI)
done:
	VZEROUPPER
	RET

// func packPairsVector(dst *uint32, width int, src *float32, ld, pairs int, mask uint32)
TEXT ·packPairsVector(SB), NOSPLIT, $0-44
	MOVQ dst+0(FP), DI
	MOVQ width+8(FP), R8
	MOVQ src+16(FP), SI
	MOVQ ld+24(FP), R9
	MOVQ pairs+32(FP), CX
	MOVL mask+40(FP), AX
	SHLQ $2, R8
	SHLQ $2, R9
	VPBROADCASTD bfAbs<>(SB), Z16
	VPBROADCASTD bfTiny<>(SB), Z17
	VMOVDQU64 bfPair<>(SB), Z18
	KMOVW AX, K1
	SHRL  $16, AX
	JNZ   wide
narrow:
	VMOVUPS.Z (SI), K1, Z0
	VMOVUPS.Z (SI)(R9*1), K1, Z1
	CONVERT(2, 0, 1)
	FLUSH
	VPERMW Z2, Z18, Z2
	VMOVDQU32 Z2, K1, (DI)
	LEAQ (SI)(R9*2), SI
	ADDQ R8, DI
	DECQ CX
	JNZ  narrow
	VZEROUPPER
	RET
wide:
	KMOVW AX, K2
two:
	VMOVUPS.Z (SI), K1, Z0
	VMOVUPS.Z (SI)(R9*1), K1, Z1
	CONVERT(2, 0, 1)
	FLUSH
	VPERMW Z2, Z18, Z2
	VMOVDQU32 Z2, K1, (DI)
	VMOVUPS.Z 64(SI), K2, Z0
	VMOVUPS.Z 64(SI)(R9*1), K2, Z1
	CONVERT(2, 0, 1)
	FLUSH
	VPERMW Z2, Z18, Z2
	VMOVDQU32 Z2, K2, 64(DI)
	LEAQ (SI)(R9*2), SI
	ADDQ R8, DI
	DECQ CX
	JNZ  two
	VZEROUPPER
	RET

DATA bfRound<>+0(SB)/4, $0x7fff
DATA bfRound<>+4(SB)/4, $1
DATA bfRound<>+8(SB)/4, $0xffff0000
DATA bfRound<>+12(SB)/4, $0x7fffffff
DATA bfRound<>+16(SB)/4, $0x237fffff
GLOBL bfRound<>(SB), RODATA|NOPTR, $20

// func roundVector(dst, src *float32, n int)
TEXT ·roundVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	VPBROADCASTD bfRound<>+0(SB), Y10
	VPBROADCASTD bfRound<>+4(SB), Y11
	VPBROADCASTD bfRound<>+8(SB), Y12
	VPBROADCASTD bfRound<>+12(SB), Y13
	VPBROADCASTD bfRound<>+16(SB), Y14
	VBROADCASTSS bfNaN<>(SB), Y15
next:
	VMOVUPS   (SI), Y0
	VPSRLD    $16, Y0, Y1
	VPAND     Y11, Y1, Y1
	VPADDD    Y10, Y1, Y1
	VPADDD    Y0, Y1, Y1
	VPAND     Y12, Y1, Y1
	VPAND     Y13, Y1, Y2
	VPCMPGTD  Y14, Y2, Y2
	VPAND     Y2, Y1, Y1
	VCMPPS    $3, Y0, Y0, Y2
	VBLENDVPS Y2, Y15, Y1, Y1
	VMOVUPS   Y1, (DI)
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JNZ  next
	VZEROUPPER
	RET
