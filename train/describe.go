package train

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/data"
)

// Description is what a run's text decoder makes of held-out studies that have a report. Nothing is masked: it sees every patch.
type Description struct {
	Run      string     `json:"run"`
	Step     int        `json:"step"` // of the checkpoint
	Blind    bool       `json:"blind"`
	Split    data.Split `json:"split"`
	Studies  int        `json:"studies"`
	Patients int        `json:"patients"`
	Images   int        `json:"images"` // every view of a study is asked for its report
	Tokens   int        `json:"tokens"` // of the reports, once for each image
	// Own is with each report's own image, Other with an image of another patient, of the same view where there is one. What Own
	// is better by, Gain, the decoder reads in the image.
	Own   TextScores `json:"own_image"`
	Other TextScores `json:"other_image"`
	Gain  TextScores `json:"gain"`

	Samples []Sample `json:"samples"`

	answers []answer // of each image with itself
}

// TextScores judge each token with those before it given.
type TextScores struct {
	Accuracy     metrics.Estimate `json:"token_accuracy"` // share that the decoder would have written
	CrossEntropy metrics.Estimate `json:"cross_entropy"`  // nats a token
}

// Sample is a report that the decoder wrote, token by token the likeliest, beside the true one.
type Sample struct {
	Study   string `json:"study"` // hashed
	View    string `json:"view"`
	Written string `json:"written"`
	True    string `json:"true"`
}

// DescribeOptions say what to describe.
type DescribeOptions struct {
	Split      data.Split
	Samples    int // reports to write, at most describeViews
	Replicates int // of the bootstrap behind the intervals
}

// describeViews is the one batch size of description graphs.
const describeViews = 16

// Describe judges the last checkpoint of a run of method mvmae-v2t on its pack, also while the run is in training.
func Describe(ctx context.Context, dev *Device, run *Run, pack *data.Pack, opt DescribeOptions) (d Description, err error) {
	defer recoverGraph(&err)
	if d, err = describe(ctx, dev, run, pack, opt); err != nil {
		err = fmt.Errorf("describe: %w", err)
	}
	return d, err
}

func describe(ctx context.Context, dev *Device, run *Run, pack *data.Pack, opt DescribeOptions) (Description, error) {
	w, step, err := newDescriber(dev, run, pack)
	if err != nil {
		return Description{}, err
	}
	studies := reported(pack, opt.Split)
	if len(studies) == 0 {
		return Description{}, hint.Wrap(fmt.Errorf("no study of split %s has a report", opt.Split), "see the counts of reports that pack and index printed")
	}
	images := ImagesOf(pack, studies)
	partners, err := othersOf(pack, images)
	if err != nil {
		return Description{}, err
	}
	d := Description{Run: run.Info.ID, Step: step, Blind: run.Config.Text.Blind, Split: opt.Split, Studies: len(studies), Images: len(images)}
	if d.answers, err = w.judge(ctx, images, images); err != nil {
		return d, err
	}
	other, err := w.judge(ctx, images, partners)
	if err != nil {
		return d, err
	}
	patients := map[string]bool{}
	for _, a := range d.answers {
		patients[a.patient] = true
		d.Tokens += int(a.tokens)
	}
	d.Patients = len(patients)
	r := metrics.Resampling{Replicates: opt.Replicates, Seed: run.Config.Seed}
	d.Own, d.Other, d.Gain = textScores(d.answers, nil, r), textScores(other, nil, r), textScores(d.answers, other, r)
	d.Samples, err = w.write(ctx, studies[:min(len(studies), opt.Samples, describeViews)])
	return d, err
}

// leaveDescription describes the validation studies in the run's folder. A pack whose validation studies have no reports leaves nothing
// to describe.
func leaveDescription(ctx context.Context, dev *Device, run *Run, pack *data.Pack) error {
	if len(reported(pack, data.Validate)) == 0 {
		slog.Warn("no validation study has a report: nothing is described")
		return nil
	}
	d, err := describe(ctx, dev, run, pack, DescribeOptions{Split: data.Validate, Samples: 8, Replicates: run.Config.Probe.Replicates})
	if ctx.Err() != nil {
		return hint.Wrap(fmt.Errorf("%w after the last step, before the run was described", ErrInterrupted), `go on with "mvmae-train resume %s"`, run.Dir)
	}
	if err != nil {
		return err
	}
	if err := run.write(samplesFile, []byte(d.Markdown())); err != nil {
		return err
	}
	return run.WriteJSON(TextFile, d)
}

