//go:build armbe || arm64be || m68k || mips || mips64 || mips64p32 || ppc || ppc64 || s390 || s390x || sparc || sparc64

package wire

// Rows are read and hashed as they lie in memory.
const _ = thisFormatNeedsALittleEndianMachine
