package export

import (
	"fmt"
	"math"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/model"
)

var _ model.Ops[value] = (*graph)(nil)

func (g *graph) Param(name string) value {
	dims := g.shapes.Param(name)
	return value{g.floats(name, dims, g.weights[name].Data), dims}
}

func (g *graph) Table(name string, rows, cols int, values []float32) value {
	dims := g.shapes.Table(name, rows, cols, values)
	return value{g.floats(name, dims, values), dims}
}

// Linear stores the weight transposed, [in, out]: a MatMul reads it as it lies, and ONNX Runtime packs it once.
func (g *graph) Linear(x value, weight, bias string) value {
	dims := g.shapes.Linear(x.dims, weight, bias)
	w := g.shapes.Param(weight)
	y := g.node("MatMul", dims, []string{x.name, g.floats(weight+".T", []int{w[1], w[0]}, transposed(g.weights[weight].Data, w[0], w[1]))})
	if bias == "" {
		return y
	}
	return g.Add(y, g.Param(bias))
}

// transposed returns x [rows, cols] as [cols, rows].
func transposed(x []float32, rows, cols int) []float32 {
	y := make([]float32, len(x))
	for r := range rows {
		for c := range cols {
			y[c*rows+r] = x[r*cols+c]
		}
	}
	return y
}

// QKV is one product of three times the width, which ONNX Runtime computes faster than three, and one transposition. Only
// pretraining attends to anything but x itself.
func (g *graph) QKV(x, from value, weight, bias string, heads int) (q, k, v value) {
	if from.name != x.name {
		panic(fmt.Errorf("%s: attention from %s to %s: no exported network has that", weight, x.name, from.name))
	}
	y := g.Linear(x, weight, bias) // [B,N,3D]
	n, d := y.dims[1], y.dims[2]/(3*heads)
	y = g.Transpose(g.Reshape(y, n, 3*heads, d), 0, 2, 1, 3) // [B,3*heads,N,D/heads]
	attributes := []*onnxpb.AttributeProto{intAttribute("axis", 1)}
	if g.opset >= 18 { // which wants to be told what the outputs show
		attributes = append(attributes, intAttribute("num_outputs", 3))
	}
	split := g.node("Split", []int{1, heads, n, d}, []string{y.name}, attributes...)
	part := func(name string) value { return value{split.name + name, split.dims} }
	q, k, v = part("_q"), part("_k"), part("_v")
	g.nodes[len(g.nodes)-1].Output = []string{q.name, k.name, v.name}
	return q, k, v
}

func (g *graph) LayerNorm(x value, name string, eps float64) value {
	scale, shift := g.Param(name+".weight"), g.Param(name+".bias")
	return g.node("LayerNormalization", g.shapes.LayerNorm(x.dims, name, eps), []string{x.name, scale.name, shift.name},
		intAttribute("axis", -1), floatAttribute("epsilon", eps))
}

// GELU is, before opset 20, written in the order of operations that ONNX Runtime recognises and fuses.
func (g *graph) GELU(x value) value {
	if g.opset >= 20 {
		return g.node("Gelu", x.dims, []string{x.name})
	}
	y := g.node("Div", x.dims, []string{x.name, g.scalar(math.Sqrt2)})
	y = g.node("Erf", x.dims, []string{y.name})
	y = g.node("Add", x.dims, []string{y.name, g.scalar(1)})
	y = g.node("Mul", x.dims, []string{x.name, y.name})
	return g.node("Mul", x.dims, []string{y.name, g.scalar(0.5)})
}

func (g *graph) Softmax(x value) value {
	return g.node("Softmax", x.dims, []string{x.name}, intAttribute("axis", -1))
}

func (g *graph) Add(a, b value) value {
	return g.node("Add", g.shapes.Add(a.dims, b.dims), []string{a.name, b.name})
}

func (g *graph) Residual(x, branch value, _ int) value { return g.Add(x, branch) }

func (g *graph) Affine(x value, scale, shift float64) value {
	if scale != 1 {
		x = g.node("Mul", x.dims, []string{x.name, g.scalar(scale)})
	}
	if shift != 0 {
		x = g.node("Add", x.dims, []string{x.name, g.scalar(shift)})
	}
	return x
}

func (g *graph) MatMul(a, b value) value {
	return g.node("MatMul", g.shapes.MatMul(a.dims, b.dims), []string{a.name, b.name})
}

func (g *graph) MeanTokens(x value) value {
	dims := g.shapes.MeanTokens(x.dims)
	if g.opset >= 18 {
		return g.node("ReduceMean", dims, []string{x.name, g.ints(1)}, intAttribute("keepdims", 0))
	}
	return g.node("ReduceMean", dims, []string{x.name}, intsAttribute("axes", 1), intAttribute("keepdims", 0))
}

func (g *graph) Reshape(x value, dims ...int) value {
	to := g.ints(append([]int{0}, dims...)...) // 0 keeps the batch, whatever it is
	return g.node("Reshape", g.shapes.Reshape(x.dims, dims...), []string{x.name, to})
}

func (g *graph) Transpose(x value, perm ...int) value {
	return g.node("Transpose", g.shapes.Transpose(x.dims, perm...), []string{x.name}, intsAttribute("perm", perm...))
}

func (g *graph) Concat(a, b value) value {
	return g.node("Concat", g.shapes.Concat(a.dims, b.dims), []string{a.name, b.name}, intAttribute("axis", 1))
}

func (g *graph) Slice(x value, from, to int) value {
	return g.node("Slice", g.shapes.Slice(x.dims, from, to), []string{x.name, g.ints(from), g.ints(to), g.ints(1)})
}

func (g *graph) Repeat(row value, n int, like value) value {
	dims := g.shapes.Repeat(row.dims, n, like.dims)
	batch := g.node("Shape", []int{1}, []string{like.name}, intAttribute("start", 0), intAttribute("end", 1))
	shape := g.node("Concat", []int{3}, []string{batch.name, g.ints(n, row.dims[0])}, intAttribute("axis", 0))
	return g.node("Expand", dims, []string{row.name, shape.name})
}

func (g *graph) Lookup(table, indices value) value {
	return g.node("Gather", g.shapes.Lookup(table.dims, indices.dims), []string{table.name, indices.name}, intAttribute("axis", 0))
}

func (g *graph) Take(x, indices value) value {
	dims := g.shapes.Take(x.dims, indices.dims)
	at := g.node("Unsqueeze", append(indices.dims[:2:2], 1), []string{indices.name, g.ints(2)}) // [B,K,1]
	return g.node("GatherND", dims, []string{x.name, at.name}, intAttribute("batch_dims", 1))
}
