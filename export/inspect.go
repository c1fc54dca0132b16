package export

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Contents are what a model file holds beside its weights.
type Contents struct {
	Model      string         `json:"model"`
	Bytes      int            `json:"bytes"`
	SHA256     string         `json:"sha256"`
	Producer   string         `json:"producer"`
	IRVersion  int64          `json:"ir_version"`
	Opset      int64          `json:"opset"`
	Nodes      int            `json:"nodes"`
	Parameters int            `json:"parameters"` // float32 values of the initializers, constants among them
	Inputs     []Port         `json:"inputs"`
	Outputs    []Port         `json:"outputs"`
	Metadata   model.Metadata `json:"metadata"`
}

// Port is an input or output of a graph.
type Port struct {
	Name  string   `json:"name"`
	Type  string   `json:"type"`
	Shape []string `json:"shape"` // numbers, and names of sizes that are known only when the graph runs
}

// Inspect reads a model file without running it.
func Inspect(path string) (*Contents, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	var file onnxpb.ModelProto
	err = proto.Unmarshal(data, &file)
	if err == nil && file.Graph == nil {
		err = errors.New("it has no graph")
	}
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("inspect %s: not a whole ONNX file: %w", path, err), "copy the file again, or make it anew with mvmae-export")
	}
	digest := sha256.Sum256(data)
	c := &Contents{
		Model: path, Bytes: len(data), SHA256: hex.EncodeToString(digest[:]), IRVersion: file.IrVersion,
		Producer: strings.TrimSpace(file.ProducerName + " " + file.ProducerVersion), Nodes: len(file.Graph.Node),
		Inputs: ports(file.Graph.Input), Outputs: ports(file.Graph.Output),
	}
	for _, o := range file.OpsetImport {
		if o.Domain == "" {
			c.Opset = o.Version
		}
	}
	for _, t := range file.Graph.Initializer {
		if t.DataType == int32(onnxpb.TensorProto_FLOAT) {
			n := 1
			for _, d := range t.Dims {
				n *= int(d)
			}
			c.Parameters += n
		}
	}
	c.Metadata, err = metadataIn(&file)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	return c, nil
}

func metadataIn(file *onnxpb.ModelProto) (model.Metadata, error) {
	for _, p := range file.MetadataProps {
		if p.Key == model.MetadataKey {
			return model.ParseMetadata([]byte(p.Value))
		}
	}
	return model.Metadata{}, hint.Wrap(fmt.Errorf("an ONNX file without the metadata %q of MVMAE", model.MetadataKey),
		"only files made by mvmae-export say how their input is prepared and what their outputs mean")
}

func ports(infos []*onnxpb.ValueInfoProto) (out []Port) {
	for _, info := range infos {
		t := info.GetType().GetTensorType()
		p := Port{Name: info.Name, Type: strings.ToLower(onnxpb.TensorProto_DataType(t.GetElemType()).String()), Shape: []string{}}
		for _, d := range t.GetShape().GetDim() {
			if name := d.GetDimParam(); name != "" {
				p.Shape = append(p.Shape, name)
			} else {
				p.Shape = append(p.Shape, strconv.FormatInt(d.GetDimValue(), 10))
			}
		}
		out = append(out, p)
	}
	return out
}
