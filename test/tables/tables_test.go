// Package tables runs the index readers on whole real tables: those of PadChest, CheXpert and ChestX-ray14, which the Python
// package torchxrayvision ships without their images ("make peers" installs it, by SHA-256; its code is never run).
package tables

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/test/peers"
	"github.com/mvmae/mvmae/train/data"
)

// shipped is the folder of the tables.
var shipped = sync.OnceValues(func() (string, error) {
	// Found, not imported: the package's code needs PyTorch.
	const find = "import importlib.util as u; print(u.find_spec('torchxrayvision').submodule_search_locations[0])"
	out, err := exec.Command(peers.PythonPath(), "-c", find).Output()
	return filepath.Join(strings.TrimSpace(string(out)), "data"), err
})

// the real tables by the names of their datasets, each under its own name in a folder of its own.
var real = map[string][2]string{
	"padchest": {"PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"},
	"chexpert": {"chexpert_train.csv.gz", "train.csv.gz"},
	"nih":      {"Data_Entry_2017_v2020.csv.gz", "Data_Entry_2017_v2020.csv.gz"},
}

// root is a folder that holds a dataset's table.
func root(t *testing.T, dataset string) string {
	t.Helper()
	from, err := shipped()
	if err != nil {
		codecprog.Skip(t, `torchxrayvision is not installed: run "make peers"`)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(from, real[dataset][0]), filepath.Join(dir, real[dataset][1])); err != nil {
		t.Fatal(err)
	}
	return dir
}

// index reads a dataset's whole table. The lists of ChestX-ray14's splits are not shipped.
func index(t *testing.T, dataset string, how data.PadChestOptions) (x *data.Index, remarks data.Remarks) {
	t.Helper()
	opt := data.IndexOptions{Root: root(t, dataset), TablesOnly: true, Seed: 1}
	var err error
	switch ctx := context.Background(); dataset {
	case "padchest":
		x, remarks, err = data.IndexPadChest(ctx, opt, how)
	case "chexpert":
		x, remarks, err = data.IndexCheXpert(ctx, opt, "")
	case "nih":
		opt.Shares = &data.Shares{0.8, 0.1, 0.1}
		x, remarks, err = data.IndexNIH(ctx, opt)
	}
	if err != nil {
		t.Fatal(err)
	}
	return x, remarks
}

func totals(patients, studies, images int) model.Counts {
	return model.Counts{Patients: patients, Studies: studies, Images: images}
}

// counted sums up remarks by code.
func counted(remarks data.Remarks) map[string]int {
	counts := map[string]int{}
	for _, r := range remarks {
		counts[r.Code] = r.Count
	}
	return counts
}

func views(c data.Counts) map[string]int {
	sum := map[string]int{}
	for _, s := range c {
		for view, n := range s.Views {
			sum[view] += n
		}
	}
	return sum
}

