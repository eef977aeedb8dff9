#include "textflag.h"

// The constants of exp.go: log2e, roundMagic, ln2High, ln2Low, expMax, -expMax,
// then 1/k! for k = 0..11.
DATA expConst<>+0(SB)/8, $0x3ff71547652b82fe
DATA expConst<>+8(SB)/8, $0x4338000000000000
DATA expConst<>+16(SB)/8, $0x3fe62e42fee00000
DATA expConst<>+24(SB)/8, $0x3dea39ef35793c76
DATA expConst<>+32(SB)/8, $0x4069000000000000
DATA expConst<>+40(SB)/8, $0xc069000000000000
DATA expConst<>+48(SB)/8, $0x3ff0000000000000
DATA expConst<>+56(SB)/8, $0x3ff0000000000000
DATA expConst<>+64(SB)/8, $0x3fe0000000000000
DATA expConst<>+72(SB)/8, $0x3fc5555555555555
DATA expConst<>+80(SB)/8, $0x3fa5555555555555
DATA expConst<>+88(SB)/8, $0x3f81111111111111
DATA expConst<>+96(SB)/8, $0x3f56c16c16c16c17
DATA expConst<>+104(SB)/8, $0x3f2a01a01a01a01a
DATA expConst<>+112(SB)/8, $0x3efa01a01a01a01a
DATA expConst<>+120(SB)/8, $0x3ec71de3a556c734
DATA expConst<>+128(SB)/8, $0x3e927e4fb7789f5c
DATA expConst<>+136(SB)/8, $0x3e5ae64567f544e4
DATA expConst<>+144(SB)/8, $0x8000000000000000
DATA expConst<>+152(SB)/8, $0x3ff0000000000000 // 1, and the bias of an exponent
DATA expConst<>+160(SB)/4, $0x7fc00000
DATA expConst<>+164(SB)/4, $0
DATA expConst<>+168(SB)/8, $0x3f30000000000000 // tanhSmall
DATA expConst<>+176(SB)/8, $0x3fd5555555555555 // 1/3
DATA expConst<>+184(SB)/8, $0x7fffffffffffffff
GLOBL expConst<>(SB), RODATA|NOPTR, $192

// Two groups of four float64, Y0 and Y1, go through the steps of exp64 side by
// side. One Horner step: p = p*r + 1/k!.
#define HORNER(k) \
	VBROADCASTSD expConst<>+(48+8*k)(SB), Y8 \
	VMULPD Y2, Y4, Y4 \
	VMULPD Y3, Y5, Y5 \
	VADDPD Y8, Y4, Y4 \
	VADDPD Y8, Y5, Y5

// CONSTANTS loads what EXP needs.
#define CONSTANTS \
	VBROADCASTSD expConst<>+152(SB), Y14 \
	VBROADCASTSS expConst<>+160(SB), Y13 \
	VBROADCASTSD expConst<>+0(SB), Y12   \
	VBROADCASTSD expConst<>+8(SB), Y11   \
	VBROADCASTSD expConst<>+16(SB), Y10  \
	VBROADCASTSD expConst<>+24(SB), Y9

// EXP sets Y4 and Y5 to exp64 of Y0 and Y1. First they are bounded: the constant
// is the first source, so a NaN in the second passes. Then Y6, Y7 are shifted;
// Y4, Y5 are n; Y2, Y3 are r; and the sum is multiplied by 2^n.
#define EXP \
	VBROADCASTSD expConst<>+32(SB), Y8 \
	VMINPD       Y0, Y8, Y0 \
	VMINPD       Y1, Y8, Y1 \
	VBROADCASTSD expConst<>+40(SB), Y8 \
	VMAXPD       Y0, Y8, Y0 \
	VMAXPD       Y1, Y8, Y1 \
	VMULPD Y12, Y0, Y6 \
	VMULPD Y12, Y1, Y7 \
	VADDPD Y11, Y6, Y6 \
	VADDPD Y11, Y7, Y7 \
	VSUBPD Y11, Y6, Y4 \
	VSUBPD Y11, Y7, Y5 \
	VMULPD Y10, Y4, Y2 \
	VMULPD Y10, Y5, Y3 \
	VSUBPD Y2, Y0, Y2 \
	VSUBPD Y3, Y1, Y3 \
	VMULPD Y9, Y4, Y4 \
	VMULPD Y9, Y5, Y5 \
	VSUBPD Y4, Y2, Y2 \
	VSUBPD Y5, Y3, Y3 \
	VBROADCASTSD expConst<>+136(SB), Y4 \
	VMOVAPD      Y4, Y5 \
	HORNER(10) \
	HORNER(9) \
	HORNER(8) \
	HORNER(7) \
	HORNER(6) \
	HORNER(5) \
	HORNER(4) \
	HORNER(3) \
	HORNER(2) \
	HORNER(1) \
	HORNER(0) \
	VPSLLQ $52, Y6, Y6 \
	VPSLLQ $52, Y7, Y7 \
	VPADDQ Y14, Y6, Y6 \
	VPADDQ Y14, Y7, Y7 \
	VMULPD Y6, Y4, Y4 \
	VMULPD Y7, Y5, Y5

