package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// palette has the colours of Okabe and Ito 2008, which colour-blind readers can tell apart.
var palette = []color.RGBA{
	{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}, {0, 0, 0, 255},
}

func colour(i int) color.Color { return palette[i%len(palette)] }

// newPlot is an empty plot in the style of all of them. Its legend stands to the right of the axes: see figure.encode.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = vg.Points(10)
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Points(5)
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	return p
}

// figure is a plot of a size.
type figure struct {
	name          string
	width, height vg.Length
	equal         bool // x has the scale of y, about 0; neither axis is shown
	plot          *plot.Plot
}

// encode draws a figure in a format, svg or png, with a margin and its legend beside it, where it hides nothing.
func (f figure) encode(format string) ([]byte, error) {
	canvas, err := draw.NewFormattedCanvas(f.width, f.height, format)
	if err != nil {
		return nil, fmt.Errorf("draw %s: %w", f.name, err)
	}
	c := draw.New(canvas)
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	const margin = 3 * vg.Millimeter
	c = draw.Crop(c, margin, -margin, margin, -margin)

	p := *f.plot
	below := p.Title.TextStyle.Rectangle(p.Title.Text).Size().Y + p.Title.Padding
	if w := p.Legend.Rectangle(c).Size().X; w > 0 {
		p.Legend.Draw(draw.Crop(c, c.Size().X-w, 0, 0, -below))
		c = draw.Crop(c, 0, -w-2*margin, 0, 0)
	}
	p.Legend = plot.NewLegend()
	if f.equal {
		p.X.Max = p.Y.Max * float64(c.Size().X/(c.Size().Y-below))
		p.X.Min = -p.X.Max
	}
	p.Draw(c)
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("draw %s: %w", f.name, err)
	}
	return b.Bytes(), nil
}

// curve is a line of a chart. Low and High, where they are given, are its 95 % interval at each point.
type curve struct {
	name      string
	colour    color.Color
	x, y      []float64
	low, high []float64
}

// chart is a picture of curves over one axis.
type chart struct {
	title, x, y string
	curves      []curve
	marked      bool // only where there are points, with a tick each; else as numbers, evenly
	logX        bool
}

// plot draws the chart. Points without a value are left out.
func (c chart) plot() (*plot.Plot, error) {
	p := newPlot(c.title, c.x, c.y)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{220}, color.Gray{220}
	p.Add(grid)
	if c.logX {
		p.X.Scale = plot.LogScale{}
	}
	for i, one := range c.curves {
		if c.marked {
			one.x = c.aside(one.x, float64(i)-float64(len(c.curves)-1)/2)
		}
		if one.colour == nil {
			one.colour = colour(i)
		}
		if err := one.add(p, len(c.curves) > 1); err != nil {
			return nil, fmt.Errorf("draw %s: %w", c.title, err)
		}
	}
	if c.marked {
		c.mark(p)
	}
	return p, nil
}

// aside moves points by some parts of the axis, so that the intervals of several curves do not hide each other.
func (c chart) aside(x []float64, parts float64) []float64 {
	moved := slices.Clone(x)
	for i := range moved {
		if c.logX {
			moved[i] *= math.Pow(1.02, parts)
		} else {
			moved[i] += 0.02 * parts
		}
	}
	return moved
}

// mark gives every place that has a point its tick, and the outer ones some room.
func (c chart) mark(p *plot.Plot) {
	var at []float64
	for _, one := range c.curves {
		at = append(at, one.x...)
	}
	slices.Sort(at)
	at = slices.Compact(at)
	if len(at) == 0 {
		return
	}
	var ticks plot.ConstantTicks
	for _, x := range at {
		ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprint(x)})
	}
	p.X.Tick.Marker = ticks
	p.X.Min, p.X.Max = at[0]-0.25, at[len(at)-1]+0.25
	if c.logX {
		p.X.Min, p.X.Max = at[0]/1.2, at[len(at)-1]*1.2
	}
}

func (c curve) add(p *plot.Plot, named bool) error {
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
	line.Color, line.Width = c.colour, vg.Points(1.5)
	dots.Color, dots.Shape, dots.Radius = c.colour, draw.CircleGlyph{}, vg.Points(2)
	p.Add(line)
	if len(points) < 40 {
		p.Add(dots)
	}
	if len(intervals.XYs) > 0 {
		bars, err := plotter.NewYErrorBars(intervals)
		if err != nil {
			return err
		}
		bars.Color = c.colour
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
