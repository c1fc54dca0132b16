package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// Encoder is an image encoder that this package does not run itself: that of an ONNX file.
type Encoder struct {
	Classifier // of which only the embeddings count
	File       model.EncoderFile
	Spec       model.Spec // model.ForeignSpec
	Cache      string     // folder for embeddings, which take longest; "" for none
}

// CanProbeEncoder refuses a config that asks of an encoder of an ONNX file what only an own network does.
func (c Config) CanProbeEncoder() error {
	if c.Probe.Augment {
		return hint.Wrap(errors.New("probe.augment is true: images are encoded once by an ONNX encoder, and not augmented"), "add --set probe.augment=false")
	}
	return nil
}

// ProbeEncoder is Probe on an encoder of an ONNX file.
func ProbeEncoder(ctx context.Context, dev *Device, run *Run, pack *data.Pack, e Encoder, report func(ProbeStatus)) (rep eval.Report, err error) {
	defer recoverGraph(&err)
	if err := run.Config.CanProbeEncoder(); err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	end, err := run.begin(pack)
	if err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	defer end()
	if pack, err = run.Config.fewer(pack); err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	if run.Info.Encoder == nil || *run.Info.Encoder != e.File {
		return rep, hint.Wrap(errors.New("probe: the encoder is not what it was when the run began"), "begin another run for another encoder, or other notes beside it")
	}
	c := cachedEmbeddings{e: e, pack: pack, width: e.Spec.Width}
	if e.Cache != "" {
		key := sha256.Sum256([]byte(e.File.SHA256 + pack.Digest()))
		c.dir = filepath.Join(e.Cache, "embeddings-"+hex.EncodeToString(key[:16]))
	}
	sets, err := embedSplits(ctx, c.embed, pack, report)
	if err == nil {
		rep, err = probeEmbedded(ctx, dev, run, pack, e.Spec, sets, model.Tensors{}, func(params model.Tensors) (Classifier, error) {
			return headed{e, params}, nil
		}, report)
	}
	if err != nil {
		return rep, fmt.Errorf("probe: %w", err)
	}
	return rep, nil
}

// headed is a head of this trainer's on an encoder.
type headed struct {
	encoder Encoder
	head    model.Tensors
}

func (h headed) ImageSize() int { return h.encoder.Spec.ImageSize }

func (h headed) Classify(ctx context.Context, images []float32, views []cxr.View) (Outputs, error) {
	out, err := h.encoder.Classify(ctx, images, views)
	out.Logits = headLogits(h.head, out.Embedding)
	return out, err
}

// cachedEmbeddings keeps what an encoder says of a pack's images in files of chunkImages each: a probe that was stopped goes on
// where it was, and the next one on the same encoder and pack embeds nothing.
type cachedEmbeddings struct {
	e     Encoder
	pack  *data.Pack
	width int
	dir   string // "" for no cache
}

const chunkImages = 1024

// embed gives the embeddings of images of the pack, by number.
func (c cachedEmbeddings) embed(ctx context.Context, images []int, report func(done int)) ([][]float32, error) {
	chunks := map[int][]int{}
	for _, image := range images {
		chunks[image/chunkImages] = append(chunks[image/chunkImages], image)
	}
	known := map[int][]float32{}
	for _, chunk := range slices.Sorted(maps.Keys(chunks)) {
		if err := c.embedChunk(ctx, chunk, chunks[chunk], known, report); err != nil {
			return nil, err
		}
	}
	out := make([][]float32, len(images))
	for i, image := range images {
		out[i] = known[image]
	}
	return out, nil
}

// embedChunk adds the embeddings of images, all of one chunk, to known.
func (c cachedEmbeddings) embedChunk(ctx context.Context, chunk int, images []int, known map[int][]float32, report func(done int)) error {
	path := filepath.Join(c.dir, fmt.Sprintf("%06d.safetensors", chunk))
	stored, err := c.read(path)
	if err != nil {
		return err
	}
	var missing []int
	for _, image := range images {
		if e, ok := stored[image]; ok {
			known[image] = e
		} else {
			missing = append(missing, image)
		}
	}
	report(len(images) - len(missing))
	if len(missing) == 0 {
		return nil
	}
	out, err := ClassifyPack(ctx, c.e, c.pack, missing, report)
	if err != nil {
		return err
	}
	for i, image := range missing {
		known[image], stored[image] = out.Embedding[i], out.Embedding[i]
	}
	return c.write(path, stored)
}

// read is what a file of the cache holds; nothing, if there is none or it is not whole.
func (c cachedEmbeddings) read(path string) (map[int][]float32, error) {
	stored := map[int][]float32{}
	if c.dir == "" {
		return stored, nil
	}
	tensors, _, err := model.ReadSafetensors(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return stored, nil
	case errors.Is(err, model.ErrCorrupt):
		slog.Warn("cached embeddings are damaged: made anew", "file", path)
		return stored, nil
	case err != nil:
		return nil, fmt.Errorf("cache: %w", err)
	}
	image, embedding := tensors["image"].Data, tensors["embedding"].Data
	if len(embedding) != len(image)*c.width {
		slog.Warn("cached embeddings are of another shape: made anew", "file", path)
		return stored, nil
	}
	for i, number := range image {
		stored[int(number)] = embedding[i*c.width : (i+1)*c.width]
	}
	return stored, nil
}

// write leaves a file of the cache. Image numbers are whole in float32 up to 2^24; a chunk beyond is not kept.
func (c cachedEmbeddings) write(path string, stored map[int][]float32) error {
	if c.dir == "" {
		return nil
	}
	var image, embedding []float32
	for _, number := range slices.Sorted(maps.Keys(stored)) {
		if number >= 1<<24 {
			return nil
		}
		image, embedding = append(image, float32(number)), append(embedding, stored[number]...)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return hint.Wrap(fmt.Errorf("cache: %w", err), "name a folder that can be written with --cache")
	}
	err := model.WriteSafetensors(path, model.Tensors{
		"image": {Dims: []int{len(image)}, Data: image}, "embedding": {Dims: []int{len(image), c.width}, Data: embedding},
	}, nil)
	return hint.Wrap(err, "name a folder with room with --cache")
}