// Less compares two runs on the same reports: the scores of d less those of other, paired.
func (d Description) Less(other Description, replicates int) (TextScores, error) {
	same := len(d.answers) == len(other.answers)
	for i := 0; same && i < len(d.answers); i++ {
		a, b := d.answers[i], other.answers[i]
		same = a.patient == b.patient && a.tokens == b.tokens
	}
	if !same {
		return TextScores{}, hint.Wrap(errors.New("describe: the two runs do not cut the same reports into the same tokens"),
			"compare runs of one pack with the same text.vocabulary, text.max_tokens and text.end")
	}
	return textScores(d.answers, other.answers, metrics.Resampling{Replicates: replicates, Seed: 1}), nil
}

// answer is what the decoder knew of the tokens of one image's report.
type answer struct {
	patient             string
	tokens, right, nats float64
}

// textScores are those of a, or the differences a less b.
func textScores(a, b []answer, r metrics.Resampling) TextScores {
	right, nats := make([]metrics.Part, len(a)), make([]metrics.Part, len(a))
	for i, x := range a {
		if b != nil {
			x.right, x.nats = x.right-b[i].right, x.nats-b[i].nats
		}
		right[i], nats[i] = metrics.Part{Patient: x.patient, Sum: x.right, Count: x.tokens}, metrics.Part{Patient: x.patient, Sum: x.nats, Count: x.tokens}
	}
	return TextScores{metrics.Ratio(right, r), metrics.Ratio(nats, r)}
}

// reported lists the studies of a split that have a report.
func reported(pack *data.Pack, split data.Split) (studies []int) {
	for _, s := range pack.StudiesOf(split) {
		if pack.Studies[s].Report != "" {
			studies = append(studies, s)
		}
	}
	return studies
}

// othersOf gives each image the next one of another patient, of the same view where there is one.
func othersOf(pack *data.Pack, images []int) ([]int, error) {
	patient := func(i int) string { return pack.Images[i].Dataset + "/" + pack.Images[i].PatientID }
	partners := make([]int, len(images))
	for i, image := range images {
		partner := -1
		for j := range len(images) - 1 {
			next := images[(i+1+j)%len(images)]
			if patient(next) == patient(image) {
				continue
			}
			if pack.Images[next].View == pack.Images[image].View {
				partner = next
				break
			}
			if partner < 0 {
				partner = next
			}
		}
		if partner < 0 {
			return nil, hint.Wrap(errors.New("all reports are of one patient: there is no other image to compare with"), "index more studies")
		}
		partners[i] = partner
	}
	return partners, nil
}

// describer runs a checkpoint's encoder on whole images and its text decoder on what that makes of them.
type describer struct {
	*writer
	spec           model.Spec
	encode, decode *gomodel.Exec
}

func newDescriber(dev *Device, run *Run, pack *data.Pack) (*describer, int, error) {
	if run.Info.Kind != "pretrain" || run.Config.Method != methodV2T {
		return nil, 0, hint.Wrap(fmt.Errorf("run %s has no text decoder", run.Dir), `name a run of "mvmae-train pretrain --method %s"`, methodV2T)
	}
	if pack.Digest() != run.Info.DataDigest {
		return nil, 0, fmt.Errorf("the pack is not the one that run %s was trained on", run.Dir)
	}
	last, err := run.loadCheckpoint()
	if err != nil {
		return nil, 0, err
	}
	if last.tensors == nil {
		return nil, 0, hint.Wrap(fmt.Errorf("run %s has no checkpoint", run.Dir), `let it train: "mvmae-train resume %s"`, run.Dir)
	}
	w, err := newWriter(run, pack)
	if err != nil {
		return nil, 0, err
	}
	d := &describer{writer: w}
	if d.spec, err = run.Spec(); err != nil {
		return nil, 0, err
	}
	d.spec.Text = run.Config.Text.spec(w.tok.Size())
	params := d.spec.Params(model.PartEncoder, model.PartText)
	if d.spec.Decoder.OwnViews {
		params = d.spec.Params(model.PartEncoder, model.PartDecoder, model.PartText) // the decoder's table of views
	}
	store, err := newStore(params, last.tensors)
	if err != nil {
		return nil, 0, fmt.Errorf("checkpoint of %s: %w", run.Dir, err)
	}
	if d.encode, err = gomodel.NewExec(dev.Backend, store, func(_ *gomodel.Scope, in []node) node {
		o := graphOps{store: store, g: in[0].Graph()}
		tokens := model.Encode(o, d.spec, model.Patchify(o, d.spec, in[0]), in[1], nil)
		return (&pretrainLoss{tokens: tokens}).memory(run.Config)
	}); err != nil {
		return nil, 0, err
	}
	d.decode, err = gomodel.NewExec(dev.Backend, store, func(_ *gomodel.Scope, in []node) []node {
		return d.answers(graphOps{store: store, g: in[0].Graph()}, in[0], in[1], textBatch{tokens: in[2], target: in[3], form: in[4]})
	})
	return d, last.step, err
}

