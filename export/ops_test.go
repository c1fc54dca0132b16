package export

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	onnx "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// array is an input or an expected output, its batch first.
type array struct {
	dims   []int
	floats []float32
	ints   []int64 // instead of floats
}

// slice returns the first n of the batch.
func (a array) slice(n int) array {
	part := array{dims: append([]int{n}, a.dims[1:]...)}
	if a.ints != nil {
		part.ints = a.ints[:len(a.ints)/a.dims[0]*n]
		return part
	}
	part.floats = a.floats[:len(a.floats)/a.dims[0]*n]
	return part
}

// runOps makes a graph of ops over inputs and runs it with ONNX Runtime on each of the batch sizes given, cut from inputs.
func runOps(t *testing.T, s model.Spec, weights model.Tensors, ops func(*graph, []value) []value, inputs []array, batches ...int) [][][]float32 {
	t.Helper()
	libs.ForTests(t)
	if _, _, err := ort.Version(); err != nil { // loads it
		t.Fatal(err)
	}
	g, args, inputNames := newGraph(s, weights, DefaultOpset), []value{}, []string{}
	var infos []*onnxpb.ValueInfoProto
	for i, in := range inputs {
		kind := onnxpb.TensorProto_FLOAT
		if in.ints != nil {
			kind = onnxpb.TensorProto_INT64
		}
		name := string(rune('a' + i))
		args = append(args, value{name, append([]int{1}, in.dims[1:]...)})
		infos = append(infos, tensorInfo(name, "", kind, in.dims[1:]...))
		inputNames = append(inputNames, name)
	}
	var outputs []*onnxpb.ValueInfoProto
	var outputNames []string
	results := ops(g, args)
	for _, v := range results {
		outputs = append(outputs, tensorInfo(v.name, "", onnxpb.TensorProto_FLOAT, v.dims[1:]...))
		outputNames = append(outputNames, v.name)
	}
	data, err := proto.Marshal(newFile(g, infos, outputs))
	if err != nil {
		t.Fatal(err)
	}
	session, err := onnx.NewDynamicAdvancedSessionWithONNXData(data, inputNames, outputNames, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Destroy()
	var got [][][]float32
	for _, n := range batches {
		got = append(got, runSession(t, session, inputs, results, n))
	}
	return got
}

func runSession(t *testing.T, session *onnx.DynamicAdvancedSession, inputs []array, results []value, n int) (out [][]float32) {
	t.Helper()
	var in []onnx.Value
	for _, a := range inputs {
		a = a.slice(n)
		if a.ints != nil {
			in = append(in, tensorOf(t, a.dims, a.ints))
		} else {
			in = append(in, tensorOf(t, a.dims, a.floats))
		}
	}
	values := make([]onnx.Value, len(results))
	if err := session.Run(in, values); err != nil {
		t.Fatalf("batch of %d: %v", n, err)
	}
	for i, v := range values {
		want := onnx.Shape{int64(n)}
		for _, d := range results[i].dims[1:] {
			want = append(want, int64(d))
		}
		if !v.GetShape().Equals(want) {
			t.Errorf("batch of %d: result %d has shape %v: want %v", n, i, v.GetShape(), want)
		}
		out = append(out, v.(*onnx.Tensor[float32]).GetData())
	}
	for _, v := range append(in, values...) {
		defer v.Destroy()
	}
	return out
}

func tensorOf[T onnx.TensorData](t *testing.T, dims []int, data []T) onnx.Value {
	t.Helper()
	var shape onnx.Shape
	for _, d := range dims {
		shape = append(shape, int64(d))
	}
	v, err := onnx.NewTensor(shape, data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// opSpec has parameters small enough to reckon with by hand: 4 patches, width 2, 2 heads, 3 classes.
func opSpec() model.Spec {
	return model.Spec{
		ImageSize: 2, PatchSize: 1, Width: 2, Depth: 1, Heads: 2, MLPRatio: 1, Positions: model.Learned, NumClasses: 3,
		Decoder: model.Decoder{Width: 2, Depth: 1, Heads: 1},
	}
}

var opWeights = model.Tensors{
	"head.weight":                           {Dims: []int{3, 2}, Data: []float32{1, 0, 0, 1, 1, 1}},
	"head.bias":                             {Dims: []int{3}, Data: []float32{10, 20, 30}},
	"encoder.transformer.0.attn.qkv.weight": {Dims: []int{6, 2}, Data: []float32{1, 0, 0, 1, 10, 0, 0, 10, 100, 0, 0, 100}},
	"encoder.transformer.0.attn.qkv.bias":   {Dims: []int{6}, Data: []float32{0, 0, 0, 0, 0, 7}},
	"encoder.layer_norm.weight":             {Dims: []int{2}, Data: []float32{2, 4}},
	"encoder.layer_norm.bias":               {Dims: []int{2}, Data: []float32{0, 1}},
	"encoder.pos_embedding":                 {Dims: []int{4, 2}, Data: []float32{1, 2, 3, 4, 5, 6, 7, 8}},
	"encoder.mod_embedding":                 {Dims: []int{3, 2}, Data: []float32{1, 2, 3, 4, 5, 6}},
	"encoder.cls_token":                     {Dims: []int{2}, Data: []float32{8, 9}},
}

func TestOps_MatchNumbersByHand(t *testing.T) {
	one := func(f func(g *graph, in []value) value) func(*graph, []value) []value {
		return func(g *graph, in []value) []value { return []value{f(g, in)} }
	}
	pair := array{dims: []int{2, 2}, floats: []float32{1, 3, 5, 4}}
	tokens := array{dims: []int{2, 2, 2}, floats: []float32{1, 2, 3, 4, 5, 6, 7, 8}} // [B,N,D]
	long := array{dims: []int{2, 4, 2}, floats: []float32{0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17}}
	for _, c := range []struct {
		name   string
		inputs []array
		ops    func(*graph, []value) []value
		want   [][]float32 // of a batch of two
	}{
		{"Linear", []array{pair}, one(func(g *graph, in []value) value { return g.Linear(in[0], "head.weight", "head.bias") }),
			[][]float32{{11, 23, 34, 15, 24, 39}}},
		{"Linear without bias", []array{tokens}, one(func(g *graph, in []value) value { return g.Linear(in[0], "head.weight", "") }),
			[][]float32{{1, 2, 3, 3, 4, 7, 5, 6, 11, 7, 8, 15}}},
		{"QKV", []array{tokens}, func(g *graph, in []value) []value {
			q, k, v := g.QKV(in[0], in[0], "encoder.transformer.0.attn.qkv.weight", "encoder.transformer.0.attn.qkv.bias", 2)
			return []value{q, k, v}
		}, [][]float32{{1, 3, 2, 4, 5, 7, 6, 8}, {10, 30, 20, 40, 50, 70, 60, 80}, {100, 300, 207, 407, 500, 700, 607, 807}}},
		// mean 2, variance 1: with epsilon 3 the divisor is 2
		{"LayerNorm", []array{pair.slice(1)}, one(func(g *graph, in []value) value { return g.LayerNorm(in[0], "encoder.layer_norm", 3) }),
			[][]float32{{-1, 3}}},
		{"LayerNorm of heads", []array{{dims: []int{1, 2, 1, 2}, floats: []float32{1, 3, 4, 8}}}, one(func(g *graph, in []value) value {
			return g.LayerNorm(in[0], "encoder.layer_norm", 0)
		}), [][]float32{{-2, 5, -2, 5}}},
		{"GELU", []array{{dims: []int{2, 2}, floats: []float32{0, 1, -1, 2}}}, one(func(g *graph, in []value) value { return g.GELU(in[0]) }),
			[][]float32{{0, 0.8413447, -0.15865525, 1.9544997}}},
		{"Softmax", []array{{dims: []int{2, 2}, floats: []float32{0, float32(math.Log(3)), 100, 100}}}, one(func(g *graph, in []value) value {
			return g.Softmax(in[0])
		}), [][]float32{{0.25, 0.75, 0.5, 0.5}}},
		{"Add a parameter", []array{long}, one(func(g *graph, in []value) value { return g.Add(in[0], g.Param("encoder.pos_embedding")) }),
			[][]float32{{1, 3, 5, 7, 9, 11, 13, 15, 11, 13, 15, 17, 19, 21, 23, 25}}},
		{"Add a row", []array{tokens, {dims: []int{2, 1, 2}, floats: []float32{10, 20, 30, 40}}}, one(func(g *graph, in []value) value {
			return g.Add(in[0], in[1])
		}), [][]float32{{11, 22, 13, 24, 35, 46, 37, 48}}},
		{"Add a table", []array{tokens}, one(func(g *graph, in []value) value { return g.Add(g.Table("t", 2, 2, []float32{1, 0, 0, 1}), in[0]) }),
			[][]float32{{2, 2, 3, 5, 6, 6, 7, 9}}},
		{"Affine", []array{pair}, one(func(g *graph, in []value) value { return g.Affine(in[0], 2, -1) }), [][]float32{{1, 5, 9, 7}}},
		{"Affine twice", []array{pair}, one(func(g *graph, in []value) value { return g.Affine(g.Affine(in[0], 2, 0), 1, 2) }),
			[][]float32{{4, 8, 12, 10}}},
		{"MatMul", []array{tokens, {dims: []int{2, 2, 1}, floats: []float32{1, 10, 1, 100}}}, one(func(g *graph, in []value) value {
			return g.MatMul(in[0], in[1])
		}), [][]float32{{21, 43, 605, 807}}},
		{"MeanTokens", []array{tokens}, one(func(g *graph, in []value) value { return g.MeanTokens(in[0]) }), [][]float32{{2, 3, 6, 7}}},
		{"Reshape and Transpose", []array{tokens}, one(func(g *graph, in []value) value {
			return g.Transpose(g.Reshape(in[0], 1, 4), 0, 2, 1)
		}), [][]float32{{1, 2, 3, 4, 5, 6, 7, 8}}},
		{"Transpose", []array{tokens}, one(func(g *graph, in []value) value { return g.Transpose(in[0], 0, 2, 1) }),
			[][]float32{{1, 3, 2, 4, 5, 7, 6, 8}}},
		{"Concat", []array{tokens, {dims: []int{2, 1, 2}, floats: []float32{-1, -2, -3, -4}}}, one(func(g *graph, in []value) value {
			return g.Concat(in[1], in[0])
		}), [][]float32{{-1, -2, 1, 2, 3, 4, -3, -4, 5, 6, 7, 8}}},
		{"Slice", []array{long}, one(func(g *graph, in []value) value { return g.Slice(in[0], 1, 3) }),
			[][]float32{{2, 3, 4, 5, 12, 13, 14, 15}}},
		{"Repeat", []array{tokens}, one(func(g *graph, in []value) value { return g.Repeat(g.Param("encoder.cls_token"), 3, in[0]) }),
			[][]float32{{8, 9, 8, 9, 8, 9, 8, 9, 8, 9, 8, 9}}},
		{"Lookup", []array{{dims: []int{2}, ints: []int64{2, 0}}}, one(func(g *graph, in []value) value {
			return g.Lookup(g.Param("encoder.mod_embedding"), in[0])
		}), [][]float32{{5, 6, 1, 2}}},
		{"Lookup of several", []array{{dims: []int{2, 2}, ints: []int64{2, 0, 1, 1}}}, one(func(g *graph, in []value) value {
			return g.Lookup(g.Param("encoder.mod_embedding"), in[0])
		}), [][]float32{{5, 6, 1, 2, 3, 4, 3, 4}}},
		{"Take", []array{long, {dims: []int{2, 2}, ints: []int64{3, 0, 1, 1}}}, one(func(g *graph, in []value) value {
			return g.Take(in[0], in[1])
		}), [][]float32{{6, 7, 0, 1, 12, 13, 12, 13}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := c.inputs[0].dims[0]
			for i, got := range runOps(t, opSpec(), opWeights, c.ops, c.inputs, n, 1) {
				want := c.want
				if i == 1 { // the first of the batch by itself
					want = nil
					for _, w := range c.want {
						want = append(want, w[:len(w)/n])
					}
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-6)); diff != "" { // float32 near 1
					t.Errorf("run %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func TestOps_MisuseIsAnError(t *testing.T) {
	for name, use := range map[string]func(g *graph, x value){
		"unknown parameter": func(g *graph, x value) { g.Param("nobody") },
		"wrong width":       func(g *graph, x value) { g.Linear(x, "head.weight", "head.bias") },
		"slice too long":    func(g *graph, x value) { g.Slice(x, 0, 9) },
		"unequal inner":     func(g *graph, x value) { g.MatMul(x, x) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if _, ok := recover().(error); !ok {
					t.Error("no panic with an error")
				}
			}()
			use(newGraph(opSpec(), opWeights, DefaultOpset), value{"x", []int{1, 2, 3}})
		})
	}
}
