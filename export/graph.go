package export

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Part says which piece of a classifier a file holds. Encoder and head, one after the other, are the whole.
type Part string

const (
	Full    Part = "full"
	Encoder Part = "encoder" // image and view to embedding
	Head    Part = "head"    // embedding to logits and probability
)

// Precision is the type that a file computes in.
type Precision string

const (
	FP32 Precision = "fp32"
	FP16 Precision = "fp16" // weights and blocks in half precision; inputs, outputs and head stay float32
	INT8 Precision = "int8" // the blocks' weights as 8-bit integers per output channel, their inputs quantised as they come
)

// The versions of ONNX's operators that can be written. 17 is the first with LayerNormalization, and what most programs read;
// at 20 Gelu becomes one node, at 23 attention, which is what makes int8 as fast as it can be.
const (
	DefaultOpset = 17 // of float32 and float16
	MaxOpset     = 23 // and the default of int8
)

// irVersions are the versions of the file format that came with each opset from DefaultOpset on: a newer one would shut out
// readers (ONNX's Versioning.md).
var irVersions = [...]int64{8, 8, 9, 9, 10, 10, 11}

// Graph says what graph a file holds. The zero value is the whole classifier in float32.
type Graph struct {
	Part      Part
	Precision Precision
	Opset     int
	Attention bool // adds the attention rollout as the output "attention" [N,S/P,S/P]: see model.EmbedAttention

	encoder *ONNXEncoder // whose graph it is but for the head; nil for a network of this project
}

// filled returns the options with the defaults in place of zeros.
func (o Graph) filled() Graph {
	o.Part, o.Precision = cmp.Or(o.Part, Full), cmp.Or(o.Precision, FP32)
	if o.Opset == 0 {
		o.Opset = DefaultOpset
		if o.Precision == INT8 {
			o.Opset = MaxOpset
		}
	}
	return o
}

// Validate refuses what cannot be written.
func (o Graph) Validate() error {
	o = o.filled()
	switch {
	case !slices.Contains([]Part{Full, Encoder, Head}, o.Part):
		return hint.Wrap(fmt.Errorf("unknown part %q", o.Part), "the parts are %s, %s and %s", Full, Encoder, Head)
	case !slices.Contains([]Precision{FP32, FP16, INT8}, o.Precision):
		return hint.Wrap(fmt.Errorf("unknown precision %q", o.Precision), "the precisions are %s, %s and %s", FP32, FP16, INT8)
	case o.Opset < DefaultOpset || o.Opset > MaxOpset:
		return fmt.Errorf("unsupported opset %d: want %d to %d", o.Opset, DefaultOpset, MaxOpset)
	case o.Attention && o.Part == Head:
		return hint.Wrap(fmt.Errorf("part %s has no attention", Head), "ask for it with part %s or %s", Full, Encoder)
	}
	return nil
}

// value is a tensor of the graph: its name and its shape for a batch of one.
type value struct {
	name string
	dims []int
}

// constant is a tensor that is stored in the file. It becomes an initializer when the graph is finished: until then its
// numbers may be folded or quantised.
type constant struct {
	name   string
	dims   []int
	floats []float32 // or raw, of another type
	kind   onnxpb.TensorProto_DataType
	raw    []byte
}

// graph is the implementation of model.Ops that writes ONNX nodes. Weights and constants are stored when a node first reads
// them, so the file holds nothing that the graph does not use.
type graph struct {
	opset     int
	shapes    *model.Counter // checks every operation and knows its result's shape
	weights   model.Tensors
	nodes     []*onnxpb.NodeProto
	constants []*constant
	known     map[string]*constant
	made      int // nodes ever made: their names must not clash
}

func newGraph(s model.Spec, weights model.Tensors, opset int) *graph {
	return &graph{opset: opset, shapes: model.NewCounter(s), weights: weights, known: map[string]*constant{}}
}

// newNode makes a node with one output, which has the node's name.
func (g *graph) newNode(op string, inputs []string, attributes ...*onnxpb.AttributeProto) *onnxpb.NodeProto {
	name := fmt.Sprintf("%s_%d", strings.ToLower(op), g.made)
	g.made++
	return &onnxpb.NodeProto{OpType: op, Name: name, Input: inputs, Output: []string{name}, Attribute: attributes}
}

// node appends a node with one output and returns that.
func (g *graph) node(op string, dims []int, inputs []string, attributes ...*onnxpb.AttributeProto) value {
	n := g.newNode(op, inputs, attributes...)
	g.nodes = append(g.nodes, n)
	return value{n.Name, dims}
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

// constant stores a tensor unless there is one of that name.
func (g *graph) constant(c constant) string {
	if g.known[c.name] == nil {
		g.known[c.name] = &c
		g.constants = append(g.constants, &c)
	}
	return c.name
}

// floats stores a tensor of float32 unless there is one of that name. The data are not copied.
func (g *graph) floats(name string, dims []int, data []float32) string {
	return g.constant(constant{name: name, dims: dims, floats: data, kind: onnxpb.TensorProto_FLOAT})
}

// scalar is a float32 constant without dimensions.
func (g *graph) scalar(x float64) string {
	return g.floats(fmt.Sprintf("float_%g", float32(x)), nil, []float32{float32(x)})
}

// ints is an int64 constant of one dimension: a shape, or the bounds of a slice.
func (g *graph) ints(values ...int) string {
	name := "int" + strings.NewReplacer(" ", "_", "[", "_", "]", "").Replace(fmt.Sprint(values))
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return g.constant(constant{name: name, dims: []int{len(values)}, kind: onnxpb.TensorProto_INT64, raw: raw})
}

// initializers are the constants that nodes read, in the order they were stored.
func (g *graph) initializers() (out []*onnxpb.TensorProto) {
	used := map[string]bool{}
	for _, n := range g.nodes {
		for _, name := range n.Input {
			used[name] = true
		}
	}
	for _, c := range g.constants {
		if !used[c.name] {
			continue
		}
		t := &onnxpb.TensorProto{Name: c.name, DataType: int32(c.kind), RawData: c.raw}
		if c.raw == nil {
			t.RawData = make([]byte, 0, 4*len(c.floats))
			for _, x := range c.floats {
				t.RawData = binary.LittleEndian.AppendUint32(t.RawData, math.Float32bits(x))
			}
		}
		for _, d := range c.dims {
			t.Dims = append(t.Dims, int64(d))
		}
		out = append(out, t)
	}
	return out
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
