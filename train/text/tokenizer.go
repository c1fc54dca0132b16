package text

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Tokens 0 to 2 are model.TextPadding, TextEnd and TextStart; then come the 256 bytes, then what Train merged.
const (
	firstByte  = 3
	firstMerge = firstByte + 256
)

// MinVocabulary is the size of a tokenizer that has merged nothing.
const MinVocabulary = firstMerge

// pair are two tokens that follow each other.
type pair [2]int32

// Tokenizer cuts text into tokens. It may be used from several goroutines.
type Tokenizer struct {
	merges []pair         // token firstMerge+i is merges[i] in one
	rank   map[pair]int32 // the token that a pair becomes
	bytes  []string       // what each token stands for
}

func newTokenizer(merges []pair) (*Tokenizer, error) {
	t := &Tokenizer{merges: merges, rank: make(map[pair]int32, len(merges)), bytes: make([]string, firstMerge, firstMerge+len(merges))}
	for b := range 256 {
		t.bytes[firstByte+b] = string([]byte{byte(b)})
	}
	for i, m := range merges {
		token := int32(firstMerge + i)
		for _, part := range m {
			if part < firstByte || part >= token {
				return nil, fmt.Errorf("token %d is made of %d and %d: want two of %d to %d", token, m[0], m[1], firstByte, token-1)
			}
		}
		if _, twice := t.rank[m]; twice {
			return nil, fmt.Errorf("token %d is made of %d and %d, as an earlier one is", token, m[0], m[1])
		}
		t.rank[m] = token
		t.bytes = append(t.bytes, t.bytes[m[0]]+t.bytes[m[1]])
	}
	return t, nil
}

// Size is the number of tokens.
func (t *Tokenizer) Size() int { return len(t.bytes) }

// Normalise makes of every run of white space one space, and cuts it off at both ends: lines of a report break where its column did.
func Normalise(report string) string { return strings.Join(strings.Fields(report), " ") }

// Encode cuts normalised text into tokens.
func (t *Tokenizer) Encode(s string) []int32 {
	var tokens []int32
	for _, w := range words(Normalise(s)) {
		tokens = append(tokens, t.encodeWord(w)...)
	}
	return tokens
}

// encodeWord merges the pair that was merged first in training as long as there is one.
func (t *Tokenizer) encodeWord(w string) []int32 {
	tokens := bytesOf(w)
	for {
		best := int32(-1)
		for i := range len(tokens) - 1 {
			if m, ok := t.rank[pair{tokens[i], tokens[i+1]}]; ok && (best < 0 || m < best) {
				best = m
			}
		}
		if best < 0 {
			return tokens
		}
		tokens = merge(tokens, t.merges[best-firstMerge], best)
	}
}

// Decode is the text of tokens up to the first end; bytes that are no UTF-8 become U+FFFD, tokens that stand for no text nothing.
func (t *Tokenizer) Decode(tokens []int32) string {
	var b strings.Builder
	for _, token := range tokens {
		if token == model.TextEnd {
			break
		}
		if token >= 0 && int(token) < len(t.bytes) {
			b.WriteString(t.bytes[token])
		}
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// bytesOf are the tokens of a word's bytes.
func bytesOf(w string) []int32 {
	tokens := make([]int32, len(w))
	for i := range len(w) {
		tokens[i] = firstByte + int32(w[i])
	}
	return tokens
}

// merge puts token in place of each pair p, from the left.
func merge(tokens []int32, p pair, token int32) []int32 {
	out := tokens[:0]
	for i := 0; i < len(tokens); i++ {
		if i+1 < len(tokens) && tokens[i] == p[0] && tokens[i+1] == p[1] {
			out = append(out, token)
			i++
			continue
		}
		out = append(out, tokens[i])
	}
	return out
}

// words cuts text into runs of letters, of digits and of anything else, each with the space before it: no token reaches beyond.
func words(s string) (out []string) {
	class := func(r rune) int {
		switch {
		case unicode.IsLetter(r) || unicode.IsMark(r):
			return 1
		case unicode.IsDigit(r):
			return 2
		}
		return 3
	}
	start, before := 0, 0 // class of the rune before; 0 at a start, or after a space
	for i, r := range s {
		now := class(r)
		if r == ' ' {
			now = 0
		}
		if i > start && (r == ' ' || before != 0 && now != before) {
			out = append(out, s[start:i])
			start = i
		}
		before = now
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

// file is how a tokenizer is stored.
type file struct {
	FormatVersion int    `json:"format_version"`
	Kind          string `json:"kind"`
	Merges        []pair `json:"merges"`
}

const (
	formatVersion = 1
	kind          = "byte-level BPE"
)

// Write stores a tokenizer at path, whole or not at all.
func (t *Tokenizer) Write(path string) error {
	doc, err := json.Marshal(file{formatVersion, kind, append([]pair{}, t.merges...)})
	if err != nil {
		return err
	}
	return model.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(append(doc, '\n'))
		return err
	})
}

// Read reads what Write stored. Where there is no file the error is os.ErrNotExist.
func Read(path string) (*Tokenizer, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f file
	if err := json.Unmarshal(doc, &f); err != nil {
		return nil, fmt.Errorf("read tokenizer %s: %w", path, err)
	}
	if f.FormatVersion != formatVersion || f.Kind != kind {
		return nil, hint.Wrap(fmt.Errorf("read tokenizer %s: %q of format version %d: this program reads %q of %d", path, f.Kind, f.FormatVersion, kind, formatVersion),
			"use the release that wrote it")
	}
	t, err := newTokenizer(f.Merges)
	if err != nil {
		return nil, fmt.Errorf("read tokenizer %s: %w", path, err)
	}
	return t, nil
}
