package layer

import (
	"fmt"
	"testing"
)

func TestJoinedHasTheBitsOfALinearOverCopies(t *testing.T) {
	for _, widths := range [][]int{{5}, {3, 64}, {624, 400}, {1, 2, 3}} {
		for _, n := range []int{0, 1, 37} {
			t.Run(fmt.Sprint(widths, n), func(t *testing.T) {
				j := Joined{Widths: widths}
				l := Linear{In: j.In(), Out: 1}
				var x, dx [][]float32
				all, at := make([]float32, n*l.In), 0
				for i, width := range widths {
					x, dx = append(x, values(uint64(i), n*width)), append(dx, make([]float32, n*width))
					if n > 0 {
						CopyRows(all[at:], l.In, x[i], width, width, n)
					}
					at += width
				}
				w, b, dy := values(10, l.In), values(11, 1), values(12, n)
				y, want := make([]float32, n), make([]float32, n)
				l.Forward(want, all, w, b, n)
				j.Forward(y, x, w, b)
				equalBits(t, "y", y, want)

				dw, db, dAll := values(1, l.In), values(2, 1), make([]float32, n*l.In)
				l.Backward(dAll, dw, db, dy, w)
				dwJoined, dbJoined := values(3, l.In), values(4, 1)
				j.Backward(dx, dwJoined, dbJoined, dy, w)
				equalBits(t, "dw", dwJoined, dw)
				equalBits(t, "db", dbJoined, db)
				at = 0
				for i, width := range widths {
					part := make([]float32, n*width)
					if n > 0 {
						CopyRows(part, width, dAll[at:], l.In, width, n)
					}
					equalBits(t, fmt.Sprint("dx ", i), dx[i], part)
					at += width
				}
			})
		}
	}
}
