#include "textflag.h"

// func prefetch(at unsafe.Pointer, lines int)
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVQ at+0(FP), DI
	MOVQ lines+8(FP), CX

line:
	PREFETCHT0 (DI)
	ADDQ       $64, DI
	DECQ       CX
	JNZ        line
	RET
