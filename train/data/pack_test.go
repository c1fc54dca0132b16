package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

const testChunk = 16

var testKey = []byte("a key of more than sixteen bytes")

// nihIndex indexes a made ChestX-ray14 tree of n images, three a patient, and returns its root and the index's path.
func nihIndex(t *testing.T, n int) (root, index string) {
	t.Helper()
	var rows []string
	for i := range n {
		rows = append(rows, nihRow(31000+i/3, i%3, []string{"Edema", "No Finding", "Mass|Effusion"}[i%3], "PA"))
	}
	root = writeNIH(t, rows, nil, nil)
	x, _, err := IndexNIH(context.Background(), IndexOptions{Root: root, Shares: &Shares{0.6, 0.2, 0.2}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return root, writeIndex(t, x)
}

func writeIndex(t *testing.T, x *Index) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.parquet")
	if err := WriteIndex(path, x); err != nil {
		t.Fatal(err)
	}
	return path
}

// packOf packs and fails the test if that fails.
func packOf(t *testing.T, opt PackOptions, indexes ...string) *PackResult {
	t.Helper()
	if opt.Out == "" {
		opt.Out = filepath.Join(t.TempDir(), "pack")
	}
	opt.Recipe, opt.chunk = cxr.Mimic, testChunk
	result, err := MakePack(context.Background(), indexes, opt)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func openPack(t *testing.T, dir string) *Pack {
	t.Helper()
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// folder is what a folder holds.
func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		body, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = fmt.Sprintf("%d bytes, SHA-256 %x", len(body), sha256.Sum256(body))
	}
	return files
}

func TestPack_HoldsThePixelsOfEachImage(t *testing.T) {
	root, index := nihIndex(t, 12)
	dicomRoot := t.TempDir()
	frontal := dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.1", view: "PA", seed: 100}.bytes(t)
	writeFile(t, dicomRoot, "a.dcm", frontal)
	writeFile(t, dicomRoot, "b.dcm", dx{patient: "P1", study: "1.2.1", instance: "1.2.1.1.2", view: "LL", seed: 101}.bytes(t))
	x, _ := indexOf(t, dicomRoot)
	dir := t.TempDir()
	result := packOf(t, PackOptions{Out: dir}, index, writeIndex(t, x))
	p := openPack(t, dir)
	if err := p.Verify(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(result.Manifest, p.Manifest); diff != "" {
		t.Errorf("manifest on disk (-returned +read):\n%s", diff)
	}
	if p.Recipe != cxr.Mimic || len(p.Images) != 14 {
		t.Fatalf("%d images by recipe %v", len(p.Images), p.Recipe)
	}
	var sum, sumSquare, n float64
	for i, img := range p.Images {
		want := storedOf(t, map[string]string{"nih": root, "dicom": dicomRoot}[img.Dataset], img.Path)
		if !bytes.Equal(p.Pixels(i), want) {
			t.Errorf("image %s has other pixels than cxr gives", img.Path)
		}
		if img.Split == Train {
			for y := 16; y < 240; y++ { // the centre 224 of 256
				for x := 16; x < 240; x++ {
					v := float64(want[y*256+x]) / 255
					sum, sumSquare, n = sum+v, sumSquare+v*v, n+1
				}
			}
		}
	}
	mean := sum / n
	std := math.Sqrt(sumSquare/n - mean*mean)
	// The pixels pass through float32.
	if s := p.Manifest.Input; math.Abs(s.Mean-mean) > 1e-6 || math.Abs(s.Std-std) > 1e-6 || float64(s.Images) != n/224/224 {
		t.Errorf("input %+v, want mean %v, std %v of %v images", s, mean, std, n/224/224)
	}
}

func storedOf(t *testing.T, root, path string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	var img *cxr.Image
	if isDICOM(body) {
		img, err = cxr.FromDICOM(body, cxr.Mimic, dicom.DefaultLimits())
	} else {
		img, err = cxr.FromPicture(body, cxr.Mimic)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img.Stored
}

func TestPack_GroupsStudies(t *testing.T) {
	root := t.TempDir()
	for i, d := range []dx{
		{patient: "P1", study: "1.2.1", instance: "1.2.1.1.2", view: "LL"},
		{patient: "P2", study: "1.2.2", instance: "1.2.2.1.1", view: "PA"},
		{patient: "P1", study: "1.2.1", instance: "1.2.1.1.1", view: "PA"},
		{patient: "P1", study: "1.2.3", instance: "1.2.3.1.1", view: "AP"},
	} {
		d.seed = uint64(i)
		writeFile(t, root, fmt.Sprintf("%d.dcm", i), d.bytes(t))
	}
	writeFile(t, root, labelTable, []byte("study_instance_uid,Edema\n1.2.1,1.0\n1.2.2,0.0\n"))
	x, _ := indexOf(t, root)
	dir := t.TempDir()
	packOf(t, PackOptions{Out: dir}, writeIndex(t, x))
	p := openPack(t, dir)

	type seen struct {
		Study, Edema string
		Views        []string
	}
	var got []seen
	all := 0
	for _, s := range p.Studies {
		one := seen{Study: s.Patient + " " + s.ID, Edema: fmt.Sprint(s.Labels[model.LabelIndex("Edema")])}
		for _, i := range s.Images {
			one.Views = append(one.Views, p.Images[i].View.String())
			if i != all {
				t.Errorf("study %s holds image %d, want %d: studies lie one after the other", s.ID, i, all)
			}
			all++
		}
		got = append(got, one)
	}
	slices.SortFunc(got, func(a, b seen) int { return strings.Compare(a.Study, b.Study) })
	want := []seen{{"P1 1.2.1", "1", []string{"frontal", "lateral"}}, {"P1 1.2.3", "-3", []string{"frontal"}}, {"P2 1.2.2", "0", []string{"frontal"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("studies (-want +got):\n%s", diff)
	}
	split := 0
	for _, s := range Splits {
		for _, i := range p.StudiesOf(s) {
			split++
			if p.Studies[i].Split != s {
				t.Errorf("study %d is of %v, not %v", i, p.Studies[i].Split, s)
			}
		}
	}
	if split != len(p.Studies) {
		t.Errorf("the splits hold %d studies, the pack %d", split, len(p.Studies))
	}
}

func TestPack_SameBytesWithAnyNumberOfWorkers(t *testing.T) {
	_, index := nihIndex(t, testChunk+30)
	var first map[string]string
	for _, workers := range []int{1, 2, 5} {
		dir := t.TempDir()
		packOf(t, PackOptions{Out: dir, Workers: workers, Deidentify: true, Key: testKey}, index)
		if first == nil {
			first = folder(t, dir)
		}
		if diff := cmp.Diff(first, folder(t, dir)); diff != "" {
			t.Errorf("%d workers (-1 worker +now):\n%s", workers, diff)
		}
	}
	if names := slices.Sorted(maps.Keys(first)); !slices.Equal(names, []string{pixelsFile, indexFile, manifestFile}) {
		t.Errorf("a pack holds %v", names)
	}
}

// stopMeter cancels after some images, and sees how many an earlier run had done.
type stopMeter struct {
	left    atomic.Int64
	stop    func()
	resumed int64
	added   atomic.Int64
}

func (m *stopMeter) Resume(n int64) { m.resumed = n }
func (m *stopMeter) Add(n int64) {
	m.added.Add(n)
	if m.left.Add(-n) == 0 {
		m.stop()
	}
}

// interrupted packs until after images are done, and returns the folder left.
func interrupted(t *testing.T, index string, after int64) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	meter := &stopMeter{stop: cancel}
	meter.left.Store(after)
	dir := t.TempDir()
	_, err := MakePack(ctx, []string{index}, PackOptions{Out: dir, Recipe: cxr.Mimic, chunk: testChunk, Progress: func(int64) Meter { return meter }})
	if !errors.Is(err, context.Canceled) || !strings.Contains(hint.Of(err), "same command") {
		t.Fatalf("error %v with hint %q, want context.Canceled and how to go on", err, hint.Of(err))
	}
	return dir
}

func TestPack_InterruptedGoesOnToTheSameBytes(t *testing.T) {
	const n = 2*testChunk + 10
	root, index := nihIndex(t, n)
	writeFile(t, root, "images/00031001_000.png", make([]byte, sizeOf(t, root, "images/00031001_000.png"))) // refused, in the first chunk
	whole := t.TempDir()
	packOf(t, PackOptions{Out: whole}, index)
	want := folder(t, whole)

	lineEnd := func(text []byte, lines int) int {
		at := 0
		for range lines {
			at += bytes.IndexByte(text[at:], '\n') + 1
		}
		return at
	}
	for _, c := range []struct {
		name    string
		damage  func(journal, pixels []byte) ([]byte, []byte)
		resumed int64 // images that need not be done again
	}{
		{"as left", func(j, p []byte) ([]byte, []byte) { return j, p }, 2 * testChunk},
		{"second line cut off", func(j, p []byte) ([]byte, []byte) { return j[:len(j)-2], p }, testChunk},
		{"second line garbled", func(j, p []byte) ([]byte, []byte) { j[lineEnd(j, 2)] = '?'; return j, p }, testChunk},
		{"pixels cut off", func(j, p []byte) ([]byte, []byte) { return j, p[:len(p)-1] }, testChunk},
		{"pixels after the last chunk", func(j, p []byte) ([]byte, []byte) { return j, append(p, 1, 2, 3) }, 2 * testChunk},
		{"pixel of the second chunk changed", func(j, p []byte) ([]byte, []byte) { p[len(p)-7]++; return j, p }, testChunk},
		{"pixel of the first chunk changed", func(j, p []byte) ([]byte, []byte) { p[7]++; return j, p }, 0},
		{"another job's", func(j, p []byte) ([]byte, []byte) { j[12] ^= 1; return j, p }, 0},
		{"empty", func(j, p []byte) ([]byte, []byte) { return nil, nil }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := interrupted(t, index, 2*testChunk+2)
			if _, err := Open(dir); err == nil || !strings.Contains(hint.Of(err), "again") {
				t.Errorf("an unfinished pack opens: error %v with hint %q", err, hint.Of(err))
			}
			journal, pixels := readFile(t, dir, journalFile), readFile(t, dir, pixelsFile+partialSuffix)
			journal, pixels = c.damage(journal, pixels)
			writeFile(t, dir, journalFile, journal)
			writeFile(t, dir, pixelsFile+partialSuffix, pixels)

			meter := &stopMeter{}
			packOf(t, PackOptions{Out: dir, Progress: func(int64) Meter { return meter }}, index)
			if meter.resumed != c.resumed || meter.added.Load() != n-c.resumed {
				t.Errorf("%d images were taken over and %d done, want %d and %d", meter.resumed, meter.added.Load(), c.resumed, n-c.resumed)
			}
			if diff := cmp.Diff(want, folder(t, dir)); diff != "" {
				t.Errorf("the pack (-uninterrupted +resumed):\n%s", diff)
			}
		})
	}
}

func TestPack_CutOffWhileNamingGoesOn(t *testing.T) {
	_, index := nihIndex(t, testChunk+3)
	whole := t.TempDir()
	packOf(t, PackOptions{Out: whole}, index)
	dir := interrupted(t, index, testChunk+1)
	if err := os.Rename(filepath.Join(dir, pixelsFile+partialSuffix), filepath.Join(dir, pixelsFile)); err != nil {
		t.Fatal(err)
	}
	packOf(t, PackOptions{Out: dir}, index)
	if diff := cmp.Diff(folder(t, whole), folder(t, dir)); diff != "" {
		t.Errorf("the pack (-uninterrupted +resumed):\n%s", diff)
	}
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func sizeOf(t *testing.T, dir, name string) int { return len(readFile(t, dir, name)) }

func TestPack_LeavesOutWhatItCannotRead(t *testing.T) {
	root, index := nihIndex(t, 9)
	writeFile(t, root, "images/00031000_000.png", make([]byte, sizeOf(t, root, "images/00031000_000.png")))
	writeFile(t, root, "images/00031001_001.png", []byte("shorter"))
	if err := os.Remove(filepath.Join(root, "images/00031002_002.png")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	result := packOf(t, PackOptions{Out: dir}, index)
	got := map[string]string{}
	for _, r := range result.Remarks {
		if r.Refused {
			got[r.Code] = strings.Join(r.Items, "; ")
		}
	}
	for code, want := range map[string]string{
		cxr.CodePicture: "images/00031000_000.png: ", codeChanged: "images/00031001_001.png: 7 bytes, were ", codeMissing: "images/00031002_002.png: ",
	} {
		if !strings.HasPrefix(got[code], want) {
			t.Errorf("%s: %q, want %q", code, got[code], want)
		}
	}
	if want := map[string]int{cxr.CodePicture: 1, codeChanged: 1, codeMissing: 1}; !maps.Equal(result.Manifest.Refused, want) || result.Remarks.Refused() != 3 {
		t.Errorf("refused %v and %d in all, want %v", result.Manifest.Refused, result.Remarks.Refused(), want)
	}
	p := openPack(t, dir)
	if err := p.Verify(); err != nil {
		t.Error(err)
	}
	for i, img := range p.Images {
		if !bytes.Equal(p.Pixels(i), storedOf(t, root, img.Path)) {
			t.Errorf("image %s has another's pixels", img.Path)
		}
	}
	if len(p.Images) != 6 {
		t.Errorf("%d images, want 6", len(p.Images))
	}
}

func TestPack_ReportsEqualPixels(t *testing.T) {
	root, index := nihIndex(t, 12)
	x, err := ReadIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	// The first image of the tree goes into another of its split and into one of another split.
	copied := func(same bool) string {
		for i := range x.Images[1:] {
			to := &x.Images[i+1]
			if (to.Split == x.Images[0].Split) == same {
				body := readFile(t, root, x.Images[0].Path)
				writeFile(t, root, to.Path, body)
				to.Bytes = int64(len(body))
				return to.Path
			}
		}
		t.Fatal("no such image")
		return ""
	}
	copied(true)
	other := copied(false)
	result := packOf(t, PackOptions{}, writeIndex(t, x))
	m := result.Manifest
	if m.DuplicateImages != 2 || m.DuplicatesAcrossSplits == 0 || m.Images != 12 {
		t.Errorf("%d duplicates, %d across splits, of %d images", m.DuplicateImages, m.DuplicatesAcrossSplits, m.Images)
	}
	if text := result.Remarks.Text(20); !strings.Contains(text, "duplicate_across_splits") || !strings.Contains(text, other) {
		t.Errorf("remarks do not name %s:\n%s", other, text)
	}
}

func TestPack_RefusesWhatItMustNotPack(t *testing.T) {
	root, index := nihIndex(t, 6)
	x, err := ReadIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	leak := *x
	leak.Images = slices.Clone(x.Images)
	for i := range leak.Images {
		leak.Images[i].ImageID += "b"
		leak.Images[i].StudyID += "b"
		leak.Images[i].Split = (leak.Images[i].Split + 1) % 3
	}
	packed := t.TempDir()
	packOf(t, PackOptions{Out: packed}, index)
	locked := t.TempDir()
	j, err := openJournal(locked, "other")
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	writeFile(t, root, "a_file", nil)
	lost := *x
	lost.Root = t.TempDir()
	for _, c := range []struct {
		name       string
		indexes    []string
		opt        PackOptions
		want, cure string
	}{
		{"patient in two splits of two indexes", []string{index, writeIndex(t, &leak)}, PackOptions{}, Hashed("nih", "31000"), "SHA-256"},
		{"index given twice", []string{index, index}, PackOptions{}, "images are there twice", ""},
		{"no index", []string{filepath.Join(root, "none.parquet")}, PackOptions{}, "none.parquet", "mvmae-train index"},
		{"index of a pack", []string{filepath.Join(packed, indexFile)}, PackOptions{}, "the index of a pack", "mvmae-train index"},
		{"folder of a pack", []string{index}, PackOptions{Out: packed}, pixelsFile + " already", "--out"},
		{"folder in a file", []string{index}, PackOptions{Out: filepath.Join(root, "a_file", "pack")}, "a_file", "folder you can write to"},
		{"folder in use", []string{index}, PackOptions{Out: locked}, "another process", ""},
		{"every image lost", []string{writeIndex(t, &lost)}, PackOptions{}, "every image was refused", codeMissing},
		{"short key", []string{index}, PackOptions{Deidentify: true, Key: []byte("short")}, "the key has 5 bytes", "urandom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.opt.Out == "" {
				c.opt.Out = t.TempDir()
			}
			c.opt.Recipe = cxr.Mimic
			_, err := MakePack(context.Background(), c.indexes, c.opt)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.cure) {
				t.Errorf("error %v with hint %q, want %q and %q", err, hint.Of(err), c.want, c.cure)
			}
		})
	}
}

// A pack of which nothing is left must not stand in the way of the next try.
func TestPack_BeginsAgainWhenAllWasRefused(t *testing.T) {
	root, index := nihIndex(t, 3)
	images, away := filepath.Join(root, "images"), filepath.Join(root, "away")
	if err := os.Rename(images, away); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := MakePack(context.Background(), []string{index}, PackOptions{Out: dir, Recipe: cxr.Mimic}); err == nil {
		t.Fatal("a pack without an image was made")
	}
	if err := os.Rename(away, images); err != nil {
		t.Fatal(err)
	}
	if result := packOf(t, PackOptions{Out: dir}, index); result.Manifest.Images != 3 {
		t.Errorf("%d images, want 3", result.Manifest.Images)
	}
}
