package train

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers/activation"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/model"
)

// node is a GoMLX graph node: a tensor of the compiled step.
type node = *graph.Node

// graphOps implements model.Ops with GoMLX graph nodes. The parameters are the variables of a store, under their own
// names.
type graphOps struct {
	store *gomodel.Store
	g     *graph.Graph
	half  bool // matrix products take bfloat16 and add up in float32; all else is float32
	drop  node // [B,R], a factor for each image's i-th residual branch; nil to add every branch as it is
}

var _ model.Ops[node] = graphOps{}

func (o graphOps) Param(name string) node {
	v := o.store.GetVariable("/" + name)
	if v == nil {
		panic(fmt.Errorf("no parameter named %s", name))
	}
	return v.NodeValue(o.g)
}

func (o graphOps) Table(_ string, rows, cols int, values []float32) node {
	return graph.ConstCachedTensor(o.g, tensors.FromFlatDataAndDimensions(values, rows, cols))
}

func (o graphOps) Linear(x node, weight, bias string) node {
	var b node
	if bias != "" {
		b = o.Param(bias)
	}
	return o.linear(x, o.Param(weight), b)
}

// linear is x [..., in] times w [out, in] transposed, plus b [out] if there is one.
func (o graphOps) linear(x, w, b node) node {
	dims := x.Shape().Dimensions
	rows := graph.Reshape(x, -1, dims[len(dims)-1])
	y := o.product(rows, w, 0, 1)
	if b != nil {
		y = graph.Add(y, graph.ExpandLeftToRank(b, 2))
	}
	out := append([]int{}, dims...)
	out[len(out)-1] = w.Shape().Dim(0)
	return graph.Reshape(y, out...)
}

// QKV makes three products of one stored weight: on XLA's CPU backend that is faster than one product and three slices.
func (o graphOps) QKV(x, from node, weight, bias string, heads int) (q, k, v node) {
	w, width := o.Param(weight), x.Shape().Dim(2)
	third := func(x node, i int) node {
		rows := graph.AxisRange(i*width, (i+1)*width)
		var b node
		if bias != "" {
			b = graph.Slice(o.Param(bias), rows)
		}
		y := o.linear(x, graph.Slice(w, rows), b)
		return graph.TransposeAllAxes(graph.Reshape(y, x.Shape().Dim(0), x.Shape().Dim(1), heads, width/heads), 0, 2, 1, 3)
	}
	return third(x, 0), third(from, 1), third(from, 2)
}

func (o graphOps) LayerNorm(x node, name string, eps float64) node {
	mean := graph.ReduceAndKeep(x, graph.ReduceMean, -1)
	centred := graph.Sub(x, mean)
	variance := graph.ReduceAndKeep(graph.Square(centred), graph.ReduceMean, -1)
	y := graph.Mul(centred, graph.Reciprocal(graph.Sqrt(graph.AddScalar(variance, eps)))) // Rsqrt has no gradient in GoMLX
	y = graph.Mul(y, graph.ExpandLeftToRank(o.Param(name+".weight"), x.Rank()))
	if o.store.GetVariable("/"+name+".bias") == nil {
		return y
	}
	return graph.Add(y, graph.ExpandLeftToRank(o.Param(name+".bias"), x.Rank()))
}

func (o graphOps) GELU(x node) node                   { return activation.Gelu(x) }
func (o graphOps) Softmax(x node) node                { return graph.Softmax(x, -1) }
func (o graphOps) MatMul(a, b node) node              { return o.product(a, b, a.Rank()-2, a.Rank()-2) }
func (o graphOps) MeanTokens(x node) node             { return graph.ReduceMean(x, 1) }
func (o graphOps) Transpose(x node, perm ...int) node { return graph.TransposeAllAxes(x, perm...) }
func (o graphOps) Concat(a, b node) node              { return graph.Concatenate([]node{a, b}, 1) }
func (o graphOps) Slice(x node, from, to int) node {
	return graph.Slice(x, graph.AxisRange(), graph.AxisRange(from, to))
}

