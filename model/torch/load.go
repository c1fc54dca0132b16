package torch

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Checkpoint is what Load reads: tensors by the names they have in the file, and the options of the program that wrote it,
// where it left them.
type Checkpoint struct {
	Tensors model.Tensors
	Args    map[string]any
}

// Load reads the weights of a safetensors file, or of one that torch.save wrote: the zip format of PyTorch 1.6 and later, or
// the one before. Of a training checkpoint it takes what lies under "model" or "state_dict"; the optimiser's tensors are not
// read. Numbers of every type become float32.
func Load(name string) (*Checkpoint, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	c, err := (*Checkpoint)(nil), errOther
	if filepath.Ext(name) != ".safetensors" { // of which the first bytes are a length: any
		c, err = decode(f, info.Size())
	}
	if errors.Is(err, errOther) {
		tensors, _, err := model.ReadSafetensors(name)
		if err != nil {
			return nil, hint.Wrap(fmt.Errorf("weights: %w", err), "copy the file again; it must be a .safetensors file or one that torch.save wrote")
		}
		return &Checkpoint{Tensors: tensors}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("weights %s: %w", name, err)
	}
	return c, nil
}

// errOther says that torch.save did not write a file.
var errOther = errors.New("neither a zip file nor a pickle")

// decode reads what torch.save wrote. Its formats begin with the mark of a zip file, or of a pickle of protocol 2.
func decode(f io.ReaderAt, size int64) (*Checkpoint, error) {
	start := make([]byte, 4)
	if _, err := f.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case string(start) == "PK\x03\x04":
		return loadZip(f, size)
	case string(start[:2]) == "\x80\x02":
		return loadLegacy(f, size)
	}
	return nil, errOther
}

// blocks finds the bytes of a storage in the file.
type blocks func(s storage) ([]byte, error)

// loadZip reads PyTorch's zip format: NAME/data.pkl, and the numbers of storage K in NAME/data/K. Nothing in it is compressed.
func loadZip(f io.ReaderAt, size int64) (*Checkpoint, error) {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", model.ErrCorrupt, err)
	}
	members := map[string]*zip.File{}
	root := ""
	for _, m := range z.File {
		members[m.Name] = m
		if path.Base(m.Name) == "data.pkl" {
			root = path.Dir(m.Name)
		}
	}
	if root == "" {
		return nil, fmt.Errorf("%w: a zip file without data.pkl", ErrPickle)
	}
	read := func(name string) ([]byte, error) {
		m, ok := members[root+"/"+name]
		if !ok {
			return nil, fmt.Errorf("%w: no %s", model.ErrCorrupt, name)
		}
		if m.Method != zip.Store {
			return nil, fmt.Errorf("%w: %s is compressed, which torch.save never does", ErrPickle, name)
		}
		r, err := m.Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		data, err := io.ReadAll(r) // stored: no longer than the file
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", model.ErrCorrupt, name, err)
		}
		return data, nil
	}
	if order, err := read("byteorder"); err == nil && string(order) != "little" {
		return nil, fmt.Errorf("%w: byte order %q: only little is read", ErrPickle, order)
	}
	pickle, err := read("data.pkl")
	if err != nil {
		return nil, err
	}
	u := unpickler{r: bufio.NewReader(bytes.NewReader(pickle))}
	value, err := u.unpickle()
	if err != nil {
		return nil, err
	}
	return checkpointOf(value, func(s storage) ([]byte, error) { return read("data/" + s.key) })
}

// legacyMagic opens the format before PyTorch 1.6, as the bytes of a Python integer.
const legacyMagic bigInt = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

// loadLegacy reads five pickles (magic number, version, machine, the value, the keys of its storages) and then, for each
// key, a count and as many numbers.
func loadLegacy(f io.ReaderAt, size int64) (*Checkpoint, error) {
	u := unpickler{r: bufio.NewReader(io.NewSectionReader(f, 0, size))}
	var values [5]any
	for i := range values {
		var err error
		if values[i], err = u.unpickle(); err != nil {
			return nil, err
		}
		if i == 0 && values[0] != legacyMagic {
			return nil, fmt.Errorf("%w: a pickle that torch.save did not write", ErrPickle)
		}
	}
	keys, ok := values[4].(*list)
	if !ok {
		return nil, fmt.Errorf("%w: no list of storages", ErrPickle)
	}
	sizes := map[string]int64{}
	walk(values[3], func(t tensor) { sizes[t.storage.key] = int64(width(t.storage.dtype)) })
	at, places := u.read, map[string]int64{}
	for _, k := range keys.items {
		key, ok := k.(string)
		if !ok || sizes[key] == 0 {
			return nil, fmt.Errorf("%w: storage %v is of no tensor", ErrPickle, k)
		}
		places[key] = at
		var count [8]byte
		if _, err := f.ReadAt(count[:], at); err != nil {
			return nil, fmt.Errorf("%w: storage %s is missing", model.ErrCorrupt, key)
		}
		n := int64(binary.LittleEndian.Uint64(count[:]))
		if n < 0 || n > (size-at-8)/sizes[key] {
			return nil, fmt.Errorf("%w: storage %s has %d numbers in a file of %d bytes", model.ErrCorrupt, key, n, size)
		}
		at += 8 + n*sizes[key]
	}
	return checkpointOf(values[3], func(s storage) ([]byte, error) {
		place, ok := places[s.key]
		if n := int64(width(s.dtype)); ok && s.size >= 0 && s.size <= (size-place-8)/n {
			data := make([]byte, s.size*n)
			_, err := f.ReadAt(data, place+8)
			return data, err
		}
		return nil, fmt.Errorf("%w: storage %s of %d numbers is missing", model.ErrCorrupt, s.key, s.size)
	})
}

