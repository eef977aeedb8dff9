#include "textflag.h"

DATA attentionNaN<>(SB)/4, $0x7fc00000
GLOBL attentionNaN<>(SB), RODATA|NOPTR, $4

// Any NaN in y becomes the one in n; t is lost.
#define CANONICAL(y, n, t) \
	VCMPPS    $3, y, y, t  \
	VBLENDVPS t, n, y, y

// Where n is no multiple of eight, the last eight elements overlap the eight
// before them. They are computed before anything is stored.

// func lowerVector(x *float32, n int)
TEXT ·lowerVector(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), DI
	MOVQ n+8(FP), CX
	LEAQ -32(DI)(CX*4), DX // the last eight
	VMOVUPS (DX), Y7
	VMOVAPS Y7, Y0
	MOVQ DI, SI
	JMP  topcheck
top:
	VMAXPS (SI), Y0, Y0
	ADDQ   $32, SI
topcheck:
	CMPQ SI, DX
	JB   top
	VEXTRACTF128 $1, Y0, X1
	VMAXPS       X1, X0, X0
	VMOVHLPS     X0, X0, X1
	VMAXPS       X1, X0, X0
	VMOVSHDUP    X0, X1
	VMAXSS       X1, X0, X0
	VBROADCASTSS X0, Y0
	VSUBPS       Y0, Y7, Y7
	JMP lowercheck
lower:
	VMOVUPS (DI), Y1
	VSUBPS  Y0, Y1, Y1
	VMOVUPS Y1, (DI)
	ADDQ    $32, DI
lowercheck:
	CMPQ DI, DX
	JB   lower
	VMOVUPS Y7, (DX)
	VZEROUPPER
	RET

// func softmaxGradVector(grad, y *float32, dot float32, n int)
TEXT ·softmaxGradVector(SB), NOSPLIT, $0-32
	MOVQ grad+0(FP), DI
	MOVQ y+8(FP), SI
	VBROADCASTSS dot+16(FP), Y0
	MOVQ n+24(FP), CX
	VBROADCASTSS attentionNaN<>(SB), Y15
	LEAQ -32(DI)(CX*4), DX
	VMOVUPS (DX), Y7
	VSUBPS  Y0, Y7, Y7
	VMULPS  -32(SI)(CX*4), Y7, Y7
	CANONICAL(Y7, Y15, Y2)
	JMP softgradcheck
softgrad:
	VMOVUPS (DI), Y1
	VSUBPS  Y0, Y1, Y1
	VMULPS  (SI), Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)
	ADDQ    $32, DI
	ADDQ    $32, SI
softgradcheck:
	CMPQ DI, DX
	JB   softgrad
	VMOVUPS Y7, (DX)
	VZEROUPPER
	RET

// func subtractVector(dst, x *float32, alpha float32, n int)
TEXT ·subtractVector(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	VBROADCASTSS alpha+16(FP), Y0
	MOVQ n+24(FP), CX
	VBROADCASTSS attentionNaN<>(SB), Y15
subtract:
	VMOVUPS (SI), Y1
	VSUBPS  Y0, Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     subtract
	VZEROUPPER
	RET

// func layerNormVector(y, xhat *float32, inverse float32, gamma, beta *float32, n int)
TEXT ·layerNormVector(SB), NOSPLIT, $0-48
	MOVQ y+0(FP), DI
	MOVQ xhat+8(FP), SI
	VBROADCASTSS inverse+16(FP), Y0
	MOVQ gamma+24(FP), R8
	MOVQ beta+32(FP), R9
	MOVQ n+40(FP), CX
	VBROADCASTSS attentionNaN<>(SB), Y15
	XORL AX, AX
layernorm:
	VMULPS  (SI)(AX*4), Y0, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (SI)(AX*4)
	VMULPS  (R8)(AX*4), Y1, Y1
	VADDPS  (R9)(AX*4), Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)(AX*4)
	ADDQ    $8, AX
	CMPQ    AX, CX
	JNE     layernorm
	VZEROUPPER
	RET

// func gammaGradVector(dgamma, out, dy, xhat, gamma *float32, n int)
TEXT ·gammaGradVector(SB), NOSPLIT, $0-48
	MOVQ dgamma+0(FP), DI
	MOVQ out+8(FP), R8
	MOVQ dy+16(FP), SI
	MOVQ xhat+24(FP), DX
	MOVQ gamma+32(FP), R9
	MOVQ n+40(FP), CX
	VBROADCASTSS attentionNaN<>(SB), Y15
	XORL AX, AX
gammagrad:
	VMOVUPS (SI)(AX*4), Y0
	VMULPS  (DX)(AX*4), Y0, Y1
	VADDPS  (DI)(AX*4), Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)(AX*4)
	VMULPS  (R9)(AX*4), Y0, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (R8)(AX*4)
	ADDQ    $8, AX
	CMPQ    AX, CX
	JNE     gammagrad
	VZEROUPPER
	RET

// func layerNormGradVector(out, xhat *float32, mean, slope, inverse float32, n int)
TEXT ·layerNormGradVector(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ xhat+8(FP), SI
	VBROADCASTSS mean+16(FP), Y0
	VBROADCASTSS slope+20(FP), Y3
	VBROADCASTSS inverse+24(FP), Y4
	MOVQ n+32(FP), CX
	VBROADCASTSS attentionNaN<>(SB), Y15
	XORL AX, AX
normgrad:
	VMOVUPS (DI)(AX*4), Y1
	VSUBPS  Y0, Y1, Y1
	VMULPS  (SI)(AX*4), Y3, Y2
	VSUBPS  Y2, Y1, Y1
	VMULPS  Y4, Y1, Y1
	CANONICAL(Y1, Y15, Y2)
	VMOVUPS Y1, (DI)(AX*4)
	ADDQ    $8, AX
	CMPQ    AX, CX
	JNE     normgrad
	VZEROUPPER
	RET
