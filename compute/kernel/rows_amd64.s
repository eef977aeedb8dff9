#include "textflag.h"

DATA rowsNaN<>(SB)/4, $0x7fc00000
GLOBL rowsNaN<>(SB), RODATA|NOPTR, $4

// Any NaN in y becomes the one in n; t is lost.
#define CANONICAL(y, n, t) \
	VCMPPS    $3, y, y, t  \
	VBLENDVPS t, n, y, y

// func sumRowsVector(sum, x *float32, n, m, columns int)
TEXT ·sumRowsVector(SB), NOSPLIT, $0-40
	MOVQ sum+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ m+24(FP), DX
	MOVQ columns+32(FP), R8
	SHLQ $2, DX
	SHLQ $2, R8
	LEAQ (DX)(DX*2), R9
	VBROADCASTSS rowsNaN<>(SB), Y15
	SUBQ $4, CX
	JL   sumrest

	// Four rows at a time: a sum is loaded and stored once for the four.
sumfour:
	XORL AX, AX
	MOVQ SI, BX
sumfourcolumn:
	VMOVUPS (DI)(AX*1), Y0
	VADDPS  (BX), Y0, Y0
	VADDPS  (BX)(DX*1), Y0, Y0
	VADDPS  (BX)(DX*2), Y0, Y0
	VADDPS  (BX)(R9*1), Y0, Y0
	CANONICAL(Y0, Y15, Y1)
	VMOVUPS Y0, (DI)(AX*1)
	ADDQ    $32, AX
	ADDQ    $32, BX
	CMPQ    AX, R8
	JNE     sumfourcolumn
	LEAQ    (SI)(DX*4), SI
	SUBQ    $4, CX
	JGE     sumfour

sumrest:
	ADDQ $4, CX
	JZ   sumend
sumone:
	XORL AX, AX
sumonecolumn:
	VMOVUPS (DI)(AX*1), Y0
	VADDPS  (SI)(AX*1), Y0, Y0
	CANONICAL(Y0, Y15, Y1)
	VMOVUPS Y0, (DI)(AX*1)
	ADDQ    $32, AX
	CMPQ    AX, R8
	JNE     sumonecolumn
	ADDQ    DX, SI
	DECQ    CX
	JNZ     sumone
sumend:
	VZEROUPPER
	RET

// func pairsGradVector(dx, x, s *float32, alpha float32, n int)
TEXT ·pairsGradVector(SB), NOSPLIT, $0-40
	MOVQ dx+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ s+16(FP), DX
	VBROADCASTSS alpha+24(FP), Y0
	MOVQ n+32(FP), CX
	VBROADCASTSS rowsNaN<>(SB), Y15
pairs:
	VMOVUPS (DX), Y1
	VSUBPS  (SI), Y1, Y1
	VMULPS  Y1, Y0, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DX
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     pairs
	VZEROUPPER
	RET

// func pairsGradAddVector(dx, x, s *float32, alpha float32, n int)
TEXT ·pairsGradAddVector(SB), NOSPLIT, $0-40
	MOVQ dx+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ s+16(FP), DX
	VBROADCASTSS alpha+24(FP), Y0
	MOVQ n+32(FP), CX
	VBROADCASTSS rowsNaN<>(SB), Y15
pairsadd:
	VMOVUPS (DX), Y1
	VSUBPS  (SI), Y1, Y1
	VMULPS  Y1, Y0, Y1
	VADDPS  (DI), Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DX
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     pairsadd
	VZEROUPPER
	RET

// The rows of the next index but eleven are fetched while one is copied.

// func gatherVector(out *float32, width int, rows *float32, stride int, index *int32, n int)
TEXT ·gatherVector(SB), NOSPLIT, $0-48
	MOVQ out+0(FP), DI
	MOVQ width+8(FP), R8
	MOVQ rows+16(FP), SI
	MOVQ stride+24(FP), R9
	MOVQ index+32(FP), DX
	MOVQ n+40(FP), CX
	SHLQ $2, R8             // bytes of a row
	SHLQ $2, R9
	LEAQ -32(R8), R10       // where the last eight elements are

