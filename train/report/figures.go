package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/mvmae/mvmae/model"
)

// figures draws what can be drawn of tables, each under its table's name.
func figures(tables []Table) (drawn []figure, err error) {
	for _, t := range tables {
		if len(t.Rows) == 0 {
			continue
		}
		f := figure{name: t.Name, width: 22 * vg.Centimeter, height: 12 * vg.Centimeter}
		switch {
		case strings.HasPrefix(t.Name, "figure3-"):
			f.width, f.height, f.equal = 30*vg.Centimeter, 18*vg.Centimeter, true
			f.plot, err = radar(t)
		case strings.HasPrefix(t.Name, "figure4-"):
			f.plot, err = byLabels(t, "macro AUROC")
		case strings.HasPrefix(t.Name, "figure5-"):
			f.plot, err = byLabels(t, "macro AUROC less that of Independent")
		case t.Name == "table8":
			f.plot, err = byViews(t)
		case t.Name == "figure8" || t.Name == "figure9":
			f.width, f.height = 24*vg.Centimeter, 14*vg.Centimeter
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

// methodColours are the same in every figure; other methods share what is left of the palette.
var methodColours = map[string]color.Color{
	"MVMAE": palette[0], "Independent": palette[1], "MVMAE-V2T": palette[2], "Supervised": palette[3], "Random": palette[6],
}

// colourOf is the colour of a row or column that a method's name begins; i is its place.
func colourOf(name string, i int) color.Color {
	method, _, _ := strings.Cut(name, ", ")
	if c, ok := methodColours[method]; ok {
		return c
	}
	return palette[4+i%2]
}

// byLabels draws a line for each row over the columns that are numbers of studies.
func byLabels(t Table, y string) (*plot.Plot, error) {
	c := chart{title: t.Title, x: "labelled studies", y: y, marked: true, logX: true}
	for i, r := range t.Rows {
		line := curve{name: r.Name, colour: colourOf(r.Name, i)}
		for j, one := range r.Cells {
			n, err := strconv.Atoi(t.Head[j])
			if err != nil || one.Runs == 0 { // "all" has no place on the axis
				continue
			}
			line.add1(float64(n), one)
		}
		if len(line.x) > 0 {
			c.curves = append(c.curves, line)
		}
	}
	return c.plot()
}

// add1 adds a cell to a line.
func (c *curve) add1(x float64, one Cell) {
	c.x, c.y, c.low, c.high = append(c.x, x), append(c.y, one.Value), append(c.low, one.Low), append(c.high, one.High)
}

// byViews draws a line for each row from one view to two.
func byViews(t Table) (*plot.Plot, error) {
	c := chart{title: t.Title, x: "views of each study", y: "macro AUROC", marked: true}
	for i, r := range t.Rows {
		line := curve{name: r.Name, colour: colourOf(r.Name, i)}
		line.add1(1, r.Cells[0])
		line.add1(2, r.Cells[1])
		c.curves = append(c.curves, line)
	}
	return c.plot()
}

// radarFloor is the AUROC in the middle of a radar: chance.
const radarFloor = 0.5

// onRadar is the place of a label's AUROC: the first label's direction is up, the others follow clockwise.
func onRadar(label int, auroc float64) plotter.XY {
	angle := math.Pi/2 - 2*math.Pi*float64(label)/model.NumLabels
	r := max(auroc-radarFloor, 0)
	return plotter.XY{X: r * math.Cos(angle), Y: r * math.Sin(angle)}
}

// ring is a closed line through the labels' values, over those that have none.
func ring(value func(label int) float64) (*plotter.Line, error) {
	xys := plotter.XYs{}
	for l := range model.NumLabels {
		if v := value(l); !math.IsNaN(v) {
			xys = append(xys, onRadar(l, v))
		}
	}
	if len(xys) == 0 {
		return nil, nil
	}
	return plotter.NewLine(append(xys, xys[0]))
}

// radar draws a ring for each column: its distance from the middle is the AUROC of the label in that direction.
func radar(t Table) (*plot.Plot, error) {
	p := newPlot(t.Title, "", "")
	p.HideAxes()
	if err := addWeb(p); err != nil {
		return nil, err
	}
	for i, column := range t.Head {
		line, err := ring(func(l int) float64 { return t.Rows[l].Cells[i].Value })
		if err != nil {
			return nil, err
		}
		if line == nil {
			continue
		}
		line.Color, line.Width = colourOf(column, i/2), vg.Points(1.5) // joint, then per label
		if i%2 == 1 {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		}
		p.Add(line)
		p.Legend.Add(column, line)
	}
	p.Y.Min, p.Y.Max = -0.62, 0.62
	return p, nil
}

// addWeb draws the rings that tell a radar's distances, and the labels' names around them.
func addWeb(p *plot.Plot) error {
	names := plotter.XYLabels{}
	for l, label := range model.Labels {
		names.XYs, names.Labels = append(names.XYs, onRadar(l, 1.03)), append(names.Labels, label)
	}
	for _, level := range []float64{0.6, 0.7, 0.8, 0.9, 1} {
		line, err := ring(func(int) float64 { return level })
		if err != nil {
			return err
		}
		line.Width, line.Color = vg.Points(0.5), color.Gray{160}
		p.Add(line)
		between := onRadar(0, level) // two labels, where few lines meet
		names.XYs, names.Labels = append(names.XYs, plotter.XY{X: 0.01, Y: between.Y - 0.02}), append(names.Labels, fmt.Sprint(level))
	}
	words, err := plotter.NewLabels(names)
	if err != nil {
		return err
	}
	for i, xy := range names.XYs {
		style := &words.TextStyle[i]
		style.Font.Variant, style.YAlign = "Sans", draw.YCenter
		switch {
		case i >= model.NumLabels:
			style.Font.Size, style.Color = vg.Points(8), color.Gray{100}
		case math.Abs(xy.X) < 0.01:
			style.XAlign = draw.XCenter
		case xy.X < 0:
			style.XAlign = draw.XRight
		}
	}
	p.Add(words)
	return nil
}

// stacked draws a bar for each row: the studies of each state, all datasets together, one beside the other.
func stacked(t Table) (*plot.Plot, error) {
	p := newPlot(t.Title, "studies", "")
	var states []string // in the order of the columns "dataset, state"
	for _, head := range t.Head {
		if _, state, _ := strings.Cut(head, ", "); !slices.Contains(states, state) {
			states = append(states, state)
		}
	}
	names := make([]string, len(t.Rows)) // from below
	for r, row := range t.Rows {
		names[len(names)-1-r] = row.Name
	}
	var below *plotter.BarChart
	for i, state := range states {
		values := make(plotter.Values, len(t.Rows))
		for r, row := range t.Rows {
			for j, head := range t.Head {
				if strings.HasSuffix(head, ", "+state) {
					values[len(values)-1-r] += row.Cells[j].Value
				}
			}
		}
		bars, err := plotter.NewBarChart(values, vg.Points(16))
		if err != nil {
			return nil, err
		}
		bars.Horizontal, bars.Color, bars.LineStyle.Width = true, stateColours[i], 0
		if below != nil {
			bars.StackOn(below)
		}
		below = bars
		p.Add(bars)
		p.Legend.Add(stateNames[state], bars)
	}
	p.NominalY(names...)
	p.X.Min = 0
	return p, nil
}

// stateColours: a finding, none, and in figure 8 uncertain and not mentioned.
var stateColours = []color.Color{palette[1], palette[5], palette[4], color.Gray{210}}

var stateNames = map[string]string{
	"1": "1: positive", "0": "0: negative", "-1": "-1: uncertain", "blank": "blank: not mentioned", "positive": "positive", "negative": "negative",
}
