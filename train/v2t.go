package train

import (
	"errors"
	"math/rand/v2"
	"os"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/text"
)

// Shapes below: V view images in the batch, T = model.Text.Steps tokens fed in of each one's report.

// textBatch are the graph inputs that only method mvmae-v2t has.
type textBatch struct {
	tokens  node // [V,T] int32
	target  node // [V,T] int32: the token after each; below 0 for none
	written node // [V] 1 where there is a report
	form    node // [V] int32: see model.Report
}

// textLosses are the cross-entropy of each view's report, a mean over its tokens. Recipe "paper" takes the mean over a study's
// views, then over studies; recipe "code" over three slots of each study. A study without a report adds 0 to either.
func (l *pretrainLoss) textLosses(o graphOps, cfg Config, s model.Spec, b pretrainBatch, sizes, studies node) {
	asRun := cfg.padded()
	l.logits = model.DecodeText(o, s, l.memory(cfg.Text), b.view, b.text.report(b, asRun))
	l.textView = tokenEntropy(l.logits, b.text.target) // [V]
	switch {
	case asRun:
		l.text = asRunText(b, l.textView)
	case cfg.Recipe == "code":
		l.text = graph.Div(graph.ReduceAllSum(graph.Mul(l.textView, b.text.written)), graph.MulScalar(studies, Slots))
	default:
		perStudy := graph.Div(matVec(b.study, graph.Mul(l.textView, b.text.written)), graph.MaxScalar(sizes, 1)) // [G]
		l.text = graph.Div(graph.ReduceAllSum(perStudy), studies)
	}
}

// memory is what the text decoder sees of the image.
func (l *pretrainLoss) memory(cfg TextConfig) node {
	if cfg.Blind {
		return graph.ZerosLike(l.tokens)
	}
	return l.tokens
}

// report is what the decoder is given. The published code takes, for the position of a visible patch, its entry in the
// inverse permutation, whose first entries belong to other patches: restore instead of keep.
func (t *textBatch) report(b pretrainBatch, asRun bool) model.Report[node] {
	patches := b.keep
	if asRun {
		patches = graph.Slice(b.restore, graph.AxisRange(), graph.AxisRange(0, b.keep.Shape().Dim(1)))
	}
	v, n := t.tokens.Shape().Dim(0), t.tokens.Shape().Dim(1)
	cls := graph.Zeros(t.tokens.Graph(), shapes.Make(patches.DType(), v, 1))
	step := graph.Iota(t.tokens.Graph(), t.tokens.Shape(), 1)
	masked := graph.BroadcastToDims(graph.InsertAxes(t.form, -1), v, n)
	return model.Report[node]{
		Places: graph.Concatenate([]node{cls, graph.AddScalar(patches, 1)}, 1),
		Tokens: t.tokens, Form: t.form,
		Fed: graph.Where(graph.GreaterThan(masked, graph.ZerosLike(masked)), graph.AddScalar(graph.ZerosLike(step), n), step),
	}
}

// asRunText is the published code's text loss: for each slot, the share of studies that have both the view and a report times the
// mean cross-entropy of all studies, whether they have them or not. Places are studies' slots, in order.
func asRunText(b pretrainBatch, entropy node) node {
	slots := func(x node) node { return graph.ReduceMean(graph.Reshape(x, -1, Slots), 0) } // [V] to [3]
	exists := graph.Mul(graph.ReduceSum(b.study, 0), b.text.written)
	return graph.ReduceAllMean(graph.Mul(slots(exists), slots(entropy)))
}

// tokenEntropy is [V]: the mean cross-entropy of the tokens that are targets [V,T]; 0 where there is none.
func tokenEntropy(logits, target node) node {
	return graph.Div(graph.ReduceSum(entropies(logits, target), 1), graph.MaxScalar(graph.ReduceSum(isTarget(target), 1), 1))
}

// entropies is [V,T]: the cross-entropy of each target, 0 where there is none.
func entropies(logits, target node) node {
	peak := graph.StopGradient(graph.ReduceAndKeep(logits, graph.ReduceMax, -1))
	logits = graph.Sub(logits, peak)
	whole := graph.Log(graph.ReduceSum(graph.Exp(logits), -1)) // [V,T]
	wide := graph.BroadcastToDims(graph.InsertAxes(target, -1), logits.Shape().Dimensions...)
	number := graph.Iota(target.Graph(), shapes.Make(target.DType(), logits.Shape().Dimensions...), 2)
	own := graph.ReduceSum(graph.Where(graph.Equal(number, wide), logits, graph.ZerosLike(logits)), -1)
	return graph.Mul(graph.Sub(whole, own), isTarget(target))
}