func TestPadChest_WholeTable(t *testing.T) {
	both := map[string]int{} // studies with No Finding and something else
	for _, c := range []struct {
		name string
		how  data.PadChestOptions
		want int
	}{
		{"last", data.PadChestOptions{}, 20165},
		{"first", data.PadChestOptions{First: true}, 24403},
		{"cleared", data.PadChestOptions{ClearNoFinding: true}, 0},
	} {
		x, remarks := index(t, "padchest", c.how)
		counts := data.Count(x.Images)
		// 67,625 patients in the table; two of them share a study and are taken for one.
		if diff := cmp.Diff(totals(67624, 109931, 160861), counts.Total()); diff != "" {
			t.Errorf("%s: totals (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(map[string]int{"no_labels": 103, "study_of_two_patients": 1, "unknown_view": 649}, counted(remarks)); diff != "" {
			t.Errorf("%s: remarks (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(map[string]int{"frontal": 110633, "lateral": 49579, "unknown": 649}, views(counts)); diff != "" {
			t.Errorf("%s: views (-want +got):\n%s", c.name, diff)
		}
		paper, ok := data.AgainstPaper("padchest", counts)
		if !ok || !paper.Same {
			t.Errorf("%s: the paper has other studies: %+v", c.name, paper)
		}
		for _, s := range data.Splits { // drawn by patient: near the shares
			if got, want := float64(paper.Here[s])/109931, float64(paper.Paper[s])/109931; got < want-0.004 || got > want+0.004 {
				t.Errorf("%s: %v has a share of %.4f, the paper's is %.4f", c.name, s, got, want)
			}
		}
		reports, seen := 0, map[string]bool{}
		for _, img := range x.Images {
			if img.Report != "" {
				reports++
			}
			if seen[img.StudyID] {
				continue
			}
			seen[img.StudyID] = true
			other := false
			for l, state := range img.Labels {
				other = other || state == model.Positive && model.Labels[l] != "No Finding"
			}
			if other && img.Labels[model.LabelIndex("No Finding")] == model.Positive {
				both[c.name]++
			}
		}
		if reports < 160000 {
			t.Errorf("%s: %d images have a report", c.name, reports)
		}
		if both[c.name] != c.want {
			t.Errorf("%s: %d studies have No Finding and another label, want %d", c.name, both[c.name], c.want)
		}
	}
}

func TestCheXpertSmall_WholeTable(t *testing.T) {
	x, remarks := index(t, "chexpert", data.PadChestOptions{})
	counts := data.Count(x.Images)
	if diff := cmp.Diff(totals(64540, 187641, 223414), counts[data.Train].Counts); diff != "" {
		t.Errorf("train (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"frontal": 191027, "lateral": 32387}, views(counts)); diff != "" {
		t.Errorf("views (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"empty_split": 2}, counted(remarks)); diff != "" { // valid.csv is not shipped, nor the test set
		t.Errorf("remarks (-want +got):\n%s", diff)
	}
	if paper, _ := data.AgainstPaper("chexpert", counts); paper.Same {
		t.Error("a part of the dataset counts as the whole")
	}
	// Counted in the table by other means.
	if got, want := counts[data.Train].Labels["Edema"], (data.StateCounts{Positive: 48905, Negative: 15667, Uncertain: 11571, Blank: 111498}); got != want {
		t.Errorf("Edema: %+v, want %+v", got, want)
	}
}

func TestNIH_WholeTable(t *testing.T) {
	x, remarks := index(t, "nih", data.PadChestOptions{})
	counts := data.Count(x.Images)
	if diff := cmp.Diff(totals(30805, 112120, 112120), counts.Total()); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	if len(remarks) != 0 {
		t.Errorf("remarks:\n%s", remarks.Text(3))
	}
	if paper, _ := data.AgainstPaper("nih", counts); !paper.Same {
		t.Errorf("the paper has other studies: %+v", paper)
	}
	positive := 0
	for _, s := range counts {
		positive += s.Labels["No Finding"].Positive
	}
	if positive != 60361 {
		t.Errorf("%d images of No Finding, the dataset has 60,361", positive)
	}
}

// Without the images every row is refused by name, and the error says so.
func TestNIH_WithoutImages(t *testing.T) {
	_, _, err := data.IndexNIH(context.Background(), data.IndexOptions{Root: root(t, "nih"), Shares: &data.Shares{0.8, 0.1, 0.1}})
	if err == nil || !strings.Contains(err.Error(), "no image files") {
		t.Errorf("error %v", err)
	}
}

func TestHeaders_AreTheRealOnes(t *testing.T) {
	for dataset, names := range real {
		f, err := os.Open(filepath.Join(root(t, dataset), names[1]))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 4096)
		n, _ := io.ReadFull(z, head)
		first, _, _ := strings.Cut(string(head[:n]), "\n")
		want, err := os.ReadFile(filepath.Join("../../train/synth/testdata/headers", dataset+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSpace(first), strings.TrimSpace(string(want))); diff != "" {
			t.Errorf("%s (-real +committed):\n%s", dataset, diff)
		}
	}
}
