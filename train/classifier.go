package train

import (
	"context"
	"fmt"
	"runtime"

	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"
	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// inferenceViews is the one batch size of inference graphs.
const inferenceViews = 64

// Classifier answers images: XLAClassifier with the trainer's own graph, ONNX Runtime with an exported file.
type Classifier interface {
	// Classify takes images [n,S,S] as cxr.Input makes them, and their views [n].
	Classify(ctx context.Context, images []float32, views []cxr.View) (Outputs, error)
	// ImageSize is S.
	ImageSize() int
}

// Outputs are what a classifier says of images: embeddings [n,D] and logits [n,14].
type Outputs struct {
	Embedding [][]float32
	Logits    [][model.NumLabels]float32
}

// XLAClassifier runs encoder and head over whole images, one compiled shape for any number of them.
type XLAClassifier struct {
	spec  model.Spec
	exec  *gomodel.Exec
	dev   *Device
	store *gomodel.Store
}

// NewXLAClassifier prepares a classifier with the parameters of PartEncoder and PartHead.
func NewXLAClassifier(dev *Device, spec model.Spec, params model.Tensors) (*XLAClassifier, error) {
	store, err := newStore(spec.Params(model.PartEncoder, model.PartHead), params)
	if err != nil {
		return nil, err
	}
	return newClassifier(dev, spec, store)
}

// newClassifier runs the parameters that a store holds, at any time.
func newClassifier(dev *Device, spec model.Spec, store *gomodel.Store) (*XLAClassifier, error) {
	exec, err := gomodel.NewExec(dev.Backend, store, func(_ *gomodel.Scope, in []node) []node {
		o := graphOps{store: store, g: in[0].Graph()}
		embedding := model.Embed(o, spec, in[0], in[1])
		return []node{embedding, model.Head(o, embedding)}
	})
	if err != nil {
		return nil, err
	}
	return &XLAClassifier{spec, exec, dev, store}, nil
}

// ImageSize is the side of the images it takes.
func (c *XLAClassifier) ImageSize() int { return c.spec.ImageSize }

// Classify implements Classifier.
func (c *XLAClassifier) Classify(ctx context.Context, images []float32, views []cxr.View) (out Outputs, err error) {
	defer recoverGraph(&err)
	pixels := c.spec.ImageSize * c.spec.ImageSize
	for from := 0; from < len(views); from += inferenceViews {
		if err := ctx.Err(); err != nil {
			return Outputs{}, fmt.Errorf("classify: %w", err)
		}
		n := min(inferenceViews, len(views)-from)
		batch, view := make([]float32, inferenceViews*pixels), make([]int32, inferenceViews)
		copy(batch, images[from*pixels:(from+n)*pixels])
		for i, v := range views[from : from+n] {
			view[i] = int32(v)
		}
		inputs := []any{
			tensors.FromFlatDataAndDimensions(batch, inferenceViews, c.spec.ImageSize, c.spec.ImageSize),
			tensors.FromFlatDataAndDimensions(view, inferenceViews),
		}
		got, err := c.exec.Call(inputs...)
		if err != nil {
			return Outputs{}, fmt.Errorf("classify: %w", err)
		}
		embedding, err := tensors.CopyFlatData[float32](got[0])
		if err != nil {
			return Outputs{}, err
		}
		logits, err := tensors.CopyFlatData[float32](got[1])
		if err != nil {
			return Outputs{}, err
		}
		finalize(inputs)
		finalize(got)
		for i := range n {
			out.Embedding = append(out.Embedding, embedding[i*c.spec.Width:(i+1)*c.spec.Width])
			out.Logits = append(out.Logits, [model.NumLabels]float32(logits[i*model.NumLabels:]))
		}
	}
	return out, nil
}

// attention returns the attention rollout [n,g,g] of the first n images, or of all if there are fewer: see model.EmbedAttention.
func (c *XLAClassifier) attention(images []float32, views []cxr.View, n int) (out []float32, err error) {
	defer recoverGraph(&err)
	exec, err := gomodel.NewExec(c.dev.Backend, c.store, func(_ *gomodel.Scope, in []node) node {
		_, attention := model.EmbedAttention(graphOps{store: c.store, g: in[0].Graph()}, c.spec, in[0], in[1])
		return attention
	})
	if err != nil {
		return nil, err
	}
	n = min(n, len(views))
	view := make([]int32, n)
	for i, v := range views[:n] {
		view[i] = int32(v)
	}
	size := c.spec.ImageSize
	inputs := []any{tensors.FromFlatDataAndDimensions(images[:n*size*size], n, size, size), tensors.FromFlatDataAndDimensions(view, n)}
	got, err := exec.Call(inputs...)
	if err != nil {
		return nil, fmt.Errorf("attention: %w", err)
	}
	defer finalize(inputs)
	defer finalize(got)
	return tensors.CopyFlatData[float32](got[0])
}

// ClassifyPack classifies images of a pack, given by number; report is told how many more were done.
func ClassifyPack(ctx context.Context, c Classifier, pack *data.Pack, images []int, report func(done int)) (Outputs, error) {
	var out Outputs
	for from := 0; from < len(images); from += inferenceViews {
		some := images[from:min(from+inferenceViews, len(images))]
		pixels, views := Inputs(pack, some, c.ImageSize())
		got, err := c.Classify(ctx, pixels, views)
		if err != nil {
			return Outputs{}, err
		}
		out.Embedding = append(out.Embedding, got.Embedding...)
		out.Logits = append(out.Logits, got.Logits...)
		report(len(some))
	}
	return out, nil
}

// Inputs are the model inputs [n,size,size] and views [n] of images of a pack: cxr.Input of their stored pixels, as at
// every other place.
func Inputs(pack *data.Pack, images []int, size int) ([]float32, []cxr.View) {
	pixels, views := make([]float32, len(images)*size*size), make([]cxr.View, len(images))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, image := range images {
		views[i] = pack.Images[image].View
		g.Go(func() error {
			cxr.Input(pack.Pixels(image), size, pixels[i*size*size:(i+1)*size*size])
			return nil
		})
	}
	g.Wait()
	return pixels, views
}

// ImagesOf lists the images of studies, study by study.
func ImagesOf(pack *data.Pack, studies []int) []int {
	var images []int
	for _, s := range studies {
		images = append(images, pack.Studies[s].Images...)
	}
	return images
}

// Predictions joins the logits of ImagesOf(studies) into what package eval scores.
func Predictions(pack *data.Pack, studies []int, logits [][model.NumLabels]float32) []eval.Prediction {
	out := make([]eval.Prediction, 0, len(studies))
	for _, s := range studies {
		study := pack.Studies[s]
		p := eval.Prediction{Patient: study.Dataset + "/" + study.Patient, Study: study.Dataset + "/" + study.ID, Labels: study.Labels,
			Person: eval.Person{Dataset: study.Dataset, Sex: study.Person.Sex, Age: study.Person.Age}}
		for _, image := range study.Images {
			p.Views = append(p.Views, eval.ViewPrediction{View: pack.Images[image].View, Logits: logits[0]})
			logits = logits[1:]
		}
		out = append(out, p)
	}
	return out
}