gather:
	CMPQ        CX, $12
	JLE         gathernow
	MOVLQSX     48(DX), AX
	IMULQ       R9, AX
	ADDQ        SI, AX
	PREFETCHT0  (AX)
	PREFETCHT0  (AX)(R10*1)
gathernow:
	MOVLQSX (DX), AX
	IMULQ   R9, AX
	ADDQ    SI, AX
	XORL    BX, BX
	CMPQ    R10, $32
	JNE     gathercheck
	VMOVUPS (AX), Y0        // sixteen, the usual width
	VMOVUPS 32(AX), Y1
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	JMP     gathernext
gatherpart:
	VMOVUPS (AX)(BX*1), Y0
	VMOVUPS Y0, (DI)(BX*1)
	ADDQ    $32, BX
gathercheck:
	CMPQ    BX, R10
	JLT     gatherpart
	VMOVUPS (AX)(R10*1), Y0 // may overlap what is copied already
	VMOVUPS Y0, (DI)(R10*1)
gathernext:
	ADDQ    R8, DI
	ADDQ    $4, DX
	DECQ    CX
	JNZ     gather
	VZEROUPPER
	RET

// func scatterVector(rows *float32, stride int, x *float32, width int, index *int32, n int)
TEXT ·scatterVector(SB), NOSPLIT, $0-48
	MOVQ rows+0(FP), DI
	MOVQ stride+8(FP), R9
	MOVQ x+16(FP), SI
	MOVQ width+24(FP), R8
	MOVQ index+32(FP), DX
	MOVQ n+40(FP), CX
	SHLQ $2, R8
	SHLQ $2, R9
	LEAQ -32(R8), R10
	VBROADCASTSS rowsNaN<>(SB), Y15

scatter:
	CMPQ        CX, $12
	JLE         scatternow
	MOVLQSX     48(DX), AX
	IMULQ       R9, AX
	ADDQ        DI, AX
	PREFETCHT0  (AX)
	PREFETCHT0  (AX)(R10*1)
scatternow:
	MOVLQSX (DX), AX
	IMULQ   R9, AX
	ADDQ    DI, AX
	// The last eight elements are computed before anything is stored, because
	// they may overlap the eight before them.
	VMOVUPS (AX)(R10*1), Y7
	VADDPS  (SI)(R10*1), Y7, Y7
	CANONICAL(Y7, Y15, Y1)
	XORL    BX, BX
	JMP     scattercheck
scatterpart:
	VMOVUPS (AX)(BX*1), Y0
	VADDPS  (SI)(BX*1), Y0, Y0
	CANONICAL(Y0, Y15, Y1)
	VMOVUPS Y0, (AX)(BX*1)
	ADDQ    $32, BX
scattercheck:
	CMPQ    BX, R10
	JLT     scatterpart
	VMOVUPS Y7, (AX)(R10*1)
	ADDQ    R8, SI
	ADDQ    $4, DX
	DECQ    CX
	JNZ     scatter
	VZEROUPPER
	RET

// func addReLUVector(dst, x *float32, n int)
TEXT ·addReLUVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VBROADCASTSS rowsNaN<>(SB), Y15
addrelu:
	VMOVUPS (DI), Y1
	VADDPS  (SI), Y1, Y1
	VCMPPS  $2, Y0, Y1, Y2
	VANDNPS Y1, Y2, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     addrelu
	VZEROUPPER
	RET

// func activationGradVector(dx, dy, y *float32, scale float32, n int)
TEXT ·activationGradVector(SB), NOSPLIT, $0-40
	MOVQ dx+0(FP), DI
	MOVQ dy+8(FP), SI
	MOVQ y+16(FP), DX
	VBROADCASTSS scale+24(FP), Y5
	MOVQ n+32(FP), CX
	VXORPS Y0, Y0, Y0
	VBROADCASTSS rowsNaN<>(SB), Y15
