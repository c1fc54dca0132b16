package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph" // the graph's operations are this file's vocabulary
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/layers/norm"
	gomodel "github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

const (
	views = 3 // groups: frontal, lateral, unknown
	batch = 32
)

// observer is a model of pixels, trained from nothing by AdamW: a cosine over the epochs, binary cross-entropy, every study of weight
// 1, the best epoch by macro AUROC on validation.
type observer struct {
	name        string
	side        int // pixels, area means of the pack's 256
	epochs      int
	rate, decay float64
	shift       int // training pictures are moved by up to so many pixels each way
	// logits are [B,14], of pictures [B,side*side], standardised, and view groups [B,views], one-hot.
	logits func(scope *gomodel.Scope, pictures, groups *Node) *Node
}

// linear has weights for each pixel, in each view group.
func linear(scope *gomodel.Scope, pictures, groups *Node) *Node {
	b := pictures.Shape().Dim(0)
	byView := Mul(ExpandAxes(groups, -1), ExpandAxes(pictures, 1)) // [B,views,side*side]
	x := Concatenate([]*Node{groups, Reshape(byView, b, -1)}, 1)
	return layers.Dense(scope, x, false, model.NumLabels)
}

// network is four convolutions of 3 x 3 to 16, 32, 64 and 96 channels, each of which halves the picture, with LayerNorm over channels, and a linear layer over the 4 x 4
// places that are left and the view group.
func network(scope *gomodel.Scope, pictures, groups *Node) *Node {
	b := pictures.Shape().Dim(0)
	side := int(math.Sqrt(float64(pictures.Shape().Dim(1))))
	x := Reshape(pictures, b, side, side, 1)
	for i, channels := range []int{16, 32, 64, 96} {
		x = layers.Convolution(scope.In("layer%d", i), x).Channels(channels).KernelSize(3).PadSame().Strides(2).Done()
		x = activation.Relu(norm.LayerNorm(scope.In("norm%d", i), x, -1).Done())
	}
	x = Concatenate([]*Node{groups, Reshape(x, b, -1)}, 1)
	return layers.DenseWithBias(scope.In("head"), x, model.NumLabels)
}

// observe trains the observer and returns its report on the test studies.
func (o *observer) observe(ctx context.Context, dev *train.Device, pack *data.Pack, seed uint64) (eval.Report, error) {
	p := o.look(pack)
	store := gomodel.NewStore()
	if err := store.SetRNGStateFromSeed(int64(seed)); err != nil {
		return eval.Report{}, err
	}
	rate := optimizer.LearningRateVar(store.RootScope(), dtypes.Float32, o.rate)
	step, err := gomodel.NewExec(dev.Backend, store, func(scope *gomodel.Scope, in []*Node) []*Node {
		z, y, weight := o.logits(scope.In("model"), in[0], in[1]), in[2], in[3]
		// Binary cross-entropy of logits: softplus(z) - y*z.
		each := Sub(Add(MaxScalar(z, 0), Log1P(Exp(Neg(Abs(z))))), Mul(y, z))
		loss := Div(ReduceAllSum(Mul(each, weight)), MulScalar(ReduceAllSum(weight), model.NumLabels))
		optimizer.Adam().WeightDecay(o.decay).Done().UpdateGraph(scope, in[0].Graph(), loss)
		return []*Node{loss}
	})
	if err != nil {
		return eval.Report{}, err
	}
	answer, err := gomodel.NewExec(dev.Backend, store, func(scope *gomodel.Scope, in []*Node) []*Node {
		return []*Node{o.logits(scope.In("model"), in[0], in[1])}
	})
	if err != nil {
		return eval.Report{}, err
	}
	rng := rand.New(rand.NewPCG(seed, 7))
	learn, choose, test := train.ImagesOf(pack, pack.StudiesOf(data.Train)), pack.StudiesOf(data.Validate), pack.StudiesOf(data.Test)
	steps := o.epochs * (len(learn) / batch)
	best, bestLogits, done := 0.0, [][model.NumLabels]float32(nil), 0
	for epoch := range o.epochs {
		order, loss := rng.Perm(len(learn)), 0.0
		for from := 0; from+batch <= len(order); from += batch {
			if err := ctx.Err(); err != nil {
				return eval.Report{}, err
			}
			images := make([]int, batch)
			for i := range images {
				images[i] = learn[order[from+i]]
			}
			at := o.rate * (0.5 + 0.5*math.Cos(math.Pi*float64(done)/float64(steps))) * min(1, float64(done+1)/100)
			if err := rate.SetValue(tensors.FromScalar(float32(at))); err != nil {
				return eval.Report{}, err
			}
			x, groups := p.inputs(images, rng)
			y, weight := p.targets(images)
			out, err := step.Exec(x, groups, y, weight)
			if err != nil {
				return eval.Report{}, err
			}
			loss += float64(tensors.ToScalar[float32](out[0]))
			done++
		}
		logits, err := p.answers(answer, train.ImagesOf(pack, choose))
		if err != nil {
			return eval.Report{}, err
		}
		rep, err := report(pack, choose, logits, 0)
		if err != nil {
			return eval.Report{}, err
		}
		auroc := float64(rep.Macro.AUROC.Value)
		fmt.Fprintf(os.Stderr, "%s: epoch %d of %d, loss %.4f, validation %.4f\n", o.name, epoch+1, o.epochs, loss/float64(len(order)/batch), auroc)
		if auroc > best {
			best = auroc
			if bestLogits, err = p.answers(answer, train.ImagesOf(pack, test)); err != nil {
				return eval.Report{}, err
			}
		}
	}
	return report(pack, test, bestLogits, 1000)
}

