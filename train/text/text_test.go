package text

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
)

var someReports = []string{
	"No pleural effusion. No pneumothorax.", "Small left pleural effusion.\nHeart size normal, 12 mm.",
	"No pneumothorax or effusion. Größe normal.", "Effusion, pneumothorax:  12.5 mm", "",
}

// slowTrain is Train word for word: count every pair anew, merge the most frequent.
func slowTrain(reports []string, size int) (merges []pair) {
	var all [][]int32
	for _, r := range reports {
		for _, w := range words(Normalise(r)) {
			all = append(all, bytesOf(w))
		}
	}
	for len(merges) < size-MinVocabulary {
		count := map[pair]int{}
		for _, w := range all {
			for i := range len(w) - 1 {
				count[pair{w[i], w[i+1]}]++
			}
		}
		best, n := pair{}, 1
		for p, c := range count {
			if c > n || c == n && c > 1 && (p[0] < best[0] || p[0] == best[0] && p[1] < best[1]) {
				best, n = p, c
			}
		}
		if n < 2 {
			break
		}
		for i := range all {
			all[i] = merge(all[i], best, int32(firstMerge+len(merges)))
		}
		merges = append(merges, best)
	}
	return merges
}

func TestTrain_MergesTheMostFrequentPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	reports := append([]string{}, someReports...)
	for range 60 { // many ties, and words of repeated letters
		b := make([]byte, 1+rng.IntN(9))
		for i := range b {
			b[i] = "aab o"[rng.IntN(5)]
		}
		reports = append(reports, string(b))
	}
	for _, size := range []int{MinVocabulary, MinVocabulary + 7, 1 << 12} {
		tok, err := Train(reports, size)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slowTrain(reports, size), append([]pair(nil), tok.merges...)); diff != "" {
			t.Errorf("size %d: merges (-want +got):\n%s", size, diff)
		}
	}
	if _, err := Train(reports, MinVocabulary-1); err == nil {
		t.Error("a vocabulary without all bytes was made")
	}
}

func TestTrain_OrderOfReportsDoesNotMatter(t *testing.T) {
	want, err := Train(someReports, 400)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(5) {
		shuffled := append([]string{}, someReports...)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		got, err := Train(shuffled, 400)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.merges, got.merges); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
	}
}

func TestTokenizer_DecodesWhatItEncodes(t *testing.T) {
	tok, err := Train(someReports, 320)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append([]string{"never seen: Übelkeit \t 漢字 3,5 cm", "bytes \xff\xfe"}, someReports...) {
		tokens := tok.Encode(s)
		if got, want := tok.Decode(tokens), strings.ToValidUTF8(Normalise(s), "\uFFFD"); got != want {
			t.Errorf("%q came back as %q", want, got)
		}
		for _, token := range tokens {
			if token < firstByte || int(token) >= tok.Size() {
				t.Errorf("%q has token %d of %d", s, token, tok.Size())
			}
		}
	}
	if n := len(tok.Encode("pleural effusion")); n > 6 {
		t.Errorf("two words that it was trained on are %d tokens", n)
	}
	tokens := append([]int32{model.TextStart}, tok.Encode("No")...)
	if got := tok.Decode(append(append(tokens, model.TextEnd), tok.Encode("more")...)); got != "No" {
		t.Errorf("text after the end: %q", got)
	}
}

func TestWords_LoseNothing(t *testing.T) {
	for s, want := range map[string][]string{
		"":                     nil,
		"No effusion.":         {"No", " effusion", "."},
		"12.5 mm, T12":         {"12", ".", "5", " mm", ",", " T", "12"},
		"Größe (ÖGK) é":        {"Größe", " (", "ÖGK", ")", " é"},
		"two  spaces":          {"two", " ", " spaces"},
		" space at both ends ": {" space", " at", " both", " ends", " "},
	} {
		got := words(s)
		if diff := cmp.Diff(want, got); diff != "" || strings.Join(got, "") != s {
			t.Errorf("%q (-want +got):\n%s", s, diff)
		}
	}
}

func TestRead_WhatWriteStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if _, err := Read(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, size := range []int{MinVocabulary, 300} {
		tok, err := Train(someReports, size)
		if err != nil {
			t.Fatal(err)
		}
		if err := tok.Write(path); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tok.bytes, got.bytes); diff != "" {
			t.Errorf("size %d (-want +got):\n%s", size, diff)
		}
	}
	for doc, want := range map[string]string{
		`{`: "unexpected end",
		`{"format_version":2,"kind":"byte-level BPE"}`:                           "format version 2",
		`{"format_version":1,"kind":"byte-level BPE","merges":[[3,259]]}`:        "made of 3 and 259",
		`{"format_version":1,"kind":"byte-level BPE","merges":[[3,0]]}`:          "made of 3 and 0",
		`{"format_version":1,"kind":"byte-level BPE","merges":[[3,4],[3,4]]}`:    "as an earlier one",
		`{"format_version":1,"kind":"byte-level BPE","merges":[[3,4],[259,-1]]}`: "made of 259 and -1",
	} {
		if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}
