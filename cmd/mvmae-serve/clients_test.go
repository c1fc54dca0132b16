package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve"
	"github.com/mvmae/mvmae/serve/api"
	"github.com/mvmae/mvmae/serve/client"
	"github.com/mvmae/mvmae/test/peers"
)

// peersPython is the Python that has the clients, or the end of a test that cannot do without.
func peersPython(t *testing.T, module string) string {
	t.Helper()
	python := peers.PythonPath()
	if out, err := exec.Command(python, "-c", "import "+module).CombinedOutput(); err != nil {
		codecprog.Skip(t, fmt.Sprintf("%v %s: %s", err, out, hint.Of(hint.Wrap(err, `run "make peers"`))))
	}
	return python
}

// run runs a program of somebody else's and returns what it says.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", program, err, stderr.Bytes(), out)
	}
	return string(out)
}

// tritonScript asks as tritonclient's users do: what there is, one inference in binary, one in JSON, and one that is refused.
const tritonScript = `
import json, sys
import numpy, tritonclient.http as triton
from tritonclient.utils import InferenceServerException
url, name, inputs = sys.argv[1], sys.argv[2], sys.argv[3:]
c = triton.InferenceServerClient(url)
out = {"live": c.is_server_live(), "ready": c.is_server_ready(), "model_ready": c.is_model_ready(name), "no_such_model": c.is_model_ready("other")}
out["server"] = c.get_server_metadata()["name"]
meta = c.get_model_metadata(name)
version = meta["versions"][0]
out["inputs"] = {i["name"]: [i["datatype"], i["shape"]] for i in meta["inputs"]}
image = numpy.stack([numpy.load(f) for f in inputs])
side = meta["inputs"][0]["shape"][-1]
image = image.reshape(len(inputs), 1, side, 224 // side, side, 224 // side).mean((3, 5)).astype(numpy.float32) # as the model wants it
view = numpy.array([0, 1], dtype=numpy.int64)

def infer(binary, wanted, **how):
    tensors = [triton.InferInput("image", image.shape, "FP32"), triton.InferInput("view", view.shape, "INT64")]
    tensors[0].set_data_from_numpy(image, binary_data=binary)
    tensors[1].set_data_from_numpy(view, binary_data=binary)
    return c.infer(name, tensors, outputs=[triton.InferRequestedOutput(w, binary_data=binary) for w in wanted], **how)

first = infer(True, ["logits", "probability"], model_version=version, request_id="seven")
second = infer(False, ["logits"])
out["id"] = first.get_response()["id"]
out["same"] = bool(numpy.allclose(first.as_numpy("logits"), second.as_numpy("logits"), atol=1e-6))
out["probability"] = first.as_numpy("probability").tolist()
out["all"] = sorted(o["name"] for o in c.infer(name, [t for t in [triton.InferInput("image", image.shape, "FP32"), triton.InferInput("view", view.shape, "INT64")]
    if t.set_data_from_numpy(image if t.name() == "image" else view) is not None]).get_response()["outputs"])
try:
    image = image[:, :, 1:, :]
    infer(True, ["logits"])
except InferenceServerException as e:
    out["refused"] = [e.status(), e.message()]
print(json.dumps(out))
`

func TestPeers_TritonClient(t *testing.T) {
	python := peersPython(t, "tritonclient.http")
	dir := studyDir(t, "1.2.3")
	url, _ := up(t, "--model", modelFile(t))
	inputs := []string{filepath.Join(t.TempDir(), "0.npy"), filepath.Join(t.TempDir(), "1.npy")}
	for i, npy := range inputs {
		if code, _, stderr := command(t, "inspect", "--recipe", "mimic", "--npy", npy, filepath.Join(dir, fmt.Sprint(i)+".dcm")); code != 0 {
			t.Fatalf("inspect: %s", stderr)
		}
	}
	status, answer := post(t, url, filepath.Join(dir, "0.dcm"), filepath.Join(dir, "1.dcm"))
	if status != 200 {
		t.Fatalf("%s", answer)
	}
	study := document(t, answer)
	name := study["model"].(map[string]any)["name"].(string)
	var got struct {
		Live, Ready, Same bool
		ModelReady        bool `json:"model_ready"`
		NoSuchModel       bool `json:"no_such_model"`
		Server, ID        string
		Inputs            map[string][]any
		Probability       [][]float64
		All, Refused      []string
	}
	script := filepath.Join(t.TempDir(), "triton.py")
	writeFile(t, script, []byte(tritonScript))
	out := run(t, python, append([]string{script, strings.TrimPrefix(url, "http://"), name}, inputs...)...)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !got.Live || !got.Ready || !got.ModelReady || got.NoSuchModel || got.Server != "mvmae-serve" || got.ID != "seven" || !got.Same {
		t.Errorf("%s", out)
	}
	if len(got.Refused) != 2 || got.Refused[0] != "400" || !strings.Contains(got.Refused[1], `input "image" has shape`) {
		t.Errorf("refused: %q", got.Refused)
	}
	if diff := cmp.Diff(map[string][]any{"image": {"FP32", []any{-1.0, 1.0, 32.0, 32.0}}, "view": {"INT64", []any{-1.0}}}, got.Inputs); diff != "" {
		t.Errorf("inputs (-want +got)\n%s", diff)
	}
	// The study's answer has each view's probabilities by label, in alphabetical order as the labels are.
	for i, v := range study["views"].([]any) {
		var want []float64
		for _, f := range study["findings"].([]any) {
			want = append(want, v.(map[string]any)["probabilities"].(map[string]any)[f.(map[string]any)["label"].(string)].(float64))
		}
		if diff := cmp.Diff(want, got.Probability[i], cmpopts.EquateApprox(0, 1e-5)); diff != "" { // float32, averaged twice
			t.Errorf("view %d (-study +tritonclient)\n%s", i, diff)
		}
	}
}

