package main

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/fathom-train/fathom/ps"
)

// memoryLimit is the --memory-limit flag: bytes, with a unit if wanted, or a
// share of what the machine or its container has. The zero value is the default.
type memoryLimit struct {
	text  string
	bytes uint64
}

// limit returns the bytes; 0 is no limit.
func (m *memoryLimit) limit() uint64 {
	if m.text == "" {
		return ps.DefaultMemoryLimit()
	}
	return m.bytes
}

// String, Set and Type make memoryLimit a pflag.Value.
func (m *memoryLimit) String() string { return m.text }

// Type is the flag's placeholder in the help.
func (m *memoryLimit) Type() string { return "bytes" }

var errMemory = errors.New(`want bytes such as 8GiB or 512MiB, a share such as 40%, or "none"`)

// Set reads a limit.
func (m *memoryLimit) Set(s string) error {
	number, factor := s, 1.0
	switch {
	case s == "none":
		m.text, m.bytes = s, 0
		return nil
	case strings.HasSuffix(s, "%"):
		number, factor = s[:len(s)-1], float64(ps.MachineMemory())/100
	default:
		for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
			if strings.HasSuffix(s, unit) {
				number, factor = s[:len(s)-len(unit)], math.Exp2(10*float64(i+1))
			}
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	bytes := n * factor
	if err != nil || !(n > 0) || bytes >= 1<<62 || strings.HasSuffix(s, "%") && n > 100 {
		return errMemory
	}
	m.text, m.bytes = s, uint64(bytes)
	return nil
}
