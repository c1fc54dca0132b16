package export

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	onnx "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// alone runs an encoder's own file on scaled images [2,C,S,S] and returns one of its outputs.
func alone(t *testing.T, path, output string, x []float32, channels, size int, shape ...int64) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in, err := onnx.NewTensor(onnx.NewShape(2, int64(channels), int64(size), int64(size)), x)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Destroy()
	out, err := onnx.NewEmptyTensor[float32](onnx.NewShape(shape...))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Destroy()
	session, err := onnx.NewDynamicAdvancedSessionWithONNXData(data, []string{"pixel_values"}, []string{output}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Destroy()
	if err := session.Run([]onnx.Value{in}, []onnx.Value{out}); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(out.GetData())
}

func TestONNXEncoder_EmbedsAsItsOwnFileOnScaledImages(t *testing.T) {
	libs.ForTests(t)
	for _, c := range []struct {
		name     string
		write    func(testing.TB, string) string
		size     int
		mean     []float64
		std      []float64
		width    int
		output   string
		shape    []int64
		embedded func(out []float32, image, d int) float64 // of the file's own output
	}{
		{"biomedclip", exporttest.BiomedCLIP, 224, []float64{0.48145466, 0.4578275, 0.40821073}, []float64{0.26862954, 0.26130258, 0.27577711}, 512,
			"image_features", []int64{2, 512}, func(out []float32, i, d int) float64 { return float64(out[i*512+d]) }},
		{"chexagent", exporttest.CheXagent, 448, []float64{0.5, 0.5, 0.5}, []float64{0.5, 0.5, 0.5}, 1024,
			"last_hidden_state", []int64{2, 1025, 1024}, func(out []float32, i, d int) float64 { return float64(out[i*1025*1024+d]) }},
		{"cnn", exporttest.CNN, 64, []float64{0.5}, []float64{0.25}, 32,
			"conv3_relu", []int64{2, 32, 8, 8}, func(out []float32, i, d int) float64 {
				sum := 0.0
				for _, v := range out[(i*32+d)*64 : (i*32+d+1)*64] {
					sum += float64(v) / 64
				}
				return sum
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := c.write(t, t.TempDir())
			e, err := OpenEncoder(path)
			if err != nil {
				t.Fatal(err)
			}
			if e.Spec() != model.ForeignSpec(c.size, c.width) {
				t.Fatalf("spec %+v", e.Spec())
			}
			m, err := e.Run(ort.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			images, views := exporttest.Inputs(2, e.Spec())
			got, err := m.Run(t.Context(), images, views)
			if err != nil {
				t.Fatal(err)
			}
			var scaled []float32
			for i := range 2 {
				for ch := range c.mean {
					for _, v := range images[i*c.size*c.size : (i+1)*c.size*c.size] {
						scaled = append(scaled, float32((float64(v)-c.mean[ch])/c.std[ch]))
					}
				}
			}
			out := alone(t, path, c.output, scaled, len(c.mean), c.size, c.shape...)
			largest := 0.0
			for i := range 2 {
				for d, v := range got.Embedding[i] {
					want := c.embedded(out, i, d)
					largest = max(largest, want, -want)
					if diff := float64(v) - want; diff > 2e-5 || diff < -2e-5 { // float32, scaled here in float64
						t.Fatalf("image %d, number %d: %g, want %g", i, d, v, want)
					}
				}
			}
			if largest < 0.02 {
				t.Errorf("the largest number is %g: nothing was compared", largest)
			}
		})
	}
}

func TestOpenEncoder_RefusesByName(t *testing.T) {
	read := func(t *testing.T, path string) *onnxpb.ModelProto {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file onnxpb.ModelProto
		if err := proto.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		return &file
	}
	const clip = "image_size = 224\nchannels = 3\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n"
	for _, c := range []struct {
		name  string
		notes string
		edit  func(file *onnxpb.ModelProto)
		want  string
		cure  string
	}{
		{"several outputs", clip, func(f *onnxpb.ModelProto) {
			f.Graph.Output = append(f.Graph.Output, proto.Clone(f.Graph.Output[0]).(*onnxpb.ValueInfoProto))
			f.Graph.Output[1].Name = "pooled"
		}, "it has 2 outputs: image_features, pooled", `output = "NAME"`},
		{"unknown output", clip + "output = \"embeds\"\n", nil, `no output "embeds"`, "image_features"},
		{"unknown input", clip + "input = \"image\"\n", nil, `no input "image"`, "pixel_values"},
		{"unknown view input", clip + "view = \"view\"\n", nil, `no input "view" for views`, "pixel_values"},
		{"old opset", clip, func(f *onnxpb.ModelProto) { f.OpsetImport[0].Version = 9 }, "unsupported opset 9", "opset 11"},
		{"opset of tomorrow", clip, func(f *onnxpb.ModelProto) { f.OpsetImport[0].Version = 99 }, "unsupported opset 99", "opset 11 to 26"},
		{"fixed batch", clip, func(f *onnxpb.ModelProto) {
			f.Graph.Input[0] = exporttest.NewNet(14, 3, 224).File.Graph.Input[0]
			fix(f.Graph.Input[0], 0, 1)
		},
			"input pixel_values has a fixed batch of 1", "dynamic"},
		{"another size", "image_size = 256\nchannels = 3\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n", nil, "the notes say [N,3,256,256]", "image_size"},
		{"two inputs", clip, func(f *onnxpb.ModelProto) {
			n := exporttest.NewNet(14, 3, 224)
			n.Input("mask", onnxpb.TensorProto_FLOAT, 0, 512)
			f.Graph.Input = append(f.Graph.Input, n.File.Graph.Input[1])
			f.Graph.Node = append(f.Graph.Node, &onnxpb.NodeProto{OpType: "Mul", Input: []string{"image_features", "mask"}, Output: []string{"masked"}})
			f.Graph.Output[0].Name = "masked"
		}, "output masked needs 2 inputs: pixel_values, mask", "another output"},
		{"integers", clip, func(f *onnxpb.ModelProto) {
			f.Graph.Input[0].Type.GetTensorType().ElemType = int32(onnxpb.TensorProto_UINT8)
		}, "input pixel_values has type uint8", ""},
		{"a vector and a pool", clip + "pool = \"mean\"\n", nil, "with pool \"mean\"", ""},
		{"width that is not so", clip + "width = 100\n", nil, "512 numbers an image, the notes say 100", ""},
		{"no width", clip, func(f *onnxpb.ModelProto) { fix(f.Graph.Output[0], 1, 0) }, "does not tell its width", "width ="},
		{"several vectors", clip, func(f *onnxpb.ModelProto) { f.Graph.Node = f.Graph.Node[:5]; tokens(f) }, "which is more than one vector", "pool"},
		{"no dependence", clip, func(f *onnxpb.ModelProto) { f.Graph.Node[0].Input[0] = f.Graph.Node[0].Input[1] }, "does not depend on an image", ""},
		{"unknown key", clip + "chanels = 3\n", nil, "unknown key chanels", "image_size"},
		{"one mean for three channels", "image_size = 224\nchannels = 3\nmean = [0]\nstd = [1]\n", nil, "1 means and 1 standard deviations for 3 channels", "mean"},
		{"std of zero", "image_size = 224\nchannels = 1\nmean = [0]\nstd = [0]\n", nil, "want more than 0", ""},
		{"two channels", "image_size = 224\nchannels = 2\nmean = [0, 0]\nstd = [1, 1]\n", nil, "channels is 2", ""},
		{"no size", "channels = 1\nmean = [0]\nstd = [1]\n", nil, "image_size is 0", ""},
		{"unknown pool", clip + "pool = \"max\"\n", nil, `pool is "max"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := exporttest.BiomedCLIP(t, t.TempDir())
			if c.edit != nil {
				file := read(t, path)
				c.edit(file)
				data, err := proto.Marshal(file)
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, path, data)
			}
			writeFile(t, encoderNotes(path), []byte(c.notes))
			if _, err := OpenEncoder(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.cure) {
				t.Errorf("error %v, hint %q: want %q and %q", err, hint.Of(err), c.want, c.cure)
			}
		})
	}
}

// fix gives an axis of a value a size; 0 for one that is not known.
func fix(v *onnxpb.ValueInfoProto, axis, size int) {
	v.Type.GetTensorType().Shape.Dim[axis].Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(size)}
	if size == 0 {
		v.Type.GetTensorType().Shape.Dim[axis].Value = nil
	}
}

// tokens makes a file's output [N,T,D].
func tokens(f *onnxpb.ModelProto) {
	n := exporttest.NewNet(14, 3, 224)
	n.Output("activated", onnxpb.TensorProto_FLOAT, 0, 196, 24)
	f.Graph.Output = n.File.Graph.Output
}

// What only running shows: a graph that does not do what its inputs and outputs say.
func TestONNXEncoder_GraphThatDoesNotRunIsRefused(t *testing.T) {
	libs.ForTests(t)
	n := exporttest.NewNet(17, 1, 64)
	n.Node("embedding", "Reshape", []string{"pixel_values", n.Ints("shape", 3, 5)}, nil)
	n.Output("embedding", onnxpb.TensorProto_FLOAT, 0, 5)
	e, err := OpenEncoder(n.Write(t, t.TempDir(), "odd", "image_size = 64\nchannels = 1\nmean = [0.5]\nstd = [0.5]\n"))
	must(t, err)
	if _, err := e.Run(ort.Options{}); err == nil || !strings.Contains(hint.Of(err), "odd.onnx.toml") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

func TestOpenEncoder_MissingNotesSayWhatToWrite(t *testing.T) {
	path := exporttest.CNN(t, t.TempDir())
	must(t, os.Remove(encoderNotes(path)))
	if _, err := OpenEncoder(path); err == nil || !strings.Contains(err.Error(), "cnn.onnx.toml") || !strings.Contains(hint.Of(err), "image_size = 224") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

// Of a file with a text part, only what the image's output needs is taken over; names that both graphs have do not clash.
func TestOpenEncoder_TakesTheImagePartAlone(t *testing.T) {
	libs.ForTests(t)
	dir := t.TempDir()
	n := exporttest.NewNet(17, 1, 64)
	n.Input("view", onnxpb.TensorProto_INT64, 0, 7) // text, under a name of ours
	x := n.Node("logits", "GlobalAveragePool", []string{"pixel_values"}, nil)
	n.Node("embedding", "Flatten", []string{x}, map[string]any{"axis": 1})
	n.Output("embedding", onnxpb.TensorProto_FLOAT, 0, 1)
	n.Node("text", "Cast", []string{"view"}, map[string]any{"to": 1})
	n.Output("text", onnxpb.TensorProto_FLOAT, 0, 7)
	path := n.Write(t, dir, "clip", "image_size = 64\nchannels = 1\nmean = [0.5]\nstd = [0.5]\noutput = \"embedding\"\n")
	e, err := OpenEncoder(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Run(ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	out, err := m.Run(t.Context(), slices.Repeat([]float32{0.75}, 64*64), []int64{1})
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Embedding[0][0]; got < 0.4999 || got > 0.5001 {
		t.Errorf("the mean of scaled pixels is %g: want 0.5", got)
	}
	if filepath.Base(e.File.Path) != "clip.onnx" || !filepath.IsAbs(e.File.Path) {
		t.Errorf("path %s", e.File.Path)
	}
}

func FuzzNewEncoder(f *testing.F) {
	notes := EncoderNotes{ImageSize: 64, Channels: 1, Mean: []float64{0.5}, Std: []float64{0.25}, Pool: "mean"}
	data, err := os.ReadFile(exporttest.CNN(f, f.TempDir()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:200])
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := newEncoder("fuzz.onnx", data, notes)
		if err != nil {
			return
		}
		if _, err := e.Build(exporttest.Metadata(e.spec), noHead(e)); err != nil {
			t.Error(err)
		}
	})
}
