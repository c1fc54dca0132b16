package train

import (
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/mvmae/mvmae/dicom/cxr"
)

// Augment are the random changes of a training image (MVMAE paper; strengths as the reference code has them).
type Augment struct {
	CropMin    float64 `toml:"crop_min"`   // smallest share of the area that a random square crop keeps
	Flip       float64 `toml:"flip"`       // probability of a mirror image
	Brightness float64 `toml:"brightness"` // factor from 1-b to 1+b
	Contrast   float64 `toml:"contrast"`   // factor from 1-c to 1+c, about the image's mean
	Jitter     float64 `toml:"jitter"`     // probability that brightness and contrast change at all
}

// numDraws is the length of an augmentation vector: crop's top, left and side in pixels of the stored image, 1 for a
// mirror image, brightness and contrast factors.
const numDraws = 6

// draw appends the augmentation vector of one image.
func (a Augment) draw(rng *rand.Rand, dst []float32) []float32 {
	side := cxr.StoredSize * math.Sqrt(a.CropMin+(1-a.CropMin)*rng.Float64())
	top := rng.Float64() * (cxr.StoredSize - side)
	left := rng.Float64() * (cxr.StoredSize - side)
	flip, brightness, contrast := 0.0, 1.0, 1.0
	if rng.Float64() < a.Flip {
		flip = 1
	}
	if rng.Float64() < a.Jitter {
		brightness = 1 + a.Brightness*(2*rng.Float64()-1)
		contrast = 1 + a.Contrast*(2*rng.Float64()-1)
	}
	return append(dst, float32(top), float32(left), float32(side), float32(flip), float32(brightness), float32(contrast))
}

// noAugment is the vector that crops the centre as cxr.Input does and changes nothing else.
func noAugment(dst []float32) []float32 {
	margin := float32(cxr.StoredSize-cxr.CropSize) / 2
	return append(dst, margin, margin, cxr.CropSize, 0, 1, 1)
}

// augment makes inputs [V,size,size] in [0,1] of stored images [V,256,256] uint8 on the device. draws is [V,numDraws]. A
// crop is two small matrix products, over rows and over columns, with the weights that cxr.Input uses: exact areas when
// shrinking, bilinear when enlarging.
func augment(stored, draws node, size int) node {
	v := stored.Shape().Dim(0)
	column := func(i int) node { return graph.Slice(draws, graph.AxisRange(), graph.AxisRange(i, i+1)) } // [V,1]
	top, left, side, flip := column(0), column(1), column(2), column(3)
	brightness, contrast := graph.Reshape(column(4), v, 1, 1), graph.Reshape(column(5), v, 1, 1)

	x := graph.DivScalar(graph.ConvertDType(stored, dtypes.Float32), 255)
	rows := resample(top, side, graph.ZerosLike(flip), size)
	cols := resample(left, side, flip, size)
	x = graph.DotGeneral(rows, []int{2}, []int{0}, x, []int{1}, []int{0}) // [V,size,256]
	x = graph.DotGeneral(x, []int{2}, []int{0}, cols, []int{2}, []int{0}) // [V,size,size]

	clamp := func(x node) node { return graph.ClipScalar(x, 0, 1) }
	x = clamp(graph.Mul(x, brightness))
	mean := graph.Reshape(graph.ReduceMean(x, 1, 2), v, 1, 1)
	return clamp(graph.Add(graph.Mul(graph.Sub(x, mean), contrast), mean))
}

// resample is [V,size,256]: the weight of each stored row (or column) in each row of the output, for windows that begin at
// start [V,1] and are side [V,1] long; flip [V,1] is 1 to run backwards.
func resample(start, side, flip node, size int) node {
	g, v := start.Graph(), start.Shape().Dim(0)
	iota := func(axis int) node {
		return graph.Iota(g, shapes.Make(dtypes.Float32, v, size, cxr.StoredSize), axis)
	}
	wide := func(x node) node { return graph.BroadcastToDims(graph.Reshape(x, v, 1, 1), v, size, cxr.StoredSize) }
	i, p := iota(1), iota(2)
	start, side, flip = wide(start), wide(side), wide(flip)
	backwards := graph.Sub(graph.ConstAs(i, size-1), i)
	i = graph.Add(i, graph.Mul(flip, graph.Sub(backwards, i)))
	scale := graph.DivScalar(side, float64(size)) // stored pixels per output pixel
	lo := graph.Add(start, graph.Mul(i, scale))
	hi := graph.Add(lo, scale)

	overlap := graph.Sub(graph.Min(hi, graph.AddScalar(p, 1)), graph.Max(lo, p))
	area := graph.Div(graph.MaxScalar(overlap, 0), scale)

	centre := graph.AddScalar(graph.MulScalar(graph.Add(lo, hi), 0.5), -0.5)
	centre = graph.Max(start, graph.Min(centre, graph.AddScalar(graph.Add(start, side), -1)))
	bilinear := graph.MaxScalar(graph.OneMinus(graph.Abs(graph.Sub(p, centre))), 0)

	return graph.Where(graph.LessThan(scale, graph.OnesLike(scale)), bilinear, area)
}
