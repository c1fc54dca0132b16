package train

import (
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/model"
)

// Over three steps: adding up the gradients of two batches gives what their views give as one batch, and so do two devices
// with half of them each; products in bfloat16 give nearly that.
func TestLoop_AccumulatedSpreadAndHalfStepsAreThoseOfOneBatch(t *testing.T) {
	pack := makePack(t, 40)
	two, err := OpenDevices("cpu", 2)
	if err != nil {
		t.Fatal(err)
	}
	start := func(dev *Device, change func(*Config)) *loop {
		cfg := testConfig()
		cfg.Optim.ClipNorm = 1
		change(&cfg)
		l, err := newPretraining(dev, newRun(t, "pretrain", "", pack, cfg), pack)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	whole := start(device(t), func(c *Config) { c.BatchViews = 24 })
	parts := start(device(t), func(c *Config) { c.Accumulate = 2 })
	spread := start(two, func(c *Config) { c.BatchViews = 24 })
	half := start(device(t), func(c *Config) { c.BatchViews, c.Compute = 24, "bfloat16" })
	if parts.steps != whole.steps || parts.baseLR() != whole.baseLR() {
		t.Fatalf("%d steps at %v, want %d at %v", parts.steps, parts.baseLR(), whole.steps, whole.baseLR())
	}
	step := func(l *loop, batches ...hostBatch) StepMetrics {
		m, _, err := l.step(batches)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for n := range 3 {
		a, b := parts.loader.batch(2*n, parts.task), parts.loader.batch(2*n+1, parts.task)
		onTwo := joined(t, a, b) // before a step, which frees its inputs
		want, halved := step(whole, joined(t, a, b)), step(half, joined(t, a, b))
		sameStep(t, "accumulated", step(parts, a, b), want, 1e-4)
		sameStep(t, "over two devices", step(spread, onTwo), want, 1e-4)
		sameStep(t, "in bfloat16", halved, want, 0.05) // it has 8 bits
		if halved.Loss == want.Loss {
			t.Errorf("bfloat16 gives the loss of float32, %v", want.Loss)
		}
	}
	sameWeightsNearly(t, "accumulated", values(t, parts), values(t, whole))
	sameWeightsNearly(t, "over two devices", values(t, spread), values(t, whole))
	if err := spread.save(); err != nil {
		t.Fatal(err)
	}
	last, err := spread.run.loadCheckpoint()
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range values(t, spread) {
		within(t, "saved "+name, last.tensors[name].Data, x.Data, 0, 0)
	}
}

func sameStep(t *testing.T, how string, got, want StepMetrics, tol float64) {
	t.Helper()
	for what, x := range map[string][2]float64{
		"loss": {got.Loss, want.Loss}, "reconstruction": {got.Reconstruction, want.Reconstruction},
		"alignment": {got.Alignment, want.Alignment}, "gradient norm": {got.GradNorm, want.GradNorm},
	} {
		if math.Abs(x[0]-x[1]) > 1e-5+tol*x[1] {
			t.Errorf("step %d %s: %s is %v, want %v", want.Step, how, what, x[0], x[1])
		}
	}
}

func sameWeightsNearly(t *testing.T, how string, got, want model.Tensors) {
	t.Helper()
	for name := range want {
		// Adam makes whole steps of a gradient's rounding noise where it is nearly 0, as that of the keys' bias always is.
		limit := 1e-3
		if strings.HasSuffix(name, "attn.qkv.bias") {
			limit = 2e-2
		}
		if d := distance(want[name], got[name]); d > limit {
			t.Errorf("%s: %s is off by %.3g of its size", how, name, d)
		}
	}
}

func values(t *testing.T, l *loop) model.Tensors {
	t.Helper()
	x, err := readVariables(l.store, l.params, "")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// distance is |a-b|/|a|.
func distance(a, b model.Tensor) float64 {
	diff, size := 0.0, 1e-12
	for i := range a.Data {
		diff += math.Pow(float64(a.Data[i])-float64(b.Data[i]), 2)
		size += math.Pow(float64(a.Data[i]), 2)
	}
	return math.Sqrt(diff / size)
}

// joined is one pretraining batch of the views of two.
func joined(t *testing.T, a, b hostBatch) hostBatch {
	t.Helper()
	out := hostBatch{studies: append(append([]int{}, a.studies...), b.studies...), views: a.views + b.views, weight: a.weight + b.weight}
	for i := range a.inputs {
		x, y := a.inputs[i].(*tensors.Tensor), b.inputs[i].(*tensors.Tensor)
		dims := append([]int{}, x.Shape().Dimensions...)
		dims[0] *= 2
		switch {
		case i == 3: // the study matrix: one block after the other
			v := dims[1]
			study := make([]float32, 4*v*v)
			for block, m := range []*tensors.Tensor{x, y} {
				for j, one := range flat(t, m) {
					study[(block*v+j/v)*2*v+block*v+j%v] = one
				}
			}
			out.inputs = append(out.inputs, tensors.FromFlatDataAndDimensions(study, 2*v, 2*v))
		case i == 0:
			out.inputs = append(out.inputs, stacked[uint8](t, x, y, dims))
		case i == 1:
			out.inputs = append(out.inputs, stacked[float32](t, x, y, dims))
		default:
			out.inputs = append(out.inputs, stacked[int32](t, x, y, dims))
		}
	}
	return out
}

func stacked[T uint8 | int32 | float32](t *testing.T, x, y *tensors.Tensor, dims []int) *tensors.Tensor {
	t.Helper()
	a, err := tensors.CopyFlatData[T](x)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tensors.CopyFlatData[T](y)
	if err != nil {
		t.Fatal(err)
	}
	return tensors.FromFlatDataAndDimensions(append(a, b...), dims...)
}

// Under bfloat16 the gradients of every product of the network are products of bfloat16 too.
func TestLoop_HalfStepsHaveHalfGradients(t *testing.T) {
	pack := makePack(t, 40)
	cfg := testConfig()
	cfg.Compute = "bfloat16"
	l, err := newPretraining(device(t), newRun(t, "pretrain", "", pack, cfg), pack)
	if err != nil {
		t.Fatal(err)
	}
	count := func(g *graph.Graph) (half int) {
		for _, n := range g.Nodes() {
			if n.Type() == graph.NodeTypeDotGeneral && n.Inputs()[0].DType() == dtypes.BFloat16 {
				half++
			}
		}
		return half
	}
	var forward, all int
	exec, err := gomodel.NewExec(device(t).Backend, l.store, func(_ *gomodel.Scope, in []node) []node {
		g := in[0].Graph()
		o := graphOps{store: l.store, g: g, half: true}
		loss := l.task.loss(o, graphBatch{augment(in[1], in[2], l.spec.ImageSize), in[3], in[4], graph.Scalar(g, dtypes.Float32, 1)}, in[5:])
		forward = count(g)
		gradients(o, l.params, loss.total)
		all = count(g)
		return []node{loss.total}
	})
	if err != nil {
		t.Fatal(err)
	}
	b := l.loader.batch(0, l.task)
	if _, err := exec.Call(append([]any{tensors.FromScalar(float32(0))}, b.inputs...)...); err != nil {
		t.Fatal(err)
	}
	if forward == 0 || all != 3*forward {
		t.Errorf("%d products forward, %d with gradients, want three times as many", forward, all)
	}
}
