package torch

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Network is a network of a file in this project's terms.
type Network struct {
	Layout string     // whose names the file had
	Spec   model.Spec // with the decoder's shape only where HasDecoder
	// Tensors hold every parameter of model.PartEncoder, and those of the decoder and of the head where the file has them.
	Tensors    model.Tensors
	HasDecoder bool
	HasHead    bool
	LeftOut    []string // names in the file that no part of the network is made of, although they are known
}

// The layouts that are known.
const (
	ViT   = "vit"   // timm's VisionTransformer, also as DeiT, MAE and medical_mae build classifiers on it
	MAE   = "mae"   // MaskedAutoencoderViT of facebookresearch/mae and lambert-x/medical_mae
	MVMAE = "mvmae" // the published program, agostini335/MVMAE
)

// Open reads a file of weights with the notes beside it.
func Open(path string) (*Network, error) {
	c, err := Load(path)
	if err != nil {
		return nil, err
	}
	notes, err := ReadNotes(path)
	if err != nil {
		return nil, err
	}
	n, err := Map(c, notes)
	if err != nil {
		return nil, fmt.Errorf("weights %s: %w", path, err)
	}
	return n, nil
}

// Map gives the tensors of a file their places in a network. Pixels are scaled as model.Preset does it, whatever the file's
// network wants: the scaling is folded into the patch embedding, and so are three channels, which are equal in a radiograph.
func Map(c *Checkpoint, notes Notes) (*Network, error) {
	if err := finite(c.Tensors); err != nil {
		return nil, err
	}
	m := &mapper{tensors: unwrapped(c.Tensors), notes: notes, taken: map[string]bool{}}
	m.out.Tensors = model.Tensors{}
	var err error
	if prefix, ok := referencePrefix(m.tensors); ok {
		err = m.reference(prefix)
	} else if _, ok := m.tensors["patch_embed.proj.weight"]; ok {
		err = m.vit(c.Args)
	} else {
		return nil, hint.Wrap(fmt.Errorf("no patch embedding of a network that is known: the file holds %s", some(slices.Sorted(maps.Keys(m.tensors)))),
			"timm's VisionTransformer, MAE, medical_mae and the published MVMAE are; of others, export the encoder to ONNX for probe --encoder")
	}
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", m.out.Layout, err)
	}
	if err := m.finish(); err != nil {
		return nil, fmt.Errorf("layout %s: %w", m.out.Layout, err)
	}
	return &m.out, nil
}

// finite refuses numbers that are none: a network with one answers nothing but NaN.
func finite(tensors model.Tensors) error {
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		for i, v := range tensors[name].Data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("tensor %s: number %d is %v", name, i, v)
			}
		}
	}
	return nil
}

// unwrapped takes away what PyTorch's wrappers put in front of every name.
func unwrapped(tensors model.Tensors) model.Tensors {
	for _, wrapper := range []string{"_orig_mod.", "module."} {
		all := len(tensors) > 0
		for name := range tensors {
			all = all && strings.HasPrefix(name, wrapper)
		}
		if all {
			out := model.Tensors{}
			for name, t := range tensors {
				out[strings.TrimPrefix(name, wrapper)] = t
			}
			tensors = out
		}
	}
	return tensors
}

// mapper takes tensors out of a file, one name after the other, and keeps account of what is left.
type mapper struct {
	tensors model.Tensors
	notes   Notes
	taken   map[string]bool
	errs    []error
	out     Network
}

// take is the tensor of a name with a shape, whatever axes of size one it has besides. Where the file has none it notes the
// fault and gives nil.
func (m *mapper) take(name string, dims ...int) []float32 {
	t, ok := m.tensors[name]
	m.taken[name] = true
	switch {
	case !ok:
		m.errs = append(m.errs, fmt.Errorf("tensor %s %v is missing", name, dims))
	case !slices.Equal(squeeze(t.Dims), squeeze(dims)):
		m.errs = append(m.errs, fmt.Errorf("tensor %s has shape %v: want %v", name, t.Dims, dims))
	default:
		return t.Data
	}
	return nil
}

func squeeze(dims []int) []int {
	return slices.DeleteFunc(slices.Clone(dims), func(d int) bool { return d == 1 })
}

