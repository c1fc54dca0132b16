package train

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	gomodel "github.com/gomlx/gomlx/ml/model"

	"github.com/mvmae/mvmae/model"
)

// AdamW are the constants of the optimiser (Loshchilov and Hutter 2019): Adam with decoupled weight decay, after the
// gradient's global norm has been clipped.
type AdamW struct {
	Beta1       float64 `toml:"beta1"`
	Beta2       float64 `toml:"beta2"`
	Eps         float64 `toml:"eps"`
	WeightDecay float64 `toml:"weight_decay"` // on parameters of more than one dimension, unless DecayAll
	DecayAll    bool    `toml:"decay_all"`
	ClipNorm    float64 `toml:"clip_norm"` // 0 for no clipping
}

// Prefixes of the names under which the optimiser's two moments stand in store and checkpoint.
const (
	firstMoment  = "adam.m."
	secondMoment = "adam.v."
	gradientSum  = "accumulate." // in the store only: a checkpoint stands between steps
)

// addGradientSums gives the store the sums of gradients that accumulate fills.
func addGradientSums(store *gomodel.Store, params []model.Param) {
	for _, p := range params {
		setVariable(store, gradientSum+p.Name, make([]float32, p.Size()), p.Dims)
	}
}

// addMoments gives the store the moments of the parameters: from values where they are, else zero.
func addMoments(store *gomodel.Store, params []model.Param, values model.Tensors) {
	for _, prefix := range []string{firstMoment, secondMoment} {
		for _, p := range params {
			data := values[prefix+p.Name].Data
			if data == nil {
				data = make([]float32, p.Size())
			}
			setVariable(store, prefix+p.Name, data, p.Dims)
		}
	}
}

// stepScalars are the numbers of one optimiser step, computed by the host in float64 and passed to the graph as one
// vector: learning rate, and the two bias corrections of step t (from 1).
func (a AdamW) stepScalars(lr float64, t int) [3]float32 {
	return [3]float32{
		float32(lr),
		float32(1 / (1 - math.Pow(a.Beta1, float64(t)))),
		float32(1 / (1 - math.Pow(a.Beta2, float64(t)))),
	}
}

// update adds one step to the graph: the store's parameters and moments get their new values. scalars [3] are
// stepScalars; scale, if there is one, is a factor on the learning rate of each parameter. It returns the gradient's
// global norm before clipping.
func (a AdamW) update(o graphOps, params []model.Param, scale func(model.Param) float64, loss, scalars node) node {
	return a.apply(o, params, scale, gradients(o, params, loss), scalars, nil)
}

func gradients(o graphOps, params []model.Param, loss node) []node {
	values := make([]node, len(params))
	for i, p := range params {
		values[i] = o.Param(p.Name)
	}
	return graph.Gradient(loss, values...)
}

// accumulate adds share [] times the gradients to the sums in the store, which begin anew where first [] is 1, and returns
// the sums.
func accumulate(o graphOps, params []model.Param, grads []node, share, first node) []node {
	sums := make([]node, len(params))
	for i, p := range params {
		old := graph.Mul(o.Param(gradientSum+p.Name), graph.OneMinus(first))
		sums[i] = graph.Add(old, graph.Mul(grads[i], share))
		o.store.GetVariable("/" + gradientSum + p.Name).SetNodeValue(sums[i])
	}
	return sums
}

// apply is update for gradients at hand. With a node now [], the new values are kept only where it is 1.
func (a AdamW) apply(o graphOps, params []model.Param, scale func(model.Param) float64, grads []node, scalars, now node) node {
	var sum node
	for _, g := range grads {
		s := graph.ReduceAllSum(graph.Square(g))
		if sum != nil {
			s = graph.Add(sum, s)
		}
		sum = s
	}
	norm := graph.Sqrt(sum)
	clip := graph.ScalarOne(o.g, dtypes.Float32)
	if a.ClipNorm > 0 {
		clip = graph.MinScalar(graph.Div(graph.ConstAs(norm, a.ClipNorm), graph.AddScalar(norm, 1e-6)), 1)
	}
	scalar := func(i int) node { return graph.Reshape(graph.Slice(scalars, graph.AxisRange(i, i+1))) }
	lr, correct1, correct2 := scalar(0), scalar(1), scalar(2)

	set := func(name string, value node) {
		if now != nil {
			value = graph.Where(graph.GreaterThan(now, graph.ZerosLike(now)), value, o.Param(name))
		}
		o.store.GetVariable("/" + name).SetNodeValue(value)
	}
	values := make([]node, len(params))
	for i, p := range params {
		values[i] = o.Param(p.Name)
	}
	for i, p := range params {
		g := graph.Mul(grads[i], clip)
		m := graph.Add(graph.MulScalar(o.Param(firstMoment+p.Name), a.Beta1), graph.MulScalar(g, 1-a.Beta1))
		v := graph.Add(graph.MulScalar(o.Param(secondMoment+p.Name), a.Beta2), graph.MulScalar(graph.Square(g), 1-a.Beta2))
		change := graph.Div(graph.Mul(m, correct1), graph.AddScalar(graph.Sqrt(graph.Mul(v, correct2)), a.Eps))
		if a.DecayAll || p.Decayed() {
			change = graph.Add(change, graph.MulScalar(values[i], a.WeightDecay))
		}
		if scale != nil {
			change = graph.MulScalar(change, scale(p))
		}
		set(p.Name, graph.Sub(values[i], graph.Mul(lr, change)))
		set(firstMoment+p.Name, m)
		set(secondMoment+p.Name, v)
	}
	return norm
}
