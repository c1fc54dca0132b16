package data

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
)

// someImages are two patients with three studies and every label state.
func someImages() []Image {
	labels := model.AbsentLabels()
	copy(labels[:], []model.LabelState{model.Positive, model.Negative, model.Uncertain, model.Blank})
	return []Image{
		{"a", "p1", "s1", "i1", "x/1.png", 10, cxr.Frontal, cxr.EvidenceTable, Train, labels, Patient{"F", 40}, "No effusion. Größe normal."},
		{"a", "p1", "s1", "i2", "x/2.png", 20, cxr.Lateral, cxr.EvidenceTable, Train, labels, Patient{"F", 40}, "No effusion. Größe normal."},
		{"a", "p1", "s2", "i3", "x/3.png", 30, cxr.Unknown, cxr.EvidenceNone, Train, model.AbsentLabels(), Patient{Sex: "F"}, ""},
		{"a", "p2", "s3", "i4", "x/4.png", 40, cxr.Frontal, cxr.EvidenceTable, Test, labels, Patient{"M", MaxAge}, "Edema."},
	}
}

func TestIndex_ComesBackAsWritten(t *testing.T) {
	want := &Index{Dataset: "a", Root: "/data/a", Created: time.Date(2024, 2, 29, 1, 2, 3, 0, time.UTC), Images: someImages()}
	path := filepath.Join(t.TempDir(), "a.parquet")
	if err := WriteIndex(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadIndex(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("writing left %d files, want 1", len(left))
	}
}

// Other programs read the columns by name, so the names are part of the format.
func TestIndex_LabelColumnsFollowTheLabels(t *testing.T) {
	var r row
	for i, column := range r.labels() {
		for f := range reflect.TypeFor[row]().NumField() {
			if reflect.ValueOf(&r).Elem().Field(f).Addr().Interface() == any(column) {
				got := reflect.TypeFor[row]().Field(f).Tag.Get("parquet")
				want := "label_" + strings.ReplaceAll(strings.ToLower(model.Labels[i]), " ", "_")
				if got != want {
					t.Errorf("label %d is in column %q, want %q", i, got, want)
				}
			}
		}
	}
}

func TestReadIndex_RefusesWhatIsNone(t *testing.T) {
	whole, err := encodeIndex(&Index{Dataset: "a", Root: "/a", Images: someImages()})
	if err != nil {
		t.Fatal(err)
	}
	other := func(rows any, options ...parquet.WriterOption) []byte {
		var b bytes.Buffer
		w := parquet.NewWriter(&b, append(options, parquet.SchemaOf(rows))...)
		if err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	version := func(v string) parquet.WriterOption { return parquet.KeyValueMetadata("mvmae.format_version", v) }
	bad := rowOf(someImages()[0])
	badView, badSplit, badLabel, badReport := bad, bad, bad, bad
	badView.View, badSplit.Split, badLabel.Edema, badReport.Report = "oblique", "holdout", 7, "\xff"
	for _, c := range []struct {
		name string
		body []byte
		want string
	}{
		{"empty", nil, "not a Parquet file"},
		{"text", []byte("dataset,patient_id\n"), "not a Parquet file"},
		{"cut off", whole[:len(whole)-9], "not a Parquet file"},
		{"other table", other(struct{ A int }{1}), "no mvmae.format_version"},
		{"newer", other(bad, version("4")), "index format 4"},
		{"other columns", other(struct{ A int }{1}, version("3")), "columns"},
		{"view", other(badView, version("3")), `row 0: unknown view "oblique"`},
		{"split", other(badSplit, version("3")), `row 0: unknown split "holdout"`},
		{"report", other(badReport, version("3")), "row 0: its report is not UTF-8"},
		{"label", other(badLabel, version("3")), "row 0: label Edema is 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.parquet")
			writeFile(t, filepath.Dir(path), "x.parquet", c.body)
			_, err := ReadIndex(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want the path and %q", err, c.want)
			}
		})
	}
}

