package export

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/version"
	"github.com/mvmae/mvmae/model"
)

// encoderPrefix stands before every name of an encoder's graph in the file that it becomes a part of.
const encoderPrefix = "encoder/"

// build is Graph.Build for the graph of a head on this encoder.
func (e *ONNXEncoder) build(o Graph, metadata model.Metadata, head model.Tensors) (*onnxpb.ModelProto, error) {
	plain := Graph{encoder: e}.filled()
	if o != plain {
		return nil, hint.Wrap(errors.New("a head on the encoder of an ONNX file can be written whole and in the encoder's own precision and opset alone"),
			"leave out --part, --precision, --opset and --attention")
	}
	metadata.Precision = string(FP32)
	return e.Build(metadata, head)
}

// Build returns the model file of a head on this encoder: scaling of pixels, the encoder's own graph, its pooling, the head.
// The file keeps the encoder's version of the operators.
func (e *ONNXEncoder) Build(metadata model.Metadata, head model.Tensors) (*onnxpb.ModelProto, error) {
	if err := metadata.Validate(); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if err := head.CheckParams(e.spec.Params(model.PartHead)); err != nil {
		return nil, err
	}
	if metadata.Spec != e.spec {
		return nil, fmt.Errorf("a head for images of %d and embeddings of %d: the encoder has %d and %d",
			metadata.Spec.ImageSize, metadata.Spec.Width, e.spec.ImageSize, e.spec.Width)
	}
	doc, err := json.Marshal(metadata)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	size, width := e.spec.ImageSize, e.spec.Width
	g := newGraph(e.spec, head, int(e.opset()))
	e.scale(g)
	inner := proto.Clone(e.graph.Graph).(*onnxpb.GraphProto)
	prefixNames(inner)
	g.nodes = append(g.nodes, inner.Node...)
	embedding := e.pooled(g)
	logits := g.rename(g.node("Gemm", []int{1, model.NumLabels}, []string{embedding.name,
		g.floats("head.weight", []int{model.NumLabels, width}, head["head.weight"].Data), g.floats("head.bias", []int{model.NumLabels}, head["head.bias"].Data),
	}, intAttribute("transB", 1)), "logits")
	g.rename(g.node("Sigmoid", logits.dims, []string{logits.name}), "probability")

	file := &onnxpb.ModelProto{
		IrVersion:   max(e.graph.IrVersion, 4), // the first in which weights need not be listed as inputs
		OpsetImport: e.graph.OpsetImport, ProducerName: "mvmae-export", ProducerVersion: version.String(), DocString: metadata.IntendedUse,
		MetadataProps: []*onnxpb.StringStringEntryProto{{Key: model.MetadataKey, Value: string(doc)}},
		Graph:         &onnxpb.GraphProto{Name: "mvmae", Node: g.nodes, Initializer: append(g.initializers(), inner.Initializer...)},
	}
	file.ProtoReflect().SetUnknown(e.graph.ProtoReflect().GetUnknown()) // the functions that its nodes may call
	file.Graph.Input = []*onnxpb.ValueInfoProto{
		tensorInfo("image", "pixels in [0,1] as the preprocessing recipe in the metadata makes them", onnxpb.TensorProto_FLOAT, 1, size, size),
		tensorInfo("view", "0 frontal, 1 lateral, 2 unknown", onnxpb.TensorProto_INT64),
	}
	file.Graph.Output = []*onnxpb.ValueInfoProto{
		tensorInfo("logits", "of the labels in the metadata, in their order, for each image by itself", onnxpb.TensorProto_FLOAT, model.NumLabels),
		tensorInfo("probability", "the logistic function of logits", onnxpb.TensorProto_FLOAT, model.NumLabels),
		tensorInfo("embedding", "what the classifier head reads", onnxpb.TensorProto_FLOAT, width),
	}
	return file, nil
}

// scale writes (image-mean)/std, which also makes one channel three, as the encoder's input; and its views, if it has such.
func (e *ONNXEncoder) scale(g *graph) {
	n := e.notes
	perChannel := func(name string, v []float64) string {
		x := make([]float32, len(v))
		for i := range v {
			x[i] = float32(v[i])
		}
		return g.floats(name, []int{1, len(v), 1, 1}, x)
	}
	x := g.node("Sub", nil, []string{"image", perChannel("pixel_mean", n.Mean)})
	x = g.node("Div", nil, []string{x.name, perChannel("pixel_std", n.Std)})
	g.rename(e.cast(g, x, e.image, onnxpb.TensorProto_FLOAT16), encoderPrefix+e.image.Name)
	if e.view != "" {
		g.rename(g.node("Identity", nil, []string{"view"}), encoderPrefix+e.view)
	}
}

// cast changes the type of x where the encoder's own value is half precision.
func (e *ONNXEncoder) cast(g *graph, x value, own *onnxpb.ValueInfoProto, to onnxpb.TensorProto_DataType) value {
	if onnxpb.TensorProto_DataType(own.GetType().GetTensorType().GetElemType()) != onnxpb.TensorProto_FLOAT16 {
		return x
	}
	return g.node("Cast", nil, []string{x.name}, intAttribute("to", int(to)))
}

