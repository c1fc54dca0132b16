package export

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	onnx "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// testPython is a Python interpreter that has the onnx package.
func testPython(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("MVMAE_TEST_PYTHON"); path != "" {
		return path
	}
	path, err := filepath.Abs("../.venv-test/bin/python")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("no Python with onnx: run \"make test\", which makes one (%v)", err)
	}
	return path
}

func TestBuild_PassesONNXChecker(t *testing.T) {
	python := testPython(t)
	for _, c := range []struct {
		name string
		edit func(*model.Spec)
	}{
		{"fixed positions", func(*model.Spec) {}},
		{"learned positions, qk-norm, mean pool", func(s *model.Spec) { s.Positions, s.QKNorm, s.Pool = model.Learned, true, model.PoolMean }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := exporttest.Spec(t, "nano")
			c.edit(&s)
			path := filepath.Join(t.TempDir(), "model.onnx")
			writeFile(t, path, build(t, s, exporttest.Weights(s)))
			runChecker(t, python, path)
		})
	}
}

// runChecker has ONNX's own checker look at a file, with strict shape inference.
func runChecker(t *testing.T, python, path string) {
	t.Helper()
	const script = `
import sys, onnx
onnx.checker.check_model(sys.argv[1], full_check=True)
model = onnx.load(sys.argv[1])
print([p.key for p in model.metadata_props], model.opset_import[0].version)
`
	out, err := exec.Command(python, "-c", script, path).CombinedOutput()
	if want := fmt.Sprintf("['%s'] %d\n", model.MetadataKey, DefaultOpset); err != nil || string(out) != want {
		t.Errorf("error %v, output %q: want %q", err, out, want)
	}
}

// The speed of a model rests on ONNX Runtime's recognising what is written in small operations.
func TestBuild_ONNXRuntimeFuses(t *testing.T) {
	libs.ForTests(t)
	if _, _, err := ort.Version(); err != nil { // loads it
		t.Fatal(err)
	}
	s := exporttest.Spec(t, "nano")
	got := map[string]int{}
	for _, n := range optimised(t, build(t, s, exporttest.Weights(s))).Graph.Node {
		got[n.OpType]++
	}
	for op, want := range map[string]int{
		"BiasGelu": s.Depth, "Erf": 0,
		"Mul": 0, "FusedMatMul": 0, // the scale of the queries is in their weights
		"Transpose": 1 + 4*s.Depth,
		"Div":       0,
	} {
		if got[op] != want {
			t.Errorf("%d nodes %s: want %d; all: %v", got[op], op, want, got)
		}
	}
}

// optimised returns a model as ONNX Runtime runs it.
func optimised(t testing.TB, data []byte) *onnxpb.ModelProto {
	t.Helper()
	path := filepath.Join(t.TempDir(), "optimised.onnx")
	options, err := onnx.NewSessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer options.Destroy()
	if err := options.SetOptimizedModelFilePath(path); err != nil {
		t.Fatal(err)
	}
	session, err := onnx.NewDynamicAdvancedSessionWithONNXData(data, []string{"image", "view"}, []string{"logits"}, options)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Destroy()
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file onnxpb.ModelProto
	if err := proto.Unmarshal(written, &file); err != nil {
		t.Fatal(err)
	}
	return &file
}