// FINISH rounds Y4 and Y5 to eight float32 and stores them.
#define FINISH \
	VCVTPD2PSY  Y4, X4 \
	VCVTPD2PSY  Y5, X5 \
	VINSERTF128 $1, X5, Y4, Y4 \
	VCMPPS      $3, Y4, Y4, Y5 \
	VBLENDVPS   Y5, Y13, Y4, Y4 \
	VMOVUPS     Y4, (DI)

// func sigmoidVector(dst, x *float32, n int)
TEXT ·sigmoidVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSD expConst<>+144(SB), Y15
	CONSTANTS

sigmoid:
	VCVTPS2PD (SI), Y0
	VCVTPS2PD 16(SI), Y1
	VXORPD    Y15, Y0, Y0
	VXORPD    Y15, Y1, Y1
	EXP
	VADDPD    Y14, Y4, Y4
	VADDPD    Y14, Y5, Y5
	VDIVPD    Y4, Y14, Y4
	VDIVPD    Y5, Y14, Y5
	FINISH
	ADDQ      $32, SI
	ADDQ      $32, DI
	SUBQ      $8, CX
	JNZ       sigmoid
	VZEROUPPER
	RET

// func expVector(dst, x *float32, n int)
TEXT ·expVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	CONSTANTS

exp:
	VCVTPS2PD (SI), Y0
	VCVTPS2PD 16(SI), Y1
	EXP
	FINISH
	ADDQ      $32, SI
	ADDQ      $32, DI
	SUBQ      $8, CX
	JNZ       exp
	VZEROUPPER
	RET

// TANHSMALL replaces in t the elements whose x is small: by x*(1-x*x/3).
#define TANHSMALL(x, t) \
	VBROADCASTSD expConst<>+184(SB), Y2 \
	VANDPD       x, Y2, Y2 \
	VBROADCASTSD expConst<>+168(SB), Y3 \
	VCMPPD       $1, Y3, Y2, Y2 \
	VMULPD       x, x, Y3 \
	VBROADCASTSD expConst<>+176(SB), Y8 \
	VMULPD       Y8, Y3, Y3 \
	VSUBPD       Y3, Y14, Y3 \
	VMULPD       x, Y3, Y3 \
	VBLENDVPD    Y2, Y3, t, t

// func tanhVector(dst, x *float32, n int)
TEXT ·tanhVector(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	CONSTANTS

tanh:
	VCVTPS2PD (SI), Y0
	VCVTPS2PD 16(SI), Y1
	VADDPD    Y0, Y0, Y0
	VADDPD    Y1, Y1, Y1
	EXP
	VSUBPD    Y14, Y4, Y2
	VSUBPD    Y14, Y5, Y3
	VADDPD    Y14, Y4, Y4
	VADDPD    Y14, Y5, Y5
	VDIVPD    Y4, Y2, Y4
	VDIVPD    Y5, Y3, Y5
	VCVTPS2PD (SI), Y0
	VCVTPS2PD 16(SI), Y1
	TANHSMALL(Y0, Y4)
	TANHSMALL(Y1, Y5)
	FINISH
	ADDQ      $32, SI
	ADDQ      $32, DI
	SUBQ      $8, CX
	JNZ       tanh
	VZEROUPPER
	RET
