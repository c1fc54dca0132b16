package export

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
)

// half makes the blocks compute in float16. What is before the first block and after the last stays in float32, with casts
// on the border; LayerNormalization takes its statistics in float32 all the same (its stash_type).
func (g *graph) half() {
	first, last := len(g.nodes), -1
	for i, n := range g.nodes {
		for _, name := range n.Input {
			if strings.HasPrefix(name, inBlocks) {
				first, last = min(first, i), i
			}
		}
	}
	last++ // the last block's residual sum, which reads no weight
	old := g.nodes
	g.nodes = nil
	inside, casts := map[string]bool{}, map[string]string{}
	for i, n := range old {
		within := first <= i && i <= last
		for j, name := range n.Input {
			if c := g.known[name]; c != nil {
				if within && c.kind == onnxpb.TensorProto_FLOAT {
					n.Input[j] = g.halved(c)
				}
			} else if within != inside[name] {
				n.Input[j] = g.cast(casts, name, within)
			}
		}
		for _, name := range n.Output {
			inside[name] = within
		}
		g.nodes = append(g.nodes, n)
	}
}

// cast returns a value in the other type, from one node for all who read it there.
func (g *graph) cast(casts map[string]string, name string, toHalf bool) string {
	if casts[name] == "" {
		to := onnxpb.TensorProto_FLOAT
		if toHalf {
			to = onnxpb.TensorProto_FLOAT16
		}
		n := g.newNode("Cast", []string{name}, intAttribute("to", int(to)))
		g.nodes = append(g.nodes, n)
		casts[name] = n.Output[0]
	}
	return casts[name]
}

// halved stores a constant in float16. It panics with an error for a number that float16 does not have.
func (g *graph) halved(c *constant) string {
	raw := make([]byte, 0, 2*len(c.floats))
	for i, x := range c.floats {
		h := float16(x)
		if h&0x7fff >= 0x7c00 { // infinite, or not a number
			panic(hint.Wrap(fmt.Errorf("number %d of %s is %g: float16 ends at 65504", i, c.name, x), "export it as fp32 or int8"))
		}
		raw = binary.LittleEndian.AppendUint16(raw, h)
	}
	return g.constant(constant{name: c.name + ".half", dims: c.dims, kind: onnxpb.TensorProto_FLOAT16, raw: raw})
}

// float16 rounds to the nearest number of IEEE 754 binary16, to the even one of two that are as near.
func float16(x float32) uint16 {
	bits := math.Float32bits(x)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000: // not a number
		return sign | 0x7e00
	case magnitude >= 0x477ff000: // 65520, which rounds to the next power of two, and all above
		return sign | 0x7c00
	case magnitude < 0x38800000: // below 2^-14: a multiple of 2^-24, which adding 1/2 rounds to
		sum := math.Float32frombits(magnitude) + 0.5
		return sign | uint16(math.Float32bits(sum)-0x3f000000)
	}
	odd := magnitude >> 13 & 1
	return sign | uint16((magnitude-0x38000000+0xfff+odd)>>13)
}
