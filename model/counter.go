package model

import (
	"errors"
	"fmt"
	"slices"
)

// Counter is the implementation of Ops that computes nothing: its tensors are shapes, with a batch of one. It checks
// that a Spec's forward pass fits together and counts the floating-point operations of one image.
type Counter struct {
	FLOPs  int64           // of matrix products, a multiplication and an addition counted as two
	Used   map[string]bool // parameters that the pass read
	params map[string][]int
}

// NewCounter returns a Counter for a network's parameters.
func NewCounter(s Spec) *Counter {
	c := &Counter{Used: map[string]bool{}, params: map[string][]int{}}
	for _, p := range s.Params() {
		c.params[p.Name] = p.Dims
	}
	return c
}

// Cost is what one image costs, by pass.
type Cost struct {
	Encode     int64 // FLOPs of the encoder on numVisible patches
	Decode     int64 // FLOPs of the decoder
	Text       int64 // FLOPs of the text decoder on one report, where there is one
	Embed      int64 // FLOPs of the encoder on the whole image
	Parameters int64 // values in encoder and head
}

// CostOf counts the passes of one image, forward only: a training step costs three times as much. It returns an error
// when the Spec's forward pass does not fit together.
func CostOf(s Spec, numVisible int) (cost Cost, err error) {
	if err := s.Validate(); err != nil {
		return Cost{}, err
	}
	if s.Foreign() {
		return Cost{}, errors.New("the cost of an encoder that came as an ONNX file is not known")
	}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(error)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("count preset %s: %w", s.Preset, e)
		}
	}()
	view, image := []int{1}, []int{1, s.ImageSize, s.ImageSize}
	c := NewCounter(s)
	tokens := Encode(c, s, Patchify(c, s, image), view, &Visible[[]int]{Keep: []int{1, numVisible}, Count: numVisible})
	cost.Encode, c.FLOPs = c.FLOPs, 0
	Decode(c, s, tokens, []int{1, s.NumPatches()}, view, numVisible)
	cost.Decode, c.FLOPs = c.FLOPs, 0
	if s.Text != (Text{}) {
		n := []int{1, s.Text.Steps()}
		DecodeText(c, s, tokens, view, Report[[]int]{Places: []int{1, 1 + numVisible}, Tokens: n, Fed: n, Form: []int{1}})
		cost.Text, c.FLOPs = c.FLOPs, 0
	}
	Head(c, Embed(c, s, image, view))
	cost.Embed = c.FLOPs
	for _, p := range s.Params() {
		if !c.Used[p.Name] {
			return Cost{}, fmt.Errorf("count preset %s: parameter %s is never used", s.Preset, p.Name)
		}
		if p.Part == PartEncoder || p.Part == PartHead {
			cost.Parameters += int64(p.Size())
		}
	}
	return cost, nil
}

func mismatch(op string, shapes ...[]int) {
	panic(fmt.Errorf("%s: shapes %v do not fit", op, shapes))
}

func product(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// with returns a copy of shape whose last axis is n.
func with(shape []int, n int) []int {
	out := slices.Clone(shape)
	out[len(out)-1] = n
	return out
}

func last(shape []int) int { return shape[len(shape)-1] }

func (c *Counter) Param(name string) []int {
	dims, ok := c.params[name]
	if !ok {
		panic(fmt.Errorf("no parameter named %s", name))
	}
	c.Used[name] = true
	return dims
}

func (c *Counter) Table(name string, rows, cols int, values []float32) []int {
	if len(values) != rows*cols {
		mismatch(name, []int{rows, cols}, []int{len(values)})
	}
	return []int{rows, cols}
}

func (c *Counter) Linear(x []int, weight, bias string) []int {
	w := c.Param(weight)
	if len(w) != 2 || last(x) != w[1] || (bias != "" && !slices.Equal(c.Param(bias), w[:1])) {
		mismatch(weight, x, w)
	}
	c.FLOPs += 2 * int64(product(x)) * int64(w[0])
	return with(x, w[0])
}

func (c *Counter) QKV(x, from []int, weight, bias string, heads int) (q, k, v []int) {
	w := c.Param(weight)
	if len(x) != 3 || len(from) != 3 || len(w) != 2 || last(x) != w[1] || last(from) != w[1] || w[0]%(3*heads) != 0 ||
		(bias != "" && !slices.Equal(c.Param(bias), w[:1])) {
		mismatch(weight, x, from, w)
	}
	third := int64(w[0] / 3)
	c.FLOPs += 2*int64(product(x))*third + 4*int64(product(from))*third
	split := func(x []int) []int { return []int{x[0], heads, x[1], w[0] / 3 / heads} }
	return split(x), split(from), split(from)
}

func (c *Counter) LayerNorm(x []int, name string, _ float64) []int {
	parts := []string{".weight"}
	if _, ok := c.params[name+".bias"]; ok {
		parts = append(parts, ".bias")
	}
	for _, p := range parts {
		if w := c.Param(name + p); !slices.Equal(w, x[len(x)-1:]) {
			mismatch(name+p, x, w)
		}
	}
	return x
}

func (c *Counter) GELU(x []int) []int                     { return x }
func (c *Counter) Softmax(x []int) []int                  { return x }
func (c *Counter) Affine(x []int, _, _ float64) []int     { return x }
func (c *Counter) MeanTokens(x []int) []int               { return slices.Delete(slices.Clone(x), 1, 2) }
func (c *Counter) Repeat(row []int, n int, _ []int) []int { return []int{1, n, row[0]} }

func (c *Counter) Residual(x, branch []int, _ int) []int { return c.Add(x, branch) }

func (c *Counter) Add(a, b []int) []int {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i := range b {
		x, y := &out[len(a)-len(b)+i], b[i]
		if *x != y && *x != 1 && y != 1 {
			mismatch("add", a, b)
		}
		*x = max(*x, y)
	}
	return out
}

func (c *Counter) MatMul(a, b []int) []int {
	n := len(a)
	if n < 2 || len(b) != n || !slices.Equal(a[:n-2], b[:n-2]) || a[n-1] != b[n-2] {
		mismatch("matmul", a, b)
	}
	c.FLOPs += 2 * int64(product(a)) * int64(b[n-1])
	return with(a, b[n-1])
}

func (c *Counter) Reshape(x []int, dims ...int) []int {
	if product(x[1:]) != product(dims) {
		mismatch("reshape", x, dims)
	}
	return append([]int{x[0]}, dims...)
}

func (c *Counter) Transpose(x []int, perm ...int) []int {
	if len(perm) != len(x) || perm[0] != 0 {
		mismatch("transpose", x, perm)
	}
	out := make([]int, len(x))
	for i, p := range perm {
		out[i] = x[p]
	}
	return out
}

func (c *Counter) Concat(a, b []int) []int {
	if len(a) != len(b) || a[0] != b[0] || !slices.Equal(a[2:], b[2:]) {
		mismatch("concat", a, b)
	}
	out := slices.Clone(a)
	out[1] += b[1]
	return out
}

func (c *Counter) Slice(x []int, from, to int) []int {
	if from < 0 || from >= to || to > x[1] {
		mismatch(fmt.Sprintf("slice %d:%d", from, to), x)
	}
	out := slices.Clone(x)
	out[1] = to - from
	return out
}

func (c *Counter) Lookup(table, indices []int) []int {
	return append(slices.Clone(indices), table[1:]...)
}

func (c *Counter) Take(x, indices []int) []int {
	if len(x) != 3 || len(indices) != 2 || x[0] != indices[0] {
		mismatch("take", x, indices)
	}
	return []int{x[0], indices[1], x[2]}
}
