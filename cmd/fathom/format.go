package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// grouped writes an integer with a comma between thousands: 1,234,567.
func grouped[T uint64 | int64 | int](n T) string {
	digits := strconv.FormatUint(uint64(n), 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// byteSize writes a number of bytes with a binary unit: 12.3 MiB.
func byteSize(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB"} {
		if v /= 1024; v < 1024 {
			return fmt.Sprintf("%.1f %s", v, unit)
		}
	}
	return fmt.Sprintf("%.1f TiB", v/1024)
}

// seconds writes a duration the way people say it: 4.2s, 3m07s, 2h05m.
func seconds(s float64) string {
	switch {
	case s < 0 || math.IsNaN(s) || s > 1e9:
		return "?"
	case s < 60:
		return fmt.Sprintf("%.1fs", s)
	}
	d := time.Duration(s * float64(time.Second)).Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// rate writes samples per second.
func rate(perSecond float64) string {
	if perSecond <= 0 || math.IsNaN(perSecond) || math.IsInf(perSecond, 0) {
		return "-"
	}
	return grouped(uint64(math.Round(perSecond)))
}

// clip shortens a line to at most width characters.
func clip(line string, width int) string {
	r := []rune(line)
	if len(r) <= width {
		return line
	}
	if width < 1 {
		return ""
	}
	return string(r[:width-1]) + "…"
}

// columns aligns rows: align has one letter for each column, l for words and r
// for numbers.
func columns(align string, rows [][]string) []string {
	widths := make([]int, len(align))
	for _, r := range rows {
		for i, cell := range r {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	lines := make([]string, len(rows))
	for n, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			if i > 0 {
				b.WriteString("  ")
			}
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if align[i] == 'r' {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// bytesText writes a size as people read it.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i+1 < len(units); i++ {
		v /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
