package train

import (
	"errors"
	"fmt"
	"math"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// epochScore judges the parameters at the end of an epoch.
type epochScore struct {
	value  float64         // more is better; NaN for a task without a score
	labels []metrics.Value // AUROC on validation, label by label
	kept   model.Tensors   // what the task wants back after a resume: see loop.kept
	text   []float64       // nats a token with the own image and with another: see glance; nil for none
}

// selection chooses epochs by validation AUROC: one for all labels by their mean, the model's, and one for each label by its own.
// Of the latter it keeps what they say, so that the two ways can be compared (figures 3 and 10 of the MVMAE paper).
type selection struct {
	pack    *data.Pack
	rule    fuse.Rule
	studies [2][]int // labelled: validation, test
	macro   float64  // the best so far, at epoch joint
	joint   int
	auroc   [model.NumLabels]float32 // each label's best, -1 before the first
	epoch   [model.NumLabels]int
	logits  [2][][model.NumLabels]float32 // of the studies' images, a label's column from its own epoch
}

func newSelection(run *Run, pack *data.Pack) (*selection, error) {
	s := &selection{pack: pack, macro: -1}
	for l := range s.auroc {
		s.auroc[l] = -1
	}
	var err error
	if s.rule, err = fuse.ParseRule(run.Config.Probe.Fusion); err != nil {
		return nil, err
	}
	for i, split := range []data.Split{data.Validate, data.Test} {
		if s.studies[i], err = labelled(pack, split); err != nil {
			return nil, err
		}
		s.logits[i] = make([][model.NumLabels]float32, len(ImagesOf(pack, s.studies[i])))
	}
	return s, nil
}

// offer scores the logits of the validation images after an epoch. test gives those of the test images: it is asked only when some
// label has its best epoch.
func (s *selection) offer(epoch int, validation [][model.NumLabels]float32, test func() ([][model.NumLabels]float32, error)) (epochScore, error) {
	sheet, err := aurocs(s.pack, s.studies[0], validation, s.rule)
	if err != nil {
		return epochScore{}, err
	}
	score := epochScore{value: sheet[metrics.Macro]}
	better := score.value > s.macro
	if better {
		s.macro, s.joint = score.value, epoch
	}
	var columns []int
	for l := range model.NumLabels {
		score.labels = append(score.labels, metrics.Value(sheet[l]))
		own := float32(sheet[l])
		if math.IsNaN(sheet[l]) && better { // a label that validation does not define goes with the others
			own = s.auroc[l] + 1
		}
		if own > s.auroc[l] {
			s.epoch[l], s.auroc[l] = epoch, own
			columns = append(columns, l)
		}
	}
	if len(columns) > 0 {
		held, err := test()
		if err != nil {
			return epochScore{}, err
		}
		for i, logits := range [2][][model.NumLabels]float32{validation, held} {
			for image := range logits {
				for _, l := range columns {
					s.logits[i][image][l] = logits[image][l]
				}
			}
		}
	}
	score.kept = s.tensors()
	return score, nil
}

// tensors are all of a selection that restore needs, but for macro, which the loop keeps.
func (s *selection) tensors() model.Tensors {
	state := []float32{float32(s.joint)}
	for l := range s.auroc {
		state = append(state, s.auroc[l], float32(s.epoch[l]))
	}
	out := model.Tensors{"state": {Dims: []int{len(state)}, Data: state}}
	for i, name := range selectionLogits {
		flat := make([]float32, 0, len(s.logits[i])*model.NumLabels)
		for _, logits := range s.logits[i] {
			flat = append(flat, logits[:]...)
		}
		out[name] = model.Tensor{Dims: []int{len(s.logits[i]), model.NumLabels}, Data: flat}
	}
	return out
}

var selectionLogits = [2]string{"validation", "test"}

// restore takes back what tensors gave, nothing before the first epoch, and the best score.
func (s *selection) restore(kept model.Tensors, best float64) error {
	if kept == nil {
		return nil
	}
	state := kept["state"].Data
	if len(state) != 1+2*model.NumLabels {
		return fmt.Errorf("%w: the selection of epochs has %d numbers", model.ErrCorrupt, len(state))
	}
	s.macro, s.joint = best, int(state[0])
	for l := range s.auroc {
		s.auroc[l], s.epoch[l] = state[1+2*l], int(state[2+2*l])
	}
	for i, name := range selectionLogits {
		flat := kept[name].Data
		if len(flat) != len(s.logits[i])*model.NumLabels {
			return fmt.Errorf("%w: the selection of epochs has %d logits of %s", model.ErrCorrupt, len(flat), name)
		}
		for image := range s.logits[i] {
			s.logits[i][image] = [model.NumLabels]float32(flat[image*model.NumLabels:])
		}
	}
	return nil
}

// judge reports on the test studies as the jointly selected epoch's model predicts them. The predictions stay in the run's folder: other
// runs are compared with them.
func (s *selection) judge(run *Run, validation, test []eval.Prediction) (rep eval.Report, err error) {
	opts, err := evalOptions(run, s.pack)
	if err != nil {
		return rep, err
	}
	if rep, err = eval.Evaluate(validation, test, opts); err != nil {
		return rep, err
	}
	if err := s.compare(&rep, test, opts); err != nil {
		return rep, err
	}
	return rep, run.leavePredictions(test)
}

// compare adds to a report of the joint selection's model, which predicts test, what each label's own epoch gives.
func (s *selection) compare(rep *eval.Report, test []eval.Prediction, opts eval.Options) error {
	for _, name := range opts.Untrained { // as the model has them
		for i := range s.logits {
			for image := range s.logits[i] {
				s.logits[i][image][model.LabelIndex(name)] = silentLogit
			}
		}
	}
	validation, own := Predictions(s.pack, s.studies[0], s.logits[0]), Predictions(s.pack, s.studies[1], s.logits[1])
	per, err := eval.SelectPerLabel(*rep, test, validation, own, opts)
	if err != nil {
		return err
	}
	per.JointEpoch = s.joint
	for l := range per.Labels {
		per.Labels[l].Epoch = s.epoch[l]
	}
	rep.PerLabel = &per
	return nil
}

// aurocs are the AUROCs of the fused logits of ImagesOf(studies), of each label and, at metrics.Macro, their mean.
func aurocs(pack *data.Pack, studies []int, logits [][model.NumLabels]float32, rule fuse.Rule) (out [model.NumLabels + 1]float64, err error) {
	var rows []metrics.Row
	for _, p := range Predictions(pack, studies, logits) {
		var views [][model.NumLabels]float32
		for _, v := range p.Views {
			views = append(views, v.Logits)
		}
		row := metrics.Row{Patient: p.Patient, Labels: p.Labels}
		for l, v := range fuse.Fuse(rule, views) {
			row.Scores[l] = float64(v)
		}
		rows = append(rows, row)
	}
	table, err := metrics.NewTable(rows)
	if err != nil {
		return out, err
	}
	for l, m := range table.Measure(metrics.Thresholds{}) {
		out[l] = m[metrics.AUROC]
	}
	if math.IsNaN(out[metrics.Macro]) {
		return out, hint.Wrap(errors.New("no label has both classes among the validation studies"), "index more studies, or give validation a larger share with --split-shares")
	}
	return out, nil
}
