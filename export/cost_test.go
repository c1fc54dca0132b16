package export

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
)

func noHead(e *ONNXEncoder) model.Tensors {
	head := model.Tensors{}
	for _, p := range e.spec.Params(model.PartHead) {
		head[p.Name] = model.Tensor{Dims: p.Dims, Data: make([]float32, p.Size())}
	}
	return head
}

// A network of ours costs as an ONNX encoder what its forward pass costs by its own count, whether attention is one node or seven.
func TestONNXEncoderCount_IsTheForwardPass(t *testing.T) {
	libs.ForTests(t)
	s := exporttest.Spec(t, "tiny")
	want, err := model.CostOf(s, 1)
	must(t, err)
	for _, opset := range []int{17, 23} {
		file, err := Graph{Part: Encoder, Opset: opset}.Build(exporttest.Metadata(s), exporttest.Weights(s))
		must(t, err)
		data, err := proto.Marshal(file)
		must(t, err)
		notes := EncoderNotes{ImageSize: s.ImageSize, Channels: 1, Mean: []float64{0}, Std: []float64{1}, View: "view"}
		e, err := newEncoder("tiny.onnx", data, notes)
		must(t, err)
		m := exporttest.Metadata(e.spec)
		must(t, e.count(&m, noHead(e), "tiny.onnx"))
		if m.Encoder.FLOPs != want.Embed || m.Encoder.Uncounted != "" {
			t.Errorf("opset %d: %d FLOPs, %q not counted: want %d", opset, m.Encoder.FLOPs, m.Encoder.Uncounted, want.Embed)
		}
	}
}

func TestONNXEncoderCount_OperatorByOperator(t *testing.T) {
	libs.ForTests(t)
	const head = 2 * 14
	for _, c := range []struct {
		name string
		net  func(n *exporttest.Net) (output string, width int)
		want int64
		lack string
	}{
		{"convolution in groups", func(n *exporttest.Net) (string, int) { // [N,6,8,8], each of half the channels
			x := n.Node("x", "Conv", []string{"pixel_values", n.Weight("up", 4, 1, 1, 1)}, nil)
			x = n.Node("y", "Conv", []string{x, n.Weight("w", 6, 2, 8, 8)}, map[string]any{"group": 2, "strides": []int{8, 8}})
			return n.Node("z", "Flatten", []string{n.Node("pool", "GlobalAveragePool", []string{x}, nil)}, nil), 6
		}, 2*(4*64*64+6*8*8*2*64) + head*6, ""},
		{"product with its first input turned", func(n *exporttest.Net) (string, int) { // [64,1]ᵀ[64,5] of a batch of one
			x := n.Node("flat", "Reshape", []string{n.Node("mean", "ReduceMean", []string{"pixel_values"}, map[string]any{"axes": []int{3}, "keepdims": 0}), n.Ints("s", 64, -1)}, nil)
			return n.Node("z", "Gemm", []string{x, n.Weight("w", 64, 5)}, map[string]any{"transA": 1}), 5
		}, 2*64*5 + head*5, ""},
		{"unknown to ONNX", func(n *exporttest.Net) (string, int) {
			x := n.Node("flat", "Flatten", []string{n.Node("pool", "GlobalAveragePool", []string{"pixel_values"}, nil)}, nil)
			n.Node("z", "Gelu", []string{x}, nil)
			n.File.Graph.Node[len(n.File.Graph.Node)-1].Domain = "com.microsoft"
			n.File.OpsetImport = append(n.File.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: "com.microsoft", Version: 1})
			return "z", 1
		}, 0, "com.microsoft.Gelu"},
		{"may multiply anything", func(n *exporttest.Net) (string, int) {
			x := n.Node("flat", "Flatten", []string{"pixel_values"}, nil)
			return n.Node("z", "ConvTranspose", []string{x, n.Weight("w", 1, 1)}, nil), 64 * 64
		}, 0, "ConvTranspose"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := exporttest.NewNet(17, 1, 64)
			output, width := c.net(n)
			n.Output(output, onnxpb.TensorProto_FLOAT, 0, width)
			e, err := OpenEncoder(n.Write(t, t.TempDir(), "net", "image_size = 64\nchannels = 1\nmean = [0]\nstd = [1]\n"))
			must(t, err)
			m := exporttest.Metadata(e.spec)
			must(t, e.count(&m, noHead(e), "net.onnx"))
			if m.Encoder.FLOPs != c.want || m.Encoder.Uncounted != c.lack {
				t.Errorf("%d FLOPs, %q not counted: want %d and %q", m.Encoder.FLOPs, m.Encoder.Uncounted, c.want, c.lack)
			}
		})
	}
}
