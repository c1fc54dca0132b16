package export

import (
	"encoding/json"
	"fmt"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/version"
	"github.com/mvmae/mvmae/model"
)

// irVersion is the version of the file format that came with opset 17 (ONNX 1.12): a newer one would shut out its readers.
const irVersion = 8

// batch is the name of the first dimension of every input and output.
const batch = "N"

// Build returns the model file of a classifier: its encoder and head as a graph, and its metadata. The weights must hold
// every parameter of model.PartEncoder and model.PartHead, with the shapes of the metadata's Spec.
func Build(metadata model.Metadata, weights model.Tensors) (file *onnxpb.ModelProto, err error) {
	if err := metadata.Validate(); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	s := metadata.Spec
	if err := weights.CheckParams(s.Params(model.PartEncoder, model.PartHead)); err != nil {
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
	g := newGraph(s, weights)
	image := g.Reshape(value{"image", []int{1, 1, s.ImageSize, s.ImageSize}}, s.ImageSize, s.ImageSize) // [N,S,S]
	embedding := g.rename(model.Embed(g, s, image, value{"view", []int{1}}), "embedding")
	logits := g.rename(model.Head(g, embedding), "logits")
	g.rename(g.node("Sigmoid", logits.dims, []string{logits.name}), "probability")

	file = newFile(g,
		[]*onnxpb.ValueInfoProto{
			tensorInfo("image", "pixels in [0,1] as the preprocessing recipe in the metadata makes them", onnxpb.TensorProto_FLOAT, 1, s.ImageSize, s.ImageSize),
			tensorInfo("view", "0 frontal, 1 lateral, 2 unknown", onnxpb.TensorProto_INT64),
		}, []*onnxpb.ValueInfoProto{
			tensorInfo("logits", "of the labels in the metadata, in their order, for each image by itself", onnxpb.TensorProto_FLOAT, s.NumClasses),
			tensorInfo("probability", "the logistic function of logits", onnxpb.TensorProto_FLOAT, s.NumClasses),
			tensorInfo("embedding", "what the classifier head reads", onnxpb.TensorProto_FLOAT, s.Width),
		})
	file.DocString = metadata.IntendedUse
	file.MetadataProps = []*onnxpb.StringStringEntryProto{{Key: model.MetadataKey, Value: string(doc)}}
	return file, nil
}

// newFile wraps a graph as a file.
func newFile(g *graph, inputs, outputs []*onnxpb.ValueInfoProto) *onnxpb.ModelProto {
	return &onnxpb.ModelProto{
		IrVersion: irVersion, ProducerName: "mvmae-export", ProducerVersion: version.String(),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: opset}},
		Graph:       &onnxpb.GraphProto{Name: "mvmae", Node: g.nodes, Initializer: g.inits, Input: inputs, Output: outputs},
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