// schemathesis makes requests of the OpenAPI document, right and wrong ones, and checks every answer against it.
func TestPeers_Schemathesis(t *testing.T) {
	python := peersPython(t, "schemathesis")
	url, terminate := up(t, "--model", modelFile(t), "--data", t.TempDir())
	study := studyDir(t, "1.2.3")
	status, answer := postTo(t, url+"/v1/studies", filepath.Join(study, "0.dcm"), filepath.Join(study, "1.dcm"))
	if status != http.StatusAccepted {
		t.Fatalf("%s", answer)
	}
	var models serve.ModelList
	response, err := http.Get(url + "/v1/models")
	if err == nil {
		defer response.Body.Close()
		err = json.NewDecoder(response.Body).Decode(&models)
	}
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile("testdata/schemathesis.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "schemathesis.toml"),
		[]byte(strings.NewReplacer("MODEL", models.Models[0].Name, "VERSION", models.Models[0].Version).Replace(string(config))))
	cmd := exec.CommandContext(t.Context(), python, "-m", "schemathesis.cli", "run", url+"/openapi.json", "--continue-on-failure", "--no-color")
	cmd.Dir = dir // where it looks for its configuration
	cmd.Env = append(os.Environ(), "PYTHONHASHSEED=7")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if response, err = http.Get(url + "/readyz"); err != nil || response.StatusCode != 200 {
		t.Errorf("afterwards: %v, %v", response, err)
	}
	if code, log := terminate(); code != 0 || strings.Contains(log, "panic") {
		t.Errorf("exit code %d\n%s", code, log)
	}
}

// The Go client against the built program: at once, and taken in for good.
func TestClient_ClassifiesAndKeeps(t *testing.T) {
	url, _ := up(t, "--model", modelFile(t), "--data", t.TempDir())
	c := &client.Client{URL: url}
	study, err := client.Files(studyDir(t, "1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := c.Classify(t.Context(), study)
	if err != nil || len(want.Views) != 2 {
		t.Fatalf("%+v, %v", want, err)
	}
	kept, err := c.Submit(t.Context(), append(study, client.Bytes("letter.txt", []byte("no image"))))
	if err != nil || kept.StudyInstanceUID != "1.2.3" || len(kept.Rejected) != 1 || kept.Rejected[0].Code != "not_dicom" {
		t.Fatalf("%+v, %v", kept, err)
	}
	kept, err = c.Wait(t.Context(), "1.2.3")
	if err != nil || kept.State != "done" {
		t.Fatalf("%+v, %v", kept, err)
	}
	if diff := cmp.Diff(want, kept.Result, cmpopts.IgnoreTypes(api.Timings{})); diff != "" {
		t.Errorf("(-at once +kept)\n%s", diff)
	}
	for st, err := range c.Studies(t.Context(), "done") {
		if err != nil || st.StudyInstanceUID != "1.2.3" {
			t.Errorf("%+v, %v", st, err)
		}
	}
	var p *api.Problem
	if _, err := c.Classify(t.Context(), client.Objects{client.Bytes("letter.txt", []byte("no image"))}); !errors.As(err, &p) ||
		p.Code != "no_usable_view" || p.Rejected[0].Name != "letter.txt" || p.Hint() == "" {
		t.Errorf("error %v", err)
	}
}

// The guide's Python, as it is written there.
func TestDocs_PythonExample(t *testing.T) {
	guide, err := os.ReadFile("../../docs/serve.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(guide), "```python\n")
	script, _, _ = strings.Cut(script, "```")
	if lines := strings.Count(script, "\n"); !found || lines > 10 {
		t.Fatalf("the guide's example has %d lines", lines)
	}
	python := peersPython(t, "requests")
	url, _ := up(t, "--model", modelFile(t))
	dir := studyDir(t, "1.2.3")
	for i, name := range []string{"frontal.dcm", "lateral.dcm"} {
		if err := os.Rename(filepath.Join(dir, fmt.Sprint(i)+".dcm"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", strings.ReplaceAll(script, "http://127.0.0.1:8080", url))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Cardiomegaly") || strings.Count(string(out), "\n") != 14 {
		t.Errorf("%v: %s", err, out)
	}
}
