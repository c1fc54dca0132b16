package data

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
)

// PackFormat is the version of the pack this program writes and the only one it reads.
const PackFormat = 1

// The files of a pack. The manifest is written last: a folder without it is no pack.
const (
	pixelsFile   = "images.u8"
	indexFile    = "index.parquet"
	manifestFile = "manifest.json"
)

const imageBytes = cxr.StoredSize * cxr.StoredSize

// Manifest describes a pack and guards it against change.
type Manifest struct {
	FormatVersion int    `json:"format_version"`
	Recipe        string `json:"recipe"`      // a cxr.Recipe
	StoredSize    int    `json:"stored_size"` // pixels a side; an image is stored_size² bytes, row by row
	Images        int    `json:"images"`
	Studies       int    `json:"studies"`
	Patients      int    `json:"patients"`
	Deidentified  bool   `json:"deidentified"`

	Pixels FileDigest `json:"pixels"` // of images.u8
	Index  FileDigest `json:"index"`  // of index.parquet

	Sources  []Source          `json:"sources"`
	Datasets map[string]Counts `json:"datasets"` // what was packed, by dataset and split
	Evidence []string          `json:"evidence"` // the ranks of view evidence of the training split
	Input    InputStats        `json:"input"`

	Refused                map[string]int `json:"refused"`                  // images left out, by code
	DuplicateImages        int            `json:"duplicate_images"`         // images whose pixels an earlier image has too
	DuplicatesAcrossSplits int            `json:"duplicates_across_splits"` // of these, in another split than the earlier one
}

// FileDigest is a file's size and SHA-256.
type FileDigest struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Source is an index that was packed.
type Source struct {
	Name    string `json:"name"` // the file's, without its folder
	Dataset string `json:"dataset"`
	SHA256  string `json:"sha256"`
	Images  int    `json:"images"`
}

// InputStats are mean and standard deviation over every pixel that cxr.Input gives at cxr.CropSize for the training split,
// in [0,1]. Both are 0 when Images is.
type InputStats struct {
	Images int     `json:"images"`
	Mean   float64 `json:"mean"`
	Std    float64 `json:"std"`
}

func readManifest(dir string) (Manifest, error) {
	path := filepath.Join(dir, manifestFile)
	body, err := os.ReadFile(path)
	if err != nil {
		cure := `make a pack with "mvmae-train pack"`
		if _, unfinished := os.Stat(filepath.Join(dir, journalFile)); unfinished == nil {
			cure = "packing was interrupted: run the same mvmae-train pack again, and it goes on"
		}
		return Manifest{}, hint.Wrap(fmt.Errorf("read %s: %w", path, noPath(err)), "%s", cure)
	}
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return Manifest{}, hint.Wrap(fmt.Errorf("read %s: %w", path, err), "the pack is damaged: make it again")
	}
	if m.FormatVersion != PackFormat {
		return Manifest{}, hint.Wrap(fmt.Errorf("%s: pack format %d, this program reads format %d", path, m.FormatVersion, PackFormat),
			`make the pack again with this program's "mvmae-train pack"`)
	}
	if m.StoredSize != cxr.StoredSize {
		return Manifest{}, hint.Wrap(fmt.Errorf("%s: images of %d pixels a side, this program reads %d", path, m.StoredSize, cxr.StoredSize),
			`make the pack again with this program's "mvmae-train pack"`)
	}
	return m, nil
}
