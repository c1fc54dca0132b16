package model

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// Part says which piece of the network a parameter belongs to.
type Part int

const (
	PartEncoder Part = iota
	PartDecoder
	PartHead
	PartText
)

// Initialiser is the distribution a parameter starts from.
type Initialiser int

const (
	InitZeros Initialiser = iota
	InitOnes
	InitXavier // uniform in +-sqrt(6/(in+out)) (Glorot and Bengio 2010), as He et al. 2022 initialise linear layers
	InitNormal // normal, standard deviation 0.02
)

// Param names one parameter. Linear weights are [out, in], as PyTorch and the golden cases store them.
type Param struct {
	Name string
	Dims []int
	Part Part
	Init Initialiser
}

// Size is the number of values of a parameter.
func (p Param) Size() int {
	n := 1
	for _, d := range p.Dims {
		n *= d
	}
	return n
}

// Decayed reports whether weight decay applies in recipe "paper": to tensors of more than one dimension.
func (p Param) Decayed() bool { return len(p.Dims) > 1 }

// Params lists the parameters of the given parts, or of all of them, in the order of the forward pass.
func (s Spec) Params(parts ...Part) []Param {
	var out []Param
	add := func(part Part, init Initialiser, name string, dims ...int) {
		for _, p := range parts {
			if p == part {
				out = append(out, Param{name, dims, part, init})
			}
		}
	}
	if len(parts) == 0 {
		parts = []Part{PartEncoder, PartDecoder, PartHead, PartText}
	}
	linear := func(part Part, name string, out, in int) {
		add(part, InitXavier, name+".weight", out, in)
		add(part, InitZeros, name+".bias", out)
	}
	norm := func(part Part, name string, width int) {
		add(part, InitOnes, name+".weight", width)
		add(part, InitZeros, name+".bias", width)
	}
	blocks := func(part Part, prefix string, width, depth, heads int) {
		for i := range depth {
			p := blockName(prefix, i)
			norm(part, p+"norm1", width)
			linear(part, p+"attn.qkv", 3*width, width)
			if s.QKNorm {
				norm(part, p+"attn.q_norm", width/heads)
				norm(part, p+"attn.k_norm", width/heads)
			}
			linear(part, p+"attn.proj", width, width)
			norm(part, p+"norm2", width)
			linear(part, p+"mlp.fc1", s.MLPRatio*width, width)
			linear(part, p+"mlp.fc2", width, s.MLPRatio*width)
		}
		norm(part, prefix+".layer_norm", width)
	}

	head := func() {
		add(PartHead, InitNormal, "head.weight", s.NumClasses, s.Width)
		add(PartHead, InitZeros, "head.bias", s.NumClasses)
	}
	if s.Foreign() {
		head()
		return out
	}
	linear(PartEncoder, "encoder.patchify", s.Width, s.PatchPixels())
	if s.Positions == Learned {
		add(PartEncoder, InitNormal, "encoder.pos_embedding", s.NumPatches(), s.Width)
	}
	add(PartEncoder, InitNormal, "encoder.mod_embedding", NumViews, s.Width)
	add(PartEncoder, InitNormal, "encoder.cls_token", s.Width)
	blocks(PartEncoder, "encoder", s.Width, s.Depth, s.Heads)

	d := s.Decoder
	if d.OwnViews {
		add(PartDecoder, InitNormal, "decoder.mod_embedding", NumViews, d.Width)
	} else {
		linear(PartDecoder, "decoder.embed", d.Width, s.Width)
	}
	add(PartDecoder, InitNormal, "decoder.mask_token", d.Width)
	if s.Positions == Learned {
		add(PartDecoder, InitNormal, "decoder.pos_embedding", 1+s.NumPatches(), d.Width)
	}
	blocks(PartDecoder, "decoder", d.Width, d.Depth, d.Heads)
	linear(PartDecoder, "decoder.head", s.PatchPixels(), d.Width)

	head()
	s.textParams(add)
	return out
}

func blockName(prefix string, i int) string { return fmt.Sprintf("%s.transformer.%d.", prefix, i) }

// Initialise returns a parameter's first values. They depend on seed and name alone: not on the order of parameters, the
// device or the machine.
func (p Param) Initialise(seed uint64) []float32 {
	h := fnv.New64a()
	h.Write([]byte(p.Name))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	x := make([]float32, p.Size())
	switch p.Init {
	case InitOnes:
		for i := range x {
			x[i] = 1
		}
	case InitXavier:
		bound := math.Sqrt(6 / float64(p.Dims[0]+p.Size()/p.Dims[0]))
		for i := range x {
			x[i] = float32(bound * (2*rng.Float64() - 1))
		}
	case InitNormal:
		for i := range x {
			x[i] = float32(0.02 * rng.NormFloat64())
		}
	}
	return x
}

// SinCosPositions is the table [N,D] that a network with fixed positions adds to its patches.
func (s Spec) SinCosPositions() []float32 { return sinCosTable(s.Grid(), s.Width, false) }

// sinCosTable is the fixed 2-D position table [grid*grid, width] of He et al. 2022: with q = width/4 and
// f_j = 10000^(-j/q), a patch in column c and row r has [sin(c f) | cos(c f) | sin(r f) | cos(r f)]. With cls, a row of
// zeros goes in front.
func sinCosTable(grid, width int, cls bool) []float32 {
	q := width / 4
	var t []float32
	if cls {
		t = make([]float32, width)
	}
	for patch := range grid * grid {
		row := make([]float32, width)
		for j := range q {
			f := math.Pow(10000, -float64(j)/float64(q))
			sc, cc := math.Sincos(float64(patch%grid) * f)
			sr, cr := math.Sincos(float64(patch/grid) * f)
			row[j], row[q+j], row[2*q+j], row[3*q+j] = float32(sc), float32(cc), float32(sr), float32(cr)
		}
		t = append(t, row...)
	}
	return t
}
