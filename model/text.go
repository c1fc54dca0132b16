package model

import (
	"errors"
	"fmt"
	"math"
)

// Text is the shape of the decoder that writes a study's report, used in pretraining only; the zero value is none. It is as wide
// as the encoder, whose tokens it attends to (Tschannen et al. 2023, CapPa).
type Text struct {
	Vocabulary int `json:"vocabulary" toml:"vocabulary"`
	MaxTokens  int `json:"max_tokens" toml:"max_tokens"` // of a report, with those for its start and its end
	Depth      int `json:"depth" toml:"depth"`
	Heads      int `json:"heads" toml:"heads"`
	// Positions adds trained positions to the words. Without (the reference code) nothing tells the decoder their order but
	// which of them it may see.
	Positions bool `json:"positions" toml:"positions"`
}

// Tokens with a meaning of their own; all others are parts of words.
const (
	TextPadding = 0 // behind the end: never a target
	TextEnd     = 1
	TextStart   = 2
)

const textEps = 1e-5 // of the text decoder's LayerNorms

// Steps is the number of tokens that are fed in: all but the last, each to predict the one after it.
func (t Text) Steps() int { return t.MaxTokens - 1 }

func (t Text) validate(width int) error {
	var errs []error
	for _, f := range []struct {
		name   string
		v, min int
	}{{"vocabulary", t.Vocabulary, 4}, {"max_tokens", t.MaxTokens, 2}, {"depth", t.Depth, 1}, {"heads", t.Heads, 1}} {
		if f.v < f.min || f.v > 1<<20 {
			errs = append(errs, fmt.Errorf("text.%s is %d: want %d to %d", f.name, f.v, f.min, 1<<20))
		}
	}
	if t.Heads > 0 && width%t.Heads != 0 {
		errs = append(errs, fmt.Errorf("text.heads %d does not divide width %d", t.Heads, width))
	}
	return errors.Join(errs...)
}

// textParams lists the text decoder's parameters, under the reference code's names.
func (s Spec) textParams(add func(part Part, init Initialiser, name string, dims ...int)) {
	t, d := s.Text, s.Width
	if t == (Text{}) {
		return
	}
	const p = "text_decoder."
	add(PartText, InitNormal, p+"inp_vocabulary.weight", t.Vocabulary, d)
	add(PartText, InitNormal, p+"mask_embedding", d)
	if t.Positions {
		add(PartText, InitNormal, p+"text_positions", t.Steps(), d)
	}
	add(PartText, InitNormal, p+"pos_embedding", 1+s.NumPatches(), d)
	for i := range t.Depth {
		l := textLayer(i)
		for _, attention := range []string{"self_attn", "multihead_attn"} {
			add(PartText, InitXavier, l+attention+".in_proj_weight", 3*d, d)
			add(PartText, InitXavier, l+attention+".out_proj.weight", d, d)
		}
		add(PartText, InitXavier, l+"linear1.weight", d, d)
		add(PartText, InitXavier, l+"linear2.weight", d, d)
		for _, norm := range []string{"norm1", "norm2", "norm3"} {
			add(PartText, InitOnes, l+norm+".weight", d)
		}
	}
	add(PartText, InitOnes, p+"decoder.norm.weight", d)
	add(PartText, InitZeros, p+"decoder.norm.bias", d)
	add(PartText, InitXavier, p+"out_head.weight", t.Vocabulary, d)
}

func textLayer(i int) string { return fmt.Sprintf("text_decoder.decoder.layers.%d.", i) }

// Report is what the text decoder is given of each view's report, T = Text.Steps tokens.
type Report[T any] struct {
	Tokens T // [B,T] token numbers, from TextStart on
	Fed    T // [B,T] which of the T tokens a step is fed; T itself for the mask token
	Form   T // [B] 0: a step sees the steps up to its own; 1: it sees all of them
	Places T // [B,1+K] where the encoder's tokens are: 0 for CLS, 1+p for patch p
}

// DecodeText predicts reports from the encoder's tokens [B,1+K,D] of one view each: logits [B,T,Vocabulary], at step k of token k+1. Its
// blocks are post-norm, without biases, their hidden layer as wide as the rest. In the causal form step k is fed token k; in
// the parallel one every step is fed the mask token and sees all others, so that only image and position can tell it
// anything.
func DecodeText[T any](o Ops[T], s Spec, tokens, view T, r Report[T]) T {
	t, d, n := s.Text, s.Width, s.Text.Steps()
	part := "encoder"
	if s.Decoder.OwnViews {
		part = "decoder"
	}
	memory := o.Add(tokens, o.Lookup(o.Param("text_decoder.pos_embedding"), r.Places))
	memory = o.Add(memory, viewEmbedding(o, part, view, d)) // [B,1+K,D]

	x := o.Lookup(o.Param("text_decoder.inp_vocabulary.weight"), r.Tokens) // [B,T,D]
	x = o.Take(o.Concat(x, o.Repeat(o.Param("text_decoder.mask_embedding"), 1, x)), r.Fed)
	if t.Positions {
		x = o.Add(x, o.Param("text_decoder.text_positions"))
	}
	hidden := o.Reshape(o.Lookup(o.Table("text_decoder.forms", 2, n*n, causalForms(n)), r.Form), 1, n, n) // [B,1,T,T]
	for i := range t.Depth {
		l := textLayer(i)
		q, k, v := o.QKV(x, x, l+"self_attn.in_proj_weight", "", t.Heads)
		weights := o.Softmax(o.Add(scores(o, q, k, d/t.Heads), hidden)) // [B,heads,T,T]
		x = textNorm(o, x, o.Linear(joined(o, weights, v, n, d), l+"self_attn.out_proj.weight", ""), l+"norm1")

		q, k, v = o.QKV(x, memory, l+"multihead_attn.in_proj_weight", "", t.Heads)
		weights = o.Softmax(scores(o, q, k, d/t.Heads)) // [B,heads,T,1+K]
		x = textNorm(o, x, o.Linear(joined(o, weights, v, n, d), l+"multihead_attn.out_proj.weight", ""), l+"norm2")

		h := o.GELU(o.Linear(x, l+"linear1.weight", ""))
		x = textNorm(o, x, o.Linear(h, l+"linear2.weight", ""), l+"norm3")
	}
	return o.Linear(o.LayerNorm(x, "text_decoder.decoder.norm", textEps), "text_decoder.out_head.weight", "")
}

func textNorm[T any](o Ops[T], x, branch T, name string) T {
	return o.LayerNorm(o.Add(x, branch), name, textEps)
}

// causalForms are two rows of n*n numbers to add to scores: row 0 hides from each step those after it, row 1 hides nothing.
func causalForms(n int) []float32 {
	forms := make([]float32, 2*n*n)
	for step := range n {
		for later := step + 1; later < n; later++ {
			forms[step*n+later] = -math.MaxFloat32 / 2 // not infinite: a sum of infinities is no number
		}
	}
	return forms
}
