package exporttest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/onnxpb"
)

// Net is an ONNX graph in the making, of random weights: an image encoder as others make them.
type Net struct {
	File *onnxpb.ModelProto
	rng  *rand.Rand
}

// NewNet begins a graph with one input, "pixel_values" [N,channels,size,size].
func NewNet(opset int64, channels, size int) *Net {
	n := &Net{rng: rand.New(rand.NewPCG(5, 6)), File: &onnxpb.ModelProto{
		IrVersion: 8, ProducerName: "pytorch", OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: opset}}, Graph: &onnxpb.GraphProto{Name: "main_graph"},
	}}
	n.Input("pixel_values", onnxpb.TensorProto_FLOAT, 0, channels, size, size)
	return n
}

func info(name string, kind onnxpb.TensorProto_DataType, dims []int) *onnxpb.ValueInfoProto {
	shape := &onnxpb.TensorShapeProto{}
	for i, d := range dims {
		dim := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}}
		if d == 0 {
			dim.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: fmt.Sprintf("axis%d", i)}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	tensor := &onnxpb.TypeProto_Tensor{ElemType: int32(kind), Shape: shape}
	return &onnxpb.ValueInfoProto{Name: name, Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: tensor}}}
}

// Input declares an input; a size of 0 is known only when the graph runs.
func (n *Net) Input(name string, kind onnxpb.TensorProto_DataType, dims ...int) {
	n.File.Graph.Input = append(n.File.Graph.Input, info(name, kind, dims))
}

// Output declares an output, as Input does.
func (n *Net) Output(name string, kind onnxpb.TensorProto_DataType, dims ...int) {
	n.File.Graph.Output = append(n.File.Graph.Output, info(name, kind, dims))
}

// Node adds a node with one output, named as the node. A value of attributes is an int, or []int.
func (n *Net) Node(name, op string, inputs []string, attributes map[string]any) string {
	node := &onnxpb.NodeProto{OpType: op, Name: name, Input: inputs, Output: []string{name}}
	for key, v := range attributes {
		a := &onnxpb.AttributeProto{Name: key}
		switch v := v.(type) {
		case int:
			a.Type, a.I = onnxpb.AttributeProto_INT, proto.Int64(int64(v))
		case []int:
			a.Type = onnxpb.AttributeProto_INTS
			for _, x := range v {
				a.Ints = append(a.Ints, int64(x))
			}
		}
		node.Attribute = append(node.Attribute, a)
	}
	n.File.Graph.Node = append(n.File.Graph.Node, node)
	return name
}

// Weight adds random weights, small enough that a layer neither grows nor shrinks its input much.
func (n *Net) Weight(name string, dims ...int) string {
	t := &onnxpb.TensorProto{Name: name, DataType: int32(onnxpb.TensorProto_FLOAT)}
	count := 1
	for _, d := range dims {
		count *= d
		t.Dims = append(t.Dims, int64(d))
	}
	scale := 2 / math.Sqrt(float64(count/dims[0]))
	for range count {
		t.RawData = binary.LittleEndian.AppendUint32(t.RawData, math.Float32bits(float32(scale*n.rng.NormFloat64())))
	}
	n.File.Graph.Initializer = append(n.File.Graph.Initializer, t)
	return name
}

// Ints adds an int64 constant of one dimension.
func (n *Net) Ints(name string, values ...int) string {
	t := &onnxpb.TensorProto{Name: name, DataType: int32(onnxpb.TensorProto_INT64), Dims: []int64{int64(len(values))}}
	for _, v := range values {
		t.RawData = binary.LittleEndian.AppendUint64(t.RawData, uint64(v))
	}
	n.File.Graph.Initializer = append(n.File.Graph.Initializer, t)
	return name
}

