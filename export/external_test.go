package export

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model/ort"
)

// apart moves the weights of an ONNX file into one beside it, as onnx.save does for large models, and returns its name there.
func apart(t *testing.T, path string, edit func(*onnxpb.TensorProto)) (weights string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	file, err := parseModel(data)
	must(t, err)
	weights = filepath.Join(filepath.Dir(path), "parts", "weights.bin")
	must(t, os.MkdirAll(filepath.Dir(weights), 0o755))
	all := make([]byte, 4096)
	for _, tensor := range file.Graph.Initializer {
		tensor.ExternalData = []*onnxpb.StringStringEntryProto{{Key: "location", Value: "parts/weights.bin"},
			{Key: "offset", Value: strconv.Itoa(len(all))}, {Key: "length", Value: strconv.Itoa(len(tensor.RawData))}}
		all = append(all, tensor.RawData...)
		tensor.RawData, tensor.DataLocation = nil, onnxpb.TensorProto_EXTERNAL
	}
	if edit != nil {
		edit(file.Graph.Initializer[0])
	}
	writeFile(t, weights, all)
	data, err = proto.Marshal(file)
	must(t, err)
	writeFile(t, path, data)
	return weights
}

func TestOpenEncoder_WeightsInAnotherFileAreTheSame(t *testing.T) {
	libs.ForTests(t)
	joined := func(path string) ([]byte, *ONNXEncoder) {
		e, err := OpenEncoder(path)
		must(t, err)
		file, err := e.Build(exporttest.Metadata(e.spec), noHead(e))
		must(t, err)
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(file)
		must(t, err)
		return data, e
	}
	path := exporttest.CNN(t, t.TempDir())
	whole, before := joined(path)
	weights := apart(t, path, nil)
	parts, after := joined(path)
	if string(whole) != string(parts) {
		t.Error("the joined file is another where the encoder's weights lie in a file of their own")
	}
	m, err := after.Run(ort.Options{})
	must(t, err)
	must(t, m.Close())

	data, err := os.ReadFile(weights)
	must(t, err)
	data[4100] ^= 1
	writeFile(t, weights, data)
	if _, changed := joined(path); changed.File == after.File || before.File == after.File {
		t.Error("an encoder whose weights changed has the digest that it had")
	}
}

// Weights that lie in the attributes of nodes, and in the graphs of branches, are read as well.
func TestOutside_ReadsEveryTensorOfAGraph(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "w"), []byte("abcdefgh"))
	tensor := func(entries ...string) *onnxpb.TensorProto {
		x := &onnxpb.TensorProto{Name: "w", DataType: int32(onnxpb.TensorProto_UINT8), Dims: []int64{3}, DataLocation: onnxpb.TensorProto_EXTERNAL}
		for i := 0; i < len(entries); i += 2 {
			x.ExternalData = append(x.ExternalData, &onnxpb.StringStringEntryProto{Key: entries[i], Value: entries[i+1]})
		}
		return x
	}
	constant, inner, last := tensor("location", "w", "length", "3"), tensor("location", "w", "offset", "2", "length", "3"), tensor("location", "w", "offset", "5")
	branch := &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{inner}}
	g := &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{last}, Node: []*onnxpb.NodeProto{
		{OpType: "Constant", Attribute: []*onnxpb.AttributeProto{{Name: "value", T: constant}}},
		{OpType: "If", Attribute: []*onnxpb.AttributeProto{{Name: "then_branch", G: branch}}},
	}}
	o := outside{folder: dir, left: 9, digest: discard{}}
	must(t, o.takeIn(g))
	if got := string(constant.RawData) + " " + string(inner.RawData) + " " + string(last.RawData); got != "abc cde fgh" || o.left != 0 {
		t.Errorf("read %q, %d bytes left: want %q and 0", got, o.left, "abc cde fgh")
	}
	more := &onnxpb.GraphProto{Initializer: []*onnxpb.TensorProto{tensor("location", "w", "length", "3")}}
	if err := o.takeIn(more); err == nil || !strings.Contains(err.Error(), "tensor w: 3 bytes in w: more than may be read of a model") {
		t.Errorf("beyond the limit: %v", err)
	}
}

// discard is a hash of nothing.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Sum(b []byte) []byte         { return b }
func (discard) Reset()                      {}
func (discard) Size() int                   { return 0 }
func (discard) BlockSize() int              { return 1 }

func TestOpenEncoder_RefusesWeightsThatAreNotThere(t *testing.T) {
	set := func(key, value string) func(*onnxpb.TensorProto) {
		return func(tensor *onnxpb.TensorProto) {
			for _, e := range tensor.ExternalData {
				if e.Key == key {
					e.Value = value
				}
			}
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, make([]byte, 1<<20))
	for _, c := range []struct {
		name  string
		edit  func(*onnxpb.TensorProto)
		spoil func(t *testing.T, weights string)
		want  string
	}{
		{"missing", nil, func(t *testing.T, w string) { must(t, os.Remove(w)) }, "parts/weights.bin: no such file"},
		{"cut off", nil, func(t *testing.T, w string) { must(t, os.Truncate(w, 4200)) }, "parts/weights.bin ends before byte 4384"},
		{"above the folder", set("location", "../secret"), nil, `its file "../secret" is not beside the model`},
		{"anywhere", set("location", secret), nil, "is not beside the model"},
		{"a link out of the folder", nil, func(t *testing.T, w string) {
			must(t, os.Remove(w))
			must(t, os.Symlink(secret, w))
		}, "path escapes from parent"},
		{"a pipe", nil, func(t *testing.T, w string) {
			must(t, os.Remove(w))
			must(t, syscall.Mkfifo(w, 0o600))
		}, "parts/weights.bin is no file"},
		{"no name", set("location", ""), nil, `its file "" is not beside the model`},
		{"negative offset", set("offset", "-8"), nil, `offset is "-8" in parts/weights.bin`},
		{"offset that is no number", set("offset", "first"), nil, `offset is "first"`},
		{"offset beyond the file", set("offset", "9223372036854775807"), nil, "ends before byte"},
		{"shorter than its shape", set("length", "4"), nil, "4 bytes in parts/weights.bin: float[8 1 3 3] has 288"},
		{"shape beyond counting", func(tensor *onnxpb.TensorProto) { tensor.Dims = []int64{1 << 62, 1 << 62} }, nil, "has 9223372036854775807"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := exporttest.CNN(t, t.TempDir())
			weights := apart(t, path, c.edit)
			if c.spoil != nil {
				c.spoil(t, weights)
			}
			_, err := OpenEncoder(path)
			if err == nil || !strings.Contains(err.Error(), "tensor conv1.weight: ") || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), "one file") {
				t.Errorf("error %v, hint %q: want %q", err, hint.Of(err), c.want)
			}
		})
	}
}
