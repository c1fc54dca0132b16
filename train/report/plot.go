package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// curve is a line of a chart. Low and High, where they are given, are its 95 % interval at each point.
type curve struct {
	name      string
	x, y      []float64
	low, high []float64
}

// chart is a picture of curves over one axis.
type chart struct {
	title, x, y string
	curves      []curve
	logX        bool
}

// palette has the colours of Okabe and Ito 2008, which colour-blind readers can tell apart.
var palette = []color.RGBA{
	{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}, {0, 0, 0, 255},
}

func colour(i int) color.Color { return palette[i%len(palette)] }

// plot draws the chart. Points without a value are left out.
func (c chart) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.title, c.x, c.y
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	if c.logX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	for i, one := range c.curves {
		if err := one.add(p, i, len(c.curves) > 1); err != nil {
			return nil, fmt.Errorf("draw %s: %w", c.title, err)
		}
	}
	return p, nil
}

func (c curve) add(p *plot.Plot, i int, named bool) error {
	points, intervals := plotter.XYs{}, errorPoints{}
	for j, y := range c.y {
		if math.IsNaN(y) || math.IsInf(y, 0) {
			continue
		}
		points = append(points, plotter.XY{X: c.x[j], Y: y})
		if c.low != nil && !math.IsNaN(c.low[j]) && !math.IsNaN(c.high[j]) {
			intervals.XYs = append(intervals.XYs, points[len(points)-1])
			// An interval over replicates need not hold the value.
			intervals.YErrors = append(intervals.YErrors, struct{ Low, High float64 }{max(y-c.low[j], 0), max(c.high[j]-y, 0)})
		}
	}
	if len(points) == 0 {
		return nil
	}
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = colour(i), vg.Points(1.5)
	dots.Color, dots.Shape, dots.Radius = colour(i), draw.CircleGlyph{}, vg.Points(1.5)
	p.Add(line)
	if len(points) < 40 {
		p.Add(dots)
	}
	if len(intervals.XYs) > 0 {
		bars, err := plotter.NewYErrorBars(intervals)
		if err != nil {
			return err
		}
		bars.Color = colour(i)
		p.Add(bars)
	}
	if named {
		p.Legend.Add(c.name, line)
	}
	return nil
}

type errorPoints struct {
	plotter.XYs
	plotter.YErrors
}

// encode draws a plot in a format, svg or png.
func encode(p *plot.Plot, width, height vg.Length, format string) ([]byte, error) {
	w, err := p.WriterTo(width, height, format)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = w.WriteTo(&b)
	return b.Bytes(), err
}