activation:
	VMOVUPS (DX), Y1
	VCMPPS  $1, Y1, Y0, Y2 // 0 < y
	VMULPS  (SI), Y5, Y3
	VANDPS  Y3, Y2, Y3
	CANONICAL(Y3, Y15, Y4)
	VMOVUPS Y3, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DX
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     activation
	VZEROUPPER
	RET

// func sumSquaresRowsVector(sum, x *float32, n, m, columns int, mean *float32)
TEXT ·sumSquaresRowsVector(SB), NOSPLIT, $0-48
	MOVQ sum+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ m+24(FP), DX
	MOVQ columns+32(FP), R8
	MOVQ mean+40(FP), R10
	SHLQ $2, DX
	SHLQ $2, R8
	LEAQ (DX)(DX*2), R9
	VBROADCASTSS rowsNaN<>(SB), Y15
	SUBQ $4, CX
	JL   squaresrest
squaresfour:
	XORL AX, AX
	MOVQ SI, BX
squaresfourcolumn:
	VMOVUPS (R10)(AX*1), Y5
	VMOVUPS (DI)(AX*1), Y0
	VMOVUPS (BX), Y1
	VMOVUPS (BX)(DX*1), Y2
	VMOVUPS (BX)(DX*2), Y3
	VMOVUPS (BX)(R9*1), Y4
	VSUBPS  Y5, Y1, Y1
	VSUBPS  Y5, Y2, Y2
	VSUBPS  Y5, Y3, Y3
	VSUBPS  Y5, Y4, Y4
	VMULPS  Y1, Y1, Y1
	VMULPS  Y2, Y2, Y2
	VMULPS  Y3, Y3, Y3
	VMULPS  Y4, Y4, Y4
	VADDPS  Y1, Y0, Y0
	VADDPS  Y2, Y0, Y0
	VADDPS  Y3, Y0, Y0
	VADDPS  Y4, Y0, Y0
	CANONICAL(Y0, Y15, Y1)
	VMOVUPS Y0, (DI)(AX*1)
	ADDQ    $32, AX
	ADDQ    $32, BX
	CMPQ    AX, R8
	JNE     squaresfourcolumn
	LEAQ    (SI)(DX*4), SI
	SUBQ    $4, CX
	JGE     squaresfour
squaresrest:
	ADDQ $4, CX
	JZ   squaresend
squaresone:
	XORL AX, AX
squaresonecolumn:
	VMOVUPS (SI)(AX*1), Y1
	VSUBPS  (R10)(AX*1), Y1, Y1
	VMULPS  Y1, Y1, Y1
	VADDPS  (DI)(AX*1), Y1, Y1
	CANONICAL(Y1, Y15, Y0)
	VMOVUPS Y1, (DI)(AX*1)
	ADDQ    $32, AX
	CMPQ    AX, R8
	JNE     squaresonecolumn
	ADDQ    DX, SI
	DECQ    CX
	JNZ     squaresone
squaresend:
	VZEROUPPER
	RET

// func normalizeVector(y, x *float32, n, m, columns int, mean, inverse, gamma, beta *float32, relu bool)
TEXT ·normalizeVector(SB), NOSPLIT, $0-73
	MOVQ    y+0(FP), DI
	MOVQ    x+8(FP), SI
	MOVQ    n+16(FP), CX
	MOVQ    m+24(FP), DX
	MOVQ    columns+32(FP), R8
	MOVQ    mean+40(FP), R9
	MOVQ    inverse+48(FP), R10
	MOVQ    gamma+56(FP), R11
	MOVQ    beta+64(FP), R12
	MOVBLZX relu+72(FP), AX
	SHLQ    $2, DX
	SHLQ    $2, R8
	NEGL    AX
	VMOVD   AX, X5
	VPBROADCASTD X5, Y5     // all ones with relu
	VXORPS  Y0, Y0, Y0
	VBROADCASTSS rowsNaN<>(SB), Y15
normalize:
	XORL AX, AX
