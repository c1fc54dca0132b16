package model

import (
	"fmt"
	"slices"
	"time"
)

// keeper is a Counter that also adds up the values that the backward pass reads, of a batch of one: the operands of every
// product, and what GELU and LayerNorm were given and gave. Sums, and what is moved about, need none of theirs.
type keeper struct {
	*Counter
	wide   int64         // of the residual stream, which LayerNorm reads: always float32
	narrow int64         // in the type of the products
	seen   map[*int]bool // tensors that are counted, by the address of their shape
}

func (k *keeper) keep(x []int, as *int64) {
	if !k.seen[&x[0]] {
		k.seen[&x[0]] = true
		*as += int64(product(x))
	}
}

func (k *keeper) LayerNorm(x []int, name string, eps float64) []int {
	k.keep(x, &k.wide)
	y := slices.Clone(k.Counter.LayerNorm(x, name, eps)) // another tensor
	k.keep(y, &k.narrow)
	return y
}

func (k *keeper) GELU(x []int) []int {
	k.keep(x, &k.narrow)
	return slices.Clone(x)
}

func (k *keeper) Linear(x []int, weight, bias string) []int {
	k.keep(x, &k.narrow)
	return k.Counter.Linear(x, weight, bias)
}

func (k *keeper) MatMul(a, b []int) []int {
	k.narrow += int64(product(a)) + int64(product(b)) // queries, keys and values may share their shape's address
	return k.Counter.MatMul(a, b)
}

// Step is what a pretraining step on a batch takes.
type Step struct {
	Views      int   // view images of the batch
	FLOPs      int64 // of the matrix products, forward and backward
	Parameters int64 // values that are trained
	// Bytes of device memory. The state is parameters and the optimiser's two moments. A step makes the new state beside the
	// old one (docs/decisions.md, donated buffers), whose place gradients take until it is there. Activations are what the
	// backward pass reads.
	StateBytes, UpdateBytes, ActivationBytes int64
}

// MemoryBytes is all that a step holds at once.
func (s Step) MemoryBytes() int64 { return s.StateBytes + s.UpdateBytes + s.ActivationBytes }

// PredictStep says what a pretraining step takes, from the network's shapes alone. Under bfloat16 what products read and give is
// kept as that; the rest is float32.
func PredictStep(s Spec, numVisible, views int, bfloat16 bool) (step Step, err error) {
	cost, err := CostOf(s, numVisible) // which also checks the Spec
	if err != nil {
		return Step{}, err
	}
	k := &keeper{Counter: NewCounter(s), seen: map[*int]bool{}}
	view := []int{1}
	tokens := Encode(k, s, Patchify(k, s, []int{1, s.ImageSize, s.ImageSize}), view, &Visible[[]int]{Keep: []int{1, numVisible}, Count: numVisible})
	Decode(k, s, tokens, []int{1, s.NumPatches()}, view, numVisible)
	narrow := int64(4)
	if bfloat16 {
		narrow = 2
	}
	step = Step{Views: views, FLOPs: 3 * int64(views) * (cost.Encode + cost.Decode), ActivationBytes: int64(views) * (4*k.wide + narrow*k.narrow)}
	for _, p := range s.Params(PartEncoder, PartDecoder) {
		step.Parameters += int64(p.Size())
	}
	step.StateBytes = 4 * 3 * step.Parameters
	step.UpdateBytes = step.StateBytes
	return step, nil
}

// GPU is a graphics processor's datasheet: dense rates, in operations and bytes a second.
type GPU struct {
	Name        string
	BFloat16    float64 // matrix products of bfloat16 with float32 sums
	Float32     float64 // outside the matrix units
	Bandwidth   float64
	MemoryBytes int64
}

// GPUs are those that predictions are made for: NVIDIA's datasheets of the A100 80GB SXM, the H100 SXM5 and the H200 SXM, without sparsity.
var GPUs = []GPU{
	{"A100", 312e12, 19.5e12, 2.039e12, 80e9},
	{"H100", 989e12, 67e12, 3.35e12, 80e9},
	{"H200", 989e12, 67e12, 4.8e12, 141e9},
}

// The shares of a datasheet's rates that a step is assumed to reach. They are assumptions, to be compared with what benchmarks/gpu
// measures: large products alone come near 0.8 of the rate, but a step's have 21 to 197 rows an image and a width of 192 to
// 1024; sums and copies come near 0.8 of the bandwidth.
const (
	assumedProducts  = 0.5
	assumedBandwidth = 0.8
)

// passes is how often a step moves each kept value: written by the forward pass, read by the backward pass, and as much again
// for the gradient that goes with it. Each parameter's gradient, moments and new values are read and written once: 8 values.
const passes = 4

// Time is the range of a step's time on a GPU: at best the slower of products and memory hides the other, at worst one waits for
// the other.
func (g GPU) Time(s Step, bfloat16 bool) (best, worst time.Duration) {
	rate := g.Float32
	if bfloat16 {
		rate = g.BFloat16
	}
	products := float64(s.FLOPs) / (assumedProducts * rate)
	memory := float64(passes*s.ActivationBytes+8*4*s.Parameters) / (assumedBandwidth * g.Bandwidth)
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return seconds(max(products, memory)), seconds(products + memory)
}

// Utilisation is the share of a GPU's rate of products that a step in some time reaches, MFU.
func (g GPU) Utilisation(s Step, took time.Duration, bfloat16 bool) float64 {
	rate := g.Float32
	if bfloat16 {
		rate = g.BFloat16
	}
	return float64(s.FLOPs) / took.Seconds() / rate
}

// String is the step in words.
func (s Step) String() string {
	gb := func(bytes int64) string { return fmt.Sprintf("%.1f GB", float64(bytes)/1e9) }
	return fmt.Sprintf("%d view images, %.2f TFLOPs; memory %s: parameters and moments %s, their update %s, activations %s", s.Views,
		float64(s.FLOPs)/1e12, gb(s.MemoryBytes()), gb(s.StateBytes), gb(s.UpdateBytes), gb(s.ActivationBytes))
}
