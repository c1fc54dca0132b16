package data

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
)

// PackOptions say how to pack.
type PackOptions struct {
	Out    string // a folder that holds no pack yet
	Recipe cxr.Recipe

	// Deidentify writes keyed hashes in place of patient, study and image identifiers, and no paths. Key is the key of the
	// HMAC-SHA256: with the same key a patient has the same name in every pack. Without Key a random one is drawn and
	// forgotten, so that nobody can link the pack to its source by its identifiers. Pixels and reports stay as they are:
	// text burned into a picture is not removed, and the reports of the datasets were de-identified by their publishers.
	Deidentify bool
	Key        []byte

	Limits  dicom.Limits
	Codecs  *external.Pool // decodes JPEG-LS and JPEG 2000; without it those images are left out
	Workers int            // images decoded at the same time; 0 means GOMAXPROCS
	// Progress, which may be nil, is told the number of images once it is known and then of each that is done.
	Progress func(total int64) Meter

	chunk int // images between two lines of the journal; 0 means chunkImages
}

// PackResult is what packing found.
type PackResult struct {
	Manifest Manifest
	Remarks  Remarks
}

// MakePack packs the images of the indexes into opt.Out. The pack's bytes depend on the indexes, the files they name and
// the options alone, not on the number of workers (the random key without opt.Key changes only identifiers). An image that
// cannot be read, has changed since it was indexed or is refused by dicom/cxr is left out and remarked.
//
// When ctx is cancelled the work done so far stays in opt.Out; the same call goes on from there, after it has verified it.
// What was left out by then stays left out: to try it again, remove the folder first.
func MakePack(ctx context.Context, indexes []string, opt PackOptions) (*PackResult, error) {
	w, err := newPacker(indexes, opt)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", opt.Out, err)
	}
	defer w.close()
	if err := w.pixels(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			err = hint.Wrap(err, "run the same command again: it goes on from here")
		}
		return nil, fmt.Errorf("pack %s: after %d of %d images: %w", opt.Out, w.done, len(w.items), err)
	}
	result, err := w.finish()
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", opt.Out, err)
	}
	return result, nil
}

// item is an image to pack and where it lies.
type item struct {
	Image
	root string
}

// packer is the state of one MakePack.
type packer struct {
	opt     PackOptions
	items   []item // in the order of the pack
	sources []Source
	journal *journal
	buffer  []byte // of a chunk
	spare   []byte // of the one before, which is being written
	meter   Meter

	done    int // of items: kept or refused
	kept    []int
	remarks Remarks
	refused map[string]int

	digest         hash.Hash // of all pixels kept
	firstWith      map[[sha256.Size]byte]int
	duplicates     int
	acrossSplits   int
	inputs         int // training images in sum and sumSquares
	sum, sumSquare float64
}