// answers are, of each view, right [V] and nats [V] of its targets, and the likeliest next token at each step [V,T].
func (d *describer) answers(o graphOps, memory, view node, t textBatch) []node {
	n := d.spec.NumPatches()
	keep := graph.Iota(o.g, shapes.Make(dtypes.Int32, describeViews, n), 1) // every patch, in order
	report := t.report(pretrainBatch{keep: keep}, false)
	logits := model.DecodeText(o, d.spec, memory, view, report)
	best := graph.ArgMax(logits, -1, dtypes.Int32)
	right := graph.ConvertDType(graph.Equal(best, t.target), dtypes.Float32)
	return []node{graph.ReduceSum(right, 1), graph.ReduceSum(entropies(logits, t.target), 1), best}
}

// batch are describeViews of images, as the encoder's tokens with their views; places beyond the images are black.
func (d *describer) batch(images []int) (memory *tensors.Tensor, view []int32, err error) {
	size := d.spec.ImageSize
	pixels, views := Inputs(d.pack, images, size)
	pixels = append(pixels, make([]float32, (describeViews-len(images))*size*size)...)
	view = make([]int32, describeViews)
	for i, v := range views {
		view[i] = int32(v)
	}
	in := []any{tensors.FromFlatDataAndDimensions(pixels, describeViews, size, size), tensors.FromFlatDataAndDimensions(view, describeViews)}
	defer finalize(in)
	memory, err = d.encode.Call1(in...)
	return memory, view, err
}

// step runs the decoder on describeViews reports.
func (d *describer) step(memory *tensors.Tensor, view, tokens, target []int32) (right, nats []float32, best []int32, err error) {
	n := d.cfg.MaxTokens - 1
	in := []any{
		tensors.FromFlatDataAndDimensions(view, describeViews),
		tensors.FromFlatDataAndDimensions(tokens, describeViews, n), tensors.FromFlatDataAndDimensions(target, describeViews, n),
		tensors.FromFlatDataAndDimensions(make([]int32, describeViews), describeViews), // causal
	}
	defer finalize(in)
	out, err := d.decode.Call(append([]any{memory}, in...)...)
	if err != nil {
		return nil, nil, nil, err
	}
	defer finalize(out)
	if right, err = tensors.CopyFlatData[float32](out[0]); err == nil {
		if nats, err = tensors.CopyFlatData[float32](out[1]); err == nil {
			best, err = tensors.CopyFlatData[int32](out[2])
		}
	}
	return right, nats, best, err
}

// judge asks the reports of images, each before the image of the same place in shown.
func (d *describer) judge(ctx context.Context, images, shown []int) ([]answer, error) {
	reportOf := map[int]string{}
	for _, s := range d.pack.Studies {
		for _, image := range s.Images {
			reportOf[image] = s.Report
		}
	}
	var out []answer
	for from := 0; from < len(images); from += describeViews {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		to := min(from+describeViews, len(images))
		memory, view, err := d.batch(shown[from:to])
		if err != nil {
			return nil, err
		}
		tokens, target := d.none()
		count := make([]float64, describeViews)
		n := d.cfg.MaxTokens - 1
		for i, image := range images[from:to] {
			own, next := d.append(nil, nil, d.labels(reportOf[image]), 0)
			copy(tokens[i*n:], own)
			copy(target[i*n:], next)
			for _, t := range next {
				if t >= 0 {
					count[i]++
				}
			}
		}
		right, nats, _, err := d.step(memory, view, tokens, target)
		memory.FinalizeAll()
		if err != nil {
			return nil, err
		}
		for i, image := range images[from:to] {
			img := d.pack.Images[image]
			out = append(out, answer{img.Dataset + "/" + img.PatientID, count[i], float64(right[i]), float64(nats[i])})
		}
	}
	return out, nil
}