// put gives a parameter of the network its values.
func (m *mapper) put(name string, data []float32, dims ...int) {
	m.out.Tensors[name] = model.Tensor{Dims: dims, Data: data}
}

// has reports whether the file has a tensor.
func (m *mapper) has(name string) bool {
	_, ok := m.tensors[name]
	return ok
}

// leave sets aside every tensor of which the name begins so.
func (m *mapper) leave(prefixes ...string) {
	for name := range m.tensors {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) && !m.taken[name] {
				m.taken[name] = true
				m.out.LeftOut = append(m.out.LeftOut, name)
			}
		}
	}
	slices.Sort(m.out.LeftOut)
}

// finish refuses tensors that nothing took and shapes that make no network.
func (m *mapper) finish() error {
	var strangers []string
	for name := range m.tensors {
		if !m.taken[name] {
			strangers = append(strangers, name)
		}
	}
	slices.Sort(strangers)
	errs := m.errs
	if len(errs) > 8 {
		errs = append(errs[:8:8], fmt.Errorf("and %d more", len(m.errs)-8))
	}
	if len(strangers) > 0 {
		errs = append(errs, fmt.Errorf("unknown: tensor %s", some(strangers)))
	}
	errs = append(errs, m.out.Spec.Validate())
	return hint.Wrap(errors.Join(errs...), "a network of another build cannot be taken over exactly; export its encoder to ONNX for probe --encoder")
}

// some lists the first few of sorted names.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// shape starts the Spec from a patch embedding's weight [D,C,P,P] and the number of patches.
func (m *mapper) shape(patch string, patches int) (channels int, err error) {
	w := m.tensors[patch].Dims
	grid := int(math.Round(math.Sqrt(float64(patches))))
	if len(w) != 4 || w[2] != w[3] || (w[1] != 1 && w[1] != 3) {
		return 0, fmt.Errorf("tensor %s has shape %v: want [width, 1 or 3 channels, patch, patch]", patch, w)
	}
	if grid*grid != patches || patches == 0 {
		return 0, fmt.Errorf("%d positions of patches make no square", patches)
	}
	s, err := model.Preset("base") // for what no file says
	if err != nil {
		return 0, err
	}
	s.Preset, s.ImageSize, s.PatchSize, s.Width = "custom", grid*w[2], w[2], w[0]
	m.out.Spec = s
	return w[1], nil
}

// named gives a Spec the name of the preset it has the size of.
func named(s model.Spec) string {
	for _, name := range model.PresetNames() {
		p, err := model.Preset(name)
		if err == nil && p.ImageSize == s.ImageSize && p.PatchSize == s.PatchSize && p.Width == s.Width && p.Depth == s.Depth && p.Heads == s.Heads {
			return name
		}
	}
	return s.Preset
}

// patches folds scaling and channels into the patch embedding. With W [D,C,P,P] and b for (x-mean_c)/std_c, the one for a gray
// x scaled as (x-m)/s is W' = sum_c W_c s/std_c and b' = b + sum_c sum_pixels W_c (m-mean_c)/std_c.
func (m *mapper) patches(prefix string, channels int, fallback *[2]float64) error {
	mean, std, err := m.notes.scale(channels, fallback)
	if err != nil {
		return err
	}
	s := m.out.Spec
	w := m.take(prefix+".weight", s.Width, channels, s.PatchSize, s.PatchSize)
	b := m.take(prefix+".bias", s.Width)
	if w == nil || b == nil {
		return nil
	}
	n := s.PatchPixels()
	weight, bias := make([]float32, s.Width*n), make([]float32, s.Width)
	for d := range s.Width {
		shift := float64(b[d])
		for i := range n {
			sum := 0.0
			for c := range channels {
				v := float64(w[(d*channels+c)*n+i])
				sum += v * s.PixelStd / std[c]
				shift += v * (s.PixelMean - mean[c]) / std[c]
			}
			weight[d*n+i] = float32(sum)
		}
		bias[d] = float32(shift)
	}
	m.put("encoder.patchify.weight", weight, s.Width, n)
	m.put("encoder.patchify.bias", bias, s.Width)
	return nil
}

