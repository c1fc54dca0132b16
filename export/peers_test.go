package export

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
)

// peers runs model files with the onnx package's reference evaluator and with OpenVINO, after ONNX's strict checker, and prints
// all outputs as JSON. OpenVINO is told to compute in float32: on processors with bfloat16 it would not.
const peers = `
import json, sys
import numpy as np, onnx, openvino
from onnx.reference import ReferenceEvaluator
spec = json.load(sys.stdin)
image = np.array(spec["image"], np.float32).reshape(spec["shape"])
view = np.array(spec["view"], np.int64)
core, out = openvino.Core(), []
for path in spec["models"]:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [o.name for o in model.graph.output]
    result = {"reference": ReferenceEvaluator(model).run(None, {"image": image, "view": view})}
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled({"image": image, "view": view})
    result["openvino"] = [answer[name] for name in names]
    out.append({k: {n: np.asarray(v).ravel().tolist() for n, v in zip(names, vs)} for k, vs in result.items()})
json.dump(out, sys.stdout)
`

// Every opset and precision, and the output attention, give ONNX Runtime's numbers in two other runtimes.
func TestBuild_RuntimesAgree(t *testing.T) {
	python := testPython(t)
	type network struct {
		Graph
		s model.Spec
	}
	s := exporttest.Spec(t, "nano")
	other := s.Reference() // learned positions, LayerNorms of queries and keys
	other.Pool = model.PoolMean
	graphs := []network{}
	for opset := DefaultOpset; opset <= MaxOpset; opset++ {
		graphs = append(graphs, network{Graph{Opset: opset, Attention: opset%2 == 1}, s}, network{Graph{Opset: opset, Attention: opset%2 == 0}, other})
	}
	for _, opset := range []int{DefaultOpset, 20, MaxOpset} {
		graphs = append(graphs, network{Graph{Opset: opset, Precision: FP16, Attention: true}, other}, network{Graph{Opset: opset, Precision: INT8}, s})
	}
	const n = 3
	images, views := exporttest.Inputs(n, s)
	ask := struct {
		Models []string  `json:"models"`
		Image  []float32 `json:"image"`
		Shape  []int     `json:"shape"`
		View   []int64   `json:"view"`
	}{Image: images, Shape: []int{n, 1, s.ImageSize, s.ImageSize}, View: views}
	want := make([]map[string][]float32, len(graphs))
	for i, o := range graphs {
		data := buildGraph(t, o.Graph, o.s, exporttest.Weights(o.s))
		ask.Models = append(ask.Models, filepath.Join(t.TempDir(), "model.onnx"))
		writeFile(t, ask.Models[i], data)
		out, err := open(t, data).Run(t.Context(), images, views)
		must(t, err)
		want[i] = map[string][]float32{}
		for j := range n {
			want[i]["logits"] = append(want[i]["logits"], out.Logits[j][:]...)
			want[i]["probability"] = append(want[i]["probability"], out.Probability[j][:]...)
			want[i]["embedding"] = append(want[i]["embedding"], out.Embedding[j]...)
			if o.Attention {
				want[i]["attention"] = append(want[i]["attention"], out.Attention[j]...)
			}
		}
	}
	var got []map[string]map[string][]float32
	runPeers(t, python, ask, &got)
	for i, o := range graphs {
		// float32 sums in another order; a value on the border of two 8-bit steps may take the other.
		limit := map[Precision]float64{"": 2e-5, FP16: 4e-3, INT8: 4e-2}[o.Precision]
		for _, peer := range []string{"reference", "openvino"} {
			for name, numbers := range want[i] {
				if len(got[i][peer][name]) != len(numbers) {
					t.Fatalf("%+v, %s: %d numbers of %s: want %d", o.Graph, peer, len(got[i][peer][name]), name, len(numbers))
				}
				for j, w := range numbers {
					if d := math.Abs(float64(got[i][peer][name][j]) - float64(w)); !(d <= limit) {
						t.Errorf("%+v, %s: number %d of %s is %g: want %g", o.Graph, peer, j, name, got[i][peer][name][j], w)
						break
					}
				}
			}
		}
	}
}

