package export

import (
	"encoding/json"
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
	Operators  map[string]int `json:"operators"`  // how many nodes of each
	Parameters int            `json:"parameters"` // float32 values of the initializers, constants among them
	GFLOPs     float64        `json:"gflops"`     // of an image; 0 where it is not known: see Metadata.Encoder.Uncounted
	Card       *CardFile      `json:"card"`       // null for none beside the file
	Inputs     []Port         `json:"inputs"`
	Outputs    []Port         `json:"outputs"`
	Metadata   model.Metadata `json:"metadata"`
}

// CardFile is the card beside a model file.
type CardFile struct {
	Text    string `json:"text"`
	Doc     string `json:"doc"`
	Current bool   `json:"current"` // it is of this very file, by its digest
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
	file, err := parseModel(data)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	c := &Contents{
		Model: path, Bytes: len(data), SHA256: digestOf(data), IRVersion: file.IrVersion, Operators: map[string]int{},
		Producer: strings.TrimSpace(file.ProducerName + " " + file.ProducerVersion), Nodes: len(file.Graph.Node),
		Inputs: ports(file.Graph.Input), Outputs: ports(file.Graph.Output),
	}
	for _, n := range file.Graph.Node {
		c.Operators[n.OpType]++
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
	if c.Metadata, err = metadataIn(file); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	cost, err := costOf(c.Metadata, file)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	c.GFLOPs = float64(cost.Embed) / 1e9
	if c.Card, err = cardOf(path, c.SHA256); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	return c, nil
}

func parseModel(data []byte) (*onnxpb.ModelProto, error) {
	var file onnxpb.ModelProto
	err := proto.Unmarshal(data, &file)
	if err == nil && file.Graph == nil {
		err = errors.New("it has no graph")
	}
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("not a whole ONNX file: %w", err), "copy the file again, or make it anew with mvmae-export")
	}
	return &file, nil
}

// cardOf finds the card beside a model file.
func cardOf(path, sha256 string) (*CardFile, error) {
	var c CardFile
	c.Text, c.Doc = CardPaths(path)
	doc, err := os.ReadFile(c.Doc)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var card struct {
		Model struct {
			SHA256 string `json:"sha256"`
		} `json:"model"`
	}
	if err := json.Unmarshal(doc, &card); err != nil {
		return nil, fmt.Errorf("card %s: %w", c.Doc, err)
	}
	c.Current = card.Model.SHA256 == sha256
	return &c, nil
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
