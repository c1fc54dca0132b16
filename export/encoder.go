package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// EncoderNotes are what an ONNX encoder does not say of itself. They stand beside it in a TOML file: biomedclip.onnx.toml for
// biomedclip.onnx.
type EncoderNotes struct {
	ImageSize int       `toml:"image_size"` // pixels on a side: cxr.Input makes images of that size
	Channels  int       `toml:"channels"`   // 1 or 3; a radiograph's channels are equal
	Mean      []float64 `toml:"mean"`       // of each channel, for pixels in [0,1]: the encoder is given (pixel-mean)/std
	Std       []float64 `toml:"std"`
	Input     string    `toml:"input,omitempty"`  // of the image; needed where the graph has several inputs
	View      string    `toml:"view,omitempty"`   // input of the view codes, int64 [N]: 0 frontal, 1 lateral, 2 unknown
	Output    string    `toml:"output,omitempty"` // needed where the graph has several outputs
	// Pool makes one vector of an output that is several: "cls", the first token of [N,T,D], or "mean", over the tokens of
	// [N,T,D] or the places of [N,D,H,W]. An output [N,D] needs none.
	Pool  string `toml:"pool,omitempty"`
	Width int    `toml:"width,omitempty"` // D, where the graph does not say
}

// ONNXEncoder is an image encoder of an ONNX file, whoever made it.
type ONNXEncoder struct {
	File  model.EncoderFile
	notes EncoderNotes
	graph *onnxpb.ModelProto // pruned to what the output needs, its names out of the way of ours
	spec  model.Spec
	image *onnxpb.ValueInfoProto
	view  string // "" for none
	out   *onnxpb.ValueInfoProto
}

// encoderNotes is the TOML file beside an encoder.
func encoderNotes(path string) string { return path + ".toml" }

// OpenEncoder reads an ONNX file and the notes beside it.
func OpenEncoder(path string) (*ONNXEncoder, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("encoder: %w", err)
	}
	notes, err := readEncoderNotes(encoderNotes(path))
	if err != nil {
		return nil, fmt.Errorf("encoder: %w", err)
	}
	e, err := newEncoder(path, data, notes)
	if err != nil {
		return nil, fmt.Errorf("encoder %s: %w", path, err)
	}
	return e, nil
}

const notesExample = "image_size = 224, channels = 3, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]; output and pool where there is a choice"

func readEncoderNotes(path string) (n EncoderNotes, err error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return n, hint.Wrap(err, "write what the encoder wants into that file: %s", notesExample)
	}
	d := toml.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			err = fmt.Errorf("unknown key %s", strings.Join(strict.Errors[0].Key(), "."))
		}
		return n, hint.Wrap(fmt.Errorf("%s: %w", path, err), "%s", notesExample)
	}
	if err := n.validate(); err != nil {
		return n, hint.Wrap(fmt.Errorf("%s: %w", path, err), "%s", notesExample)
	}
	return n, nil
}

func (n EncoderNotes) validate() error {
	switch {
	case n.ImageSize < 1 || n.ImageSize > 4096:
		return fmt.Errorf("image_size is %d: want 1 to 4096", n.ImageSize)
	case n.Channels != 1 && n.Channels != 3:
		return fmt.Errorf("channels is %d: want 1 or 3", n.Channels)
	case len(n.Mean) != n.Channels || len(n.Std) != n.Channels:
		return fmt.Errorf("%d means and %d standard deviations for %d channels", len(n.Mean), len(n.Std), n.Channels)
	case slices.ContainsFunc(n.Std, func(s float64) bool { return !(s > 0) }):
		return fmt.Errorf("std is %v: want more than 0", n.Std)
	case n.Pool != "" && n.Pool != "cls" && n.Pool != "mean":
		return fmt.Errorf("pool is %q: want cls or mean", n.Pool)
	case n.Width < 0 || n.Width > 1<<16:
		return fmt.Errorf("width is %d: want 1 to 65536", n.Width)
	}
	return nil
}

// The versions of ONNX's operators whose files can be joined. What joins them means the same from the first on, but for
// ReduceMean, whose axes became an input at 18; the last is what ONNX Runtime 1.31 runs.
const (
	minOpset = 11
	maxOpset = 26
)

