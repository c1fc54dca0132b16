// Package paired compares programs that do the same work, on a machine that other programs use too.
//
// Contenders take turns, round by round, in an order that is reversed every other round. So whatever slows the machine for
// a while slows all of them, and the ratio of two contenders is taken within a round, where both met the same machine. A
// result is the median of these ratios with their quartiles and extremes, next to every single sample.
package paired

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// Sample is what one contender did in one round.
type Sample struct {
	Seconds    float64            `json:"seconds"`     // wall clock
	CPUSeconds float64            `json:"cpu_seconds"` // user and system, of the contender's process
	Done       float64            `json:"done"`        // units of work: images, studies
	Extra      map[string]float64 `json:"extra,omitempty"`
}

// Rate is units per second of wall clock.
func (s Sample) Rate() float64 { return s.Done / s.Seconds }

// PerCPU is units per second of processor time: other programs on the machine disturb it less.
func (s Sample) PerCPU() float64 { return s.Done / s.CPUSeconds }

// Contender is one side of a comparison.
type Contender struct {
	Name  string
	Round func(ctx context.Context) (Sample, error)
}

// Samples are the rounds of each contender, by name.
type Samples map[string][]Sample

// Run lets every contender do one round that does not count, then rounds that do.
func Run(ctx context.Context, log io.Writer, rounds int, contenders ...Contender) (Samples, error) {
	out := Samples{}
	for round := -1; round < rounds; round++ {
		for _, c := range contenders {
			s, err := c.Round(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", c.Name, round+1, err)
			}
			if round >= 0 {
				out[c.Name] = append(out[c.Name], s)
				fmt.Fprintf(log, "round %d of %d: %-24s %8.2f/s  %8.2f/s of cpu time\n", round+1, rounds, c.Name, s.Rate(), s.PerCPU())
			}
		}
		slices.Reverse(contenders)
	}
	return out, nil
}

// Spread summarises numbers: median, quartiles, extremes.
type Spread struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf summarises x, which must not be empty.
func SpreadOf(x []float64) Spread {
	return Spread{Quantile(x, 0.5), Quantile(x, 0.25), Quantile(x, 0.75), Quantile(x, 0), Quantile(x, 1)}
}

// Quantile is the value of x, which must not be empty, at the share q of its order, linear between neighbours.
func Quantile(x []float64, q float64) float64 {
	x = slices.Sorted(slices.Values(x))
	place := q * float64(len(x)-1)
	i := int(place)
	if i+1 == len(x) {
		return x[i]
	}
	return x[i] + (place-float64(i))*(x[i+1]-x[i])
}

// Of summarises a number of one contender's samples.
func (s Samples) Of(name string, value func(Sample) float64) Spread {
	var x []float64
	for _, sample := range s[name] {
		x = append(x, value(sample))
	}
	return SpreadOf(x)
}

// Ratio summarises value(a)/value(b), round by round.
func (s Samples) Ratio(a, b string, value func(Sample) float64) Spread {
	var x []float64
	for i := range s[a] {
		x = append(x, value(s[a][i])/value(s[b][i]))
	}
	return SpreadOf(x)
}
