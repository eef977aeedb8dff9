package main

import (
	"testing"

	"github.com/fathom-train/fathom/ps"
)

func TestMemoryLimitIsRead(t *testing.T) {
	machine := ps.MachineMemory()
	for text, want := range map[string]uint64{
		"none": 0, "1000": 1000, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "2TiB": 2 << 40, "50%": machine / 2,
	} {
		var m memoryLimit
		if err := m.Set(text); err != nil || m.limit() != want {
			t.Errorf("%q: %d, %v; want %d", text, m.limit(), err, want)
		}
	}
	for _, text := range []string{"", "0", "-1GiB", "8GB", "110%", "many", "1e30", "NaN", "Inf", "%"} {
		if err := new(memoryLimit).Set(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	if n := new(memoryLimit).limit(); machine > 0 && (n == 0 || n >= machine) {
		t.Errorf("the default is %d of %d bytes", n, machine)
	}
}
