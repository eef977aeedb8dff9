package job

import (
	"reflect"
	"strings"
)

// distance is the number of single-letter edits (insert, delete, replace, swap
// of neighbours) between two words.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last := make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row := make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			change := 1
			if x[i-1] == y[j-1] {
				change = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(y)]
}

// wordBytesMax bounds the words that are compared, as the work is quadratic.
const wordBytesMax = 64

// nearest returns the candidate closest to word, if one is close enough to be
// what was meant.
func nearest(word string, candidates []string) (string, bool) {
	if len(word) > wordBytesMax {
		return "", false
	}
	fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "_")) }
	best, bestDistance := "", 1+max(2, len(word)/3)
	for _, c := range candidates {
		if d := distance(fold(word), fold(c)); d < bestDistance && d < len(c) {
			best, bestDistance = c, d
		}
	}
	return best, best != ""
}

// hintUnknown says what the unknown field name of a struct may have been meant
// to be: a sibling, or the same name elsewhere in the job.
func hintUnknown(name string, t reflect.Type) string {
	var siblings []string
	for _, m := range members(t) {
		siblings = append(siblings, m.name)
	}
	if near, ok := nearest(name, siblings); ok {
		return "did you mean " + near + "?"
	}
	elsewhere := ""
	walkTypes(reflect.TypeFor[Job](), "", func(path string, _ reflect.Type) {
		if elsewhere == "" && path[strings.LastIndexByte(path, '.')+1:] == name {
			elsewhere = path
		}
	})
	if elsewhere != "" {
		return "did you mean " + elsewhere + "?"
	}
	return "the fields here are " + strings.Join(siblings, ", ")
}
