package eval

import (
	"cmp"
	"slices"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

// TopFive are the macro means over the five labels whose AUROC is highest on all test studies (table 2 of the MVMAE paper): each model
// has its own five.
type TopFive struct {
	Labels []string `json:"labels"` // best first; fewer where AUROC is defined for fewer
	Scores
}

// best five labels of a report by AUROC, by number.
func bestFive(r Report) []int {
	var defined []int
	for l := range r.Labels {
		if r.Labels[l].AUROC.Value.Defined() {
			defined = append(defined, l)
		}
	}
	slices.SortStableFunc(defined, func(a, b int) int { return cmp.Compare(r.Labels[b].AUROC.Value, r.Labels[a].AUROC.Value) })
	return defined[:min(5, len(defined))]
}

// topFive scores rows on some labels alone.
func topFive(rows []metrics.Row, labels []int, thresholds metrics.Thresholds, r metrics.Resampling) (TopFive, error) {
	t := TopFive{}
	for _, l := range labels {
		t.Labels = append(t.Labels, model.Labels[l])
	}
	few := slices.Clone(rows)
	for i := range few {
		for l := range few[i].Labels {
			if !slices.Contains(labels, l) {
				few[i].Labels[l] = model.Absent
			}
		}
	}
	table, err := metrics.NewTable(few)
	if err != nil {
		return t, err
	}
	estimates := table.Bootstrap(thresholds, r)
	t.Scores = scoresOf(estimates[metrics.Macro])
	return t, nil
}
