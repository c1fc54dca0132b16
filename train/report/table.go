package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/model/metrics"
)

// Table is one of the paper's tables, or the numbers behind one of its figures.
type Table struct {
	Name    string // of its files: "table1-probe"
	Title   string
	Notes   []string
	Head    []string // of the columns after the first
	Rows    []Row
	Missing string // why there is nothing, where Rows is empty
}

// Row is a line of a table.
type Row struct {
	Name  string
	Cells []Cell
}

// Cell is a number with what is known of it. The zero value is an empty cell.
type Cell struct {
	Value, Low, High float64 // the mean over the runs, of value and 95 % interval over patients; NaN where undefined
	Spread           float64 // standard deviation over the runs' seeds; NaN for fewer than two
	Runs             int
	Studies          int     // the value is measured on; 0 for a count, which has no interval
	Paper            float64 // what the paper has in this place; 0 for nothing
	Text             string  // instead of a number
}

// count is a cell without an interval.
func count(n int) Cell {
	return Cell{Value: float64(n), Low: math.NaN(), High: math.NaN(), Spread: math.NaN(), Runs: 1}
}

// cell is the mean of one estimate of several runs.
func cell(estimates []metrics.Estimate, studies int) Cell {
	c := Cell{Spread: math.NaN(), Runs: len(estimates), Studies: studies}
	n := float64(len(estimates))
	for _, e := range estimates {
		c.Value += float64(e.Value) / n
		c.Low += float64(e.Low) / n
		c.High += float64(e.High) / n
	}
	if len(estimates) > 1 {
		sum := 0.0
		for _, e := range estimates {
			sum += math.Pow(float64(e.Value)-c.Value, 2)
		}
		c.Spread = math.Sqrt(sum / (n - 1))
	}
	return c
}

// String is the cell as a person reads it.
func (c Cell) String() string {
	switch {
	case c.Text != "":
		return c.Text
	case c.Runs == 0:
		return ""
	case c.Studies == 0:
		return strconv.FormatFloat(c.Value, 'f', -1, 64)
	case math.IsNaN(c.Value):
		return "–"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%.3f", c.Value)
	if !math.IsNaN(c.Low) {
		fmt.Fprintf(&b, " [%.3f, %.3f]", c.Low, c.High)
	}
	if c.Runs > 1 {
		fmt.Fprintf(&b, " ± %.3f (%d runs)", c.Spread, c.Runs)
	}
	if c.Paper != 0 {
		fmt.Fprintf(&b, "; paper %.4g", c.Paper)
	}
	return b.String()
}

// Markdown is the table for people.
func (t Table) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", t.Title)
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "%s\n\n", n)
	}
	if len(t.Rows) == 0 {
		fmt.Fprintf(&b, "Nothing to show: %s.\n", t.Missing)
		return b.String()
	}
	escape := strings.NewReplacer("|", `\|`).Replace
	b.WriteString("| |")
	for _, h := range t.Head {
		fmt.Fprintf(&b, " %s |", escape(h))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(t.Head)) + "\n")
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "| %s |", escape(r.Name))
		for _, c := range r.Cells {
			fmt.Fprintf(&b, " %s |", escape(c.String()))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// CSV has a line for each cell, so that no program needs to take a cell apart. An undefined number is empty.
func (t Table) CSV() ([]byte, error) {
	number := func(x float64) string {
		if math.IsNaN(x) {
			return ""
		}
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	rows := [][]string{{"row", "column", "value", "low", "high", "spread", "runs", "studies", "paper", "text"}}
	for _, r := range t.Rows {
		for i, c := range r.Cells {
			if c.Runs == 0 && c.Text == "" {
				continue
			}
			line := []string{r.Name, t.Head[i], number(c.Value), number(c.Low), number(c.High), number(c.Spread), strconv.Itoa(c.Runs), strconv.Itoa(c.Studies), "", c.Text}
			if c.Text != "" {
				copy(line[2:8], make([]string, 6))
			}
			if c.Paper != 0 {
				line[8] = number(c.Paper)
			}
			rows = append(rows, line)
		}
	}
	var b bytes.Buffer
	err := csv.NewWriter(&b).WriteAll(rows)
	return b.Bytes(), err
}