func newEncoder(path string, data []byte, notes EncoderNotes) (*ONNXEncoder, error) {
	e := &ONNXEncoder{notes: notes, graph: &onnxpb.ModelProto{}}
	err := proto.Unmarshal(data, e.graph)
	if err == nil && (e.graph.Graph == nil || len(e.graph.Graph.Node) == 0) {
		err = errors.New("it has no graph")
	}
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("not a whole ONNX file: %w", err), "copy the file again")
	}
	if v := e.opset(); v < minOpset || v > maxOpset {
		return nil, hint.Wrap(fmt.Errorf("unsupported opset %d", v), "export it again at one of opset %d to %d", minOpset, maxOpset)
	}
	if err := e.chooseOutput(); err != nil {
		return nil, err
	}
	if err := refuseUnread(e.graph.Graph); err != nil {
		return nil, err
	}
	prune(e.graph.Graph, e.out.Name)
	digest := sha256.New()
	digest.Write(data)
	beside := outside{folder: filepath.Dir(path), left: maxOutsideBytes, digest: digest}
	if err := beside.takeIn(e.graph.Graph); err != nil {
		return nil, err
	}
	if err := e.chooseInputs(); err != nil {
		return nil, err
	}
	width, err := e.width()
	if err != nil {
		return nil, err
	}
	e.spec = model.ForeignSpec(notes.ImageSize, width)
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	doc, err := json.Marshal(notes)
	if err != nil {
		return nil, err
	}
	digest.Write(doc)
	e.File = model.EncoderFile{Path: abs, SHA256: hex.EncodeToString(digest.Sum(nil))}
	return e, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (e *ONNXEncoder) opset() int64 {
	for _, o := range e.graph.OpsetImport {
		if o.Domain == "" || o.Domain == "ai.onnx" {
			return o.Version
		}
	}
	return 0
}

func names(infos []*onnxpb.ValueInfoProto) (out []string) {
	for _, v := range infos {
		out = append(out, v.Name)
	}
	return out
}

func find(infos []*onnxpb.ValueInfoProto, name string) *onnxpb.ValueInfoProto {
	for _, v := range infos {
		if v.Name == name {
			return v
		}
	}
	return nil
}

func (e *ONNXEncoder) chooseOutput() error {
	outputs := e.graph.Graph.Output
	if e.notes.Output == "" && len(outputs) == 1 {
		e.out = outputs[0]
	} else {
		e.out = find(outputs, e.notes.Output)
	}
	switch {
	case e.notes.Output == "" && e.out == nil:
		return hint.Wrap(fmt.Errorf("it has %d outputs: %s", len(outputs), strings.Join(names(outputs), ", ")), "choose one in %s: output = \"NAME\"", "the TOML file beside it")
	case e.out == nil:
		return hint.Wrap(fmt.Errorf("it has no output %q", e.notes.Output), "its outputs are %s", strings.Join(names(outputs), ", "))
	}
	return isFloat("output", e.out)
}

func isFloat(what string, v *onnxpb.ValueInfoProto) error {
	switch kind := onnxpb.TensorProto_DataType(v.GetType().GetTensorType().GetElemType()); kind {
	case onnxpb.TensorProto_FLOAT, onnxpb.TensorProto_FLOAT16:
		return nil
	default:
		return fmt.Errorf("%s %s has type %s: want float or float16", what, v.Name, strings.ToLower(kind.String()))
	}
}

// chooseInputs finds the image's input among those that the chosen output needs.
func (e *ONNXEncoder) chooseInputs() error {
	g := e.graph.Graph
	stored := map[string]bool{} // files of old list their weights as inputs, too
	for _, t := range g.Initializer {
		stored[t.Name] = true
	}
	inputs := slices.DeleteFunc(slices.Clone(g.Input), func(v *onnxpb.ValueInfoProto) bool { return stored[v.Name] })
	if e.notes.View != "" {
		if find(inputs, e.notes.View) == nil {
			return hint.Wrap(fmt.Errorf("it has no input %q for views", e.notes.View), "its inputs are %s", strings.Join(names(inputs), ", "))
		}
		e.view = e.notes.View
		inputs = slices.DeleteFunc(inputs, func(v *onnxpb.ValueInfoProto) bool { return v.Name == e.view })
	}
	if len(inputs) == 0 {
		return errors.New("its output does not depend on an image")
	}
	e.image = inputs[0]
	if e.notes.Input != "" {
		if e.image = find(inputs, e.notes.Input); e.image == nil {
			return hint.Wrap(fmt.Errorf("it has no input %q", e.notes.Input), "its inputs are %s", strings.Join(names(inputs), ", "))
		}
	}
	if len(inputs) > 1 {
		return hint.Wrap(fmt.Errorf("output %s needs %d inputs: %s", e.out.Name, len(inputs), strings.Join(names(inputs), ", ")),
			"an image encoder has one, and perhaps one of views: choose another output, or export the image part alone")
	}
	if err := isFloat("input", e.image); err != nil {
		return err
	}
	got := dims(e.image)
	want := []int64{0, int64(e.notes.Channels), int64(e.notes.ImageSize), int64(e.notes.ImageSize)}
	if len(got) != 4 {
		return fmt.Errorf("input %s has shape %s: want [N,%d,%d,%d]", e.image.Name, shapeText(e.image), want[1], want[2], want[3])
	}
	if got[0] != 0 {
		return hint.Wrap(fmt.Errorf("input %s has a fixed batch of %d", e.image.Name, got[0]), "export it again with a dynamic first axis (dynamic_axes in torch.onnx.export)")
	}
	for i := 1; i < 4; i++ {
		if got[i] != 0 && got[i] != want[i] {
			return hint.Wrap(fmt.Errorf("input %s has shape %s, the notes say [N,%d,%d,%d]", e.image.Name, shapeText(e.image), want[1], want[2], want[3]),
				"correct image_size or channels; an image with its channels last is not read")
		}
	}
	return nil
}

