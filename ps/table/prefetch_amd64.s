#include "textflag.h"

// func prefetch(at *[group]unsafe.Pointer, n, lines int)
TEXT ·prefetch(SB), NOSPLIT, $0-24
	MOVQ  at+0(FP), SI
	MOVQ  n+8(FP), CX
	MOVQ  lines+16(FP), DX
	TESTQ CX, CX
	JZ    done

next:
	MOVQ (SI), DI
	MOVQ DX, BX

line:
	PREFETCHT0 (DI)
	ADDQ       $64, DI
	DECQ       BX
	JNZ        line
	ADDQ       $8, SI
	DECQ       CX
	JNZ        next

done:
	RET

// func prefetchOne(at unsafe.Pointer)
TEXT ·prefetchOne(SB), NOSPLIT, $0-8
	MOVQ       at+0(FP), DI
	PREFETCHT0 (DI)
	RET
