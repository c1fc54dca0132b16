package ort

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	onnx "github.com/yalue/onnxruntime_go"
)

// Shapes runs a graph with the inputs of a model file once, on a black image of size x size pixels, and returns some of its
// outputs, vectors of whole numbers: nodes of type Shape tell so the sizes of values that nothing but running tells. The name's
// folder is where a large graph's file of weights lies.
func Shapes(name string, data []byte, size int, outputs []string) ([][]int64, error) {
	if _, err := initialise(); err != nil {
		return nil, err
	}
	defer trim()
	session, _, err := newSession(filepath.Dir(name), data, outputs, Options{Device: CPU})
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	defer session.Destroy()
	var in buffers
	defer in.free()
	addTensor(&in, make([]float32, size*size), 1, 1, size, size)
	addTensor(&in, []int64{0}, 1)
	if in.err != nil {
		return nil, in.err
	}
	values := make([]onnx.Value, len(outputs)) // nil: the library makes them
	if err := session.Run(in.values, values); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, plain(err))
	}
	shapes := make([][]int64, len(outputs))
	for i, v := range values {
		t, ok := v.(*onnx.Tensor[int64])
		if ok {
			shapes[i] = slices.Clone(t.GetData())
		} else {
			err = errors.Join(err, fmt.Errorf("model %s: output %s is no vector of int64", name, outputs[i]))
		}
		err = errors.Join(err, v.Destroy())
	}
	return shapes, err
}