normalizecolumn:
	VMOVUPS (SI)(AX*1), Y1
	VSUBPS  (R9)(AX*1), Y1, Y1
	VMULPS  (R10)(AX*1), Y1, Y1
	VMULPS  (R11)(AX*1), Y1, Y1
	VADDPS  (R12)(AX*1), Y1, Y1
	VCMPPS  $2, Y0, Y1, Y2
	VANDPS  Y5, Y2, Y2
	VANDNPS Y1, Y2, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)(AX*1)
	ADDQ    $32, AX
	CMPQ    AX, R8
	JNE     normalizecolumn
	ADDQ    DX, SI
	ADDQ    DX, DI
	DECQ    CX
	JNZ     normalize
	VZEROUPPER
	RET

// func gradSumsVector(dgamma, dbeta, dy, x *float32, n, m, columns int, mean, inverse *float32)
TEXT ·gradSumsVector(SB), NOSPLIT, $0-72
	MOVQ dgamma+0(FP), DI
	MOVQ dbeta+8(FP), R13
	MOVQ dy+16(FP), SI
	MOVQ x+24(FP), R12
	MOVQ n+32(FP), CX
	MOVQ m+40(FP), DX
	MOVQ columns+48(FP), R8
	MOVQ mean+56(FP), R9
	MOVQ inverse+64(FP), R10
	SHLQ $2, DX
	SHLQ $2, R8
	VBROADCASTSS rowsNaN<>(SB), Y15
	SUBQ $2, CX
	JL   gradsrest
gradstwo:
	XORL AX, AX
	LEAQ (R12)(DX*1), R11
	LEAQ (SI)(DX*1), BX
gradstwocolumn:
	VMOVUPS (R9)(AX*1), Y5
	VMOVUPS (R10)(AX*1), Y6
	VMOVUPS (R12)(AX*1), Y1
	VMOVUPS (R11)(AX*1), Y2
	VSUBPS  Y5, Y1, Y1
	VSUBPS  Y5, Y2, Y2
	VMULPS  Y6, Y1, Y1
	VMULPS  Y6, Y2, Y2
	VMOVUPS (SI)(AX*1), Y3
	VMOVUPS (BX)(AX*1), Y4
	VMULPS  Y3, Y1, Y1
	VMULPS  Y4, Y2, Y2
	VADDPS  (DI)(AX*1), Y1, Y1
	VADDPS  Y2, Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)(AX*1)
	VADDPS  (R13)(AX*1), Y3, Y3
	VADDPS  Y4, Y3, Y3
	CANONICAL(Y3, Y15, Y2)
	VMOVUPS Y3, (R13)(AX*1)
	ADDQ    $32, AX
	CMPQ    AX, R8
	JNE     gradstwocolumn
	LEAQ    (R12)(DX*2), R12
	LEAQ    (SI)(DX*2), SI
	SUBQ    $2, CX
	JGE     gradstwo
gradsrest:
	ADDQ $2, CX
	JZ   gradsend
	XORL AX, AX
gradsonecolumn:
	VMOVUPS (R12)(AX*1), Y1
	VSUBPS  (R9)(AX*1), Y1, Y1
	VMULPS  (R10)(AX*1), Y1, Y1
	VMOVUPS (SI)(AX*1), Y3
	VMULPS  Y3, Y1, Y1
	VADDPS  (DI)(AX*1), Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)(AX*1)
	VADDPS  (R13)(AX*1), Y3, Y3
	CANONICAL(Y3, Y15, Y2)
	VMOVUPS Y3, (R13)(AX*1)
	ADDQ    $32, AX
	CMPQ    AX, R8
	JNE     gradsonecolumn
gradsend:
	VZEROUPPER
	RET

// func inputGradVector(dx, dy, x *float32, n, m, columns int, mean, inverse, slope, shift, scale *float32)
TEXT ·inputGradVector(SB), NOSPLIT, $0-88
	MOVQ dx+0(FP), DI
	MOVQ dy+8(FP), SI
	MOVQ x+16(FP), R13
	MOVQ n+24(FP), CX
	MOVQ m+32(FP), DX
	MOVQ columns+40(FP), R8
	MOVQ mean+48(FP), R9
	MOVQ inverse+56(FP), R10
	MOVQ slope+64(FP), R11
	MOVQ shift+72(FP), R12
	MOVQ scale+80(FP), BX
	SHLQ $2, DX
	SHLQ $2, R8
	VBROADCASTSS rowsNaN<>(SB), Y15
