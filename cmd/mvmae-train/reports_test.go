package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/eval"
)

// From phantoms with reports to what a text decoder writes of them, and to a probe of few labels in two runs.
func TestReports_PretrainDescribeAndProbeWithSeeds(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must(t, "mvmae-train", "synth", "--layout", "mimic", "--studies", "40", "--size", "128", "--out", path("phantom"))
	must(t, "mvmae-train", "index", "mimic", "--root", path("phantom"), "--split-shares", "0.5,0.25,0.25", "--out", path("x.parquet"))
	must(t, "mvmae-train", "pack", path("x.parquet"), "--out", path("pack"))
	must(t, "mvmae-train", "pretrain", "--data", path("pack"), "--method", "mvmae-v2t", "--device", "cpu", "--out", path("run"), "--set", "preset=nano",
		"--set", "epochs=2", "--set", "optim.warmup_epochs=0", "--set", "batch_views=16", "--set", "text.vocabulary=400", "--set", "text.max_tokens=40",
		"--set", "text.depth=1")
	samples, err := os.ReadFile(path("run/samples.md"))
	if err != nil || strings.Count(string(samples), "\nWritten: ") == 0 {
		t.Errorf("samples: %v\n%s", err, samples)
	}

	var described struct {
		train.Description
		Less *train.TextScores
	}
	doc := must(t, "mvmae-train", "describe", path("run"), "--against", path("run"), "--split", "test", "--samples", "2", "--replicates", "50", "--device", "cpu", "--json")
	if err := json.Unmarshal(doc, &described); err != nil {
		t.Fatal(err)
	}
	if described.Split.String() != "test" || len(described.Samples) != 2 || described.Tokens == 0 || !described.Own.CrossEntropy.Low.Defined() {
		t.Errorf("described: %+v", described.Description)
	}
	if l := described.Less; l == nil || l.Accuracy.Value != 0 || l.CrossEntropy.High != 0 {
		t.Errorf("a run is not as good as itself: %+v", l)
	}

	probe := []string{"probe", "--data", path("pack"), "--init", path("run"), "--labels", "10", "--seeds", "2", "--set", "probe.epochs=2", "--set", "probe.warmup_epochs=0",
		"--set", "probe.replicates=10", "--set", "probe.calibration=none", "--device", "cpu", "--out", path("probes"), "--json"}
	var first, again struct{ Seeds eval.Seeds }
	for _, result := range []any{&first, &again} { // the second time nothing is left to do
		if err := json.Unmarshal(must(t, "mvmae-train", probe...), result); err != nil {
			t.Fatal(err)
		}
	}
	if s := first.Seeds; len(s.Seeds) != 2 || s.Seeds[1] != 2 || s.Macro.AUROC.Runs != 2 || s.Macro.AUROC != again.Seeds.Macro.AUROC {
		t.Errorf("two runs: %+v, then %+v", s.Macro.AUROC, again.Seeds.Macro.AUROC)
	}
	// Stopped before its second run ended, the folder is gone on with by name alone.
	if err := os.Remove(path("probes/seed-2/" + model.RunMetadata)); err != nil {
		t.Fatal(err)
	}
	var resumed struct{ Seeds eval.Seeds }
	if err := json.Unmarshal(must(t, "mvmae-train", "resume", path("probes"), "--device", "cpu", "--json"), &resumed); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path("probes/seed-2/" + model.RunMetadata)); err != nil || resumed.Seeds.Macro.AUROC != first.Seeds.Macro.AUROC {
		t.Errorf("resumed: %+v, want %+v (%v)", resumed.Seeds.Macro.AUROC, first.Seeds.Macro.AUROC, err)
	}

	// What the report counts is what the pack has: 40 studies, in table 4 by split and in figure 9 by label.
	must(t, "mvmae-train", "report", path("probes"), "--out", path("tables"))
	for name, want := range map[string]int{"table4": 40, "figure9": 40 * model.NumLabels} {
		f, err := os.Open(path("tables/tables/" + name + ".csv"))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(f).ReadAll()
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, row := range rows[1:] {
			n, err := strconv.Atoi(row[2])
			if err != nil {
				t.Fatal(err)
			}
			if row[1] != "images" && row[1] != "patients" {
				got += n
			}
		}
		if got != want {
			t.Errorf("%s counts %d, want %d", name, got, want)
		}
	}
	for _, name := range []string{"figure8.svg", "figure8.png", "figure9.svg"} {
		if info, err := os.Stat(path("tables/figures/" + name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if other, err := program(t, "mvmae-train", append(probe, "--labels", "9")...).Output(); err == nil {
		t.Errorf("runs of 10 labelled studies were taken for runs of 9: %s", other)
	}
}