// dims are the sizes of a tensor, 0 where they are not known; nil where not even their number is.
func dims(v *onnxpb.ValueInfoProto) (out []int64) {
	for _, d := range v.GetType().GetTensorType().GetShape().GetDim() {
		out = append(out, max(d.GetDimValue(), 0))
	}
	return out
}

func shapeText(v *onnxpb.ValueInfoProto) string {
	return "[" + strings.Join(ports([]*onnxpb.ValueInfoProto{v})[0].Shape, ",") + "]"
}

// width is D of the embeddings, by the graph or by the notes.
func (e *ONNXEncoder) width() (int, error) {
	shape, axis := dims(e.out), -1
	switch pool := e.notes.Pool; {
	case len(shape) == 2 && pool == "":
		axis = 1
	case len(shape) == 3 && pool != "":
		axis = 2
	case len(shape) == 4 && pool == "mean":
		axis = 1
	case len(shape) == 3 || len(shape) == 4:
		return 0, hint.Wrap(fmt.Errorf("output %s has shape %s, which is more than one vector an image", e.out.Name, shapeText(e.out)),
			"choose another output, or pool = \"mean\", or for tokens pool = \"cls\", in the TOML file beside it")
	default:
		return 0, hint.Wrap(fmt.Errorf("output %s has shape %s with pool %q: want [N,D], or [N,T,D] or [N,D,H,W] with a pool", e.out.Name, shapeText(e.out), pool),
			"export it again with shapes inferred, or choose another output")
	}
	if shape[0] > 0 {
		return 0, hint.Wrap(fmt.Errorf("output %s has a fixed batch of %d", e.out.Name, shape[0]), "export it again with a dynamic first axis (dynamic_axes in torch.onnx.export)")
	}
	known, noted := int(shape[axis]), e.notes.Width
	switch {
	case known == 0 && noted == 0:
		return 0, hint.Wrap(fmt.Errorf("output %s has shape %s, which does not tell its width", e.out.Name, shapeText(e.out)), "write width = ... into the TOML file beside it")
	case known > 0 && noted > 0 && known != noted:
		return 0, fmt.Errorf("output %s has %d numbers an image, the notes say %d", e.out.Name, known, noted)
	}
	return max(known, noted), nil
}

// Spec is the encoder's shape in a model's metadata.
func (e *ONNXEncoder) Spec() model.Spec { return e.spec }

// Run makes the encoder ready to run, as a model whose head says nothing: its Embedding is what counts.
func (e *ONNXEncoder) Run(opts ort.Options) (*ort.Model, error) {
	silent := model.Tensors{
		"head.weight": {Dims: []int{model.NumLabels, e.spec.Width}, Data: make([]float32, model.NumLabels*e.spec.Width)},
		"head.bias":   {Dims: []int{model.NumLabels}, Data: make([]float32, model.NumLabels)},
	}
	file, err := e.Build(model.Metadata{
		FormatVersion: model.FormatVersion, Name: filepath.Base(e.File.Path), Version: e.File.SHA256[:12], Spec: e.spec, Labels: model.Labels[:], Preprocessing: "mimic",
		Fusion: "mean_probability", Calibration: json.RawMessage(`{"kind":"none"}`), Thresholds: slices.Repeat([]float64{1}, model.NumLabels), Kind: "encoder",
		Encoder:   model.Encoder{Method: "onnx", SHA256: e.File.SHA256},
		Embedding: model.EmbeddingStats{Mean: make([]float32, e.spec.Width), Std: slices.Repeat([]float32{1}, e.spec.Width)}, IntendedUse: model.IntendedUse,
	}, silent)
	if err != nil {
		return nil, err
	}
	encoded, err := Encode(file, e.File.Path, 0)
	if err != nil {
		return nil, err
	}
	m, err := encoded.open(e.File.Path, opts)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("encoder: %w", err), "ONNX Runtime must be able to run it on images of the size and channels in %s", encoderNotes(e.File.Path))
	}
	return m, nil
}
