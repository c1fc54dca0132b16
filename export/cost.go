package export

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// costOf is what an image costs. Of an encoder that came as an ONNX file the parameters are counted here; its FLOPs were when it
// was joined to its head.
func costOf(m model.Metadata, file *onnxpb.ModelProto) (model.Cost, error) {
	if !m.Spec.Foreign() {
		return model.CostOf(m.Spec, 1)
	}
	cost := model.Cost{Embed: m.Encoder.FLOPs}
	for _, t := range file.Graph.Initializer {
		cost.Parameters += volume(t.Dims)
	}
	return cost, nil
}

func volume(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}

func costText(parameters int64, gflops float64) string {
	text := fmt.Sprintf("%.1f million parameters", float64(parameters)/1e6)
	if gflops > 0 {
		text += fmt.Sprintf(", %.2f GFLOPs an image", gflops)
	}
	return text
}

// A product is how the FLOPs of an operator's node follow from the sizes of its inputs, which it names, and of its output.
type product struct {
	inputs []int
	flops  func(n *onnxpb.NodeProto, in [][]int64, out []int64) int64
}

// products are the operators that multiply matrices, and are counted as those of our own networks are: a multiplication and an
// addition as two, everything else not at all.
var products = map[string]product{
	"MatMul": rows, "MatMulInteger": rows, "QLinearMatMul": rows,
	"Gemm": {[]int{0}, func(n *onnxpb.NodeProto, in [][]int64, out []int64) int64 {
		axis := 1
		for _, a := range n.Attribute {
			if a.Name == "transA" && a.GetI() != 0 {
				axis = 0
			}
		}
		return 2 * volume(out) * in[0][axis]
	}},
	"Conv": kernels(1), "ConvInteger": kernels(1), "QLinearConv": kernels(3),
	// Queries of [N,H,L,D] or [N,L,H*D] meet every key, and what that gives every value.
	"Attention": {[]int{0, 1}, func(_ *onnxpb.NodeProto, in [][]int64, out []int64) int64 {
		keys := in[1][len(in[1])-2]
		return 2 * (volume(in[0]) + volume(out)) * keys
	}},
}

// rows are products of the rows of the first input.
var rows = product{[]int{0}, func(_ *onnxpb.NodeProto, in [][]int64, out []int64) int64 {
	return 2 * volume(out) * in[0][len(in[0])-1]
}}

// kernels are convolutions with the weights [M,C/groups,k...] at one of the inputs.
func kernels(input int) product {
	return product{[]int{input}, func(_ *onnxpb.NodeProto, in [][]int64, out []int64) int64 {
		return 2 * volume(out) * volume(in[0][1:])
	}}
}

// uncountable are the operators of ONNX that multiply matrices, or may, and are not counted.
var uncountable = []string{"Einsum", "If", "Loop", "Scan", "SequenceMap", "LSTM", "GRU", "RNN", "ConvTranspose", "DeformConv", "DFT", "STFT"}

// uncounted is the first operator of a graph whose FLOPs cannot be told; "" for none.
func uncounted(g *onnxpb.GraphProto) string {
	for _, n := range g.Node {
		switch {
		case n.Domain != "" && n.Domain != "ai.onnx":
			return n.Domain + "." + n.OpType
		case slices.Contains(uncountable, n.OpType):
			return n.OpType
		case n.OpType == "Attention" && len(n.Input) > 4 && n.Input[4] != "":
			return "Attention with keys of the past"
		}
	}
	return ""
}

// count fills the metadata of a head on this encoder with what an image costs, or which operator keeps that from being known. The
// sizes are those of a run.
func (e *ONNXEncoder) count(m *model.Metadata, head model.Tensors, path string) error {
	if m.Encoder.Uncounted = uncounted(e.graph.Graph); m.Encoder.Uncounted != "" {
		return nil
	}
	file, err := e.Build(*m, head)
	if err != nil {
		return err
	}
	g := file.Graph
	g.Output = nil
	var outputs []string
	shape := func(value string) {
		name := "shape_" + strconv.Itoa(len(outputs))
		outputs = append(outputs, name)
		g.Node = append(g.Node, &onnxpb.NodeProto{OpType: "Shape", Input: []string{value}, Output: []string{name}})
		g.Output = append(g.Output, &onnxpb.ValueInfoProto{Name: name, Type: tensorInfo(name, "", onnxpb.TensorProto_INT64).Type})
	}
	var counted []*onnxpb.NodeProto
	for _, n := range g.Node {
		if p, ok := products[n.OpType]; ok {
			counted = append(counted, n)
			for _, i := range p.inputs {
				shape(n.Input[i])
			}
			shape(n.Output[0])
		}
	}
	encoded, err := Encode(file, path, 0)
	if err != nil {
		return err
	}
	staged, remove, err := encoded.stage(path)
	if err != nil {
		return err
	}
	defer remove()
	shapes, err := ort.Shapes(staged, encoded.Model, e.spec.ImageSize, outputs)
	if err != nil {
		return fmt.Errorf("count the encoder's operations: %w", err)
	}
	m.Encoder.FLOPs = 0
	for _, n := range counted {
		p := products[n.OpType]
		k := len(p.inputs)
		m.Encoder.FLOPs += p.flops(n, shapes[:k], shapes[k])
		shapes = shapes[k+1:]
	}
	return nil
}
