package model

import "math"

// Shapes below: B images, S pixels and N patches of P*P pixels an image, K of them visible, D wide, V = 3 views.

// Patchify cuts images [B,S,S] in [0,1] into normalised patches [B,N,P*P], row-major over patches and over pixels. They
// are the encoder's input and the reconstruction's target.
func Patchify[T any](o Ops[T], s Spec, image T) T {
	g, p := s.Grid(), s.PatchSize
	x := o.Affine(image, 1/s.PixelStd, -s.PixelMean/s.PixelStd)
	x = o.Reshape(x, g, p, g, p)
	x = o.Transpose(x, 0, 1, 3, 2, 4) // [B,g,g,P,P]
	return o.Reshape(x, g*g, p*p)
}

// Visible selects the K patches of each image that the encoder may see.
type Visible[T any] struct {
	Keep  T // [B,K] patch numbers
	Count int
}

// Encode runs the encoder on patches [B,N,P*P] of views [B] (0 frontal, 1 lateral, 2 unknown) and returns [B,1+K,D]: CLS,
// then the visible patches in their given order, after the final LayerNorm.
func Encode[T any](o Ops[T], s Spec, patches, view T, visible *Visible[T]) T {
	return encoderNorm(o, s, encode(o, s, patches, view, visible, func(T) {}))
}

// encode is Encode before the final LayerNorm; seen is given the attention of each block in turn, [B,heads,1+K,1+K]: from rows to columns.
func encode[T any](o Ops[T], s Spec, patches, view T, visible *Visible[T], seen func(T)) T {
	var pos T
	if s.Positions == Learned {
		pos = o.Param("encoder.pos_embedding") // [N,D]
	} else {
		pos = o.Table("encoder.pos_table", s.NumPatches(), s.Width, sinCosTable(s.Grid(), s.Width, false))
	}
	n := s.NumPatches()
	if visible != nil {
		n = visible.Count
		patches = o.Take(patches, visible.Keep) // [B,K,P*P]
		pos = o.Lookup(pos, visible.Keep)       // [B,K,D]
	}
	x := o.Add(o.Linear(patches, "encoder.patchify.weight", "encoder.patchify.bias"), pos)
	x = o.Add(x, viewEmbedding(o, "encoder", view, s.Width))
	x = o.Concat(o.Repeat(o.Param("encoder.cls_token"), 1, x), x) // [B,1+K,D]
	return blocks(o, s, x, stack{"encoder", 1 + n, s.Width, s.Depth, s.Heads}, seen)
}

// Decode reconstructs every patch, [B,N,P*P], from the encoder's tokens [B,1+K,D]. restore [B,N] holds, for each patch,
// its place in the order "visible, then masked": below K a visible token, from K on a mask token.
func Decode[T any](o Ops[T], s Spec, tokens, restore, view T, numVisible int) T {
	d, n := s.Decoder, s.NumPatches()
	var e T // [B,1,Dd]
	if d.OwnViews {
		e = viewEmbedding(o, "decoder", view, d.Width)
	} else {
		tokens = o.Linear(tokens, "decoder.embed.weight", "decoder.embed.bias") // [B,1+K,Dd]
		e = o.Linear(viewEmbedding(o, "encoder", view, s.Width), "decoder.embed.weight", "")
	}
	masked := o.Repeat(o.Param("decoder.mask_token"), n-numVisible, tokens)
	x := o.Take(o.Concat(o.Slice(tokens, 1, 1+numVisible), masked), restore) // [B,N,Dd]
	x = o.Concat(o.Slice(tokens, 0, 1), x)                                   // [B,1+N,Dd]
	if s.Positions == Learned {
		x = o.Add(x, o.Param("decoder.pos_embedding"))
	} else {
		x = o.Add(x, o.Table("decoder.pos_table", 1+n, d.Width, sinCosTable(s.Grid(), d.Width, true)))
	}
	x = blocks(o, s, o.Add(x, e), stack{"decoder", 1 + n, d.Width, d.Depth, d.Heads}, func(T) {})
	x = o.LayerNorm(x, "decoder.layer_norm", s.FinalEps)
	return o.Linear(o.Slice(x, 1, 1+n), "decoder.head.weight", "decoder.head.bias")
}

// Embed runs the encoder on whole images [B,S,S] and returns the vector [B,D] that the classifier head reads.
func Embed[T any](o Ops[T], s Spec, image, view T) T {
	return pool(o, s, encode(o, s, Patchify(o, s, image), view, nil, func(T) {}))
}

// EmbedAttention is Embed with the attention rollout [B,g,g] (g patches on a side) of the same pass: the share of each patch in what the head
// reads, as far as attention tells. The shares of an image and that of CLS, which is left out, sum to 1.
func EmbedAttention[T any](o Ops[T], s Spec, image, view T) (embedding, attention T) {
	var maps []T
	x := encode(o, s, Patchify(o, s, image), view, nil, func(m T) { maps = append(maps, m) })
	return pool(o, s, x), rollout(o, s, maps)
}