// none are the tokens and targets of reports that are not there.
func (d *describer) none() (tokens, target []int32) {
	n := d.cfg.MaxTokens - 1
	tokens, target = make([]int32, describeViews*n), make([]int32, describeViews*n)
	for i := range target {
		target[i] = -1
	}
	return tokens, target
}

// write writes the reports of studies from their first frontal view, or their first: from the start on, at each step the
// likeliest token, until the end. A decoder that never learned to end stops where the true report does.
func (d *describer) write(ctx context.Context, studies []int) ([]Sample, error) {
	if len(studies) == 0 {
		return nil, nil
	}
	images := make([]int, len(studies))
	for i, s := range studies {
		all := d.pack.Studies[s].Images
		images[i] = all[0]
		for _, image := range all {
			if d.pack.Images[image].View == cxr.Frontal {
				images[i] = image
				break
			}
		}
	}
	memory, view, err := d.batch(images)
	if err != nil {
		return nil, err
	}
	defer memory.FinalizeAll()
	n := d.cfg.MaxTokens - 1
	tokens, target := d.none()
	written, limit := make([][]int32, len(studies)), make([]int, len(studies))
	for i, s := range studies {
		tokens[i*n], limit[i] = model.TextStart, n
		if !d.cfg.End {
			limit[i] = min(n, len(d.tok.Encode(d.pack.Studies[s].Report)))
		}
	}
	for k, going := 0, true; going && k < n; k++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		_, _, best, err := d.step(memory, view, tokens, target)
		if err != nil {
			return nil, err
		}
		going = false
		for i := range studies {
			if len(written[i]) < k || k >= limit[i] || best[i*n+k] == model.TextEnd {
				continue
			}
			written[i], going = append(written[i], best[i*n+k]), true
			if k+1 < n {
				tokens[i*n+k+1] = best[i*n+k]
			}
		}
	}
	samples := make([]Sample, len(studies))
	for i, s := range studies {
		study := d.pack.Studies[s]
		samples[i] = Sample{data.Hashed(study.Dataset, study.ID), d.pack.Images[images[i]].View.String(), d.tok.Decode(written[i]), study.Report}
	}
	return samples, nil
}

// Markdown is the description as text.
func (d Description) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What the text decoder says\n\nRun %s, step %d, on %d images of %d studies of %d patients (%s), %d tokens. Every token is judged with those before it given; "+
		"brackets are 95 %% intervals over patients.\n\n", d.Run, d.Step, d.Images, d.Studies, d.Patients, d.Split, d.Tokens)
	if d.Blind {
		b.WriteString("This run's text decoder is blind: it was trained without the image.\n\n")
	}
	b.WriteString("| | tokens right | nats a token |\n|---|---|---|\n")
	for _, row := range []struct {
		name string
		s    TextScores
	}{{"its own image", d.Own}, {"an image of another patient", d.Other}, {"own less other, paired", d.Gain}} {
		fmt.Fprintf(&b, "| %s | %v | %v |\n", row.name, row.s.Accuracy, row.s.CrossEntropy)
	}
	for _, s := range d.Samples {
		fmt.Fprintf(&b, "\n## Study %s, %s view\n\nTrue: %s\n\nWritten: %s\n", s.Study, s.View, quoted(s.True), quoted(s.Written))
	}
	return b.String()
}

// quoted is a report as one line that Markdown shows as it is.
func quoted(report string) string {
	line := strings.Join(strings.Fields(report), " ")
	if line == "" {
		return "(nothing)"
	}
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "_", "\\_", "<", "&lt;", "`", "\\`", "#", "\\#", "[", "\\[").Replace(line)
}
