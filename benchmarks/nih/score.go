package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/eval"
)

// contenders in the order of the tables. The first is compared with all others.
var contenders = []struct{ name, title string }{
	{"finetune", "pretrained, then finetuned"},
	{"supervised", "the same network from scratch"},
	{"probe", "linear probe on the pretrained encoder"},
	{"random", "linear probe on a random encoder"},
	{"hog", "histogram + HOG + logistic regression, 256 px"},
	{"hog64", "the same at 64 px, as the networks see"},
	{"view", "the projection alone (a shortcut): PA is pneumonia"},
}

// networks are the contenders that are runs of mvmae-train.
var networks = []string{"finetune", "supervised", "probe", "random"}

// scored is a test image with a contender's probability.
type scored struct {
	image, projection string // image without its extension; PA or AP
	row               metrics.Row
}

// with is the same image with another contender's probability.
func (s scored) with(p float64) scored {
	s.row.Scores = [model.NumLabels]float64{}
	s.row.Scores[pneumonia] = p
	return s
}

// scoredBy turns predictions into rows. An image of this dataset is a study.
func scoredBy(predictions []eval.Prediction, meta model.Metadata, projections map[string]string) ([]scored, error) {
	var out []scored
	for _, p := range predictions {
		s := scored{image: p.Study[strings.LastIndex(p.Study, "/")+1:], row: metrics.Row{Patient: p.Patient, Labels: p.Labels}}
		if s.projection = projections[s.image]; s.projection == "" {
			return nil, fmt.Errorf("a test image has no projection in the table")
		}
		fused := fuse.Fuse(fuse.Rule(meta.Fusion), [][model.NumLabels]float32{p.Views[0].Logits})
		out = append(out, s.with(float64(fused[pneumonia])))
	}
	return out, nil
}

// readProjections reads PA or AP of every image, by its name without extension.
func readProjections(dir string) (map[string]string, error) {
	f, err := os.Open(filepath.Join(dir, "Data_Entry_2017_v2020.csv"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, err
	}
	name, view := slices.Index(rows[0], "Image Index"), slices.Index(rows[0], "View Position")
	if name < 0 || view < 0 {
		return nil, fmt.Errorf("%s lacks Image Index or View Position", f.Name())
	}
	out := map[string]string{}
	for _, row := range rows[1:] {
		out[strings.TrimSuffix(row[name], filepath.Ext(row[name]))] = row[view]
	}
	return out, nil
}

// score is what the report says of one contender in one group of images.
type score struct {
	Group     string           `json:"group"` // all, PA, AP
	Contender string           `json:"contender"`
	AUROC     metrics.Estimate `json:"auroc"`
	// Gain is the first contender's AUROC less this one's, paired.
	Gain  *metrics.Estimate `json:"gain,omitempty"`
	Folds []metrics.Value   `json:"auroc_by_fold"`
}

// tell writes the tables.
func tell(report *paired.Report, list []fold) (scores []score, err error) {
	report.Printf("%s against No Finding. %d of the %d folds of a cross-validation by patient (shares %s), preset tiny, recipe display. AUROC within a fold, mean over folds; in brackets\n"+
		"the 95 %% interval over %d bootstrap replicates of each fold's patients. Gain: the first row's AUROC less this row's, on the same replicates.\n"+
		"Settings: pretraining %s; finetuning and scratch %s, layer decay 0.75 and 1; all %s.\nPeer: %s.\n",
		label, len(list), folds, shares, resampling.Replicates, strings.Join(pretrain, " "), strings.Join(finetune, " "), strings.Join(augment, " "), report.Peers["Python"])
	for _, group := range []string{"all", "PA", "AP"} {
		n, positive, patients := 0, 0, map[string]bool{}
		for _, f := range list {
			for _, s := range f.scores["finetune"] {
				if group == "all" || s.projection == group {
					n++
					patients[s.row.Patient] = true
					if s.row.Labels[pneumonia] == model.Positive {
						positive++
					}
				}
			}
		}
		report.Printf("\n%s: %d images, %d with pneumonia, of %d patients\n\n| | AUROC | gain | by fold |\n|---|---|---|---|\n", group, n, positive, len(patients))
		for i, c := range contenders {
			s, err := scoreOf(list, group, c.name, i > 0)
			if err != nil {
				return nil, err
			}
			gain := ""
			if s.Gain != nil {
				gain = s.Gain.String()
			}
			report.Printf("| %s | %v | %s | %s |\n", c.title, s.AUROC, gain, strings.Trim(fmt.Sprint(s.Folds), "[]"))
			scores = append(scores, s)
		}
	}
	return scores, nil
}

func scoreOf(list []fold, group, contender string, compare bool) (score, error) {
	s := score{Group: group, Contender: contender}
	var alone, against []metrics.Pair
	for _, f := range list {
		table, err := f.table(contender, group)
		if err != nil {
			return s, err
		}
		first, err := f.table(contenders[0].name, group)
		if err != nil {
			return s, err
		}
		alone, against = append(alone, metrics.Pair{A: table}), append(against, metrics.Pair{A: first, B: table})
		s.Folds = append(s.Folds, metrics.Value(table.Label(pneumonia).AUROC()))
	}
	e, err := metrics.CrossValidate(alone, resampling)
	if err != nil {
		return s, err
	}
	s.AUROC = e[pneumonia][metrics.AUROC]
	if compare {
		if e, err = metrics.CrossValidate(against, resampling); err != nil {
			return s, err
		}
		s.Gain = &e[pneumonia][metrics.AUROC]
	}
	return s, nil
}

// table holds a contender's scores of a group of the fold's test images.
func (f fold) table(contender, group string) (*metrics.Table, error) {
	var rows []metrics.Row
	for _, s := range f.scores[contender] {
		if group == "all" || s.projection == group {
			rows = append(rows, s.row)
		}
	}
	return metrics.NewTable(rows)
}

// agrees asks "mvmae-train eval --against" for the fold's first comparison: it must be the tables'.
func (f fold) agrees(ctx context.Context) error {
	doc, err := command(ctx, filepath.Join(bin, "mvmae-train"), "eval", "--data", f.path("pack"), "--model", f.path("finetune"),
		"--against", f.path("supervised"), "--replicates", "0", "--device", "cpu", "--json")
	if err != nil {
		return err
	}
	var rep eval.Report
	if err := json.Unmarshal(doc, &rep); err != nil {
		return err
	}
	a, err := f.table("finetune", "all")
	if err != nil {
		return err
	}
	b, err := f.table("supervised", "all")
	if err != nil {
		return err
	}
	l := pneumonia
	want, got := a.Label(l).AUROC()-b.Label(l).AUROC(), float64(rep.Against.Labels[l].AUROC.Value)
	if math.Abs(want-got) > 1e-9 {
		return fmt.Errorf("eval --against says %v, the tables here %v", got, want)
	}
	return nil
}
