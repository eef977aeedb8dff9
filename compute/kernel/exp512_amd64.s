#include "textflag.h"

// The constants of exp_amd64.s: log2e, roundMagic, ln2High, ln2Low, expMax,
// -expMax, 1 (also the bias of an exponent), then 1/k! for k = 11..0.
DATA wideExp<>+0(SB)/8, $0x3ff71547652b82fe
DATA wideExp<>+8(SB)/8, $0x4338000000000000
DATA wideExp<>+16(SB)/8, $0x3fe62e42fee00000
DATA wideExp<>+24(SB)/8, $0x3dea39ef35793c76
DATA wideExp<>+32(SB)/8, $0x4069000000000000
DATA wideExp<>+40(SB)/8, $0xc069000000000000
DATA wideExp<>+48(SB)/8, $0x3ff0000000000000
DATA wideExp<>+56(SB)/8, $0x3e5ae64567f544e4
DATA wideExp<>+64(SB)/8, $0x3e927e4fb7789f5c
DATA wideExp<>+72(SB)/8, $0x3ec71de3a556c734
DATA wideExp<>+80(SB)/8, $0x3efa01a01a01a01a
DATA wideExp<>+88(SB)/8, $0x3f2a01a01a01a01a
DATA wideExp<>+96(SB)/8, $0x3f56c16c16c16c17
DATA wideExp<>+104(SB)/8, $0x3f81111111111111
DATA wideExp<>+112(SB)/8, $0x3fa5555555555555
DATA wideExp<>+120(SB)/8, $0x3fc5555555555555
DATA wideExp<>+128(SB)/8, $0x3fe0000000000000
DATA wideExp<>+136(SB)/4, $0x7fc00000
DATA wideExp<>+140(SB)/4, $0
GLOBL wideExp<>(SB), RODATA|NOPTR, $144

// One Horner step of both groups: p = p*r + c.
#define WIDEHORNER(c) \
	VMULPD Z2, Z4, Z4 \
	VMULPD Z3, Z5, Z5 \
	VADDPD c, Z4, Z4  \
	VADDPD c, Z5, Z5

// func expVector512(dst, x *float32, n int)
//
// It is expVector with twice as many elements in a register: the same
// operations in the same order.
TEXT ·expVector512(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSD wideExp<>+0(SB), Z12
	VBROADCASTSD wideExp<>+8(SB), Z11
	VBROADCASTSD wideExp<>+16(SB), Z10
	VBROADCASTSD wideExp<>+24(SB), Z9
	VBROADCASTSD wideExp<>+32(SB), Z8
	VBROADCASTSD wideExp<>+40(SB), Z15
	VBROADCASTSD wideExp<>+48(SB), Z14
	VBROADCASTSS wideExp<>+136(SB), Z13
	VBROADCASTSD wideExp<>+56(SB), Z16
	VBROADCASTSD wideExp<>+64(SB), Z17
	VBROADCASTSD wideExp<>+72(SB), Z18
	VBROADCASTSD wideExp<>+80(SB), Z19
	VBROADCASTSD wideExp<>+88(SB), Z20
	VBROADCASTSD wideExp<>+96(SB), Z21
	VBROADCASTSD wideExp<>+104(SB), Z22
	VBROADCASTSD wideExp<>+112(SB), Z23
	VBROADCASTSD wideExp<>+120(SB), Z24
	VBROADCASTSD wideExp<>+128(SB), Z25

wideexp:
	VCVTPS2PD (SI), Z0
	VCVTPS2PD 32(SI), Z1

	// Bounded, the constant first: a NaN passes.
	VMINPD Z0, Z8, Z0
	VMINPD Z1, Z8, Z1
	VMAXPD Z0, Z15, Z0
	VMAXPD Z1, Z15, Z1

	// Z6 and Z7 are shifted, Z4 and Z5 n, then Z2 and Z3 r.
	VMULPD Z12, Z0, Z6
	VMULPD Z12, Z1, Z7
	VADDPD Z11, Z6, Z6
	VADDPD Z11, Z7, Z7
	VSUBPD Z11, Z6, Z4
	VSUBPD Z11, Z7, Z5
	VMULPD Z10, Z4, Z2
	VMULPD Z10, Z5, Z3
	VSUBPD Z2, Z0, Z2
	VSUBPD Z3, Z1, Z3
	VMULPD Z9, Z4, Z4
	VMULPD Z9, Z5, Z5
	VSUBPD Z4, Z2, Z2
	VSUBPD Z5, Z3, Z3

	// The series.
	VMULPD Z2, Z16, Z4
	VMULPD Z3, Z16, Z5
	VADDPD Z17, Z4, Z4
	VADDPD Z17, Z5, Z5
	WIDEHORNER(Z18)
	WIDEHORNER(Z19)
	WIDEHORNER(Z20)
	WIDEHORNER(Z21)
	WIDEHORNER(Z22)
	WIDEHORNER(Z23)
	WIDEHORNER(Z24)
	WIDEHORNER(Z25)
	WIDEHORNER(Z14)
	WIDEHORNER(Z14)

	// Times 2^n.
	VPSLLQ $52, Z6, Z6
	VPSLLQ $52, Z7, Z7
	VPADDQ Z14, Z6, Z6
	VPADDQ Z14, Z7, Z7
	VMULPD Z6, Z4, Z4
	VMULPD Z7, Z5, Z5

	VCVTPD2PS    Z4, Y4
	VCVTPD2PS    Z5, Y5
	VINSERTF64X4 $1, Y5, Z4, Z4
	VCMPPS       $3, Z4, Z4, K1
	VMOVAPS      Z13, K1, Z4
	VMOVUPS      Z4, (DI)
	ADDQ         $64, SI
	ADDQ         $64, DI
	SUBQ         $16, CX
	JNZ          wideexp
	VZEROUPPER
	RET
