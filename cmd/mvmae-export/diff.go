package main

import (
	"context"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/export"
)

// DiffCmd compares two model files.
type DiffCmd struct {
	A string `arg:"" name:"a.onnx" help:"One file."`
	B string `arg:"" name:"b.onnx" help:"The other."`
}

// shownWeights is how many tensors that differ are shown to people; --json has all.
const shownWeights = 20

func (c *DiffCmd) Run(_ context.Context, out *cli.Output) error {
	d, err := export.Diff(c.A, c.B)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name    string
		changes []export.Change
	}{{"metadata", d.Metadata}, {"graph", d.Graph}} {
		for _, x := range part.changes {
			out.Printf("%-9s %s: %s | %s\n", part.name, x.Name, orNone(x.A), orNone(x.B))
		}
	}
	for i, w := range d.Weights {
		if i == shownWeights {
			out.Printf("weights   and %d more\n", len(d.Weights)-i)
			break
		}
		if w.A == w.B {
			out.Printf("weights   %s %s: %d of %d numbers differ, by up to %.3g\n", w.Name, w.A, w.Changed, w.Values, w.Largest)
		} else {
			out.Printf("weights   %s: %s | %s\n", w.Name, orNone(w.A), orNone(w.B))
		}
	}
	switch {
	case d.SameBytes:
		out.Printf("the same bytes\n")
	case d.Same():
		out.Printf("the same metadata, graph and weights, in other bytes\n")
	default:
		out.Printf("%d differences in metadata, %d in the graph, %d tensors differ and %d are equal\n", len(d.Metadata), len(d.Graph), len(d.Weights), d.Equal)
	}
	return out.Result(struct {
		Same bool `json:"same"`
		*export.Difference
	}{d.Same(), d})
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