// runPeers hands a question to the peers' program and reads the answer.
func runPeers(t *testing.T, python string, ask, answer any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ask.json")
	doc, err := json.Marshal(ask)
	must(t, err)
	writeFile(t, path, doc)
	in, err := os.Open(path)
	must(t, err)
	defer in.Close()
	cmd := exec.Command(python, "-c", peers)
	cmd.Stdin = in
	out, err := cmd.Output()
	if err != nil {
		stderr := ""
		if exit, ok := err.(*exec.ExitError); ok {
			stderr = string(exit.Stderr)
		}
		t.Fatalf("%v\n%s", err, stderr)
	}
	must(t, json.Unmarshal(out, answer))
}

// The head reads what the encoder writes: run one after the other, by themselves or merged by the onnx package, they are the whole.
func TestBuild_PartsCompose(t *testing.T) {
	python := testPython(t)
	s := exporttest.Spec(t, "nano")
	dir, weights := t.TempDir(), exporttest.Weights(s)
	for _, part := range []Part{Full, Encoder, Head} {
		writeFile(t, filepath.Join(dir, string(part)+".onnx"), buildGraph(t, Graph{Part: part}, s, weights))
	}
	const script = `
import sys, numpy as np, onnx, onnxruntime
full, encoder, head = (onnx.load(f"{sys.argv[1]}/{part}.onnx") for part in ("full", "encoder", "head"))
for m in (encoder, head):
    onnx.checker.check_model(m, full_check=True)
    del m.metadata_props[:]  # which say of each that it is a part
merged = onnx.compose.merge_models(encoder, onnx.compose.add_prefix(head, "head/", rename_inputs=False, rename_outputs=False), io_map=[("embedding", "embedding")])
feed = {"image": np.random.default_rng(1).random((4, 1, 32, 32), np.float32), "view": np.array([0, 1, 2, 0])}
run = lambda m, names, feed: onnxruntime.InferenceSession(m.SerializeToString()).run(names, feed)
names = ["logits", "probability"]
want = run(full, names, feed)
steps = run(head, names, {"embedding": run(encoder, ["embedding"], feed)[0]})
print([bool((a == b).all()) for a, b in zip(want, steps)], [bool((a == b).all()) for a, b in zip(want, run(merged, names, feed))])
`
	out, err := exec.Command(python, "-c", script, dir).CombinedOutput()
	if want := "[True, True] [True, True]\n"; err != nil || string(out) != want {
		t.Errorf("error %v, output %s: want %s", err, out, want)
	}
}

func TestGraph_RefusesWhatCannotBeWritten(t *testing.T) {
	s := exporttest.Spec(t, "nano")
	for o, opset := range map[Graph]int{{}: 17, {Precision: FP16}: 17, {Precision: INT8}: 23, {Precision: INT8, Opset: 19}: 19} {
		file, err := o.Build(exporttest.Metadata(s), exporttest.Weights(s))
		must(t, err)
		if got := file.OpsetImport[0].Version; got != int64(opset) {
			t.Errorf("%+v: opset %d, want %d", o, got, opset)
		}
	}
	for want, o := range map[string]Graph{
		"unsupported opset 16": {Opset: 16}, fmt.Sprint("unsupported opset ", MaxOpset+1): {Opset: MaxOpset + 1},
		`unknown precision "int4"`: {Precision: "int4"}, `unknown part "tail"`: {Part: "tail"}, "part head has no attention": {Part: Head, Attention: true},
	} {
		checkRefused(t, o, s, exporttest.Weights(s), want)
	}
	weights := exporttest.Weights(s)
	weights["head.weight"] = model.Tensor{Dims: []int{14, 31}, Data: make([]float32, 14*31)}
	checkRefused(t, Graph{}, s, weights, "parameter head.weight has shape [14 31]: want [14 32]")
	weights = exporttest.Weights(s)
	weights["encoder.transformer.1.mlp.fc1.bias"].Data[5] = 70000
	checkRefused(t, Graph{Precision: FP16}, s, weights, "number 5 of encoder.transformer.1.mlp.fc1.bias is 70000: float16 ends at 65504")
}

// buildGraph returns the bytes of a model file.
func buildGraph(t testing.TB, o Graph, s model.Spec, weights model.Tensors) []byte {
	t.Helper()
	file, err := o.Build(exporttest.Metadata(s), weights)
	must(t, err)
	data, err := proto.Marshal(file)
	must(t, err)
	return data
}

func checkRefused(t *testing.T, o Graph, s model.Spec, weights model.Tensors, want string) {
	t.Helper()
	if _, err := o.Build(exporttest.Metadata(s), weights); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%+v: error %v: want %q", o, err, want)
	}
}
