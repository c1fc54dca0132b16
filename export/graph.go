package export

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/model"
)

// opset is the version of ONNX's operators that the nodes below are written in. 17 is the first with LayerNormalization.
const opset = 17

// value is a tensor of the graph: its name and its shape for a batch of one.
type value struct {
	name string
	dims []int
}

// graph is the implementation of model.Ops that writes ONNX nodes. Weights and constants become initializers when a node
// first reads them, so the file holds nothing that the graph does not use.
type graph struct {
	shapes  *model.Counter // checks every operation and knows its result's shape
	weights model.Tensors
	nodes   []*onnxpb.NodeProto
	inits   []*onnxpb.TensorProto
	known   map[string]bool // names of inits
}

func newGraph(s model.Spec, weights model.Tensors) *graph {
	return &graph{shapes: model.NewCounter(s), weights: weights, known: map[string]bool{}}
}

// node appends a node with one output and returns that.
func (g *graph) node(op string, dims []int, inputs []string, attributes ...*onnxpb.AttributeProto) value {
	name := fmt.Sprintf("%s_%d", strings.ToLower(op), len(g.nodes))
	g.nodes = append(g.nodes, &onnxpb.NodeProto{
		OpType: op, Name: name, Input: inputs, Output: []string{name}, Attribute: attributes,
	})
	return value{name, dims}
}

// rename gives a value the name under which it leaves the graph.
func (g *graph) rename(v value, name string) value {
	for _, n := range g.nodes {
		for i := range n.Input {
			if n.Input[i] == v.name {
				n.Input[i] = name
			}
		}
		for i := range n.Output {
			if n.Output[i] == v.name {
				n.Output[i] = name
			}
		}
	}
	return value{name, v.dims}
}

// floats adds an initializer of float32 unless there is one of that name.
func (g *graph) floats(name string, dims []int, data []float32) string {
	if !g.known[name] {
		raw := make([]byte, 0, 4*len(data))
		for _, x := range data {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
		}
		g.initializer(name, onnxpb.TensorProto_FLOAT, dims, raw)
	}
	return name
}

// scalar is a float32 constant without dimensions.
func (g *graph) scalar(x float64) string {
	return g.floats(fmt.Sprintf("float_%g", float32(x)), nil, []float32{float32(x)})
}

// ints is an int64 constant of one dimension: a shape, or the bounds of a slice.
func (g *graph) ints(values ...int) string {
	name := "int" + strings.NewReplacer(" ", "_", "[", "_", "]", "").Replace(fmt.Sprint(values))
	if !g.known[name] {
		var raw []byte
		for _, v := range values {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
		}
		g.initializer(name, onnxpb.TensorProto_INT64, []int{len(values)}, raw)
	}
	return name
}

func (g *graph) initializer(name string, kind onnxpb.TensorProto_DataType, dims []int, raw []byte) {
	g.known[name] = true
	t := &onnxpb.TensorProto{Name: name, DataType: int32(kind), RawData: raw}
	for _, d := range dims {
		t.Dims = append(t.Dims, int64(d))
	}
	g.inits = append(g.inits, t)
}

func intAttribute(name string, v int) *onnxpb.AttributeProto {
	i := int64(v)
	return &onnxpb.AttributeProto{Name: name, Type: onnxpb.AttributeProto_INT, I: &i}
}

func intsAttribute(name string, values ...int) *onnxpb.AttributeProto {
	a := &onnxpb.AttributeProto{Name: name, Type: onnxpb.AttributeProto_INTS}
	for _, v := range values {
		a.Ints = append(a.Ints, int64(v))
	}
	return a
}

func floatAttribute(name string, v float64) *onnxpb.AttributeProto {
	f := float32(v)
	return &onnxpb.AttributeProto{Name: name, Type: onnxpb.AttributeProto_FLOAT, F: &f}
}
