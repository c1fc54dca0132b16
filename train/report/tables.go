package report

import (
	"fmt"
	"math"
	"slices"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// paperCombined are the AUROC and F1 on all four datasets in the paper's table 1.
var paperCombined = map[string][2]float64{
	"Supervised": {0.8473, 0.2947}, "Independent": {0.8663, 0.3547}, "BiomedCLIP": {0.7895, 0.1985}, "CheXagent": {0.8621, 0.3284},
	"MVMAE-V2T": {0.8695, 0.3608}, "MVMAE": {0.8743, 0.3739},
}

// paperViews are the AUROC on all four datasets with one view and with two in the paper's table 8.
var paperViews = map[string][2]float64{"MVMAE": {0.7663, 0.7950}, "Independent": {0.7632, 0.7923}}

// kindNames are how tables call the kinds of runs.
var kindNames = map[string]string{"probe": "linear probe", "finetune": "finetuned"}

const (
	noGroups   = "no run of this kind, on all views, is among those given"
	paperNote  = "The paper's figures are of its own four datasets, and of validation; these are of the runs' test studies."
	brackets   = "Brackets: 95 % intervals over patients. Of several runs that differ by the seed: the mean, the mean of their intervals, and the standard deviation over the runs."
	topFiveDoc = "Each model's own five labels of highest AUROC on all test studies."
)

// Tables are the paper's tables 1 to 8, and the numbers of its figures.
func (c Comparison) Tables() []Table {
	tables := []Table{}
	for _, kind := range []string{"probe", "finetune"} {
		tables = append(tables, c.scores(kind))
	}
	for _, kind := range []string{"probe", "finetune"} {
		tables = append(tables, c.topFive(kind))
	}
	tables = append(tables, c.brier())
	counts, states, binary := c.counts()
	tables = append(tables, counts)
	for _, kind := range []string{"probe", "finetune"} {
		for _, set := range c.datasets() {
			tables = append(tables, c.perLabel(kind, set))
		}
	}
	tables = append(tables, c.views())
	for _, kind := range []string{"probe", "finetune"} {
		tables = append(tables, c.selection(kind), c.efficiency(kind), c.gain(kind))
	}
	return append(tables, states, binary)
}

// grid makes a table with a row for each group and columns for each dataset.
func (c Comparison) grid(groups []Group, columns []string, cells func(g Group, dataset string) []Cell) (head []string, rows []Row) {
	for _, set := range c.datasets() {
		for _, column := range columns {
			head = append(head, fmt.Sprintf("%s (%s), %s", set, c.testStudies(set), column))
		}
	}
	for _, g := range groups {
		row := Row{Name: g.name()}
		for _, set := range c.datasets() {
			row.Cells = append(row.Cells, cells(g, set)...)
		}
		rows = append(rows, row)
	}
	return head, rows
}

// testStudies are how many test studies of a dataset the runs have: n=120, or n=100 to 120 where they differ.
func (c Comparison) testStudies(dataset string) string {
	least, most := math.MaxInt, 0
	for _, g := range c.Groups {
		for _, r := range g.Runs {
			if p, ok := r.on(dataset); ok && g.Views == "all" {
				least, most = min(least, p.studies), max(most, p.studies)
			}
		}
	}
	if least >= most {
		return fmt.Sprintf("n=%d", most)
	}
	return fmt.Sprintf("n=%d to %d", least, most)
}

// over is the cell of one metric of a group's runs on a dataset; empty where they have none of it.
func (g Group) over(dataset string, of func(part) metrics.Estimate) Cell {
	var estimates []metrics.Estimate
	studies := 0
	for _, r := range g.Runs {
		if p, ok := r.on(dataset); ok {
			estimates, studies = append(estimates, of(p)), p.studies
		}
	}
	if len(estimates) == 0 {
		return Cell{}
	}
	return cell(estimates, studies)
}

func (c Comparison) scores(kind string) Table {
	t := Table{
		Name: "table1-" + kind, Title: fmt.Sprintf("Table 1: AUROC and F1, %s", kindNames[kind]), Missing: noGroups,
		Notes: []string{"Macro means over the labels. F1 at 0.5, and at thresholds tuned on validation.", brackets, paperNote},
	}
	t.Head, t.Rows = c.grid(c.of(kind, "all"), []string{"AUROC", "F1 at 0.5", "F1 tuned"}, func(g Group, set string) []Cell {
		auroc := g.over(set, func(p part) metrics.Estimate { return p.macro.AUROC })
		f1 := g.over(set, func(p part) metrics.Estimate { return p.macro.F1 })
		if paper, ok := paperCombined[g.Method]; ok && set == combined && g.Labels == 0 {
			auroc.Paper, f1.Paper = paper[0], paper[1]
		}
		return []Cell{auroc, f1, g.over(set, func(p part) metrics.Estimate { return p.macro.F1Tuned })}
	})
	return t
}

func (c Comparison) topFive(kind string) Table {
	t := Table{
		Name: "table2-" + kind, Title: fmt.Sprintf("Table 2: AUROC and F1 of the top five labels, %s", kindNames[kind]), Missing: noGroups,
		Notes: []string{topFiveDoc, brackets},
	}
	t.Head, t.Rows = c.grid(c.of(kind, "all"), []string{"AUROC", "F1 at 0.5"}, func(g Group, set string) []Cell {
		return []Cell{
			g.over(set, func(p part) metrics.Estimate { return p.top.AUROC }), g.over(set, func(p part) metrics.Estimate { return p.top.F1 }),
		}
	})
	return t
}

func (c Comparison) brier() Table {
	t := Table{
		Name: "table3", Title: "Table 3: Brier score, linear probe", Missing: noGroups,
		Notes: []string{"Macro means over the labels; lower is better. The paper's are of 20,000 labelled studies.", brackets},
	}
	t.Head, t.Rows = c.grid(c.of("probe", "all"), []string{"Brier"}, func(g Group, set string) []Cell {
		return []Cell{g.over(set, func(p part) metrics.Estimate { return p.macro.Brier })}
	})
	return t
}

func (c Comparison) perLabel(kind, set string) Table {
	groups := c.of(kind, "all")
	t := Table{
		Name: fmt.Sprintf("table5-%s-%s", kind, fileName(set)), Title: fmt.Sprintf("Tables 5 to 7: AUROC by label, %s, %s", kindNames[kind], set), Missing: noGroups,
		Notes: []string{brackets},
	}
	for _, g := range groups {
		t.Head = append(t.Head, g.name())
	}
	for l, label := range model.Labels {
		row := Row{Name: label}
		for _, g := range groups {
			one := g.over(set, func(p part) metrics.Estimate { return p.labels[l].AUROC })
			if one.Runs > 0 {
				p, _ := g.Runs[0].on(set)
				one.Studies = max(p.known[l], 1) // a label that nobody knows is undefined, not a count
			}
			row.Cells = append(row.Cells, one)
		}
		if len(groups) > 0 {
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// views are runs on the studies of exactly two views, with one of them and with both.
func (c Comparison) views() Table {
	t := Table{
		Name: "table8", Title: "Table 8: one view against two", Head: []string{"one view", "two views", "gain"},
		Missing: "it takes runs with --set views=one_of_two and --set views=two",
		Notes:   []string{"Macro AUROC on the test studies that have exactly two views. The gain is the mean of the differences of runs of one seed, on the same patients.", brackets, paperNote},
	}
	auroc := func(p part) metrics.Estimate { return p.macro.AUROC }
	for _, kind := range []string{"probe", "finetune"} {
		for _, one := range c.of(kind, "one_of_two") {
			both := slices.IndexFunc(c.Groups, func(g Group) bool {
				return g.Kind == kind && g.Views == "two" && g.Method == one.Method && g.Labels == one.Labels
			})
			if both < 0 {
				continue
			}
			cells := []Cell{one.over(combined, auroc), c.Groups[both].over(combined, auroc), difference(c.Groups[both], one)}
			if paper, ok := paperViews[one.Method]; ok && kind == "probe" {
				cells[0].Paper, cells[1].Paper, cells[2].Paper = paper[0], paper[1], paper[1]-paper[0]
			}
			t.Rows = append(t.Rows, Row{fmt.Sprintf("%s, %s", one.name(), kindNames[kind]), cells})
		}
	}
	return t
}

// difference is the macro AUROC of a less that of b over the seeds that both have.
func difference(a, b Group) Cell {
	var d []metrics.Estimate
	studies := 0
	for _, x := range a.Runs {
		for _, y := range b.Runs {
			if x.Seed == y.Seed {
				d, studies = append(d, x.less(y)), x.Eval.Test.Studies
			}
		}
	}
	if len(d) == 0 {
		return Cell{}
	}
	return cell(d, studies)
}

// less is the macro AUROC of a run less that of another. It has its paired interval over patients where both runs left their predictions, of
// the same studies.
func (r Result) less(other Result) metrics.Estimate {
	same := slices.EqualFunc(r.test, other.test, func(a, b eval.Prediction) bool { return a.Study == b.Study && a.Labels == b.Labels })
	if same && len(r.test) > 0 {
		if paired, err := eval.Compare(r.test, other.test, r.Eval.AsReported(), other.Eval.AsReported()); err == nil {
			return paired.Macro.AUROC
		}
	}
	none := metrics.Value(math.NaN())
	return metrics.Estimate{Value: r.Eval.Macro.AUROC.Value - other.Eval.Macro.AUROC.Value, Low: none, High: none}
}

// selection compares one epoch for all labels with one for each (figures 3 and 10).
func (c Comparison) selection(kind string) Table {
	t := Table{
		Name: "figure3-" + kind, Title: fmt.Sprintf("Figures 3 and 10: AUROC by label with one epoch for all labels, and with each label's own, %s", kindNames[kind]),
		Missing: noGroups, Notes: []string{"Epochs are chosen on validation; the figures are of test, of runs on all labelled studies.", brackets},
	}
	var groups []Group
	for _, g := range c.of(kind, "all") {
		if g.Labels == 0 && !slices.ContainsFunc(g.Runs, func(r Result) bool { return r.Eval.PerLabel == nil }) {
			groups = append(groups, g)
			t.Head = append(t.Head, g.name()+", joint", g.name()+", per label")
		}
	}
	if len(groups) == 0 {
		return t
	}
	for l := range model.NumLabels + 1 {
		row := Row{Name: "Macro mean"}
		if l < model.NumLabels {
			row.Name = model.Labels[l]
		}
		for _, g := range groups {
			var joint, own []metrics.Estimate
			for _, r := range g.Runs {
				j, o := r.Eval.Macro.Scores, r.Eval.PerLabel.Macro
				if l < model.NumLabels {
					j, o = r.Eval.Labels[l].Scores, r.Eval.PerLabel.Labels[l].Scores
				}
				joint, own = append(joint, j.AUROC), append(own, o.AUROC)
			}
			n := g.Runs[0].Eval.Test.Studies
			row.Cells = append(row.Cells, cell(joint, n), cell(own, n))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// efficiency is the macro AUROC by number of labelled studies (figures 4 and 11).
func (c Comparison) efficiency(kind string) Table {
	t := Table{
		Name: "figure4-" + kind, Title: fmt.Sprintf("Figures 4 and 11: macro AUROC by labelled studies, %s", kindNames[kind]),
		Missing: "it takes runs with --labels N", Notes: []string{brackets},
	}
	sizes, names := c.sizes(kind)
	if len(sizes) == 0 {
		return t
	}
	for _, n := range sizes {
		t.Head = append(t.Head, fmt.Sprint(n))
	}
	sizes, t.Head = append(sizes, 0), append(t.Head, "all")
	for _, name := range names {
		row := Row{Name: name}
		for _, n := range sizes {
			row.Cells = append(row.Cells, c.find(kind, name, n).over(combined, func(p part) metrics.Estimate { return p.macro.AUROC }))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// gain is what the methods are better by than Independent, by number of labelled studies (figure 5).
func (c Comparison) gain(kind string) Table {
	t := Table{
		Name: "figure5-" + kind, Title: fmt.Sprintf("Figure 5: macro AUROC less that of Independent, %s", kindNames[kind]),
		Missing: "it takes runs of Independent and of another method with as many labels",
		Notes:   []string{"The mean of the differences of runs of one seed, on the same patients.", brackets},
	}
	sizes, names := c.sizes(kind)
	sizes = append(sizes, 0) // all
	for _, n := range sizes {
		if n > 0 {
			t.Head = append(t.Head, fmt.Sprint(n))
		}
	}
	t.Head = append(t.Head, "all")
	for _, name := range names {
		row, any := Row{Name: name}, false
		for _, n := range sizes {
			d := difference(c.find(kind, name, n), c.find(kind, "Independent", n))
			row.Cells, any = append(row.Cells, d), any || d.Runs > 0
		}
		if any && name != "Independent" {
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// sizes are the numbers of labelled studies, and the methods, among a kind's groups on all views.
func (c Comparison) sizes(kind string) (sizes []int, names []string) {
	for _, g := range c.of(kind, "all") {
		if g.Labels > 0 && !slices.Contains(sizes, g.Labels) {
			sizes = append(sizes, g.Labels)
		}
		if !slices.Contains(names, g.Method) {
			names = append(names, g.Method)
		}
	}
	slices.Sort(sizes)
	return sizes, names
}

// find is a group on all views; without runs where there is none.
func (c Comparison) find(kind, method string, labels int) Group {
	for _, g := range c.of(kind, "all") {
		if g.Method == method && g.Labels == labels {
			return g
		}
	}
	return Group{}
}

// counts are the studies of each dataset and split (table 4), and of each label, as the datasets have it (figure 8) and binarised (figure 9).
func (c Comparison) counts() (sizes, states, binary Table) {
	packs, left := c.packs()
	const gone = "no pack of the runs is where it was"
	sizes = Table{
		Name: "table4", Title: "Table 4: studies by dataset and split", Head: []string{"train", "validate", "test", "images", "patients"}, Missing: gone, Notes: left,
	}
	states = Table{
		Name: "figure8", Title: "Figure 8: studies by label, as the datasets have them", Missing: gone,
		Notes: []string{"1, 0, -1 (uncertain) and blank are what the datasets' labellers wrote. A label that a dataset does not have is not counted."},
	}
	binary = Table{
		Name: "figure9", Title: "Figure 9: studies by label, binarised", Missing: gone,
		Notes: []string{"As in training: 1 is positive, the rest negative. A label that a dataset does not have takes no part."},
	}
	for l := range model.NumLabels {
		states.Rows, binary.Rows = append(states.Rows, Row{Name: model.Labels[l]}), append(binary.Rows, Row{Name: model.Labels[l]})
	}
	var names []string
	for _, p := range packs {
		defer p.Close()
		for _, set := range setsOf(p) {
			name := set.name
			if slices.Contains(names, name) { // of another pack
				name = fmt.Sprintf("%s (%d)", name, len(names)+1)
			}
			names = append(names, name)
			sizes.Rows = append(sizes.Rows, Row{name, []Cell{
				count(set.studies[data.Train]), count(set.studies[data.Validate]), count(set.studies[data.Test]), count(set.images), count(set.patients),
			}})
			for _, state := range []string{"1", "0", "-1", "blank"} {
				states.Head = append(states.Head, name+", "+state)
			}
			binary.Head = append(binary.Head, name+", positive", name+", negative")
			for l, of := range set.states {
				positive, rest := of[model.Positive], of[model.Negative]+of[model.Uncertain]+of[model.Blank]
				states.Rows[l].Cells = append(states.Rows[l].Cells, count(positive), count(of[model.Negative]), count(of[model.Uncertain]), count(of[model.Blank]))
				binary.Rows[l].Cells = append(binary.Rows[l].Cells, count(positive), count(rest))
			}
		}
	}
	if len(names) == 0 {
		states.Rows, binary.Rows = nil, nil
	}
	return sizes, states, binary
}

// set is what a pack has of a dataset.
type set struct {
	name             string
	studies          map[data.Split]int
	images, patients int
	states           [model.NumLabels]map[model.LabelState]int
}

func setsOf(p *data.Pack) (sets []*set) {
	byName, patients := map[string]*set{}, map[string]bool{}
	for _, s := range p.Studies {
		one := byName[s.Dataset]
		if one == nil {
			one = &set{name: s.Dataset, studies: map[data.Split]int{}}
			for l := range one.states {
				one.states[l] = map[model.LabelState]int{}
			}
			byName[s.Dataset], sets = one, append(sets, one)
		}
		one.studies[s.Split]++
		one.images += len(s.Images)
		if key := s.Dataset + "/" + s.Patient; !patients[key] {
			patients[key] = true
			one.patients++
		}
		for l, state := range s.Labels {
			one.states[l][state]++
		}
	}
	return sets
}
