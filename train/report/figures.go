package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/mvmae/mvmae/model"
)

// figure is a drawing of a table of the same name.
type figure struct {
	name          string
	width, height vg.Length
	plot          *plot.Plot
}

// figures draws what can be drawn of tables.
func figures(tables []Table) (drawn []figure, err error) {
	for _, t := range tables {
		if len(t.Rows) == 0 {
			continue
		}
		f := figure{name: t.Name, width: 18 * vg.Centimeter, height: 12 * vg.Centimeter}
		switch {
		case strings.HasPrefix(t.Name, "figure3-"):
			f.width, f.height = 24*vg.Centimeter, 18*vg.Centimeter
			f.plot, err = radar(t)
		case strings.HasPrefix(t.Name, "figure4-"):
			f.plot, err = byLabels(t, "macro AUROC")
		case strings.HasPrefix(t.Name, "figure5-"):
			f.plot, err = byLabels(t, "macro AUROC less that of Independent")
		case t.Name == "figure8":
			f.width = 24 * vg.Centimeter
			f.plot, err = stacked(t)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("draw %s: %w", t.Name, err)
		}
		drawn = append(drawn, f)
	}
	return drawn, nil
}

// byLabels draws a line for each row over the columns that are numbers of studies.
func byLabels(t Table, y string) (*plot.Plot, error) {
	c := chart{title: t.Title, x: "labelled studies", y: y, logX: true}
	for _, r := range t.Rows {
		line := curve{name: r.Name}
		for i, one := range r.Cells {
			n, err := strconv.Atoi(t.Head[i])
			if err != nil || one.Runs == 0 { // "all" has no place on the axis
				continue
			}
			line.x, line.y = append(line.x, float64(n)), append(line.y, one.Value)
			line.low, line.high = append(line.low, one.Low), append(line.high, one.High)
		}
		c.curves = append(c.curves, line)
	}
	return c.plot()
}

// radarFloor is the AUROC in the middle of a radar: chance.
const radarFloor = 0.5

// radar draws a closed line for each column: its distance from the middle is the AUROC of the label in that direction.
func radar(t Table) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = t.Title
	p.HideAxes()
	p.Legend.Top = true
	at := func(label int, auroc float64) plotter.XY {
		angle := math.Pi/2 - 2*math.Pi*float64(label)/model.NumLabels
		r := max(auroc-radarFloor, 0)
		return plotter.XY{X: r * math.Cos(angle), Y: r * math.Sin(angle)}
	}
	ring := func(value func(label int) float64) plotter.XYs {
		xys := plotter.XYs{}
		for l := range model.NumLabels {
			if v := value(l); !math.IsNaN(v) {
				xys = append(xys, at(l, v))
			}
		}
		if len(xys) > 0 {
			xys = append(xys, xys[0])
		}
		return xys
	}
	names := plotter.XYLabels{}
	for l, label := range model.Labels {
		names.XYs, names.Labels = append(names.XYs, at(l, 1.03)), append(names.Labels, label)
	}
	for _, level := range []float64{0.6, 0.7, 0.8, 0.9, 1} {
		line, err := plotter.NewLine(ring(func(int) float64 { return level }))
		if err != nil {
			return nil, err
		}
		line.Width, line.Dashes = vg.Points(0.5), []vg.Length{vg.Points(2), vg.Points(2)}
		p.Add(line)
		names.XYs, names.Labels = append(names.XYs, at(0, level)), append(names.Labels, fmt.Sprint(level))
	}
	text, err := plotter.NewLabels(names)
	if err != nil {
		return nil, err
	}
	for i, xy := range names.XYs {
		if xy.X < -0.01 {
			text.TextStyle[i].XAlign = draw.XRight
		}
	}
	p.Add(text)
	for i, column := range t.Head {
		xys := ring(func(l int) float64 { return t.Rows[l].Cells[i].Value })
		if len(xys) == 0 {
			continue
		}
		line, err := plotter.NewLine(xys)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = colour(i/2), vg.Points(1.5) // joint, then per label
		if i%2 == 1 {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		}
		p.Add(line)
		p.Legend.Add(column, line)
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -0.85, 1.15, -0.65, 0.75 // as wide to high as the picture; the legend is on the right
	return p, nil
}

// stacked draws the states of each label's studies, all datasets together, one on the other.
func stacked(t Table) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = t.Title, "studies"
	p.Legend.Top = true
	var below *plotter.BarChart
	for i, state := range []string{"1", "0", "-1", "blank"} {
		values := make(plotter.Values, len(t.Rows))
		for r, row := range t.Rows {
			for j, head := range t.Head {
				if strings.HasSuffix(head, ", "+state) {
					values[r] += row.Cells[j].Value
				}
			}
		}
		bars, err := plotter.NewBarChart(values, 24*vg.Millimeter/2)
		if err != nil {
			return nil, err
		}
		bars.Color, bars.LineStyle.Width = colour(i), 0
		if below != nil {
			bars.StackOn(below)
		}
		below = bars
		p.Add(bars)
		p.Legend.Add(state, bars)
	}
	names := make([]string, len(t.Rows))
	for r, row := range t.Rows {
		names[r] = strings.ReplaceAll(row.Name, " ", "\n")
	}
	p.NominalX(names...)
	return p, nil
}
