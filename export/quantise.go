package export

import (
	"math"
	"strings"

	"github.com/mvmae/mvmae/export/onnxpb"
)

// inBlocks is how the names of the blocks' weights begin. The first layer and the head stay in float32: they are below 1 %
// of the work, and their error would not be averaged out by anything behind them.
const inBlocks = "encoder.transformer."

// quantise replaces the blocks' products with weights by products of 8-bit integers: the weights by output channel,
// symmetric, now; their inputs by tensor, at run time, as DynamicQuantizeLinear does. ONNX Runtime runs
// the nodes of one such product as one.
func (g *graph) quantise() {
	old := g.nodes
	g.nodes = nil
	quantised := map[string]*onnxpb.NodeProto{} // by the name of the value
	for _, n := range old {
		w := (*constant)(nil)
		if n.OpType == "MatMul" && strings.HasPrefix(n.Input[1], inBlocks) {
			w = g.known[n.Input[1]]
		}
		if w == nil {
			g.nodes = append(g.nodes, n)
			continue
		}
		x := quantised[n.Input[0]]
		if x == nil {
			x = g.newNode("DynamicQuantizeLinear", []string{n.Input[0]})
			x.Output = []string{x.Name, x.Name + "_scale", x.Name + "_zero"}
			quantised[n.Input[0]] = x
			g.nodes = append(g.nodes, x)
		}
		weight, scale := g.quantisedWeight(w)
		product := g.newNode("MatMulInteger", []string{x.Output[0], weight, x.Output[2]})
		number := g.newNode("Cast", []string{product.Output[0]}, intAttribute("to", int(onnxpb.TensorProto_FLOAT)))
		scales := g.newNode("Mul", []string{x.Output[1], scale})
		result := g.newNode("Mul", []string{number.Output[0], scales.Output[0]})
		result.Output = n.Output
		g.nodes = append(g.nodes, product, number, scales, result)
	}
}

// quantisedWeight stores a weight [in,out] as int8 and its scales [out]: a column's largest magnitude is 127.
func (g *graph) quantisedWeight(w *constant) (weight, scale string) {
	in, out := w.dims[0], w.dims[1]
	scales, raw := make([]float32, out), make([]byte, in*out)
	for i, x := range w.floats {
		scales[i%out] = max(scales[i%out], float32(math.Abs(float64(x))))
	}
	for col := range scales {
		if scales[col] == 0 {
			scales[col] = 1 // a column of zeros
		}
		scales[col] /= 127
	}
	for i, x := range w.floats {
		raw[i] = byte(int8(math.RoundToEven(float64(x) / float64(scales[i%out]))))
	}
	return g.constant(constant{name: w.name + ".int8", dims: w.dims, kind: onnxpb.TensorProto_INT8, raw: raw}),
		g.floats(w.name+".scale", []int{out}, scales)
}
