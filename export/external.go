package export

import (
	"fmt"
	"hash"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
)

// maxOutsideBytes is how much of an encoder's weights may lie in other files: eight times the largest file without such.
const maxOutsideBytes = 16 << 30

// outside reads the weights of an encoder that lie in files beside it, as large ones must.
type outside struct {
	folder string
	left   int64     // bytes that may still be read
	digest hash.Hash // of all that was read
}

// takeIn puts such weights into a graph and the graphs within it: their tensors are then like any others.
func (o *outside) takeIn(g *onnxpb.GraphProto) error {
	tensors := g.Initializer
	for _, n := range g.Node {
		for _, a := range n.Attribute {
			if a.T != nil {
				tensors = append(tensors[:len(tensors):len(tensors)], a.T)
			}
			if a.G != nil {
				if err := o.takeIn(a.G); err != nil {
					return err
				}
			}
		}
	}
	for _, t := range tensors {
		if t.DataLocation != onnxpb.TensorProto_EXTERNAL {
			continue
		}
		raw, err := tensorBytes(t, o.folder, o.left)
		if err != nil {
			return hint.Wrap(fmt.Errorf("tensor %s: %w", t.Name, err),
				"copy the encoder's folder whole, or save it as one file: onnx.save(onnx.load(FILE), \"whole.onnx\")")
		}
		o.left -= int64(len(raw))
		o.digest.Write(raw)
		t.RawData, t.ExternalData, t.DataLocation = raw, nil, onnxpb.TensorProto_DEFAULT
	}
	return nil
}

// tensorBytes are a tensor's bytes, of which there may be so many. Those in a file of weights are read only from the model's
// folder or one below it (no link leads out of it), and must be as many as the tensor's type and shape need.
func tensorBytes(t *onnxpb.TensorProto, folder string, limit int64) ([]byte, error) {
	if t.DataLocation != onnxpb.TensorProto_EXTERNAL {
		return t.RawData, nil
	}
	at := map[string]string{}
	for _, e := range t.ExternalData {
		at[e.Key] = e.Value
	}
	name := at["location"]
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("its file %q is not beside the model", name)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("its file of weights: %w", err)
	}
	if !info.Mode().IsRegular() { // to open a pipe would wait for its other end
		return nil, fmt.Errorf("its file of weights %s is no file", name)
	}
	number := func(key string, missing int64) int64 {
		text, ok := at[key]
		if !ok {
			return missing
		}
		n, parseErr := strconv.ParseInt(text, 10, 64)
		if parseErr != nil || n < 0 {
			err = fmt.Errorf("%s is %q in %s", key, text, name)
		}
		return n
	}
	offset := number("offset", 0)
	length := number("length", info.Size()-offset)
	switch need, known := bytesOf(t); {
	case err != nil:
		return nil, err
	case offset > info.Size() || length > info.Size()-offset:
		return nil, fmt.Errorf("%s ends before byte %d", name, uint64(offset)+uint64(length))
	case length > limit:
		return nil, fmt.Errorf("%d bytes in %s: more than may be read of a model", length, name)
	case known && length != need:
		return nil, fmt.Errorf("%d bytes in %s: %s has %d", length, name, tensorText(t), need)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := make([]byte, length)
	_, err = f.ReadAt(raw, offset)
	return raw, err
}

// bytesOf is how many bytes a tensor's numbers take; not known for types of which one is not a whole number of bytes.
func bytesOf(t *onnxpb.TensorProto) (n int64, known bool) {
	n, known = map[onnxpb.TensorProto_DataType]int64{
		onnxpb.TensorProto_FLOAT: 4, onnxpb.TensorProto_DOUBLE: 8, onnxpb.TensorProto_FLOAT16: 2, bfloat16: 2,
		onnxpb.TensorProto_INT64: 8, onnxpb.TensorProto_INT32: 4, onnxpb.TensorProto_INT16: 2, onnxpb.TensorProto_INT8: 1,
		onnxpb.TensorProto_UINT16: 2, onnxpb.TensorProto_UINT8: 1, onnxpb.TensorProto_BOOL: 1,
	}[onnxpb.TensorProto_DataType(t.DataType)]
	for _, d := range t.Dims {
		high, low := bits.Mul64(uint64(n), uint64(max(d, 0)))
		if n = int64(low); high != 0 || n < 0 {
			return math.MaxInt64, known // more than there is
		}
	}
	return n, known
}
