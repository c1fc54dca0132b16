package torch

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/model"
)

// headsOf are the heads of the networks that MAE programs name in their options.
var headsOf = map[string]int{"vit_small": 6, "vit_base": 12, "vit_large": 16, "vit_huge": 16}

// vit takes timm's VisionTransformer, and the encoder of a masked autoencoder, which has the same names. Its CLS token has a
// position, which is a constant beside a constant: both go into one.
func (m *mapper) vit(args map[string]any) error {
	m.out.Layout = ViT
	if m.has("decoder_embed.weight") || m.has("mask_token") {
		m.out.Layout = MAE
	}
	pos := m.tensors["pos_embed"].Dims
	if len(pos) != 3 || pos[0] != 1 || pos[1] < 2 {
		return fmt.Errorf("tensor pos_embed has shape %v: want [1, 1+patches, width]", pos)
	}
	channels, err := m.shape("patch_embed.proj.weight", pos[1]-1)
	if err != nil {
		return err
	}
	heads := 0
	if name, ok := args["model"].(string); ok {
		base, _, _ := strings.Cut(strings.TrimPrefix(name, "mae_"), "_patch")
		heads = headsOf[base]
	}
	if err := m.blockShape("blocks", heads); err != nil {
		return err
	}
	if err := m.patches("patch_embed.proj", channels, nil); err != nil {
		return err
	}
	s := &m.out.Spec
	d := s.Width
	if table, cls := m.take("pos_embed", 1, pos[1], d), slices.Clone(m.take("cls_token", d)); table != nil {
		for i := range cls {
			cls[i] += table[i]
		}
		m.put("encoder.cls_token", cls, d)
		m.positions(table[d:])
	}
	m.put("encoder.mod_embedding", make([]float32, model.NumViews*d), model.NumViews, d) // it knows of no views
	m.stack("blocks", "encoder", d, s.Depth)
	norm := "norm"
	if m.has("fc_norm.weight") && !m.has("norm.weight") { // MAE's finetuning takes the mean of the patches first
		norm, s.Pool = "fc_norm", model.PoolMeanFirst
	}
	m.put("encoder.layer_norm.weight", m.take(norm+".weight", d), d)
	m.put("encoder.layer_norm.bias", m.take(norm+".bias", d), d)
	m.leave("decoder_", "mask_token")
	if m.has("head.weight") {
		return m.head("head", false)
	}
	return nil
}

// positions keeps a trained table [N,D]; one that is the fixed table of masked autoencoders needs no place in the file.
func (m *mapper) positions(table []float32) {
	s := &m.out.Spec
	if s.Width%4 == 0 {
		fixed := s.SinCosPositions()
		same := true
		for i, v := range fixed {
			same = same && math.Abs(float64(v-table[i])) < 1e-5 // of numbers up to 1, computed in another order
		}
		if same {
			s.Positions = model.SinCos
			return
		}
	}
	s.Positions = model.Learned
	m.put("encoder.pos_embedding", table, s.NumPatches(), s.Width)
}

// referencePrefix finds the encoder of the published MVMAE: in a pretraining checkpoint, in a classifier's, or by itself.
func referencePrefix(tensors model.Tensors) (string, bool) {
	for _, p := range []string{"encoders.vision.", "oe_vis_encoder.", "encoder.", ""} {
		if _, ok := tensors[p+"patchify.weight"]; ok {
			return p, true
		}
	}
	return "", false
}

// reference takes the published MVMAE: learned positions, none for CLS, a table of views in the encoder and one in the decoder,
// LayerNorm on queries and keys, another epsilon in the final norms.
func (m *mapper) reference(prefix string) error {
	m.out.Layout = MVMAE
	pos := m.tensors[prefix+"pos_embedding"].Dims
	if len(pos) == 0 {
		return fmt.Errorf("tensor %spos_embedding is missing", prefix)
	}
	channels, err := m.shape(prefix+"patchify.weight", pos[0])
	if err != nil {
		return err
	}
	s := &m.out.Spec
	s.Positions, s.FinalEps = model.Learned, 1e-5
	if err := m.blockShape(prefix+"transformer", 0); err != nil {
		return err
	}
	if err := m.patches(prefix+"patchify", channels, &[2]float64{s.PixelMean, s.PixelStd}); err != nil {
		return err
	}
	d := s.Width
	m.put("encoder.cls_token", m.take(prefix+"cls_token", d), d)
	m.put("encoder.pos_embedding", m.take(prefix+"pos_embedding", pos[0], d), pos[0], d)
	views := make([]float32, model.NumViews*d)
	if m.has(prefix + "mod_embedding") {
		views = m.take(prefix+"mod_embedding", model.NumViews, d)
	}
	m.put("encoder.mod_embedding", views, model.NumViews, d)
	m.stack(prefix+"transformer", "encoder", d, s.Depth)
	m.put("encoder.layer_norm.weight", m.take(prefix+"layer_norm.weight", d), d)
	m.put("encoder.layer_norm.bias", m.take(prefix+"layer_norm.bias", d), d)

	decoder := "decoders.vision."
	if prefix == "encoder." {
		decoder = "decoder."
	}
	m.referenceDecoder(decoder, channels)
	m.leave("text_decoder.", "latent_heads.")
	for _, head := range []string{"clf_head", "head"} {
		if m.has(head + ".weight") {
			return m.head(head, true)
		}
	}
	return nil
}

// referenceDecoder takes the decoder, if the file has one whole; it must be of one channel, whose pixels are scaled as ours.
func (m *mapper) referenceDecoder(prefix string, channels int) {
	s := &m.out.Spec
	d, n := s.Width, s.NumPatches()
	depth := m.depth(prefix + "transformer")
	scaled := m.notes.Mean == nil && m.notes.Std == nil
	if depth == 0 || channels != 1 || !scaled || !m.has(prefix+"mod_embedding") || !m.has(prefix+"layer_norm.weight") {
		m.leave(prefix)
		return
	}
	s.Decoder = model.Decoder{Width: d, Depth: depth, Heads: s.Heads, OwnViews: true}
	m.put("decoder.mod_embedding", m.take(prefix+"mod_embedding", model.NumViews, d), model.NumViews, d)
	m.put("decoder.mask_token", m.take(prefix+"mask_token", d), d)
	m.put("decoder.pos_embedding", m.take(prefix+"pos_embedding", 1+n, d), 1+n, d)
	m.stack(prefix+"transformer", "decoder", d, depth)
	m.put("decoder.layer_norm.weight", m.take(prefix+"layer_norm.weight", d), d)
	m.put("decoder.layer_norm.bias", m.take(prefix+"layer_norm.bias", d), d)
	m.put("decoder.head.weight", m.take(prefix+"head.weight", s.PatchPixels(), d), s.PatchPixels(), d)
	m.put("decoder.head.bias", m.take(prefix+"head.bias", s.PatchPixels()), s.PatchPixels())
	m.out.HasDecoder = true
}