// product multiplies a and b over a's last axis and b's axis over, for each index of the first batch axes, in the type of the run's compute.
// XLA adds up products of bfloat16 in float32. That must not be asked for by name: GoMLX (v0.28.1) would then compute the
// gradients of the product, two thirds of all work, in float32.
func (o graphOps) product(a, b node, batch, over int) node {
	aligned := make([]int, batch)
	for i := range aligned {
		aligned[i] = i
	}
	last := []int{a.Rank() - 1}
	if !o.half {
		return graph.DotGeneral(a, last, aligned, b, []int{over}, aligned)
	}
	to := func(t dtypes.DType, x node) node { return graph.ConvertDType(x, t) }
	y := graph.Dot(to(dtypes.BFloat16, a), to(dtypes.BFloat16, b)).WithAccumulatorDType(dtypes.InvalidDType).General(last, aligned, []int{over}, aligned)
	return to(dtypes.Float32, y)
}

func (o graphOps) Add(a, b node) node {
	rank := max(a.Rank(), b.Rank())
	return graph.Add(graph.ExpandLeftToRank(a, rank), graph.ExpandLeftToRank(b, rank))
}

func (o graphOps) Residual(x, branch node, i int) node {
	if o.drop != nil {
		factor := graph.Slice(o.drop, graph.AxisRange(), graph.AxisRange(i, i+1)) // [B,1]
		branch = graph.Mul(branch, graph.InsertAxes(factor, -1))
	}
	return graph.Add(x, branch)
}

func (o graphOps) Affine(x node, scale, shift float64) node {
	x = graph.MulScalar(x, scale)
	if shift != 0 {
		x = graph.AddScalar(x, shift)
	}
	return x
}

func (o graphOps) Reshape(x node, dims ...int) node {
	return graph.Reshape(x, append([]int{x.Shape().Dim(0)}, dims...)...)
}

func (o graphOps) Repeat(row node, n int, like node) node {
	width := row.Shape().Dim(0)
	return graph.BroadcastToDims(graph.Reshape(row, 1, 1, width), like.Shape().Dim(0), n, width)
}

func (o graphOps) Lookup(table, indices node) node {
	return graph.Gather(table, graph.InsertAxes(indices, -1))
}

// Take flattens the batch away, since a gather with batch axes has no gradient in GoMLX.
func (o graphOps) Take(x, indices node) node {
	batch, tokens, width := x.Shape().Dim(0), x.Shape().Dim(1), x.Shape().Dim(2)
	first := graph.MulScalar(graph.Iota(o.g, indices.Shape(), 0), tokens) // [B,K] number of each image's first token
	flat := graph.Reshape(graph.Add(indices, first), batch, indices.Shape().Dim(1), 1)
	return graph.Gather(graph.Reshape(x, batch*tokens, width), flat)
}

// newStore makes a store whose variables are the given parameters, with their values from tensors.
func newStore(params []model.Param, values model.Tensors) (*gomodel.Store, error) {
	if err := values.CheckParams(params); err != nil {
		return nil, err
	}
	store := gomodel.NewStore()
	for _, p := range params {
		setVariable(store, p.Name, values[p.Name].Data, p.Dims)
	}
	return store, nil
}

func setVariable(store *gomodel.Store, name string, data []float32, dims []int) {
	store.VariableWithValue("/"+name, tensors.FromFlatDataAndDimensions(data, dims...))
}

// readVariables copies the named variables out of a store.
func readVariables(store *gomodel.Store, params []model.Param, prefix string) (model.Tensors, error) {
	out := make(model.Tensors, len(params))
	for _, p := range params {
		v := store.GetVariable("/" + prefix + p.Name)
		if v == nil {
			return nil, fmt.Errorf("no variable named %s%s", prefix, p.Name)
		}
		t, err := v.Value()
		if err != nil {
			return nil, err
		}
		data, err := tensors.CopyFlatData[float32](t)
		if err != nil {
			return nil, err
		}
		out[prefix+p.Name] = model.Tensor{Dims: p.Dims, Data: data}
	}
	return out, nil
}

// initialise gives parameters their first values.
func initialise(params []model.Param, seed uint64) model.Tensors {
	t := make(model.Tensors, len(params))
	for _, p := range params {
		t[p.Name] = model.Tensor{Dims: p.Dims, Data: p.Initialise(seed)}
	}
	return t
}

// finalize frees tensors, of which the device's memory is out of the Go collector's sight.
func finalize[T any](all []T) {
	for _, t := range all {
		any(t).(*tensors.Tensor).FinalizeAll()
	}
}