func newPacker(indexes []string, opt PackOptions) (*packer, error) {
	w := &packer{opt: opt, remarks: Remarks{}, refused: map[string]int{}, digest: sha256.New(), firstWith: map[[sha256.Size]byte]int{}}
	if w.opt.chunk == 0 {
		w.opt.chunk = chunkImages
	}
	if n := len(opt.Key); opt.Key != nil && n < 16 {
		return nil, hint.Wrap(fmt.Errorf("the key has %d bytes: want 16 or more", n), "make one: head -c 32 /dev/urandom > FILE")
	}
	var images []Image
	for _, path := range indexes {
		x, err := ReadIndex(path)
		if err != nil {
			return nil, err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if x.Root == "" {
			return nil, hint.Wrap(fmt.Errorf("%s is the index of a pack, which does not say where the images lie", path),
				`give the index that "mvmae-train index" wrote`)
		}
		w.sources = append(w.sources, Source{
			Name: filepath.Base(path), Dataset: x.Dataset, SHA256: digestOf(body).SHA256, Images: len(x.Images),
		})
		for _, img := range x.Images {
			w.items = append(w.items, item{img, x.Root})
		}
		images = append(images, x.Images...)
	}
	if err := Audit(images); err != nil {
		return nil, err
	}
	sortItems(w.items)
	var err error
	w.journal, err = openJournal(opt.Out, w.fingerprint())
	return w, err
}

// sortItems puts patients in the order of a hash, so that the order of a de-identified pack does not tell the order of the
// identifiers, and keeps a patient's studies together.
func sortItems(items []item) {
	keys := map[string][sha256.Size]byte{}
	patient := func(it item) string { return it.Dataset + "\x00" + it.PatientID }
	for _, it := range items {
		keys[patient(it)] = sha256.Sum256([]byte(patient(it)))
	}
	slices.SortFunc(items, func(a, b item) int {
		ka, kb := keys[patient(a)], keys[patient(b)]
		return cmp.Or(slices.Compare(ka[:], kb[:]), cmp.Compare(a.StudyID, b.StudyID), cmp.Compare(a.ImageID, b.ImageID))
	})
}

// fingerprint tells apart jobs whose pixels may differ: an interrupted pack goes on only with its own.
func (w *packer) fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s\x00%d\x00", PackFormat, w.opt.Recipe, w.opt.chunk)
	for _, s := range w.sources {
		fmt.Fprintf(h, "%s\x00", s.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// take counts a chunk as done: its entry, and of each image it kept the pixels, one after the other.
func (w *packer) take(e entry, pixels []byte) {
	refused := map[int]bool{}
	for _, r := range e.Refused {
		refused[r.Item] = true
		w.refused[r.Code]++
		w.remarks.refuse(r.Code, "images "+refusalText(r.Code), w.items[r.Item].Path+": "+r.Detail)
	}
	w.digest.Write(pixels)
	for i := w.done; i < w.done+e.Items; i++ {
		if refused[i] {
			continue
		}
		own := pixels[:imageBytes]
		pixels = pixels[imageBytes:]
		w.kept = append(w.kept, i)
		w.compare(i, sha256.Sum256(own))
	}
	w.inputs += e.Inputs
	w.sum += e.Sum
	w.sumSquare += e.SumSquare
	w.done += e.Items
}

// compare looks for an earlier image with the same pixels.
func (w *packer) compare(i int, pixels [sha256.Size]byte) {
	first, twice := w.firstWith[pixels]
	if !twice {
		w.firstWith[pixels] = i
		return
	}
	w.duplicates++
	code, text := "duplicate_pixels", "images with the same pixels as another"
	if w.items[first].Split != w.items[i].Split {
		w.acrossSplits++
		code, text = "duplicate_across_splits", "images with the same pixels as one of another split: check that they are different patients"
	}
	w.remarks.note(code, text, w.items[i].Path+" = "+w.items[first].Path)
}

// finish writes index and manifest and gives the files their names.
func (w *packer) finish() (*PackResult, error) {
	if len(w.kept) == 0 {
		w.journal.discard()
		return nil, hint.Wrap(errors.New("every image was refused"), "%s", strings.TrimSpace(w.remarks.Text(3)))
	}
	images := make([]Image, len(w.kept))
	for i, k := range w.kept {
		images[i] = w.items[k].Image
	}
	if w.opt.Deidentify {
		deidentify(images, w.opt.Key)
	}
	var datasets []string
	for _, s := range w.sources {
		datasets = append(datasets, s.Dataset)
	}
	slices.Sort(datasets)
	index, err := encodeIndex(&Index{Dataset: strings.Join(slices.Compact(datasets), ","), Images: images})
	if err != nil {
		return nil, fmt.Errorf("encode index: %w", err)
	}
	m := w.manifest(images)
	m.Index = digestOf(index)
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	w.remarks.sort()
	return &PackResult{m, w.remarks}, w.journal.finish(index, append(manifest, '\n'))
}

func (w *packer) manifest(images []Image) Manifest {
	byDataset := map[string][]Image{}
	evidence := []string{}
	for _, img := range images {
		byDataset[img.Dataset] = append(byDataset[img.Dataset], img)
		if img.Split == Train && !slices.Contains(evidence, string(img.Evidence)) {
			evidence = append(evidence, string(img.Evidence))
		}
	}
	slices.Sort(evidence)
	total := Count(images).Total()
	m := Manifest{
		FormatVersion: PackFormat, Recipe: w.opt.Recipe.String(), StoredSize: cxr.StoredSize,
		Images: total.Images, Studies: total.Studies, Patients: total.Patients, Deidentified: w.opt.Deidentify,
		Pixels:  FileDigest{Bytes: int64(len(images)) * imageBytes, SHA256: hex.EncodeToString(w.digest.Sum(nil))},
		Sources: w.sources, Datasets: map[string]Counts{}, Evidence: evidence,
		Refused: w.refused, DuplicateImages: w.duplicates, DuplicatesAcrossSplits: w.acrossSplits,
	}
	for name, of := range byDataset {
		m.Datasets[name] = Count(of)
	}
	if w.inputs > 0 {
		n := float64(w.inputs) * cxr.CropSize * cxr.CropSize
		mean := w.sum / n
		m.Input = InputStats{Images: w.inputs, Mean: mean, Std: math.Sqrt(max(0, w.sumSquare/n-mean*mean))}
	}
	return m
}

func (w *packer) close() { w.journal.close() }

// deidentify replaces identifiers by keyed hashes (HMAC-SHA256, the first 128 bits) and drops paths.
func deidentify(images []Image, key []byte) {
	if key == nil {
		key = make([]byte, sha256.Size)
		rand.Read(key) // never fails (crypto/rand)
	}
	hashed := func(kind, dataset, id string) string {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s\x00%s\x00%s", kind, dataset, id)
		return hex.EncodeToString(mac.Sum(nil)[:16])
	}
	for i := range images {
		img := &images[i]
		img.PatientID = hashed("patient", img.Dataset, img.PatientID)
		img.StudyID = hashed("study", img.Dataset, img.StudyID)
		img.ImageID = hashed("image", img.Dataset, img.ImageID)
		img.Path = ""
	}
}
