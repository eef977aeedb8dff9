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
