package train

import (
	"github.com/gomlx/gomlx/core/graph"

	"github.com/mvmae/mvmae/model"
)

// Shapes below: V view images in the batch, of G studies at most; N patches an image, K visible.

// losses are what a step minimises: total, and the terms it is made of, nil where a task has no such term.
type losses struct {
	total          node // []
	reconstruction node // []
	alignment      node // []
	text           node // []
}

// terms are the losses in the order of StepMetrics.losses.
func (l losses) terms() []node {
	out := []node{l.total}
	for _, term := range []node{l.reconstruction, l.alignment, l.text} {
		if term != nil {
			out = append(out, term)
		}
	}
	return out
}

// pretrainBatch are the graph inputs of one pretraining batch.
type pretrainBatch struct {
	image   node // [V,S,S] in [0,1]
	view    node // [V] int32
	keep    node // [V,K] int32: visible patches in order
	restore node // [V,N] int32: each patch's place in the order "visible, then masked"
	study   node // [G,V]: 1 where view image v belongs to study g; unused rows and columns are zero
	text    *textBatch
}

// pretrainLoss are the losses of masked pretraining on one batch, with the values they are made of.
type pretrainLoss struct {
	losses
	tokens     node // [V,1+K,D]
	patches    node // [V,N,P*P] reconstructed
	pooled     node // [V,D]: the tokens' mean at length 1 (recipe "code")
	recView    node // [V] squared error over the masked pixels
	alignStudy node // [G]
	logits     node // [V,T,Vocabulary] of the text decoder (method mvmae-v2t)
	textView   node // [V] mean cross-entropy of a view's tokens
}

// buildPretrain is the pretraining forward pass: a masked autoencoder whose encoder also has to agree with itself across the
// views of a study, by the losses of the MVMAE paper or of its published code.
func buildPretrain(o graphOps, cfg Config, s model.Spec, b pretrainBatch, beta node) pretrainLoss {
	visible := b.keep.Shape().Dim(1)
	target := model.Patchify(o, s, b.image)
	var l pretrainLoss
	l.tokens = model.Encode(o, s, target, b.view, &model.Visible[node]{Keep: b.keep, Count: visible})
	l.patches = model.Decode(o, s, l.tokens, b.restore, b.view, visible)
	l.recView = maskedError(l.patches, target, b.restore, visible)

	sizes := graph.ReduceSum(b.study, 1) // [G] views of each study
	present := graph.ConvertDType(graph.GreaterThan(sizes, graph.ZerosLike(sizes)), sizes.DType())
	studies := graph.MaxScalar(graph.ReduceAllSum(present), 1)
	if cfg.Recipe == "code" {
		l.codeLosses(b, sizes, studies, cfg.Mask.Ratio)
	} else {
		l.paperLosses(b, sizes, studies)
	}
	l.total = l.reconstruction
	if b.text != nil {
		l.textLosses(o, cfg, s, b, sizes, studies)
		l.total = graph.Add(l.total, graph.MulScalar(l.text, cfg.Text.Weight))
		if cfg.Recipe == "code" { // one mean over six terms: three slots' errors and three slots' texts
			l.total = graph.DivScalar(l.total, 2)
		}
	}
	l.total = graph.Add(l.total, graph.Mul(beta, l.alignment))
	return l
}

// paperLosses are the equations of the MVMAE paper: means over studies, of the reconstruction error's mean over a study's
// views, and of the squared difference between its tokens' mean over ordered pairs of views u != v (0 for one view), over
// tokens and channels. For n views that mean is 2/(n-1) times their spread.
func (l *pretrainLoss) paperLosses(b pretrainBatch, sizes, studies node) {
	perStudy := graph.Div(matVec(b.study, l.recView), graph.MaxScalar(sizes, 1)) // [G]
	l.reconstruction = graph.Div(graph.ReduceAllSum(perStudy), studies)

	factor := graph.Div(graph.ConstAs(sizes, 2), graph.MaxScalar(graph.AddScalar(sizes, -1), 1))
	several := graph.ConvertDType(graph.GreaterThan(sizes, graph.ConstAs(sizes, 1.5)), sizes.DType())
	l.alignStudy = graph.Mul(graph.Mul(factor, several), spread(graph.Reshape(l.tokens, l.tokens.Shape().Dim(0), -1), b.study))
	l.alignment = graph.Div(graph.ReduceAllSum(l.alignStudy), studies)
}

