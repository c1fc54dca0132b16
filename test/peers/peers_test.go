package peers

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/internal/codecprog"
)

func TestMain(m *testing.M) { codecprog.Main(m) }

var once struct {
	sync.Once
	*Corpus
	err error
}

// corpus is the corpus with the peers' answers to it, made once, or the test is skipped.
func corpus(t *testing.T) *Corpus {
	t.Helper()
	python, err := Find()
	if err != nil {
		codecprog.Skip(t, err.Error())
	}
	program := codecprog.Complete(t)
	once.Do(func() {
		pool := external.NewPool(external.Options{Program: program})
		ctx := context.Background()
		once.Corpus, once.err = MakeCorpus(ctx, python, filepath.Join(filepath.Dir(program), "corpus"), Bases(251, 187), pool.Decoders(ctx))
	})
	if once.err != nil {
		t.Fatal(once.err)
	}
	return once.Corpus
}

func TestCorpus_DecodesAsItsSourceAndAsEveryPeer(t *testing.T) {
	c := corpus(t)
	syntaxes := map[string]int{}
	bases := map[string]int{}
	agreed := map[string]int{}
	for _, r := range c.Results {
		if r.Error != "" {
			if !knownEncoderFailure(r.File) {
				t.Errorf("%s: the encoder: %s", r.File.File, r.Error)
			}
			continue
		}
		if r.Err != nil {
			t.Errorf("%s: %v", r.File.File, r.Err)
			continue
		}
		syntaxes[r.Syntax]++
		bases[r.Base+r.Arc()]++
		// Lossless means the native pixels; colour became luma, of colours that a reversible transform restores.
		if tolerance, lossless := r.Lossless(); lossless && r.FromBase > tolerance {
			t.Errorf("%s: differs from its source by %d", r.File.File, r.FromBase)
		}
		for peer, d := range r.FromPeer {
			if d.Error == "" {
				agreed[peer]++
			}
			if d.Error == "" && d.Max > r.PeerTolerance() && !knownPeerFault(r.File, peer) {
				t.Errorf("%s: differs from %s by %d", r.File.File, peer, d.Max)
			}
		}
	}
	// All twelve, and each peer on what it can do: a corpus that shrank would prove nothing.
	for _, arc := range []string{"5", "4.50", "4.51", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "4.201", "4.202", "4.203"} {
		if syntaxes["1.2.840.10008.1.2."+arc] == 0 {
			t.Errorf("no image of transfer syntax %s", arc)
		}
	}
	for _, base := range []string{"palette-8", "frames-16"} {
		for _, arc := range []string{".5", ".57", ".70", ".80", ".90", ".201", ".202"} {
			if bases[base+arc] == 0 {
				t.Errorf("no image %s in %s", base, arc)
			}
		}
	}
	for _, peer := range Names {
		if agreed[peer] < 40 {
			t.Errorf("%s decoded %d images only", peer, agreed[peer])
		}
	}
}

// Code streams cut off, overwritten and taken for another size are refused, and never crash anything but their own process.
func TestCorpus_DamagedStreamsAreRefused(t *testing.T) {
	c := corpus(t)
	refused := 0
	for _, r := range c.Results {
		if r.Error != "" || external.LibraryFor(r.Syntax) == "" || !strings.HasPrefix(r.Base, "mono2-1") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(c.Dir, r.File.File))
		if err != nil {
			t.Fatal(err)
		}
		f, err := dicom.Parse(data, dicom.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		pixels, err := f.Pixels()
		if err != nil {
			t.Fatal(err)
		}
		whole := slices.Concat(pixels.Fragments...)
		for name, change := range map[string]func(){
			"half of it":       func() { pixels.Fragments = [][]byte{whole[:len(whole)/2]} },
			"its header only":  func() { pixels.Fragments = [][]byte{whole[:64]} },
			"nothing":          func() { pixels.Fragments = [][]byte{{}} },
			"garbage":          func() { pixels.Fragments = [][]byte{[]byte(strings.Repeat("garbage ", 100))} },
			"one row too many": func() { pixels.Fragments = [][]byte{whole}; pixels.Rows++ },
		} {
			rows := pixels.Rows
			change()
			if _, err := c.Decoders.Decode(pixels); err == nil {
				t.Errorf("%s, %s: decoded", r.File.File, name)
			} else {
				refused++
			}
			pixels.Rows = rows
		}
	}
	if refused == 0 {
		t.Error("nothing was tried")
	}
}
