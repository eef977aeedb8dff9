#include "textflag.h"

// The constants of random.Word: golden times 0, 1, 2, 3 and 4, and the two
// multipliers of its mix, halves swapped beside them.
DATA wordsConst<>+0(SB)/8, $0
DATA wordsConst<>+8(SB)/8, $0x9E3779B97F4A7C15
DATA wordsConst<>+16(SB)/8, $0x3C6EF372FE94F82A
DATA wordsConst<>+24(SB)/8, $0xDAA66D2C7DDF743F
DATA wordsConst<>+32(SB)/8, $0x78DDE6E5FD29F054
DATA wordsConst<>+40(SB)/8, $0xBF58476D1CE4E5B9
DATA wordsConst<>+48(SB)/8, $0x94D049BB133111EB
DATA wordsConst<>+56(SB)/4, $0x7fc00000
DATA wordsConst<>+60(SB)/4, $0
GLOBL wordsConst<>(SB), RODATA|NOPTR, $64

// y *= the constant with the low half in lo and the high half in hi.
#define MUL64(y, lo, hi, t, u) \
	VPSRLQ   $32, y, t  \
	VPMULUDQ lo, t, t   \
	VPMULUDQ hi, y, u   \
	VPADDQ   u, t, t    \
	VPSLLQ   $32, t, t  \
	VPMULUDQ lo, y, y   \
	VPADDQ   t, y, y

#define XORSHIFT(n, y, t) \
	VPSRLQ $n, y, t \
	VPXOR  t, y, y

#define MIX(y, t, u) \
	XORSHIFT(30, y, t)           \
	MUL64(y, Y10, Y11, t, u)     \
	XORSHIFT(27, y, t)           \
	MUL64(y, Y12, Y13, t, u)     \
	XORSHIFT(31, y, t)

// func wordsVector(dst *uint64, stream, first uint64, n int)
TEXT ·wordsVector(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ stream+8(FP), AX
	MOVQ first+16(FP), BX
	MOVQ n+24(FP), CX
	VPBROADCASTQ wordsConst<>+40(SB), Y10
	VPSRLQ       $32, Y10, Y11
	VPBROADCASTQ wordsConst<>+48(SB), Y12
	VPSRLQ       $32, Y12, Y13
	VPBROADCASTQ wordsConst<>+32(SB), Y9  // 4*golden
	INCQ         BX
	IMULQ        wordsConst<>+8(SB), BX
	ADDQ         AX, BX
	VMOVQ        BX, X0
	VPBROADCASTQ X0, Y0
	VPADDQ       wordsConst<>+0(SB), Y0, Y0
	ROLQ         $32, AX
	VMOVQ        AX, X8
	VPBROADCASTQ X8, Y8
words:
	VMOVDQA Y0, Y1
	MIX(Y1, Y2, Y3)
	VPXOR   Y8, Y1, Y1
	MIX(Y1, Y2, Y3)
	VMOVDQU Y1, (DI)
	VPADDQ  Y9, Y0, Y0
	ADDQ    $32, DI
	SUBQ    $4, CX
	JNZ     words
	VZEROUPPER
	RET

// func dropVector(y, x *float32, words *uint64, skip, n int, threshold uint32, keep float32)
TEXT ·dropVector(SB), NOSPLIT, $0-48
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ words+16(FP), DX
	MOVQ skip+24(FP), AX
	MOVQ n+32(FP), CX
	LEAQ (DX)(AX*2), DX
	VBROADCASTSS threshold+40(FP), Y0
	VBROADCASTSS keep+44(FP), Y5
	VBROADCASTSS wordsConst<>+56(SB), Y15
drop:
	VPMOVZXWD (DX), Y1
	VPCMPGTD  Y1, Y0, Y2     // threshold > number
	VMULPS    (SI), Y5, Y3
	VANDNPS   Y3, Y2, Y3
	VCMPPS    $3, Y3, Y3, Y4
	VBLENDVPS Y4, Y15, Y3, Y3
	VMOVUPS   Y3, (DI)
	ADDQ      $16, DX
	ADDQ      $32, SI
	ADDQ      $32, DI
	SUBQ      $8, CX
	JNZ       drop
	VZEROUPPER
	RET
