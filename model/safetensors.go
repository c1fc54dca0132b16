package model

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// Tensor is a float32 array, row-major.
type Tensor struct {
	Dims []int
	Data []float32
}

// Tensors are named arrays: a checkpoint's content.
type Tensors map[string]Tensor

// ErrCorrupt says that a file is not a whole checkpoint: not safetensors, cut short, or changed since it was written.
var ErrCorrupt = errors.New("corrupt checkpoint")

const (
	maxHeaderBytes = 64 << 20
	digestKey      = "data_sha256" // __metadata__ key under which WriteSafetensors leaves the digest of the data
)

type tensorEntry struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// WriteSafetensors writes a file in the safetensors format: F32 tensors in order of name, with metadata and the digest
// of the data. The file appears whole or not at all, and is on disk when WriteSafetensors returns.
func WriteSafetensors(path string, tensors Tensors, metadata map[string]string) error {
	names := make([]string, 0, len(tensors))
	for name := range tensors {
		names = append(names, name)
	}
	sort.Strings(names)

	header := map[string]any{}
	digest, offset := sha256.New(), int64(0)
	for _, name := range names {
		t := tensors[name]
		if product(t.Dims) != len(t.Data) {
			return fmt.Errorf("write %s: tensor %s has %d values for shape %v", path, name, len(t.Data), t.Dims)
		}
		end := offset + 4*int64(len(t.Data))
		header[name] = tensorEntry{"F32", t.Dims, [2]int64{offset, end}}
		offset = end
		if err := writeFloats(digest, t.Data); err != nil {
			return err
		}
	}
	meta := map[string]string{digestKey: hex.EncodeToString(digest.Sum(nil))}
	for k, v := range metadata {
		meta[k] = v
	}
	header["__metadata__"] = meta
	head, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	for len(head)%8 != 0 { // the format aligns the data to 8 bytes with spaces
		head = append(head, ' ')
	}
	return WriteFileAtomic(path, func(w io.Writer) error {
		if err := binary.Write(w, binary.LittleEndian, uint64(len(head))); err != nil {
			return err
		}
		if _, err := w.Write(head); err != nil {
			return err
		}
		for _, name := range names {
			if err := writeFloats(w, tensors[name].Data); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeFloats(w io.Writer, x []float32) error {
	buf := make([]byte, 0, 1<<16)
	for len(x) > 0 {
		n := min(len(x), cap(buf)/4)
		buf = buf[:0]
		for _, v := range x[:n] {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		x = x[n:]
	}
	return nil
}

// WriteFileAtomic writes a file beside its final place, syncs it, renames it and syncs the folder: whoever reads path
// finds the old file or the whole new one.
func WriteFileAtomic(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// FileDigest is the SHA-256 of a file, in hexadecimal.
func FileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ReadSafetensors reads a file of tensors, which become float32, and its metadata. A file that is not whole gives an error
// that wraps ErrCorrupt; if the metadata hold a digest of the data, it must match.
func ReadSafetensors(path string) (Tensors, map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	tensors, meta, err := parseSafetensors(data)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return tensors, meta, nil
}

func parseSafetensors(data []byte) (Tensors, map[string]string, error) {
	corrupt := func(format string, args ...any) (Tensors, map[string]string, error) {
		return nil, nil, fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if len(data) < 8 {
		return corrupt("%d bytes", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeaderBytes || n > uint64(len(data)-8) {
		return corrupt("header of %d bytes in a file of %d", n, len(data))
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(data[8:8+n], &header); err != nil {
		return corrupt("header: %v", err)
	}
	body := data[8+n:]
	meta := map[string]string{}
	if raw, ok := header["__metadata__"]; ok {
		if err := json.Unmarshal(raw, &meta); err != nil {
			return corrupt("metadata: %v", err)
		}
		delete(header, "__metadata__")
	}
	if want := meta[digestKey]; want != "" {
		if got := sha256.Sum256(body); hex.EncodeToString(got[:]) != want {
			return corrupt("the data's SHA-256 is %x, the header says %s", got, want)
		}
	}
	tensors := make(Tensors, len(header))
	for name, raw := range header {
		var e tensorEntry
		if err := json.Unmarshal(raw, &e); err != nil {
			return corrupt("tensor %s: %v", name, err)
		}
		if TypeSize(e.DType) == 0 {
			return nil, nil, fmt.Errorf("tensor %s has type %s, which is not read", name, e.DType)
		}
		size, fits := sizeOf(e.Shape, TypeSize(e.DType), len(body))
		if lo, hi := e.Offsets[0], e.Offsets[1]; !fits || lo < 0 || hi > int64(len(body)) || hi-lo != size {
			return corrupt("tensor %s: bytes %d to %d for shape %v in %d bytes of data", name, lo, hi, e.Shape, len(body))
		}
		values, err := Floats(e.DType, body[e.Offsets[0]:e.Offsets[1]])
		if err != nil {
			return corrupt("tensor %s: %v", name, err)
		}
		tensors[name] = Tensor{Dims: e.Shape, Data: values}
	}
	return tensors, meta, nil
}

// sizeOf is the number of bytes of a tensor of numbers of some bytes each, and whether that is at most limit.
func sizeOf(shape []int, each, limit int) (bytes int64, fits bool) {
	bytes = int64(each)
	for _, d := range shape {
		if d < 0 || (d > 0 && bytes > int64(limit)/int64(d)) {
			return 0, false
		}
		bytes *= int64(d)
	}
	return bytes, bytes <= int64(limit)
}

// CheckParams reports every parameter of want that tensors lack or hold in another size. A shape may differ in axes of
// size one ([D] for [1,1,D]): the values are the same.
func (t Tensors) CheckParams(want []Param) error {
	var errs []error
	for _, p := range want {
		got, ok := t[p.Name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("parameter %s %v is missing", p.Name, p.Dims))
		case len(got.Data) != p.Size() || !slices.Equal(squeeze(got.Dims), squeeze(p.Dims)) && !flattens(got.Dims, p.Dims):
			errs = append(errs, fmt.Errorf("parameter %s has shape %v: want %v", p.Name, got.Dims, p.Dims))
		}
		if len(errs) == 8 {
			errs = append(errs, errors.New("and perhaps more"))
			break
		}
	}
	return errors.Join(errs...)
}

func squeeze(dims []int) []int {
	return slices.DeleteFunc(slices.Clone(dims), func(d int) bool { return d == 1 })
}

// flattens reports whether got is want with its last axis unfolded: a stride-P convolution [D,1,P,P] holds the values of
// a linear layer [D,P*P].
func flattens(got, want []int) bool {
	return len(want) == 2 && len(got) > 2 && got[0] == want[0] && product(got[1:]) == want[1]
}
