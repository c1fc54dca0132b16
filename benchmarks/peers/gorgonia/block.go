package main

import (
	"fmt"
	"math"
	"slices"
	"syscall"
	"time"

	g "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// block is a pre-norm transformer block over x [batch*tokens, width]. Gorgonia has no LayerNorm, no GELU and no erf: the norm
// is composed, and GELU is its tanh approximation.
type block struct {
	graph                       *g.ExprGraph
	batch, tokens, width, heads int
	params                      g.Nodes
}

func (b *block) param(name string, init g.InitWFn, dims ...int) *g.Node {
	n := g.NewTensor(b.graph, tensor.Float32, len(dims), g.WithShape(dims...), g.WithName(name), g.WithInit(init))
	b.params = append(b.params, n)
	return n
}

func (b *block) linear(x *g.Node, name string, in, out int) *g.Node {
	y := g.Must(g.Mul(x, b.param(name+".w", g.GlorotU(1), in, out)))
	return g.Must(g.Add(y, b.rows(b.param(name+".b", g.Zeroes(), 1, out))))
}

// rows repeats [1,n] for every token. A product with ones is much faster than Gorgonia's own broadcasts.
func (b *block) rows(x *g.Node) *g.Node {
	return g.Must(g.Mul(b.ones(b.batch*b.tokens, 1), x))
}

func (b *block) ones(rows, cols int) *g.Node {
	return g.NewConstant(tensor.Ones(tensor.Float32, rows, cols))
}

func (b *block) norm(x *g.Node, name string) *g.Node {
	average := g.NewConstant(tensor.New(tensor.WithShape(b.width, b.width), tensor.WithBacking(filled(b.width*b.width, 1/float32(b.width)))))
	centred := g.Must(g.Sub(x, g.Must(g.Mul(x, average))))
	variance := g.Must(g.Mul(g.Must(g.Square(centred)), average))
	deviation := g.Must(g.Sqrt(g.Must(g.Add(variance, g.NewConstant(float32(1e-6))))))
	y := g.Must(g.HadamardDiv(centred, deviation))
	y = g.Must(g.HadamardProd(y, b.rows(b.param(name+".w", g.Ones(), 1, b.width))))
	return g.Must(g.Add(y, b.rows(b.param(name+".b", g.Zeroes(), 1, b.width))))
}

func (b *block) gelu(x *g.Node) *g.Node {
	scale := func(x *g.Node, c float64) *g.Node { return g.Must(g.Mul(x, g.NewConstant(float32(c)))) }
	inner := g.Must(g.Add(x, scale(g.Must(g.Cube(x)), 0.044715)))
	t := g.Must(g.Tanh(scale(inner, math.Sqrt(2/math.Pi))))
	return scale(g.Must(g.HadamardProd(x, g.Must(g.Add(t, g.NewConstant(float32(1)))))), 0.5)
}

func filled(n int, v float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = v
	}
	return x
}

// split makes [batch*heads, tokens, width/heads].
func (b *block) split(x *g.Node) *g.Node {
	per := b.width / b.heads
	x = g.Must(g.Reshape(x, tensor.Shape{b.batch, b.tokens, b.heads, per}))
	x = g.Must(g.Transpose(x, 0, 2, 1, 3))
	return g.Must(g.Reshape(x, tensor.Shape{b.batch * b.heads, b.tokens, per}))
}

func (b *block) attention(x *g.Node) *g.Node {
	per := b.width / b.heads
	q, k, v := b.split(b.linear(x, "q", b.width, b.width)), b.split(b.linear(x, "k", b.width, b.width)), b.split(b.linear(x, "v", b.width, b.width))
	q = g.Must(g.Mul(q, g.NewConstant(float32(1/math.Sqrt(float64(per))))))
	scores := g.Must(g.BatchedMatMul(q, g.Must(g.Transpose(k, 0, 2, 1))))
	rows := g.Must(g.Reshape(scores, tensor.Shape{b.batch * b.heads * b.tokens, b.tokens}))
	weights := g.Must(g.Reshape(g.Must(g.SoftMax(rows)), scores.Shape()))
	y := g.Must(g.Reshape(g.Must(g.BatchedMatMul(weights, v)), tensor.Shape{b.batch, b.heads, b.tokens, per}))
	y = g.Must(g.Reshape(g.Must(g.Transpose(y, 0, 2, 1, 3)), tensor.Shape{b.batch * b.tokens, b.width}))
	return b.linear(y, "proj", b.width, b.width)
}

// time is the median processor time of some training steps: forward, backward, Adam. Gorgonia runs on one core, and other
// programs disturb processor time less than wall clock.
func (b *block) time(steps int) (median time.Duration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("build the block: %v", r)
		}
	}()
	b.graph = g.NewGraph()
	x := g.NewMatrix(b.graph, tensor.Float32, g.WithShape(b.batch*b.tokens, b.width), g.WithName("x"), g.WithInit(g.Gaussian(0, 1)))
	h := g.Must(g.Add(x, b.attention(b.norm(x, "norm1"))))
	mlp := b.linear(b.gelu(b.linear(b.norm(h, "norm2"), "fc1", b.width, 4*b.width)), "fc2", 4*b.width, b.width)
	loss := g.Must(g.Mean(g.Must(g.Square(g.Must(g.Add(h, mlp))))))
	if _, err := g.Grad(loss, b.params...); err != nil {
		return 0, err
	}
	vm := g.NewTapeMachine(b.graph, g.BindDualValues(b.params...))
	defer vm.Close()
	solver := g.NewAdamSolver(g.WithLearnRate(1e-4))
	var times []time.Duration
	for range steps + 1 {
		start := cpuTime()
		if err := vm.RunAll(); err != nil {
			return 0, err
		}
		if err := solver.Step(g.NodesToValueGrads(b.params)); err != nil {
			return 0, err
		}
		vm.Reset()
		times = append(times, cpuTime()-start)
	}
	slices.Sort(times[1:]) // the first step allocates
	return times[1+steps/2], nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// blocks times the two kinds of block of preset tiny and adds them up.
func blocks() error {
	const batch, steps = 16, 9
	total := 0.0
	for _, c := range []struct {
		name                        string
		tokens, width, heads, depth int
	}{{"encoder, 1+6 visible tokens", 7, 192, 3, 12}, {"decoder, 1+64 tokens", 65, 128, 4, 4}} {
		b := block{batch: batch, tokens: c.tokens, width: c.width, heads: c.heads}
		t, err := b.time(steps)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		ms := float64(t.Microseconds()) / 1000
		total += ms * float64(c.depth)
		fmt.Printf("| one block's training step, %s, %d wide, batch %d | %.1f ms of processor time |\n", c.name, c.width, batch, ms)
	}
	fmt.Printf("| preset tiny from its 12 + 4 blocks alone | at most %.0f images per second of processor time |\n", 1000*batch/total)
	return nil
}
