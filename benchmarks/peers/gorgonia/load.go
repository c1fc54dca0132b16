package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/owulveryck/onnx-go"
	"github.com/owulveryck/onnx-go/backend/x/gorgonnx"
	"gonum.org/v1/gonum/graph"
)

// operations notes the operators of a model while passing them on.
type operations struct {
	*gorgonnx.Graph
	names map[string]bool
}

func (o *operations) ApplyOperation(op onnx.Operation, ns ...graph.Node) error {
	o.names[op.Name] = true
	return o.Graph.ApplyOperation(op, ns...)
}

// load prints what stops onnx-go from loading a model, and which of its operators the Gorgonia backend does not know.
func load(path string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	o := &operations{gorgonnx.NewGraph(), map[string]bool{}}
	fmt.Printf("| onnx-go v0.5.0, the exported ViT | %s |\n", outcome(func() error {
		m := onnx.NewModel(o)
		if err := m.UnmarshalBinary(doc); err != nil {
			return err
		}
		return o.PopulateExprgraph()
	}))
	var missing []string
	for name := range o.names {
		if unknown(name) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	fmt.Printf("| operators of that model, that its Gorgonia backend lacks | %s |\n", strings.Join(missing, ", "))
	return nil
}

func outcome(f func() error) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprintf("panic: %v", r)
		}
	}()
	if err := f(); err != nil {
		return err.Error()
	}
	return "loads"
}

// unknown asks the backend for a graph of that operator alone.
func unknown(name string) bool {
	text := outcome(func() error {
		b := gorgonnx.NewGraph()
		in := b.NewNode()
		b.AddNode(in)
		out := b.NewNode()
		b.AddNode(out)
		b.SetWeightedEdge(b.NewWeightedEdge(out, in, 0))
		if err := b.ApplyOperation(onnx.Operation{Name: name}, out); err != nil {
			return err
		}
		return b.PopulateExprgraph()
	})
	return strings.HasPrefix(text, "onnx: operator "+name+" not implemented")
}