// pictures are a pack's images as an observer sees them.
type pictures struct {
	o      *observer
	pack   *data.Pack
	pixels [][]float32 // standardised by the training images' mean and deviation at each pixel, in each view group
	study  []int       // of an image
}

// look shrinks and standardises all images.
func (o *observer) look(pack *data.Pack) *pictures {
	p := &pictures{o: o, pack: pack, pixels: make([][]float32, len(pack.Images)), study: make([]int, len(pack.Images))}
	for s, study := range pack.Studies {
		for _, i := range study.Images {
			p.study[i] = s
		}
	}
	times := cxr.StoredSize / o.side
	for i := range pack.Images {
		small := make([]float32, o.side*o.side)
		for k, x := range pack.Pixels(i) {
			row, col := k/cxr.StoredSize/times, k%cxr.StoredSize/times
			small[row*o.side+col] += float32(x) / float32(255*times*times)
		}
		p.pixels[i] = small
	}
	for group := range views {
		p.standardise(cxr.View(group))
	}
	return p
}

func (p *pictures) standardise(group cxr.View) {
	n := p.o.side * p.o.side
	sum, squares, count := make([]float64, n), make([]float64, n), 0.0
	for i, img := range p.pack.Images {
		if img.View != group || img.Split != data.Train {
			continue
		}
		count++
		for k, x := range p.pixels[i] {
			sum[k] += float64(x)
			squares[k] += float64(x) * float64(x)
		}
	}
	for i, img := range p.pack.Images {
		if img.View != group {
			continue
		}
		for k := range p.pixels[i] {
			mean := sum[k] / max(1, count)
			sd := math.Sqrt(max(0, squares[k]/max(1, count)-mean*mean)) + 0.02
			p.pixels[i][k] = float32((float64(p.pixels[i][k]) - mean) / sd)
		}
	}
}

// inputs are the pixels [B,side*side], moved at random if rng is given, and the view groups [B,views] of images.
func (p *pictures) inputs(images []int, rng *rand.Rand) (x, groups *tensors.Tensor) {
	side := p.o.side
	pixels, group := make([]float32, len(images)*side*side), make([]float32, len(images)*views)
	for b, i := range images {
		dx, dy := 0, 0
		if rng != nil && p.o.shift > 0 {
			dx, dy = rng.IntN(2*p.o.shift+1)-p.o.shift, rng.IntN(2*p.o.shift+1)-p.o.shift
		}
		out := pixels[b*side*side:]
		for row := range side {
			for col := range side {
				out[row*side+col] = p.pixels[i][min(max(row+dy, 0), side-1)*side+min(max(col+dx, 0), side-1)]
			}
		}
		group[b*views+int(p.pack.Images[i].View)] = 1
	}
	return tensors.FromFlatDataAndDimensions(pixels, len(images), side*side), tensors.FromFlatDataAndDimensions(group, len(images), views)
}

// targets are the labels [B,14] of images' studies and weights [B,1] that sum to 1 over a study's images.
func (p *pictures) targets(images []int) (y, weight *tensors.Tensor) {
	labels, share := make([]float32, len(images)*model.NumLabels), make([]float32, len(images))
	for b, i := range images {
		study := p.pack.Studies[p.study[i]]
		for l, state := range study.Labels {
			labels[b*model.NumLabels+l], _ = state.Target()
		}
		share[b] = 1 / float32(len(study.Images))
	}
	return tensors.FromFlatDataAndDimensions(labels, len(images), model.NumLabels), tensors.FromFlatDataAndDimensions(share, len(images), 1)
}

// answers are the logits of images.
func (p *pictures) answers(exec *gomodel.Exec, images []int) (logits [][model.NumLabels]float32, err error) {
	for from := 0; from < len(images); from += batch {
		some := make([]int, batch) // the last batch is filled up: one shape, one compilation
		n := copy(some, images[from:])
		x, groups := p.inputs(some, nil)
		out, err := exec.Exec(x, groups)
		if err != nil {
			return nil, err
		}
		flat, err := tensors.CopyFlatData[float32](out[0])
		if err != nil {
			return nil, err
		}
		for i := range n {
			logits = append(logits, [model.NumLabels]float32(flat[i*model.NumLabels:]))
		}
	}
	return logits, nil
}