// rollout follows the attention of all blocks [B,heads,1+N,1+N] from the token that the head reads back to the patches (Abnar
// and Zuidema 2020): with A = (mean over heads + I)/2, for the residual branch, it is that token's row of A_L ... A_2 A_1.
// One row is carried through the products, not a matrix, and the halves are taken at the end: 2^L is exact.
func rollout[T any](o Ops[T], s Spec, maps []T) T {
	n, last := s.NumPatches(), len(maps)-1
	start := make([]float32, 1+n) // what the head reads, as a row over tokens
	row := o.MeanTokens(maps[last])
	if s.Pool != PoolCLS {
		for i := range n {
			start[1+i] = 1 / float32(n)
		}
		row = o.Reshape(o.MeanTokens(o.Slice(row, 1, 1+n)), 1, 1+n)
	} else {
		start[0] = 1
		row = o.Slice(row, 0, 1)
	}
	row = o.Add(row, o.Table("rollout.start", 1, 1+n, start)) // [B,1,1+N]
	for i := last - 1; i >= 0; i-- {
		row = o.Add(o.MatMul(row, o.MeanTokens(maps[i])), row)
	}
	patches := o.Slice(o.Reshape(row, 1+n, 1), 1, 1+n) // [B,N,1]
	return o.Affine(o.Reshape(patches, s.Grid(), s.Grid()), math.Ldexp(1, -len(maps)), 0)
}

// encoderNorm is the encoder's final LayerNorm, of tokens [B,...,D] or of their mean [B,D].
func encoderNorm[T any](o Ops[T], s Spec, x T) T {
	return o.LayerNorm(x, "encoder.layer_norm", s.FinalEps)
}

// pool makes the embedding [B,D] of the encoder's tokens [B,1+N,D] before their final LayerNorm.
func pool[T any](o Ops[T], s Spec, x T) T {
	mean := func(x T) T { return o.MeanTokens(o.Slice(x, 1, 1+s.NumPatches())) }
	switch s.Pool {
	case PoolMean:
		return mean(encoderNorm(o, s, x))
	case PoolMeanFirst:
		return encoderNorm(o, s, mean(x))
	}
	return o.Reshape(o.Slice(encoderNorm(o, s, x), 0, 1), s.Width)
}

// Head maps an embedding [B,D] to logits [B,NumClasses].
func Head[T any](o Ops[T], embedding T) T { return o.Linear(embedding, "head.weight", "head.bias") }

// viewEmbedding is [B,1,width], from the table of the encoder or of the decoder.
func viewEmbedding[T any](o Ops[T], part string, view T, width int) T {
	return o.Reshape(o.Lookup(o.Param(part+".mod_embedding"), view), 1, width)
}

// stack is a run of transformer blocks over a fixed number of tokens.
type stack struct {
	prefix                      string
	tokens, width, depth, heads int
}

// blocks runs a stack of pre-norm transformer blocks (Dosovitskiy et al. 2021) over x [B,tokens,width].
func blocks[T any](o Ops[T], s Spec, x T, st stack, seen func(T)) T {
	for i := range st.depth {
		p := blockName(st.prefix, i)
		x = o.Residual(x, attention(o, s, o.LayerNorm(x, p+"norm1", s.BlockEps), st, p+"attn.", seen), 2*i)
		h := o.Linear(o.LayerNorm(x, p+"norm2", s.BlockEps), p+"mlp.fc1.weight", p+"mlp.fc1.bias")
		x = o.Residual(x, o.Linear(o.GELU(h), p+"mlp.fc2.weight", p+"mlp.fc2.bias"), 2*i+1)
	}
	return x
}

// attention is multi-head self-attention over x [B,tokens,width].
func attention[T any](o Ops[T], s Spec, x T, st stack, p string, seen func(T)) T {
	q, k, v := o.QKV(x, x, p+"qkv.weight", p+"qkv.bias", st.heads) // [B,heads,tokens,width/heads]
	if s.QKNorm {
		q = o.LayerNorm(q, p+"q_norm", s.BlockEps)
		k = o.LayerNorm(k, p+"k_norm", s.BlockEps)
	}
	weights := o.Softmax(scores(o, q, k, st.width/st.heads)) // [B,heads,tokens,tokens]
	seen(weights)
	return o.Linear(joined(o, weights, v, st.tokens, st.width), p+"proj.weight", p+"proj.bias")
}

// scores are the products of queries [B,heads,N,width] and keys [B,heads,M,width] over the root of width: [B,heads,N,M].
func scores[T any](o Ops[T], q, k T, width int) T {
	// Scaling the queries costs N*width products; scaling the scores would cost N*M.
	return o.MatMul(o.Affine(q, 1/math.Sqrt(float64(width)), 0), o.Transpose(k, 0, 1, 3, 2))
}

// joined is what all heads read, [B,tokens,width]: weights [B,heads,tokens,M] times values [B,heads,M,width/heads].
func joined[T any](o Ops[T], weights, v T, tokens, width int) T {
	x := o.Transpose(o.MatMul(weights, v), 0, 2, 1, 3) // [B,tokens,heads,width/heads]
	return o.Reshape(x, tokens, width)
}
