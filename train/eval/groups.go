package eval

import (
	"cmp"
	"fmt"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

// unknownGroup is where studies go that do not say.
const unknownGroup = "unknown"

// ageBands are the lowest ages of the groups, in years.
var ageBands = [...]int{1, 40, 60, 80}

func ageGroup(age int) string {
	name := unknownGroup
	for i, from := range ageBands {
		switch {
		case age < from:
			return name
		case i+1 < len(ageBands):
			name = fmt.Sprintf("%d-%d", from, ageBands[i+1]-1)
		default:
			name = fmt.Sprintf("%d and more", from)
		}
	}
	return name
}

// breakDown scores the test studies by sex, by age, by their views and by data set, each in the order of the table it makes. all is the
// report on all of them.
func breakDown(all Report, test []Prediction, opts Options) (reports []GroupReport, err error) {
	rows := map[[2]string][]metrics.Row{}
	var order [][2]string
	for _, by := range []string{"sex", "age", "views", "dataset"} {
		var names []string // as they should appear, whether they occur or not
		switch by {
		case "sex":
			names = []string{"F", "M", unknownGroup}
		case "age":
			for _, from := range ageBands {
				names = append(names, ageGroup(from))
			}
			names = append(names, unknownGroup)
		case "views":
			for v := range numViews {
				names = append(names, v.String())
			}
		}
		for _, name := range names {
			order = append(order, [2]string{by, name})
		}
	}
	for _, p := range test {
		row, used, err := fuseStudy(p, opts)
		if err != nil {
			return nil, err
		}
		for _, at := range [][2]string{
			{"sex", cmp.Or(p.Person.Sex, unknownGroup)}, {"age", ageGroup(p.Person.Age)}, {"views", composition(used).String()},
			{"dataset", cmp.Or(p.Person.Dataset, unknownGroup)},
		} {
			if at[0] == "dataset" && rows[at] == nil {
				order = append(order, at) // in the order of the pack
			}
			rows[at] = append(rows[at], row)
		}
	}
	for _, at := range order {
		if len(rows[at]) == 0 {
			continue
		}
		r, err := scoreGroup(at, rows[at], all, opts)
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

func scoreGroup(at [2]string, rows []metrics.Row, all Report, opts Options) (GroupReport, error) {
	table, err := metrics.NewTable(rows)
	if err != nil {
		return GroupReport{}, err
	}
	thresholds, resampling := all.Thresholds(), metrics.Resampling{Replicates: opts.Replicates, Seed: opts.Seed}
	estimates := table.Bootstrap(thresholds, resampling)
	r := GroupReport{
		By: at[0], Group: at[1], Split: splitOf(table), MacroAUROC: estimates[metrics.Macro][metrics.AUROC], Macro: scoresOf(estimates[metrics.Macro]),
	}
	if r.By == "dataset" {
		top, err := topFive(rows, bestFive(all), thresholds, resampling)
		if err != nil {
			return GroupReport{}, err
		}
		r.TopFive = &top
	}
	for l, name := range model.Labels {
		neg, pos := table.Label(l).Counts()
		r.Labels = append(r.Labels, GroupLabel{
			Label: name, Studies: neg + pos, Positives: pos, Scores: scoresOf(estimates[l]),
		})
	}
	return r, nil
}
