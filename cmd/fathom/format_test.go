package main

import (
	"math"
	"testing"
)

func TestNumbersAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{grouped(0), "0"}, {grouped(999), "999"}, {grouped(1000), "1,000"}, {grouped(uint64(1234567)), "1,234,567"},
		{byteSize(1023), "1023 B"}, {byteSize(1024), "1.0 KiB"}, {byteSize(5 << 20), "5.0 MiB"}, {byteSize(1 << 40), "1.0 TiB"},
		{seconds(4.24), "4.2s"}, {seconds(187), "3m07s"}, {seconds(7500), "2h05m"}, {seconds(-1), "?"}, {seconds(math.NaN()), "?"},
		{rate(152300.4), "152,300"}, {rate(0), "-"}, {rate(math.Inf(1)), "-"},
		{clip("short", 5), "short"}, {clip("longer", 5), "long…"}, {clip("x", 0), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestColumnsAlign(t *testing.T) {
	t.Parallel()
	got := columns("lrl", [][]string{{"a", "long", "x"}, {"bcd", "1", ""}})
	if got[0] != "a    long  x" || got[1] != "bcd     1" {
		t.Errorf("got %q", got)
	}
}
