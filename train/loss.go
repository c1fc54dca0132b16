package train

import (
	"github.com/gomlx/gomlx/core/graph"

	"github.com/mvmae/mvmae/model"
)

// Shapes below: V view images in the batch, of G studies at most; N patches an image, K visible.

// pretrainBatch are the graph inputs of one pretraining batch.
type pretrainBatch struct {
	image   node // [V,S,S] in [0,1]
	view    node // [V] int32
	keep    node // [V,K] int32: visible patches in order
	restore node // [V,N] int32: each patch's place in the order "visible, then masked"
	study   node // [G,V]: 1 where view image v belongs to study g; unused rows and columns are zero
}

// pretrainLoss are the two losses of the MVMAE paper on one batch, with the values they are made of.
type pretrainLoss struct {
	reconstruction node // []: mean over studies of the mean over their views of recView
	alignment      node // []: mean over studies of alignStudy
	total          node // [] reconstruction + beta*alignment
	tokens         node // [V,1+K,D]
	patches        node // [V,N,P*P] reconstructed
	recView        node // [V] mean squared error over the masked pixels
	alignStudy     node // [G]
}

// buildPretrain is the pretraining forward pass of recipe "paper": a masked autoencoder whose encoder also has to agree
// with itself across the views of a study.
func buildPretrain(o graphOps, s model.Spec, b pretrainBatch, beta node) pretrainLoss {
	visible := b.keep.Shape().Dim(1)
	target := model.Patchify(o, s, b.image)
	tokens := model.Encode(o, s, target, b.view, &model.Visible[node]{Keep: b.keep, Count: visible})
	patches := model.Decode(o, s, tokens, b.restore, b.view, visible)

	l := pretrainLoss{tokens: tokens, patches: patches}
	l.recView = maskedError(patches, target, b.restore, visible)
	l.alignStudy = alignmentError(tokens, b.study)
	sizes := graph.ReduceSum(b.study, 1) // [G] views of each study
	present := graph.ConvertDType(graph.GreaterThan(sizes, graph.ZerosLike(sizes)), sizes.DType())
	studies := graph.MaxScalar(graph.ReduceAllSum(present), 1)

	perStudy := graph.Div(matVec(b.study, l.recView), graph.MaxScalar(sizes, 1)) // [G]
	l.reconstruction = graph.Div(graph.ReduceAllSum(perStudy), studies)
	l.alignment = graph.Div(graph.ReduceAllSum(l.alignStudy), studies)
	l.total = graph.Add(l.reconstruction, graph.Mul(beta, l.alignment))
	return l
}

// maskedError is [V]: the mean squared error over the pixels of the masked patches.
func maskedError(patches, target, restore node, visible int) node {
	perPatch := graph.ReduceMean(graph.Square(graph.Sub(patches, target)), -1) // [V,N]
	masked := graph.ConvertDType(graph.GreaterOrEqual(restore, graph.ConstAs(restore, visible)), perPatch.DType())
	count := float64(restore.Shape().Dim(1) - visible)
	return graph.DivScalar(graph.ReduceSum(graph.Mul(perPatch, masked), 1), count)
}

// alignmentError is [G]: the mean over a study's ordered pairs of views u != v, over tokens and channels, of
// (z_u - z_v)^2, and zero for a study of one view. For n views that mean is 2/(n-1) times the sum over views of
// mean (z_u - z̄)^2, which needs no list of pairs.
func alignmentError(tokens, study node) node {
	v := tokens.Shape().Dim(0)
	z := graph.Reshape(tokens, v, -1)                                           // [V,(1+K)*D]
	sizes := graph.ReduceSum(study, 1)                                          // [G]
	centre := graph.DotGeneral(study, []int{1}, nil, z, []int{0}, nil)          // [G,(1+K)*D]
	centre = graph.Div(centre, graph.InsertAxes(graph.MaxScalar(sizes, 1), -1)) // mean over the study's views
	// A view's own centre, by the transpose of study; a padding image has none and is left out below.
	spread := graph.Sub(z, graph.DotGeneral(study, []int{0}, nil, centre, []int{0}, nil))
	perView := graph.ReduceMean(graph.Square(spread), -1) // [V]
	factor := graph.Div(graph.ConstAs(sizes, 2), graph.MaxScalar(graph.AddScalar(sizes, -1), 1))
	several := graph.ConvertDType(graph.GreaterThan(sizes, graph.ConstAs(sizes, 1.5)), sizes.DType())
	return graph.Mul(graph.Mul(factor, several), matVec(study, perView))
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
