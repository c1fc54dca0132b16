package export

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// MaxFileBytes is the size above which the weights get a file of their own: a protocol buffer ends at 2 GiB.
const MaxFileBytes = 2<<30 - 64<<20

// The tensors that go into the file of weights, and how they lie there: a page each, so that readers can map them.
const (
	externalFrom  = 1 << 10
	externalAlign = 1 << 12
)

// File is a model file in memory.
type File struct {
	Model   []byte
	Weights []byte // of the file of weights; empty where the weights are in Model
	// WeightsName is that file's name, in the folder of the model file. It has the digest of its content in it: writing a
	// new model never touches the weights of the one before.
	WeightsName string
}

// Encode makes the bytes of a model file for a path: the same for the same model. Weights of more than limit bytes lie in
// a file beside it, which the metadata name with its digest; 0 is MaxFileBytes.
func Encode(file *onnxpb.ModelProto, path string, limit int) (f File, err error) {
	if limit == 0 {
		limit = MaxFileBytes
	}
	total := 0
	for _, t := range file.Graph.Initializer {
		total += len(t.RawData)
	}
	if total > limit {
		if f, err = moveWeights(file, path); err != nil {
			return f, err
		}
	}
	f.Model, err = proto.MarshalOptions{Deterministic: true}.Marshal(file)
	return f, err
}

// moveWeights takes the large tensors out of a model, which then points to where they lie.
func moveWeights(file *onnxpb.ModelProto, path string) (f File, err error) {
	digest, at := sha256.New(), []int{}
	for _, t := range file.Graph.Initializer {
		at = append(at, -1)
		if len(t.RawData) < externalFrom {
			continue
		}
		f.Weights = append(f.Weights, make([]byte, -len(f.Weights)&(externalAlign-1))...)
		at[len(at)-1] = len(f.Weights)
		f.Weights = append(f.Weights, t.RawData...)
	}
	digest.Write(f.Weights)
	sum := hex.EncodeToString(digest.Sum(nil))
	f.WeightsName = fmt.Sprintf("%s.%.12s.data", strings.TrimSuffix(filepath.Base(path), ".onnx"), sum)
	for i, t := range file.Graph.Initializer {
		if at[i] < 0 {
			continue
		}
		entry := func(key, value string) *onnxpb.StringStringEntryProto {
			return &onnxpb.StringStringEntryProto{Key: key, Value: value}
		}
		t.ExternalData = []*onnxpb.StringStringEntryProto{entry("location", f.WeightsName),
			entry("offset", strconv.Itoa(at[i])), entry("length", strconv.Itoa(len(t.RawData)))}
		t.DataLocation, t.RawData = onnxpb.TensorProto_EXTERNAL, nil
	}
	for _, p := range file.MetadataProps {
		if p.Key != model.MetadataKey {
			continue
		}
		metadata, err := model.ParseMetadata([]byte(p.Value))
		if err != nil {
			return f, err
		}
		metadata.Weights = &model.WeightsFile{Name: f.WeightsName, Bytes: int64(len(f.Weights)), SHA256: sum}
		doc, err := json.Marshal(metadata)
		if err != nil {
			return f, err
		}
		p.Value = string(doc)
	}
	return f, nil
}

// Write leaves the file at path, the weights first: whoever reads path finds an old model with its weights or the new one.
func (f File) Write(path string) error {
	if f.WeightsName != "" {
		if err := replaceFile(filepath.Join(filepath.Dir(path), f.WeightsName), f.Weights); err != nil {
			return err
		}
	}
	return replaceFile(path, f.Model)
}

// stage puts the weights that do not lie in the model into a folder of their own until remove is called, and returns the model's
// path beside them.
func (f File) stage(path string) (staged string, remove func(), err error) {
	if f.WeightsName == "" {
		return path, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "mvmae-export")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	if err := os.WriteFile(filepath.Join(dir, f.WeightsName), f.Weights, 0o600); err != nil {
		remove()
		return "", nil, err
	}
	return filepath.Join(dir, filepath.Base(path)), remove, nil
}

// open makes a model ready to run that is not at its place yet.
func (f File) open(path string, opts ort.Options) (*ort.Model, error) {
	staged, remove, err := f.stage(path)
	if err != nil {
		return nil, err
	}
	defer remove() // a session has read its weights when it is made
	return ort.OpenBytes(staged, f.Model, opts)
}

func replaceFile(path string, data []byte) error {
	err := model.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return hint.Wrap(err, "name a file in a folder that exists, has room and can be written")
	}
	return nil
}
