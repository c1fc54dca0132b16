package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/internal/hint"
)

func TestPack_DeidentifiedHoldsNoIdentifier(t *testing.T) {
	_, index := nihIndex(t, 12)
	x, err := ReadIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	plainDir, dir := t.TempDir(), t.TempDir()
	packOf(t, PackOptions{Out: plainDir}, index)
	packOf(t, PackOptions{Out: dir, Deidentify: true}, index)
	plain, p := openPack(t, plainDir), openPack(t, dir)

	text := fmt.Sprint(p.Images, p.Studies) + string(readFile(t, dir, indexFile)) + string(readFile(t, dir, manifestFile))
	shown := fmt.Sprint(plain.Images)
	for _, img := range x.Images {
		for _, id := range []string{img.PatientID, img.StudyID, img.ImageID, img.Path, x.Root} {
			if strings.Contains(text, id) {
				t.Errorf("the pack holds %q", id)
			}
		}
		if !strings.Contains(shown, img.StudyID) {
			t.Errorf("the pack with identifiers lacks %s: this test would not see one", img.StudyID)
		}
	}
	if !p.Manifest.Deidentified || plain.Manifest.Deidentified || p.Manifest.Pixels != plain.Manifest.Pixels {
		t.Error("the manifests should differ in the identifiers alone")
	}
	// Only names change: the same images in the same studies of the same patients.
	patients := map[string]string{}
	for i, s := range plain.Studies {
		q := p.Studies[i]
		if was, ok := patients[s.Patient]; ok && was != q.Patient {
			t.Errorf("patient of study %d has two names", i)
		}
		patients[s.Patient] = q.Patient
		if !slices.Equal(s.Images, q.Images) || s.Split != q.Split || s.Labels != q.Labels {
			t.Errorf("study %d is %+v, was %+v", i, q, s)
		}
	}
}

func TestPack_KeyDecidesTheNames(t *testing.T) {
	_, index := nihIndex(t, 6)
	names := func(key []byte) string {
		dir := t.TempDir()
		packOf(t, PackOptions{Out: dir, Deidentify: true, Key: key}, index)
		return openPack(t, dir).Images[0].PatientID
	}
	first := names(testKey)
	if again := names(testKey); again != first {
		t.Errorf("the same key gave %s and %s", first, again)
	}
	seen := []string{first, names([]byte("another key of sixteen bytes")), names(nil), names(nil)}
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 4 {
		t.Errorf("different keys gave the same names: %v", seen)
	}
}

func TestOpen_NoticesDamage(t *testing.T) {
	_, index := nihIndex(t, 6)
	good := t.TempDir()
	packOf(t, PackOptions{Out: good}, index)
	flip := func(dir, name string, at int) {
		body := readFile(t, dir, name)
		body[(at+len(body))%len(body)] ^= 1
		writeFile(t, dir, name, body)
	}
	edit := func(dir, from, to string) {
		body := string(readFile(t, dir, manifestFile))
		if !strings.Contains(body, from) {
			t.Fatalf("no %q in the manifest", from)
		}
		writeFile(t, dir, manifestFile, []byte(strings.Replace(body, from, to, 1)))
	}
	for _, c := range []struct {
		name   string
		damage func(dir string)
		verify bool // Open does not see it, Verify does
		want   string
	}{
		{"pixel", func(dir string) { flip(dir, pixelsFile, 99) }, true, pixelsFile},
		{"pixels cut off", func(dir string) { os.Truncate(filepath.Join(dir, pixelsFile), 6*imageBytes-1) }, false, pixelsFile},
		{"pixels gone", func(dir string) { os.Remove(filepath.Join(dir, pixelsFile)) }, false, pixelsFile},
		{"index", func(dir string) { flip(dir, indexFile, 99) }, false, indexFile},
		{"index cut off", func(dir string) { os.Truncate(filepath.Join(dir, indexFile), 99) }, false, indexFile},
		{"index gone", func(dir string) { os.Remove(filepath.Join(dir, indexFile)) }, false, indexFile},
		{"manifest gone", func(dir string) { os.Remove(filepath.Join(dir, manifestFile)) }, false, manifestFile},
		{"manifest no JSON", func(dir string) { flip(dir, manifestFile, 0) }, false, manifestFile},
		{"newer format", func(dir string) { edit(dir, `"format_version": 1`, `"format_version": 2`) }, false, "pack format 2"},
		{"other size", func(dir string) { edit(dir, `"stored_size": 256`, `"stored_size": 512`) }, false, "512 pixels"},
		{"other recipe", func(dir string) { edit(dir, `"recipe": "mimic"`, `"recipe": "sepia"`) }, false, "sepia"},
		{"other number of images", func(dir string) { edit(dir, `"images": 6`, `"images": 5`) }, false, indexFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			c.damage(dir)
			p, err := Open(dir)
			if c.verify {
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				err = p.Verify()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) || hint.Of(err) == "" {
				t.Errorf("error %v with hint %q, want %q, the folder and a cure", err, hint.Of(err), c.want)
			}
		})
	}
}
