package eval

import (
	"fmt"
	"math"
	"strings"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

// Seeds is the mean and the spread of one experiment's runs that differ in their seed alone. The intervals of a Report are about the choice
// of test patients; this is about the choice of training studies, of first weights and of their order.
type Seeds struct {
	Seeds  []uint64      `json:"seeds"`
	Test   Split         `json:"test"`
	Macro  Spreads       `json:"macro"`
	Labels []LabelSpread `json:"labels"` // in the order of model.Labels
}

// Spreads are Scores over runs.
type Spreads struct {
	AUROC            Spread `json:"auroc"`
	AveragePrecision Spread `json:"average_precision"`
	F1               Spread `json:"f1"`
	F1Tuned          Spread `json:"f1_tuned"`
	Brier            Spread `json:"brier"`
	ECE              Spread `json:"ece"`
}

// LabelSpread is the part of one label.
type LabelSpread struct {
	Label string `json:"label"`
	Spreads
}

// Spread is a metric over the runs that define it.
type Spread struct {
	Mean metrics.Value `json:"mean"`
	SD   metrics.Value `json:"sd"` // sample standard deviation
	Min  metrics.Value `json:"min"`
	Max  metrics.Value `json:"max"`
	Runs int           `json:"runs"`
}

// String gives "0.763 ± 0.004".
func (s Spread) String() string { return fmt.Sprintf("%v ± %v", s.Mean, s.SD) }

// OverSeeds joins the reports of runs, one for each seed.
func OverSeeds(seeds []uint64, reports []Report) Seeds {
	out := Seeds{Seeds: seeds, Test: reports[0].Test}
	over := func(scores func(Report) Scores) Spreads {
		get := func(value func(Scores) metrics.Estimate) Spread {
			var x []float64
			for _, r := range reports {
				if v := value(scores(r)).Value; v.Defined() {
					x = append(x, float64(v))
				}
			}
			return spreadOf(x)
		}
		return Spreads{
			AUROC:            get(func(s Scores) metrics.Estimate { return s.AUROC }),
			AveragePrecision: get(func(s Scores) metrics.Estimate { return s.AveragePrecision }),
			F1:               get(func(s Scores) metrics.Estimate { return s.F1 }),
			F1Tuned:          get(func(s Scores) metrics.Estimate { return s.F1Tuned }),
			Brier:            get(func(s Scores) metrics.Estimate { return s.Brier }),
			ECE:              get(func(s Scores) metrics.Estimate { return s.ECE }),
		}
	}
	out.Macro = over(func(r Report) Scores { return r.Macro.Scores })
	for l, name := range model.Labels {
		out.Labels = append(out.Labels, LabelSpread{name, over(func(r Report) Scores { return r.Labels[l].Scores })})
	}
	return out
}

func spreadOf(x []float64) Spread {
	nan := metrics.Value(math.NaN())
	s := Spread{Mean: nan, SD: nan, Min: nan, Max: nan, Runs: len(x)}
	if len(x) == 0 {
		return s
	}
	sum, low, high := 0.0, x[0], x[0]
	for _, v := range x {
		sum, low, high = sum+v, min(low, v), max(high, v)
	}
	mean, squares := sum/float64(len(x)), 0.0
	for _, v := range x {
		squares += (v - mean) * (v - mean)
	}
	s.Mean, s.Min, s.Max = metrics.Value(mean), metrics.Value(low), metrics.Value(high)
	if len(x) > 1 {
		s.SD = metrics.Value(math.Sqrt(squares / float64(len(x)-1)))
	}
	return s
}

// Table returns the spreads as text.
func (s Seeds) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs with seeds %v on %d test studies of %d patients: mean ± standard deviation over runs\n\n", len(s.Seeds), s.Seeds, s.Test.Studies, s.Test.Patients)
	fmt.Fprintf(&b, "%-26s %-16s %-18s %-16s %-16s %s\n", "", "AUROC", "average precision", "F1 at 0.5", "F1 tuned", "Brier")
	row := func(name string, x Spreads) {
		fmt.Fprintf(&b, "%-26s %-16v %-18v %-16v %-16v %v\n", name, x.AUROC, x.AveragePrecision, x.F1, x.F1Tuned, x.Brier)
	}
	for _, l := range s.Labels {
		row(l.Label, l.Spreads)
	}
	row("Macro mean", s.Macro)
	return b.String()
}