// pooled writes the embedding [N,D] of the encoder's output.
func (e *ONNXEncoder) pooled(g *graph) value {
	x := e.cast(g, value{name: encoderPrefix + e.out.Name}, e.out, onnxpb.TensorProto_FLOAT)
	switch rank := len(dims(e.out)); {
	case rank == 4:
		x = g.node("Flatten", nil, []string{g.node("GlobalAveragePool", nil, []string{x.name}).name}, intAttribute("axis", 1))
	case rank == 3 && e.notes.Pool == "cls":
		first := g.constant(constant{name: "first", kind: onnxpb.TensorProto_INT64, raw: make([]byte, 8)}) // 0
		x = g.node("Gather", nil, []string{x.name, first}, intAttribute("axis", 1))
	case rank == 3 && e.opset() >= 18:
		x = g.node("ReduceMean", nil, []string{x.name, g.ints(1)}, intAttribute("keepdims", 0))
	case rank == 3:
		x = g.node("ReduceMean", nil, []string{x.name}, intsAttribute("axes", 1), intAttribute("keepdims", 0))
	default:
		x = g.node("Identity", nil, []string{x.name})
	}
	return g.rename(value{x.name, []int{1, e.spec.Width}}, "embedding")
}

// refuseUnread refuses a graph with names in parts that the messages here have no field for: they would not be changed.
func refuseUnread(g *onnxpb.GraphProto) error {
	if hasField(g.ProtoReflect().GetUnknown(), 15) { // GraphProto.sparse_initializer
		return errors.New("its graph has sparse tensors, which are not read")
	}
	for _, n := range g.Node {
		for _, a := range n.Attribute {
			if hasField(a.ProtoReflect().GetUnknown(), 11) { // AttributeProto.graphs
				return fmt.Errorf("node %s: attribute %s is a list of graphs, which is not read", n.Name, a.Name)
			}
			if a.G != nil {
				if err := refuseUnread(a.G); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// hasField reports whether the fields that a message does not know have one of a number.
func hasField(unknown []byte, number protowire.Number) bool {
	for len(unknown) > 0 {
		n, _, size := protowire.ConsumeField(unknown)
		if size < 0 {
			return false
		}
		if n == number {
			return true
		}
		unknown = unknown[size:]
	}
	return false
}

// prune keeps of a graph what one of its outputs needs.
func prune(g *onnxpb.GraphProto, output string) {
	needed := map[string]bool{output: true}
	var nodes []*onnxpb.NodeProto
	for i := len(g.Node) - 1; i >= 0; i-- { // nodes come in the order they are computed
		n := g.Node[i]
		used := false
		for _, out := range n.Output {
			used = used || needed[out]
		}
		if !used {
			continue
		}
		nodes = append(nodes, n)
		for name := range reads(n) {
			needed[name] = true
		}
	}
	for i, j := 0, len(nodes)-1; i < j; i, j = i+1, j-1 {
		nodes[i], nodes[j] = nodes[j], nodes[i]
	}
	g.Node = nodes
	g.Initializer = keep(g.Initializer, func(t *onnxpb.TensorProto) bool { return needed[t.Name] })
	g.Input = keep(g.Input, func(v *onnxpb.ValueInfoProto) bool { return needed[v.Name] })
	g.Output = keep(g.Output, func(v *onnxpb.ValueInfoProto) bool { return v.Name == output })
}

func keep[T any](in []T, want func(T) bool) (out []T) {
	for _, x := range in {
		if want(x) {
			out = append(out, x)
		}
	}
	return out
}

// reads are the names that a node reads, those of the graphs within it among them.
func reads(n *onnxpb.NodeProto) map[string]bool {
	out := map[string]bool{}
	for _, name := range n.Input {
		out[name] = true
	}
	for _, a := range n.Attribute {
		for _, inner := range a.G.GetNode() {
			for name := range reads(inner) {
				out[name] = true
			}
		}
		for _, v := range a.G.GetOutput() { // a branch may give back an outer value as it is
			out[v.Name] = true
		}
	}
	return out
}

// prefixNames puts encoderPrefix before the name of every value and node of a graph and of the graphs within it.
func prefixNames(g *onnxpb.GraphProto) {
	all := func(names []string) {
		for i := range names {
			if names[i] != "" { // an input that is left out
				names[i] = encoderPrefix + names[i]
			}
		}
	}
	for _, n := range g.Node {
		all(n.Input)
		all(n.Output)
		if n.Name != "" {
			n.Name = encoderPrefix + n.Name
		}
		for _, a := range n.Attribute {
			if a.G != nil {
				prefixNames(a.G)
			}
		}
	}
	for _, t := range g.Initializer {
		t.Name = encoderPrefix + t.Name
	}
	for _, infos := range [][]*onnxpb.ValueInfoProto{g.Input, g.Output, g.ValueInfo} {
		for _, v := range infos {
			v.Name = encoderPrefix + v.Name
		}
	}
}