// codeLosses are those of the published code. Always three slots a study count, the empty ones with 0. The reconstruction
// error is divided by the mask ratio asked for, not by the pixels masked. Masks differ between views, so the alignment
// compares pooled tokens: the sum over all 3x3 pairs of slots, over 9, which for n views is 2n/9 times their spread.
func (l *pretrainLoss) codeLosses(b pretrainBatch, sizes, studies node, ratio float64) {
	patches, visible := float64(b.restore.Shape().Dim(1)), float64(b.keep.Shape().Dim(1))
	exists := graph.ReduceSum(b.study, 0) // [V]: 0 for an empty place
	l.recView = graph.Mul(graph.MulScalar(l.recView, (patches-visible)/patches/ratio), exists)
	l.reconstruction = graph.Div(graph.ReduceAllSum(l.recView), graph.MulScalar(studies, Slots))

	mean := graph.ReduceMean(l.tokens, 1) // [V,D]
	square := graph.ReduceAndKeep(graph.Square(mean), graph.ReduceSum, -1)
	l.pooled = graph.Div(mean, graph.Sqrt(graph.MaxScalar(square, 1e-24)))
	l.alignStudy = graph.Mul(graph.MulScalar(sizes, 2.0/(Slots*Slots)), spread(l.pooled, b.study))
	l.alignment = graph.Div(graph.ReduceAllSum(l.alignStudy), studies)
}

// maskedError is [V]: the mean squared error over the pixels of the masked patches.
func maskedError(patches, target, restore node, visible int) node {
	perPatch := graph.ReduceMean(graph.Square(graph.Sub(patches, target)), -1) // [V,N]
	masked := graph.ConvertDType(graph.GreaterOrEqual(restore, graph.ConstAs(restore, visible)), perPatch.DType())
	count := float64(restore.Shape().Dim(1) - visible)
	return graph.DivScalar(graph.ReduceSum(graph.Mul(perPatch, masked), 1), count)
}

// spread is [G]: the sum over a study's views of the mean squared distance of z [V,C] from the study's mean. n times twice
// that is the sum over all ordered pairs of views of their mean squared distance, which so needs no list of pairs.
func spread(z, study node) node {
	sizes := graph.ReduceSum(study, 1)                                          // [G]
	centre := graph.DotGeneral(study, []int{1}, nil, z, []int{0}, nil)          // [G,C]
	centre = graph.Div(centre, graph.InsertAxes(graph.MaxScalar(sizes, 1), -1)) // mean over the study's views
	// A view's own centre, by the transpose of study; an empty place has none and is left out below.
	away := graph.Sub(z, graph.DotGeneral(study, []int{0}, nil, centre, []int{0}, nil))
	return matVec(study, graph.ReduceMean(graph.Square(away), -1))
}

// matVec is [G,V] times [V].
func matVec(m, v node) node {
	return graph.Reshape(graph.DotGeneral(m, []int{1}, nil, graph.InsertAxes(v, -1), []int{0}, nil), -1)
}

// bce is the weighted mean over [V,C] of the binary cross-entropy with logits, in the form that cannot overflow:
// max(x,0) - x*y + log(1+exp(-|x|)).
func bce(logits, target, weight node) node {
	zero := graph.ZerosLike(logits)
	l := graph.Sub(graph.Max(logits, zero), graph.Mul(logits, target))
	l = graph.Add(l, graph.Log1P(graph.Exp(graph.Neg(graph.Abs(logits)))))
	return graph.Div(graph.ReduceAllSum(graph.Mul(l, weight)), graph.MaxScalar(graph.ReduceAllSum(weight), 1e-12))
}