// stack takes a stack of transformer blocks, of which the file's names are prefix.I.norm1 and so on and ours begin with part.
func (m *mapper) stack(prefix, part string, width, depth int) {
	s := m.out.Spec
	copyOf := func(from, to string, dims ...int) { m.put(to, m.take(from, dims...), dims...) }
	both := func(from, to string, out, in int) {
		copyOf(from+".weight", to+".weight", out, in)
		copyOf(from+".bias", to+".bias", out)
	}
	norm := func(from, to string, width int) {
		copyOf(from+".weight", to+".weight", width)
		copyOf(from+".bias", to+".bias", width)
	}
	for i := range depth {
		from, to := fmt.Sprintf("%s.%d.", prefix, i), fmt.Sprintf("%s.transformer.%d.", part, i)
		norm(from+"norm1", to+"norm1", width)
		both(from+"attn.qkv", to+"attn.qkv", 3*width, width)
		if s.QKNorm {
			norm(from+"attn.q_norm", to+"attn.q_norm", width/s.Heads)
			norm(from+"attn.k_norm", to+"attn.k_norm", width/s.Heads)
		}
		both(from+"attn.proj", to+"attn.proj", width, width)
		norm(from+"norm2", to+"norm2", width)
		both(from+"mlp.fc1", to+"mlp.fc1", s.MLPRatio*width, width)
		both(from+"mlp.fc2", to+"mlp.fc2", width, s.MLPRatio*width)
	}
}

// depth counts the blocks prefix.0, prefix.1 and so on.
func (m *mapper) depth(prefix string) int {
	n := 0
	for m.has(fmt.Sprintf("%s.%d.norm1.weight", prefix, n)) {
		n++
	}
	return n
}

// blockShape reads depth, heads and form of the encoder's blocks. heads is 0 for what is usual.
func (m *mapper) blockShape(prefix string, heads int) error {
	s := &m.out.Spec
	first := prefix + ".0."
	s.Depth = m.depth(prefix)
	if s.Depth == 0 {
		return fmt.Errorf("tensor %snorm1.weight is missing", first)
	}
	if fc1 := m.tensors[first+"mlp.fc1.weight"].Dims; len(fc1) == 2 && s.Width > 0 && fc1[0]%s.Width == 0 {
		s.MLPRatio = fc1[0] / s.Width
	}
	q, qkNorm := m.tensors[first+"attn.q_norm.weight"]
	s.QKNorm = qkNorm
	switch {
	case qkNorm && len(q.Data) > 0 && s.Width%len(q.Data) == 0: // its length is a head's width
		heads = s.Width / len(q.Data)
	case cmp.Or(m.notes.Heads, heads) > 0:
		heads = cmp.Or(m.notes.Heads, heads)
	case s.Width%64 == 0:
		heads = s.Width / 64
	default:
		return hint.Wrap(fmt.Errorf("a width of %d does not tell the number of heads", s.Width), "write heads = ... into the file beside it that ends in .toml, as in vit.pth.toml")
	}
	s.Heads = heads
	s.Preset = named(*s)
	return nil
}

// head takes a linear classifier. Labels are those of its outputs; known says that the layout's order is model.Labels.
func (m *mapper) head(prefix string, known bool) error {
	w := m.tensors[prefix+".weight"].Dims
	if len(w) != 2 || w[0] != model.NumLabels {
		m.leave(prefix + ".")
		return nil
	}
	order := make([]int, model.NumLabels)
	for i := range order {
		order[i] = i
	}
	if m.notes.Labels != nil {
		var err error
		if order, err = m.notes.order(); err != nil {
			return err
		}
	} else if !known {
		m.leave(prefix + ".")
		return nil
	}
	width := m.out.Spec.Width
	weight, bias := m.take(prefix+".weight", model.NumLabels, width), m.take(prefix+".bias", model.NumLabels)
	if weight == nil || bias == nil {
		return nil
	}
	var w2, b2 []float32
	for _, row := range order {
		w2, b2 = append(w2, weight[row*width:(row+1)*width]...), append(b2, bias[row])
	}
	m.put("head.weight", w2, model.NumLabels, width)
	m.put("head.bias", b2, model.NumLabels)
	m.out.HasHead = true
	return nil
}