// walk calls f with every tensor in a value.
func walk(value any, f func(tensor)) {
	seen := map[any]bool{} // containers may hold themselves
	var visit func(v any, depth int)
	visit = func(v any, depth int) {
		if depth > 64 { // deeper than any checkpoint; without a bound, a made file could exhaust the stack
			return
		}
		switch v := v.(type) {
		case tensor:
			f(v)
		case tuple:
			for _, x := range v {
				visit(x, depth+1)
			}
		case *list:
			if !seen[v] {
				seen[v] = true
				for _, x := range v.items {
					visit(x, depth+1)
				}
			}
		case *dict:
			if !seen[v] {
				seen[v] = true
				for _, x := range v.values {
					visit(x, depth+1)
				}
			}
		}
	}
	visit(value, 0)
}

// checkpointOf takes the weights out of what was pickled.
func checkpointOf(value any, read blocks) (*Checkpoint, error) {
	top, ok := value.(*dict)
	if !ok {
		return nil, fmt.Errorf("%w: it holds a %T, not a dict of tensors", ErrPickle, value)
	}
	c := &Checkpoint{Tensors: model.Tensors{}}
	if args, ok := top.values["args"].(*namespace); ok {
		c.Args = map[string]any{}
		for k, v := range args.values {
			if name, ok := k.(string); ok {
				c.Args[name] = v
			}
		}
	}
	state := top
	for _, key := range []string{"model", "state_dict"} {
		if d, ok := top.values[key].(*dict); ok {
			state = d
			break
		}
	}
	var names []string
	for k := range state.values {
		name, ok := k.(string)
		if !ok {
			return nil, fmt.Errorf("%w: its names are no texts", ErrPickle)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	cached, data := "", []byte(nil)
	for _, name := range names {
		t, ok := state.values[name].(tensor)
		if !ok {
			return nil, hint.Wrap(fmt.Errorf("%w: %s is a %T, not a tensor", ErrPickle, name, state.values[name]), `the tensors must be the file's dict, or the one under "model" or "state_dict"`)
		}
		if t.storage.key != cached || data == nil {
			var err error
			if data, err = read(t.storage); err != nil {
				return nil, fmt.Errorf("tensor %s: %w", name, err)
			}
			cached = t.storage.key
		}
		x, err := t.floats(data)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", name, err)
		}
		c.Tensors[name] = x
	}
	if len(c.Tensors) == 0 {
		return nil, fmt.Errorf("%w: it holds no tensors", ErrPickle)
	}
	return c, nil
}

func width(dtype string) int { return model.TypeSize(dtype) }

// floats gathers a tensor's numbers out of its storage's bytes.
func (t tensor) floats(data []byte) (model.Tensor, error) {
	size := int64(width(t.storage.dtype))
	count := int64(len(data)) / size
	out := model.Tensor{}
	for _, d := range t.dims {
		out.Dims = append(out.Dims, int(d))
	}
	if slices.Contains(t.dims, 0) {
		return out, nil
	}
	total, last := int64(1), t.offset
	for i, d := range t.dims {
		if d < 1 || t.strides[i] < 0 || total > count/d {
			return model.Tensor{}, fmt.Errorf("%w: shape %v in a storage of %d numbers", model.ErrCorrupt, t.dims, count)
		}
		total *= d
		if d > 1 {
			if t.strides[i] > count/(d-1) {
				return model.Tensor{}, fmt.Errorf("%w: strides %v in a storage of %d numbers", model.ErrCorrupt, t.strides, count)
			}
			last += (d - 1) * t.strides[i]
		}
	}
	if t.offset < 0 || t.offset > count || last >= count {
		return model.Tensor{}, fmt.Errorf("%w: shape %v from number %d of %d", model.ErrCorrupt, t.dims, t.offset, count)
	}
	var err error
	if t.contiguous() {
		out.Data, err = model.Floats(t.storage.dtype, data[t.offset*size:(last+1)*size])
		return out, err
	}
	all, err := model.Floats(t.storage.dtype, data)
	if err != nil {
		return out, err
	}
	out.Data = make([]float32, 0, total)
	index := make([]int64, len(t.dims))
	for range total {
		at := t.offset
		for i, n := range index {
			at += n * t.strides[i]
		}
		out.Data = append(out.Data, all[at])
		for i := len(index) - 1; i >= 0; i-- {
			if index[i]++; index[i] < t.dims[i] {
				break
			}
			index[i] = 0
		}
	}
	return out, nil
}

// contiguous reports whether the numbers lie in a row.
func (t tensor) contiguous() bool {
	step := int64(1)
	for i := range slices.Backward(t.dims) {
		if t.dims[i] > 1 && t.strides[i] != step {
			return false
		}
		step *= t.dims[i]
	}
	return true
}

// notesPath is the TOML file beside a file.
func notesPath(file string) string { return file + ".toml" }
