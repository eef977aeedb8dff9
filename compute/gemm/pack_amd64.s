#include "textflag.h"

// func transposeVector(dst *float32, width int, src *float32, stride, rows, k int)
TEXT ·transposeVector(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ width+8(FP), SI
	MOVQ src+16(FP), R8
	MOVQ stride+24(FP), DX
	MOVQ rows+32(FP), CX
	SHLQ $2, SI
	SHLQ $2, DX

	// R8 to R13, AX, BX: the rows. Past the last one, the step becomes 0.
	DECQ CX
	CMOVQEQ CX, DX
	LEAQ (R8)(DX*1), R9
	DECQ CX
	CMOVQEQ CX, DX
	LEAQ (R9)(DX*1), R10
	DECQ CX
	CMOVQEQ CX, DX
	LEAQ (R10)(DX*1), R11
	DECQ CX
	CMOVQEQ CX, DX
	LEAQ (R11)(DX*1), R12
	DECQ CX
	CMOVQEQ CX, DX
	LEAQ (R12)(DX*1), R13
	DECQ CX
	CMOVQEQ CX, DX
	LEAQ (R13)(DX*1), AX
	DECQ CX
	CMOVQEQ CX, DX
	LEAQ (AX)(DX*1), BX
	MOVQ k+40(FP), CX
	XORL DX, DX

four:
	// Four columns: halves of rows r and r+4 share a register.
	VMOVUPS     (R8)(DX*1), X0
	VINSERTF128 $1, (R12)(DX*1), Y0, Y0
	VMOVUPS     (R9)(DX*1), X1
	VINSERTF128 $1, (R13)(DX*1), Y1, Y1
	VMOVUPS     (R10)(DX*1), X2
	VINSERTF128 $1, (AX)(DX*1), Y2, Y2
	VMOVUPS     (R11)(DX*1), X3
	VINSERTF128 $1, (BX)(DX*1), Y3, Y3
	VUNPCKLPS   Y1, Y0, Y4
	VUNPCKHPS   Y1, Y0, Y5
	VUNPCKLPS   Y3, Y2, Y6
	VUNPCKHPS   Y3, Y2, Y7
	VUNPCKLPD   Y6, Y4, Y0
	VUNPCKHPD   Y6, Y4, Y1
	VUNPCKLPD   Y7, Y5, Y2
	VUNPCKHPD   Y7, Y5, Y3
	VMOVUPS     Y0, (DI)
	ADDQ        SI, DI
	VMOVUPS     Y1, (DI)
	ADDQ        SI, DI
	VMOVUPS     Y2, (DI)
	ADDQ        SI, DI
	VMOVUPS     Y3, (DI)
	ADDQ        SI, DI
	ADDQ        $16, DX
	SUBQ        $4, CX
	JNZ         four
	VZEROUPPER
	RET

// func packStripsVector(dst *float32, step int, src *float32, stride, strips, columns int, wide bool)
TEXT ·packStripsVector(SB), NOSPLIT, $0-49
	MOVQ    dst+0(FP), DI
	MOVQ    step+8(FP), R8
	MOVQ    src+16(FP), SI
	MOVQ    stride+24(FP), DX
	MOVQ    strips+32(FP), CX
	MOVQ    columns+40(FP), R9
	MOVBLZX wide+48(FP), AX
	SHLQ    $2, R8
	SHLQ    $2, DX
	TESTL   AX, AX
	JZ      narrow

wide:
	MOVQ DI, R10
	MOVQ SI, R11
	MOVQ R9, BX
widecolumn:
	VMOVUPS (R11), Y0
	VMOVUPS 32(R11), Y1
	VMOVUPS Y0, (R10)
	VMOVUPS Y1, 32(R10)
	ADDQ    DX, R11
	ADDQ    $64, R10
	DECQ    BX
	JNZ     widecolumn
	ADDQ    R8, DI
	ADDQ    $64, SI
	DECQ    CX
	JNZ     wide
	VZEROUPPER
	RET

narrow:
	MOVQ DI, R10
	MOVQ SI, R11
	MOVQ R9, BX
narrowcolumn:
	VMOVUPS (R11), X0
	MOVQ    16(R11), AX
	VMOVUPS X0, (R10)
	MOVQ    AX, 16(R10)
	ADDQ    DX, R11
	ADDQ    $24, R10
	DECQ    BX
	JNZ     narrowcolumn
	ADDQ    R8, DI
	ADDQ    $24, SI
	DECQ    CX
	JNZ     narrow
	RET