// isTarget is 1 where there is a target.
func isTarget(target node) node {
	return graph.ConvertDType(graph.GreaterOrEqual(target, graph.ZerosLike(target)), dtypes.Float32)
}

// writer makes the text decoder's inputs of reports.
type writer struct {
	cfg   TextConfig
	asRun bool // as the published code does
	pack  *data.Pack
	tok   *text.Tokenizer
}

// newWriter reads a run's tokenizer, or makes it from the training reports.
func newWriter(run *Run, pack *data.Pack) (*writer, error) {
	path := run.path(tokenizerFile)
	tok, err := text.Read(path)
	if errors.Is(err, os.ErrNotExist) {
		var reports []string
		for _, s := range reported(pack, data.Train) {
			reports = append(reports, pack.Studies[s].Report)
		}
		if len(reports) == 0 {
			return nil, hint.Wrap(errors.New("the pack has no report among its training studies"),
				`method mvmae-v2t needs a dataset with reports; --method mvmae does without`)
		}
		if tok, err = text.Train(reports, run.Config.Text.Vocabulary); err == nil {
			err = tok.Write(path)
		}
	}
	if err != nil {
		return nil, err
	}
	return &writer{run.Config.Text, run.Config.padded(), pack, tok}, nil
}

// labels are a report's tokens from start to end, MaxTokens of them, -1 where there is nothing to predict. Without cfg.End the place of the
// end is kept, as the reference's tokenizer does, but is no target.
func (w *writer) labels(report string) []int32 {
	labels := make([]int32, 0, w.cfg.MaxTokens)
	labels = append(labels, model.TextStart)
	tokens := w.tok.Encode(report)
	whole := len(tokens) <= w.cfg.MaxTokens-2
	switch {
	case !w.cfg.End:
		tokens = tokens[:min(len(tokens), w.cfg.MaxTokens-2)]
	case whole:
		tokens = append(tokens, model.TextEnd)
	default:
		tokens = tokens[:w.cfg.MaxTokens-1]
	}
	labels = append(labels, tokens...)
	for len(labels) < w.cfg.MaxTokens {
		labels = append(labels, -1)
	}
	return labels
}

// append adds one view's tokens and targets. The published code changes a study's labels at its first view, so that every further
// one, in another slot, is scored on the padding too.
func (w *writer) append(tokens, target []int32, labels []int32, slot int) ([]int32, []int32) {
	for k, token := range labels[:len(labels)-1] {
		next := labels[k+1]
		if w.asRun && slot > 0 {
			next = max(next, model.TextPadding)
		}
		tokens, target = append(tokens, max(token, model.TextPadding)), append(target, next)
	}
	return tokens, target
}

// inputs are the tensors of a textBatch, the forms drawn from rng. The views of a study have its report in one form.
func (w *writer) inputs(rng *rand.Rand, b hostBatch) []any {
	reports, forms := make([][]int32, len(b.studies)), make([]int32, len(b.studies))
	for row, s := range b.studies {
		if r := w.pack.Studies[s].Report; r != "" {
			reports[row] = w.labels(r)
		}
		if rng.Float64() < w.cfg.ParallelFraction {
			forms[row] = 1
		}
	}
	none := make([]int32, w.cfg.MaxTokens)
	for k := range none {
		none[k] = -1
	}
	v, n := len(b.places), w.cfg.MaxTokens-1
	tokens, target := make([]int32, 0, v*n), make([]int32, 0, v*n)
	written, form := make([]float32, v), make([]int32, v)
	for i, p := range b.places {
		labels, row, slot := none, p.row, 0
		if w.asRun { // an empty slot is its study's all the same
			row, slot = i/Slots, i%Slots
		}
		if row >= 0 {
			form[i] = forms[row]
			if reports[row] != nil {
				labels, written[i] = reports[row], 1
			}
		}
		tokens, target = w.append(tokens, target, labels, slot)
	}
	return []any{
		tensors.FromFlatDataAndDimensions(tokens, v, n), tensors.FromFlatDataAndDimensions(target, v, n),
		tensors.FromFlatDataAndDimensions(written, v), tensors.FromFlatDataAndDimensions(form, v),
	}
}
