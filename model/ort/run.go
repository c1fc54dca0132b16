package ort

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/mvmae/mvmae/model"
)

// Output is what a model says of n images.
type Output struct {
	Logits      [][model.NumLabels]float32 // [n]
	Probability [][model.NumLabels]float32 // [n], the logistic function of Logits, before fusion and calibration
	Embedding   [][]float32                // [n][D]
	Attention   [][]float32                // [n][g*g], g patches on a side; nil if the file has none: see model.EmbedAttention
}

// Row is what a model says of image i alone.
func (o *Output) Row(i int) *Output {
	row := &Output{Logits: o.Logits[i : i+1], Probability: o.Probability[i : i+1], Embedding: o.Embedding[i : i+1]}
	if o.Attention != nil {
		row.Attention = o.Attention[i : i+1]
	}
	return row
}

// Images returns memory for the input of n images [n*S*S], to be used again and again. On CUDA it is locked in place where the
// system allows that, so that a Run copies from it without a detour. free it before Close.
func (m *Model) Images(n int) (images []float32, free func()) {
	images = make([]float32, n*m.metadata.Spec.ImageSize*m.metadata.Spec.ImageSize)
	if m.device != CUDA {
		return images, func() {}
	}
	return images, lockPages(images)
}

// Run classifies n images [n*S*S], as cxr.Input makes them, with one view code each (model.NumViews of them). It stops
// within milliseconds when ctx ends and then returns ctx's cause.
func (m *Model) Run(ctx context.Context, images []float32, views []int64) (*Output, error) {
	s := m.metadata.Spec
	n := len(views)
	if n == 0 {
		return nil, errors.New("input view: no images") // the binding would panic
	}
	if want := n * s.ImageSize * s.ImageSize; len(images) != want {
		return nil, fmt.Errorf("input image: %d values: want %d for %d images of %dx%d", len(images), want, n, s.ImageSize, s.ImageSize)
	}
	for i, v := range views {
		if v < 0 || v >= model.NumViews { // ONNX would count a negative one from the end
			return nil, fmt.Errorf("input view: number %d is %d: want 0 to %d", i, v, model.NumViews-1)
		}
	}
	var in, out buffers
	defer in.free()
	defer out.free()
	addTensor(&in, images, n, 1, s.ImageSize, s.ImageSize)
	addTensor(&in, views, n)
	logits := addTensor(&out, make([]float32, n*s.NumClasses), n, s.NumClasses)
	probability := addTensor(&out, make([]float32, n*s.NumClasses), n, s.NumClasses)
	embedding := addTensor(&out, make([]float32, n*s.Width), n, s.Width)
	var attention []float32
	if m.metadata.Attention {
		attention = addTensor(&out, make([]float32, n*s.NumPatches()), n, s.Grid(), s.Grid())
	}
	if err := errors.Join(in.err, out.err); err != nil {
		return nil, err
	}
	if err := m.run(ctx, in.values, out.values); err != nil {
		return nil, err
	}
	return &Output{
		Logits: labelRows(logits, n), Probability: labelRows(probability, n), Embedding: slices.Collect(slices.Chunk(embedding, s.Width)),
		Attention: slices.Collect(slices.Chunk(attention, s.NumPatches())),
	}, nil
}

// run runs the session and gives up when ctx ends.
func (m *Model) run(ctx context.Context, in, out []onnx.Value) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.session == nil {
		return ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	options, err := onnx.NewRunOptions()
	if err != nil {
		return err
	}
	defer options.Destroy()
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		options.Terminate()
		close(terminated)
	})
	err = m.session.RunWithOptions(in, out, options)
	if !stop() {
		<-terminated // options must outlive the call in the other goroutine
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return plain(err)
}

// buffers are tensors over Go memory. ONNX Runtime keeps their addresses from one call to the next, so they stay pinned
// until free.
type buffers struct {
	values []onnx.Value
	pins   runtime.Pinner
	err    error
}

// addTensor adds a tensor over data, which must not be empty, and returns data.
func addTensor[T onnx.TensorData](b *buffers, data []T, dims ...int) []T {
	shape := make(onnx.Shape, len(dims))
	for i, d := range dims {
		shape[i] = int64(d)
	}
	b.pins.Pin(&data[0])
	t, err := onnx.NewTensor(shape, data)
	if err != nil {
		b.err = errors.Join(b.err, err)
		return data
	}
	b.values = append(b.values, t)
	return data
}

func (b *buffers) free() {
	for _, v := range b.values {
		v.Destroy()
	}
	b.pins.Unpin()
}

// labelRows cuts [n*NumLabels] into n rows.
func labelRows(flat []float32, n int) [][model.NumLabels]float32 {
	rows := make([][model.NumLabels]float32, n)
	for i := range rows {
		copy(rows[i][:], flat[i*model.NumLabels:])
	}
	return rows
}
