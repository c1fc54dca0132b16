package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// Corpus is one phantom in every transfer syntax, with what we and the peers decode.
type Corpus struct {
	Dir      string // of the encoded files
	Decoders codec.Decoders
	Results  []Result
}

// Result is one file: decoded by us, and compared.
type Result struct {
	File
	Photometric string
	Bits        int // stored
	Err         error
	FromBase    int32 // the largest difference from the native file
	FromPeer    map[string]Difference
}

// Difference is the largest one between our gray values and a peer's, or why the peer has none.
type Difference struct {
	Max   int32
	Error string
}

// Lossless says whether the file must decode to what it was made of, to within a tolerance: YBR_FULL has rounded colours.
func (r Result) Lossless() (tolerance int32, yes bool) {
	switch r.Arc() {
	case ".50", ".51", ".81", ".91", ".203":
		return 0, false
	}
	return 0, true
}

// PeerTolerance is how far a peer's values may lie from ours: the decoders of lossy syntaxes round differently.
func (r Result) PeerTolerance() int32 {
	switch r.Arc() {
	case ".50", ".51", ".91", ".203":
		return 1
	}
	return 0
}

// MakeCorpus makes the corpus in dir and decodes it.
func MakeCorpus(ctx context.Context, p Python, dir string, bases []Base, decoders codec.Decoders) (*Corpus, error) {
	native := filepath.Join(dir, "native")
	c := &Corpus{Dir: filepath.Join(dir, "encoded"), Decoders: decoders}
	for _, d := range []string{native, c.Dir} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			return nil, err
		}
	}
	if err := WriteBases(native, bases); err != nil {
		return nil, err
	}
	files, err := p.Encode(ctx, native, c.Dir)
	if err != nil {
		return nil, err
	}
	answers, err := p.Decode(ctx, c.Dir)
	if err != nil {
		return nil, err
	}
	byFile := map[string][]Answer{}
	for _, a := range answers {
		byFile[a.File] = append(byFile[a.File], a)
	}
	for _, f := range files {
		base, _, err := Decode(filepath.Join(native, f.Base+".dcm"), nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Base, err)
		}
		r, err := c.compare(f, base.Values(), byFile[f.File])
		if err != nil {
			return nil, err
		}
		c.Results = append(c.Results, r)
	}
	return c, nil
}

// compare decodes a file and holds it to its source and to the peers' answers.
func (c *Corpus) compare(f File, base []int32, answers []Answer) (Result, error) {
	r := Result{File: f, FromPeer: map[string]Difference{}}
	if f.Error != "" {
		return r, nil
	}
	plane, px, err := Decode(filepath.Join(c.Dir, f.File), c.Decoders)
	if r.Err = err; err != nil {
		return r, nil
	}
	r.Photometric, r.Bits = px.Photometric, px.BitsStored
	ours := plane.Values()
	r.FromBase = largest(ours, base)
	for _, a := range answers {
		d := Difference{Error: a.Error}
		if a.Error == "" {
			values, err := Values(c.Dir, a)
			if err != nil {
				return r, err
			}
			d.Max = largest(ours, values)
		}
		r.FromPeer[a.Peer] = d
	}
	return r, nil
}

// Decode reads a file as the programs do.
func Decode(path string, decoders codec.Decoders) (*codec.Plane, *dicom.Pixels, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	f, err := dicom.Parse(data, dicom.Limits{})
	if err != nil {
		return nil, nil, err
	}
	px, err := f.Pixels()
	if err != nil {
		return nil, nil, err
	}
	plane, err := decoders.Decode(px)
	return plane, px, err
}

// largest is the largest difference of two images, or a number larger than any if their sizes differ.
func largest(a, b []int32) (most int32) {
	if len(a) != len(b) {
		return 1 << 30
	}
	for i := range a {
		most = max(most, a[i]-b[i], b[i]-a[i])
	}
	return most
}