// A damaged page must be an error, not a panic.
func TestReadIndex_SurvivesFlippedBytes(t *testing.T) {
	whole, err := encodeIndex(&Index{Dataset: "a", Root: "/a", Images: someImages()})
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i := 0; i < len(whole); i += 41 {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0xff
		if _, err := decodeIndex(damaged); err != nil {
			failed++
		}
	}
	if failed == 0 { // not all are: a pack's index has a digest for that
		t.Error("no damage was noticed")
	}
}

func TestWriteIndex_NamesTheFolderThatIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "a.parquet")
	err := WriteIndex(path, &Index{Images: someImages()})
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names %s", err, path)
	}
}

func TestShares_Parse(t *testing.T) {
	for _, c := range []struct {
		text string
		want Shares
		bad  string
	}{
		{"0.7,0.1,0.2", Shares{0.7, 0.1, 0.2}, ""},
		{" 1, 0 ,0", Shares{1, 0, 0}, ""},
		{"0.7,0.3", Shares{}, "three numbers"},
		{"0.7,0.1,0.1", Shares{}, "add up to 0.9"},
		{"1.5,-0.5,0", Shares{}, `"1.5" is not a number`},
		{"a,0,1", Shares{}, `"a" is not a number`},
		{"NaN,0,1", Shares{}, `"NaN" is not a number`},
	} {
		var got Shares
		err := got.UnmarshalText([]byte(c.text))
		switch {
		case c.bad == "" && (err != nil || got != c.want):
			t.Errorf("%q: %v, %v, want %v", c.text, got, err, c.want)
		case c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%q: error %v, want %q", c.text, err, c.bad)
		}
	}
}

func TestShares_SplitIsSeededStableAndOfTheRightSize(t *testing.T) {
	shares := Shares{0.7, 0.1, 0.2}
	const n = 20000
	var sizes [3]int
	moved := 0
	for p := range n {
		patient := string(rune('A'+p%26)) + strings.Repeat("x", p/26%40) + string(rune('0'+p/1040))
		s := shares.splitOf(1, "a", patient, Fold{})
		sizes[s]++
		if s != shares.splitOf(1, "a", patient, Fold{}) {
			t.Fatal("the same patient went elsewhere")
		}
		if s != shares.splitOf(2, "a", patient, Fold{}) {
			moved++
		}
	}
	for i, want := range shares {
		// Six standard deviations of a binomial of 20,000 are at most 0.02.
		if got := float64(sizes[i]) / n; got < want-0.02 || got > want+0.02 {
			t.Errorf("%v has a share of %.3f, want %.1f", Splits[i], got, want)
		}
	}
	if moved < n/4 {
		t.Errorf("another seed moved only %d of %d patients", moved, n)
	}
	for _, whole := range []Shares{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}} {
		for p := range 1000 {
			if s := whole.splitOf(1, "a", string(rune(p)), Fold{}); whole[s] == 0 {
				t.Fatalf("shares %v put a patient into %v", whole, s)
			}
		}
	}
}

func TestFold_TestsEveryPatientOnce(t *testing.T) {
	shares := Shares{0.6, 0.15, 0.25}
	for p := range 1000 {
		patient := strconv.Itoa(p)
		tested := 0
		for i := 1; i <= 4; i++ {
			if shares.splitOf(1, "a", patient, Fold{i, 4}) == Test {
				tested++
			}
		}
		if tested != 1 {
			t.Fatalf("patient %d is tested in %d folds", p, tested)
		}
		if whole := shares.splitOf(1, "a", patient, Fold{}); whole != shares.splitOf(1, "a", patient, Fold{4, 4}) {
			t.Fatalf("a whole turn puts patient %d elsewhere", p)
		}
	}
}

func TestFold_Parse(t *testing.T) {
	for _, c := range []struct {
		text string
		want Fold
		bad  bool
	}{
		{"2/4", Fold{2, 4}, false},
		{"1/1", Fold{1, 1}, false},
		{"0/4", Fold{}, true},
		{"5/4", Fold{}, true},
		{"2", Fold{}, true},
		{"2/x", Fold{}, true},
		{"", Fold{}, true},
	} {
		var got Fold
		if err := got.UnmarshalText([]byte(c.text)); (err != nil) != c.bad || !c.bad && got != c.want {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}
