package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Pack is an open pack. It may be read from several goroutines.
type Pack struct {
	Manifest Manifest
	Recipe   cxr.Recipe
	Images   []Image // in the order of the pixels
	Studies  []Study // in the order of their first image
	Leaking  int     // studies that are not among Studies: see dropLeaks

	dir    string
	pixels []byte // the mapped images.u8
}

// Study is one examination: all its images are of one patient and in one split.
type Study struct {
	Dataset string
	Patient string
	ID      string
	Split   Split
	Labels  model.LabelSet
	Images  []int // into Pack.Images
	Person  Patient
	Report  string // empty where there is none
}

// Open maps the pack in dir into memory, read only, and checks all but the pixels: versions, sizes, the index's digest,
// and that no patient is in two splits. Verify checks the pixels too. Studies that would leak into training what is held out are left
// out (Leaking). The caller closes the pack.
func Open(dir string) (*Pack, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	p := &Pack{Manifest: m, dir: dir}
	if p.Recipe, err = cxr.ParseRecipe(m.Recipe); err != nil {
		return nil, p.damaged(manifestFile, "%w", err)
	}
	if err := p.readIndex(); err != nil {
		return nil, err
	}
	if err := p.mapPixels(); err != nil {
		return nil, err
	}
	p.dropLeaks()
	return p, nil
}

func (p *Pack) damaged(file, format string, args ...any) error {
	err := fmt.Errorf("%s: %w", filepath.Join(p.dir, file), fmt.Errorf(format, args...))
	return hint.Wrap(err, `it was changed or cut off after packing: copy it again, or make the pack again with "mvmae-train pack"`)
}

func (p *Pack) readIndex() error {
	body, err := os.ReadFile(filepath.Join(p.dir, indexFile))
	if err != nil {
		return p.damaged(indexFile, "%w", noPath(err))
	}
	if got := digestOf(body); got != p.Manifest.Index {
		return p.damaged(indexFile, "%d bytes of SHA-256 %.12s, the manifest says %d of %.12s",
			got.Bytes, got.SHA256, p.Manifest.Index.Bytes, p.Manifest.Index.SHA256)
	}
	x, err := decodeIndex(body)
	if err != nil {
		return p.damaged(indexFile, "%w", err)
	}
	if len(x.Images) != p.Manifest.Images {
		return p.damaged(indexFile, "%d images, the manifest says %d", len(x.Images), p.Manifest.Images)
	}
	if err := Audit(x.Images); err != nil {
		return fmt.Errorf("open pack %s: %w", p.dir, err)
	}
	p.Images, p.Studies = x.Images, studiesOf(x.Images)
	return nil
}

// mapPixels maps images.u8; the pages are read when they are first touched.
func (p *Pack) mapPixels() error {
	f, err := os.Open(filepath.Join(p.dir, pixelsFile))
	if err != nil {
		return p.damaged(pixelsFile, "%w", noPath(err))
	}
	defer f.Close() // the mapping outlives it
	info, err := f.Stat()
	if err != nil {
		return p.damaged(pixelsFile, "%w", err)
	}
	want := int64(len(p.Images)) * imageBytes
	if info.Size() != want || p.Manifest.Pixels.Bytes != want {
		return p.damaged(pixelsFile, "%d bytes, but %d images need %d", info.Size(), len(p.Images), want)
	}
	p.pixels, err = unix.Mmap(int(f.Fd()), 0, int(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s into memory: %w", filepath.Join(p.dir, pixelsFile), err)
	}
	return nil
}

// studiesOf groups images that passed Audit.
func studiesOf(images []Image) []Study {
	type key struct{ dataset, id string }
	at := map[key]int{}
	var studies []Study
	for i, img := range images {
		k := key{img.Dataset, img.StudyID}
		s, ok := at[k]
		if !ok {
			s = len(studies)
			at[k] = s
			studies = append(studies, Study{
				Dataset: img.Dataset, Patient: img.PatientID, ID: img.StudyID, Split: img.Split, Labels: img.Labels,
				Person: img.Patient, Report: img.Report,
			})
		}
		studies[s].Images = append(studies[s].Images, i)
	}
	return studies
}

// StudiesOf returns the studies of a split, as indexes into Studies, in order.
func (p *Pack) StudiesOf(split Split) []int {
	var in []int
	for i, s := range p.Studies {
		if s.Split == split {
			in = append(in, i)
		}
	}
	return in
}

// Pixels returns image i as stored: cxr.StoredSize² bytes, row by row, what cxr.Input takes. They are the mapped file
// itself: they cannot be written to and end with Close.
func (p *Pack) Pixels(i int) []byte {
	return p.pixels[i*imageBytes : (i+1)*imageBytes : (i+1)*imageBytes]
}

// Dir is the folder that the pack was opened from.
func (p *Pack) Dir() string { return p.dir }

// Digest stands for the pack's content: pixels, views, labels and splits.
func (p *Pack) Digest() string {
	return digestOf([]byte(p.Manifest.Pixels.SHA256 + p.Manifest.Index.SHA256)).SHA256
}

// Verify reads every pixel and compares them with the manifest's digest.
func (p *Pack) Verify() error {
	if got := digestOf(p.pixels); got != p.Manifest.Pixels {
		return p.damaged(pixelsFile, "its SHA-256 is %.12s, the manifest says %.12s", got.SHA256, p.Manifest.Pixels.SHA256)
	}
	return nil
}

// Close unmaps the pixels. Further calls do nothing.
func (p *Pack) Close() error {
	if p.pixels == nil {
		return nil
	}
	err := unix.Munmap(p.pixels)
	p.pixels = nil
	return err
}

func digestOf(body []byte) FileDigest {
	sum := sha256.Sum256(body)
	return FileDigest{Bytes: int64(len(body)), SHA256: hex.EncodeToString(sum[:])}
}
