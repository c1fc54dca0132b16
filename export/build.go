package export

import (
	"encoding/json"
	"fmt"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/version"
	"github.com/mvmae/mvmae/model"
)

// batch is the name of the first dimension of every input and output.
const batch = "N"

// Build returns the model file of a whole classifier in float32: see Graph.Build.
func Build(metadata model.Metadata, weights model.Tensors) (*onnxpb.ModelProto, error) {
	return Graph{}.Build(metadata, weights)
}

// Build returns a model file: a graph with its weights, and the metadata, of which Part, Precision and Attention become those
// of the graph. The weights must hold every parameter of the part, with the shapes of the metadata's Spec.
func (o Graph) Build(metadata model.Metadata, weights model.Tensors) (file *onnxpb.ModelProto, err error) {
	o = o.filled()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.encoder != nil {
		return o.encoder.build(o, metadata, weights)
	}
	metadata.Precision, metadata.Part, metadata.Attention = string(o.Precision), "", o.Attention
	if o.Part != Full {
		metadata.Part = string(o.Part)
	}
	if err := metadata.Validate(); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if err := weights.CheckParams(metadata.Spec.Params(o.Part.params()...)); err != nil {
		return nil, err
	}
	doc, err := json.Marshal(metadata)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	defer func() { // the operations panic with errors: see model.Ops
		if r := recover(); r != nil {
			e, ok := r.(error)
			if !ok {
				panic(r)
			}
			file, err = nil, fmt.Errorf("build graph: %w", e)
		}
	}()
	file = o.file(metadata.Spec, weights)
	file.DocString = metadata.IntendedUse
	file.MetadataProps = []*onnxpb.StringStringEntryProto{{Key: model.MetadataKey, Value: string(doc)}}
	return file, nil
}

// params are the parameters of a part.
func (p Part) params() []model.Part {
	switch p {
	case Encoder:
		return []model.Part{model.PartEncoder}
	case Head:
		return []model.Part{model.PartHead}
	}
	return []model.Part{model.PartEncoder, model.PartHead}
}

// file writes the graph.
func (o Graph) file(s model.Spec, weights model.Tensors) *onnxpb.ModelProto {
	var inputs, outputs []*onnxpb.ValueInfoProto
	embedded := tensorInfo("embedding", "what the classifier head reads", onnxpb.TensorProto_FLOAT, s.Width)
	if o.Part != Head {
		s, weights = foldNormalisation(s, weights)
	}
	g := newGraph(s, weights, o.Opset)
	embedding := value{"embedding", []int{1, s.Width}}
	if o.Part == Head {
		inputs = append(inputs, embedded)
	} else {
		inputs = append(inputs,
			tensorInfo("image", "pixels in [0,1] as the preprocessing recipe in the metadata makes them", onnxpb.TensorProto_FLOAT, 1, s.ImageSize, s.ImageSize),
			tensorInfo("view", "0 frontal, 1 lateral, 2 unknown", onnxpb.TensorProto_INT64))
		image := value{"image", []int{1, 1, s.ImageSize, s.ImageSize}}
		view := value{"view", []int{1}}
		if o.Attention {
			var attention value
			embedding, attention = model.EmbedAttention(g, s, image, view)
			g.rename(attention, "attention")
		} else {
			embedding = model.Embed(g, s, image, view)
		}
		embedding = g.rename(embedding, "embedding")
	}
	if o.Part != Encoder {
		logits := g.rename(model.Head(g, embedding), "logits")
		g.rename(g.node("Sigmoid", logits.dims, []string{logits.name}), "probability")
		outputs = append(outputs,
			tensorInfo("logits", "of the labels in the metadata, in their order, for each image by itself", onnxpb.TensorProto_FLOAT, s.NumClasses),
			tensorInfo("probability", "the logistic function of logits", onnxpb.TensorProto_FLOAT, s.NumClasses))
	}
	if o.Part != Head {
		outputs = append(outputs, embedded)
	}
	if o.Attention {
		outputs = append(outputs, tensorInfo("attention", "the share of each patch in the embedding: attention rollout", onnxpb.TensorProto_FLOAT, s.Grid(), s.Grid()))
	}
	g.fold()
	if g.opset >= 23 {
		g.fuseAttention()
	}
	switch o.Precision {
	case FP16:
		g.half()
	case INT8:
		g.quantise()
	}
	return newFile(g, inputs, outputs)
}

// newFile wraps a graph as a file.
func newFile(g *graph, inputs, outputs []*onnxpb.ValueInfoProto) *onnxpb.ModelProto {
	return &onnxpb.ModelProto{
		IrVersion: irVersions[g.opset-DefaultOpset], ProducerName: "mvmae-export", ProducerVersion: version.String(),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: int64(g.opset)}},
		Graph:       &onnxpb.GraphProto{Name: "mvmae", Node: g.nodes, Initializer: g.initializers(), Input: inputs, Output: outputs},
	}
}

// tensorInfo describes an input or output [N, dims...].
func tensorInfo(name, doc string, kind onnxpb.TensorProto_DataType, dims ...int) *onnxpb.ValueInfoProto {
	shape := []*onnxpb.TensorShapeProto_Dimension{{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: batch}}}
	for _, d := range dims {
		shape = append(shape, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}})
	}
	return &onnxpb.ValueInfoProto{
		Name: name, DocString: doc,
		Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
			TensorType: &onnxpb.TypeProto_Tensor{ElemType: int32(kind), Shape: &onnxpb.TensorShapeProto{Dim: shape}},
		}},
	}
}
