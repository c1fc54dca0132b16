package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// The numbers of the fields that lead to the metadata: ModelProto.metadata_props, and the two of its entries
// (https://onnx.ai/onnx/repo-docs/IR.html).
const (
	fieldMetadataProps = 14
	fieldKey           = 1
	fieldValue         = 2
)

// readMetadata finds the metadata in the bytes of an ONNX file. They are wanted before a session is made, which has to know
// the graph's outputs.
func readMetadata(data []byte) (model.Metadata, error) {
	if len(data) == 0 {
		return model.Metadata{}, unloadable(errors.New("it is empty"))
	}
	var doc []byte
	err := fields(data, func(number protowire.Number, value []byte) {
		var key, text []byte
		if number != fieldMetadataProps || fields(value, func(number protowire.Number, value []byte) {
			switch number {
			case fieldKey:
				key = value
			case fieldValue:
				text = value
			}
		}) != nil {
			return
		}
		if string(key) == model.MetadataKey {
			doc = text
		}
	})
	if err != nil {
		return model.Metadata{}, unloadable(err)
	}
	if doc == nil {
		return model.Metadata{}, hint.Wrap(fmt.Errorf("an ONNX file without the metadata %q of MVMAE", model.MetadataKey),
			"only files made by mvmae-export say how their input is prepared and what their outputs mean")
	}
	metadata, err := model.ParseMetadata(doc)
	return metadata, hint.Wrap(err, anew)
}

// fields calls f with each field of a message that has bytes for a value.
func fields(message []byte, f func(protowire.Number, []byte)) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if kind == protowire.BytesType {
			if value, n := protowire.ConsumeBytes(message); n >= 0 {
				f(number, value)
			}
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
	}
	return nil
}

// checkWeights refuses a file of weights that is not the one that the model file names.
func checkWeights(folder string, w *model.WeightsFile) error {
	if w == nil {
		return nil
	}
	const cure = "copy it from where the model file came from: the two belong together"
	f, err := os.Open(filepath.Join(folder, w.Name))
	if err != nil {
		return hint.Wrap(fmt.Errorf("its weights: %w", err), cure)
	}
	defer f.Close()
	digest := sha256.New()
	n, err := io.Copy(digest, f)
	if err != nil {
		return fmt.Errorf("its weights: read %s: %w", w.Name, err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != w.SHA256 {
		return hint.Wrap(fmt.Errorf("its weights: %s has %d bytes of SHA-256 %.12s: want %d of %.12s", w.Name, n, got, w.Bytes, w.SHA256), cure)
	}
	return nil
}
