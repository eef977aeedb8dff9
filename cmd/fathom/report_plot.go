package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/fathom-train/fathom/coordinator/search"
)

// plot is a diagram in the coordinates of its SVG: what the template draws.
type plot struct {
	Width, Height            float64
	Left, Right, Top, Bottom float64 // of the frame
	XLabel, YLabel           string
	XTicks, YTicks           []tick
	Series                   []series
	Lines                    []tick // vertical ones
	Hidden                   int    // points below the frame

	toX, toY func(float64) float64
}

// tick is a place on an axis.
type tick struct {
	At    float64
	Label string
}

// series is a set of points that look alike.
type series struct {
	Name, Class string
	Points      []point
	Line        bool   // they are joined
	Path        string // of the line
}

// point is one value; newPlot replaces what it stands for by where it is drawn.
type point struct {
	X, Y  float64
	Mark  bool
	Title string
}

// newPlot lays out the series. The frame goes as low as the lowest point of a
// series that is joined, or of the last one: a search scores candidates that are
// so bad that nothing else could be told apart beside them. Ticks of x are round numbers of units.
func newPlot(xLabel, yLabel string, unit float64, xText func(float64) string, all ...series) *plot {
	p := &plot{Width: 760, Height: 380, Left: 70, Right: 715, Top: 16, Bottom: 330, XLabel: xLabel, YLabel: yLabel}
	var xs, ys []float64
	for i, s := range all {
		for _, at := range s.Points {
			xs = append(xs, at.X)
			if s.Line || i == len(all)-1 {
				ys = append(ys, at.Y)
			}
		}
	}
	x, y := axis(0, slices.Max(xs)/unit, 6), axis(slices.Min(ys), slices.Max(ys), 6)
	p.toX = func(v float64) float64 { return p.Left + (v/unit-x.lo)/(x.hi-x.lo)*(p.Right-p.Left) }
	p.toY = func(v float64) float64 { return p.Bottom - (v-y.lo)/(y.hi-y.lo)*(p.Bottom-p.Top) }
	for _, v := range x.ticks {
		p.XTicks = append(p.XTicks, tick{p.toX(v * unit), xText(v * unit)})
	}
	for _, v := range y.ticks {
		p.YTicks = append(p.YTicks, tick{p.toY(v), fmt.Sprintf("%.*f", y.digits, v)})
	}
	for _, s := range all {
		drawn := series{Name: s.Name, Class: s.Class, Line: s.Line}
		for _, at := range s.Points {
			if at.Y < y.lo {
				p.Hidden++
				continue
			}
			at.X, at.Y = p.toX(at.X), p.toY(at.Y)
			drawn.Points = append(drawn.Points, at)
			if s.Line {
				drawn.Path += fmt.Sprintf("%.1f,%.1f ", at.X, at.Y)
			}
		}
		if len(drawn.Points) > 0 {
			p.Series = append(p.Series, drawn)
		}
	}
	return p
}

// vertical adds a line with a label.
func (p *plot) vertical(x float64, label string) {
	if at := p.toX(x); at <= p.Right {
		p.Lines = append(p.Lines, tick{at, label})
	}
}

// axisScale is an axis with about a number of round ticks.
type axisScale struct {
	lo, hi float64
	ticks  []float64
	digits int // behind the point
}

func axis(lo, hi float64, most int) axisScale {
	if hi-lo < 1e-9*max(1, math.Abs(hi)) {
		lo, hi = lo-0.5e-3*max(1, math.Abs(lo)), hi+0.5e-3*max(1, math.Abs(hi))
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(most))))
	for _, m := range []float64{2, 2.5, 2} { // 2, 5, 10 times as much
		if (hi-lo)/step <= float64(most) {
			break
		}
		step *= m
	}
	first, last := math.Floor(lo/step+1e-9), math.Ceil(hi/step-1e-9)
	s := axisScale{lo: min(lo, first*step), hi: max(hi, last*step), digits: max(0, int(math.Ceil(-math.Log10(step)-1e-9)))}
	for i := first; i <= last; i++ {
		s.ticks = append(s.ticks, i*step)
	}
	return s
}

// bars are the fields' widths.
type bars struct {
	Width, Height float64
	Rows          []widthBar
}

// widthBar is one field: Full is the length of the frame, Found that of the bar, Mark
// where the width of the data's hidden model is, if it is known.
type widthBar struct {
	Name, Text           string
	Y, Full, Found, Mark float64
	HasMark              bool
}

// Places in the bars' SVG.
const (
	barLeft, barLength, barHeight = 150, 460, 22
)

func widthBars(r *search.Report) *bars {
	b := &bars{Width: 760}
	widest := 1
	for _, f := range r.Fields {
		widest = max(widest, f.Full)
	}
	unit := float64(barLength) / float64(widest)
	for i, f := range r.Fields {
		row := widthBar{Name: f.Name, Text: fmt.Sprintf("%d of %d", f.Width, f.Full), Y: float64(i * barHeight),
			Full: unit * float64(f.Full), Found: unit * float64(f.Width)}
		if f.EffectiveRank > 0 {
			row.Text += fmt.Sprintf(", rank %.1f", f.EffectiveRank)
		}
		if f.Planted != nil {
			row.Mark, row.HasMark = barLeft+unit*float64(*f.Planted), true
		}
		b.Rows = append(b.Rows, row)
	}
	b.Height = float64(len(b.Rows)*barHeight + 8)
	return b
}