// tokens cuts the input into patches and gives each a vector [N,T,inner]: a transformer's beginning.
func (n *Net) tokens(channels, patch, inner int) string {
	x := n.Node("patches", "Conv", []string{"pixel_values", n.Weight("patch_embed.weight", inner, channels, patch, patch)},
		map[string]any{"kernel_shape": []int{patch, patch}, "strides": []int{patch, patch}})
	x = n.Node("flat", "Reshape", []string{x, n.Ints("flat_shape", 0, inner, -1)}, nil)
	x = n.Node("tokens", "Transpose", []string{x}, map[string]any{"perm": []int{0, 2, 1}})
	mixed := n.Node("mixed", "MatMul", []string{x, n.Weight("mix.weight", inner, inner)}, nil)
	return n.Node("activated", "Tanh", []string{mixed}, nil)
}

// Write leaves the graph in dir as NAME.onnx with its notes beside it, and returns the path.
func (n *Net) Write(tb testing.TB, dir, name, notes string) string {
	tb.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(n.File)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, name+".onnx")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path+".toml", []byte(notes), 0o644); err != nil {
		tb.Fatal(err)
	}
	return path
}

// BiomedCLIP writes an encoder with the shapes of its image part: ViT-B/16 at 224 pixels, three channels, 512 numbers.
func BiomedCLIP(tb testing.TB, dir string) string {
	tb.Helper()
	n := NewNet(14, 3, 224)
	x := n.tokens(3, 16, 24) // [N,196,24]
	x = n.Node("pooled", "ReduceMean", []string{x}, map[string]any{"axes": []int{1}, "keepdims": 0})
	n.Node("image_features", "MatMul", []string{x, n.Weight("proj.weight", 24, 512)}, nil)
	n.Output("image_features", onnxpb.TensorProto_FLOAT, 0, 512)
	return n.Write(tb, dir, "biomedclip", "image_size = 224\nchannels = 3\nmean = [0.48145466, 0.4578275, 0.40821073]\nstd = [0.26862954, 0.26130258, 0.27577711]\n")
}

// CheXagent writes an encoder with the shapes of its vision part: ViT-L/14 at 448 pixels, 1 + 32*32 tokens of 1024 numbers, and
// a second output.
func CheXagent(tb testing.TB, dir string) string {
	tb.Helper()
	n := NewNet(17, 3, 448)
	x := n.tokens(3, 14, 16) // [N,1024,16]
	first := n.Node("first", "ReduceMean", []string{x}, map[string]any{"axes": []int{1}, "keepdims": 1})
	x = n.Node("with_cls", "Concat", []string{first, x}, map[string]any{"axis": 1})
	x = n.Node("last_hidden_state", "MatMul", []string{x, n.Weight("up.weight", 16, 1024)}, nil)
	n.Output("last_hidden_state", onnxpb.TensorProto_FLOAT, 0, 1025, 1024)
	n.Node("pooler_output", "ReduceMax", []string{x}, map[string]any{"axes": []int{1}, "keepdims": 0})
	n.Output("pooler_output", onnxpb.TensorProto_FLOAT, 0, 1024)
	return n.Write(tb, dir, "chexagent",
		"image_size = 448\nchannels = 3\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\noutput = \"last_hidden_state\"\npool = \"cls\"\n")
}

// CNN writes a small network of convolutions of one channel, with an output of 32 maps of 8x8.
func CNN(tb testing.TB, dir string) string {
	tb.Helper()
	n := NewNet(18, 1, 64)
	conv := func(name, x string, out, in int) string {
		x = n.Node(name, "Conv", []string{x, n.Weight(name+".weight", out, in, 3, 3)}, map[string]any{
			"kernel_shape": []int{3, 3}, "strides": []int{2, 2}, "pads": []int{1, 1, 1, 1}})
		return n.Node(name+"_relu", "Relu", []string{x}, nil)
	}
	x := conv("conv3", conv("conv2", conv("conv1", "pixel_values", 8, 1), 16, 8), 32, 16)
	n.Output(x, onnxpb.TensorProto_FLOAT, 0, 32, 8, 8)
	return n.Write(tb, dir, "cnn", "image_size = 64\nchannels = 1\nmean = [0.5]\nstd = [0.25]\npool = \"mean\"\n")
}
