package export

import (
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// build returns the bytes of a model file.
func build(t testing.TB, s model.Spec, weights model.Tensors) []byte {
	t.Helper()
	file, err := Build(exporttest.Metadata(s), weights)
	must(t, err)
	data, err := proto.Marshal(file)
	must(t, err)
	return data
}

func open(t testing.TB, data []byte) *ort.Model {
	t.Helper()
	libs.ForTests(t)
	m, err := ort.OpenBytes("test.onnx", data, ort.Options{})
	must(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// writeRun makes the folder of a run whose logits are ONNX Runtime's own: enough for tests of what Export accepts and
// refuses. That the graph is the trainer's is shown by the golden cases.
func writeRun(t *testing.T, preset string) string {
	t.Helper()
	s := exporttest.Spec(t, preset)
	return exporttest.Run(t, s, func(images []float32, views []int64) [][model.NumLabels]float32 {
		out, err := open(t, build(t, s, exporttest.Weights(s))).Run(t.Context(), images, views)
		must(t, err)
		return out.Logits
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func writeTensors(t *testing.T, path string, tensors model.Tensors) {
	t.Helper()
	must(t, model.WriteSafetensors(path, tensors, nil))
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o644))
}