inputgrad:
	XORL AX, AX
inputgradcolumn:
	VMOVUPS (R13)(AX*1), Y1
	VSUBPS  (R9)(AX*1), Y1, Y1
	VMULPS  (R10)(AX*1), Y1, Y1
	VMULPS  (R11)(AX*1), Y1, Y1
	VADDPS  (R12)(AX*1), Y1, Y1
	VADDPS  (SI)(AX*1), Y1, Y1
	VMULPS  (BX)(AX*1), Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)(AX*1)
	ADDQ    $32, AX
	CMPQ    AX, R8
	JNE     inputgradcolumn
	ADDQ    DX, R13
	ADDQ    DX, SI
	ADDQ    DX, DI
	DECQ    CX
	JNZ     inputgrad
	VZEROUPPER
	RET

DATA rowsIota<>+0(SB)/4, $1
DATA rowsIota<>+4(SB)/4, $2
DATA rowsIota<>+8(SB)/4, $3
DATA rowsIota<>+12(SB)/4, $4
DATA rowsIota<>+16(SB)/4, $5
DATA rowsIota<>+20(SB)/4, $6
DATA rowsIota<>+24(SB)/4, $7
DATA rowsIota<>+28(SB)/4, $8
DATA rowsIota<>+32(SB)/4, $8
DATA rowsIota<>+36(SB)/4, $0x3f800000
GLOBL rowsIota<>(SB), RODATA|NOPTR, $40

// func maxVector(index *int32, n int) uint32
TEXT ·maxVector(SB), NOSPLIT, $0-20
	MOVQ  index+0(FP), SI
	MOVQ  n+8(FP), CX
	VPXOR Y0, Y0, Y0
max:
	VPMAXUD (SI), Y0, Y0
	ADDQ    $32, SI
	SUBQ    $8, CX
	JNZ     max
	VEXTRACTI128 $1, Y0, X1
	VPMAXUD X1, X0, X0
	VPSHUFD $0x4e, X0, X1
	VPMAXUD X1, X0, X0
	VPSHUFD $0xb1, X0, X1
	VPMAXUD X1, X0, X0
	VMOVD   X0, AX
	MOVL    AX, ret+16(FP)
	VZEROUPPER
	RET

// func runVector(offsets *int32, n int) int
TEXT ·runVector(SB), NOSPLIT, $0-24
	MOVQ offsets+0(FP), SI
	MOVQ n+8(FP), CX
	XORL BX, BX
	VPBROADCASTD (SI), Y0
	VPADDD       rowsIota<>+0(SB), Y0, Y0
	VPBROADCASTD rowsIota<>+32(SB), Y1
run:
	VPCMPEQD  4(SI)(BX*4), Y0, Y2
	VMOVMSKPS Y2, AX
	CMPL      AX, $0xff
	JNE       runend
	VPADDD    Y1, Y0, Y0
	ADDQ      $8, BX
	CMPQ      BX, CX
	JNE       run
runend:
	MOVQ BX, ret+16(FP)
	VZEROUPPER
	RET

// func onesVector(weights *float32, n int) int
TEXT ·onesVector(SB), NOSPLIT, $0-24
	MOVQ weights+0(FP), SI
	MOVQ n+8(FP), CX
	XORL BX, BX
	VPBROADCASTD rowsIota<>+36(SB), Y0
ones:
	VPCMPEQD  (SI)(BX*4), Y0, Y2
	VMOVMSKPS Y2, AX
	CMPL      AX, $0xff
	JNE       onesend
	ADDQ      $8, BX
	CMPQ      BX, CX
	JNE       ones
onesend:
	MOVQ BX, ret+16(FP)
	VZEROUPPER
	RET
