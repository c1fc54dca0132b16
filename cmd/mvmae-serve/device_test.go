package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve"
)

func TestClassify_HowTheModelIsRunChangesNothing(t *testing.T) {
	model, dir := modelFile(t), studyDir(t, "1.2.3")
	answer := func(flags ...string) (r serve.Result) {
		code, stdout, stderr := command(t, append([]string{"classify", "--json", "--model", model, dir}, flags...)...)
		if err := json.Unmarshal([]byte(stdout), &r); code != 0 || err != nil {
			t.Fatalf("%v: exit code %d, %v: %s", flags, code, err, stderr)
		}
		return r
	}
	want := answer()
	for _, flags := range [][]string{{"--cpu-threads=2"}, {"--instances=1"}, {"--max-batch=4", "--instances=2", "--batch-delay=1ms", "--cpu-threads=2"}} {
		// float32 sums in another order
		if diff := cmp.Diff(want, answer(flags...), cmpopts.IgnoreFields(serve.Result{}, "TimingsMS"), cmpopts.EquateApprox(0, 1e-5)); diff != "" {
			t.Errorf("%v (-default +got)\n%s", flags, diff)
		}
	}
}

// Where there is CUDA the study is answered by it; else the program says what is missing, and does not take the CPU in its place.
func TestClassify_CUDAIsUsedOrMissed(t *testing.T) {
	code, stdout, stderr := command(t, "classify", "--device", "cuda", "--json", "--model", modelFile(t), studyDir(t, "1.2.3"))
	if ort.Probe(ort.CUDA) == nil {
		if code != 0 {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		return
	}
	if code != 4 || stdout != "" || !strings.Contains(stderr, "asked for cuda, but lib") || !strings.Contains(stderr, "--device cpu") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
