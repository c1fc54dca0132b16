package serve

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/internal/version"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/serve/inference"
)

// The Open Inference Protocol (KServe v2): the model itself, for callers who prepare images and fuse views themselves.
const (
	pathInference = "/v2"
	pathV2Live    = "/v2/health/live"
	pathV2Ready   = "/v2/health/ready"
	pathV2Model   = "/v2/models/:name"
	pathV2Version = "/v2/models/:name/versions/:version"
)

// maxInferImages is how many images an inference request may hold: the size of a body is known before it is read.
const maxInferImages = 16

func (s *Server) inferenceRoutes(r *gin.Engine) {
	r.GET(pathInference, func(c *gin.Context) {
		s.respond(c, http.StatusOK, InferenceServer{"mvmae-serve", version.String(), []string{inference.Extension}})
	})
	r.GET(pathV2Live, func(c *gin.Context) { s.respond(c, http.StatusOK, InferenceLive{true}) })
	r.GET(pathV2Ready, func(c *gin.Context) {
		if p := s.unready(); p != nil {
			s.refuse(c, p)
			return
		}
		s.respond(c, http.StatusOK, InferenceReady{Ready: true})
	})
	for _, path := range []string{pathV2Model, pathV2Version} {
		r.GET(path, s.withModel(func(c *gin.Context, e *Engine) { s.respond(c, http.StatusOK, e.describeTensors(s.opts.Models)) }))
		r.GET(path+"/ready", s.withModel(func(c *gin.Context, e *Engine) {
			s.respond(c, http.StatusOK, InferenceReady{e.id.Name, true})
		}))
		r.POST(path+"/infer", s.withModel(s.infer))
	}
}

// InferenceServer is the answer of GET /v2.
type InferenceServer struct {
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Extensions []string `json:"extensions"`
}

// InferenceLive is the answer of /v2/health/live.
type InferenceLive struct {
	Live bool `json:"live"`
}

// InferenceReady is the answer of /v2/health/ready and of a model's ready.
type InferenceReady struct {
	Name  string `json:"name,omitempty" doc:"The model's."`
	Ready bool   `json:"ready"`
}

// InferenceModel is the answer of GET /v2/models/NAME.
type InferenceModel struct {
	Name     string          `json:"name"`
	Versions []string        `json:"versions"`
	Platform string          `json:"platform"`
	Inputs   []InferenceSpec `json:"inputs"`
	Outputs  []InferenceSpec `json:"outputs"`
}

// InferenceSpec describes a tensor of a model.
type InferenceSpec struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype" enum:"FP32,INT64"`
	Shape    []int64 `json:"shape" doc:"-1 is any number: of images."`
}

// InferenceProblem is a problem in the protocol's form.
type InferenceProblem struct {
	Error string `json:"error" doc:"What went wrong here."`
	Code  string `json:"code" doc:"What went wrong, stable across versions: that of a Problem."`
	Cure  string `json:"hint,omitempty" doc:"What the caller can do."`
}

// withModel finds the model that the path names.
func (s *Server) withModel(handler func(*gin.Context, *Engine)) gin.HandlerFunc {
	return func(c *gin.Context) {
		if s.stopped.Load() {
			s.refuse(c, draining())
			return
		}
		e, release, err := s.opts.Models.Use(c.Param("name"), c.Param("version"))
		if err != nil {
			s.answer(c, nil, err)
			return
		}
		defer release()
		c.Set("model", e.id.SHA256)
		handler(c, e)
	}
}

// describeTensors is the model's metadata, with the versions of its name that are served.
func (e *Engine) describeTensors(models *Models) InferenceModel {
	side := int64(e.metadata.Spec.ImageSize)
	doc := InferenceModel{Name: e.id.Name, Platform: "onnxruntime_onnx", Outputs: e.outputs(), Inputs: []InferenceSpec{
		{"image", inference.FP32, []int64{-1, 1, side, side}}, {"view", inference.INT64, []int64{-1}},
	}}
	for _, other := range models.engines() {
		if other.id.Name == e.id.Name {
			doc.Versions = append(doc.Versions, other.id.Version)
		}
	}
	return doc
}

func (s *Server) infer(c *gin.Context, e *Engine) {
	leave, full := s.admit(c.Request.Context(), s.house, &s.answers)
	if full != nil {
		s.refuse(c, full)
		return
	}
	defer leave(false) // its time says nothing about studies
	request, err := s.readInference(c, e)
	var response *inference.Response
	if err == nil {
		response, err = e.inferAs(c.Request.Context(), request)
	}
	var body []byte
	var jsonLength int
	if err == nil {
		body, jsonLength, err = response.Encode()
	}
	if err != nil {
		s.answer(c, nil, err)
		return
	}
	media := "application/json"
	if jsonLength < len(body) {
		media = "application/octet-stream"
		c.Header(inference.HeaderLength, strconv.Itoa(jsonLength))
	}
	s.send(c, http.StatusOK, media, body)
}

// inferAs runs a request's images and answers with the outputs that it wants.
func (e *Engine) inferAs(ctx context.Context, request *inference.Request) (*inference.Response, error) {
	images, views, err := e.inputs(request)
	if err != nil {
		return nil, err
	}
	wanted, err := e.wanted(request)
	if err != nil {
		return nil, err
	}
	out, err := e.Infer(ctx, images, views)
	if err != nil {
		return nil, err
	}
	response := &inference.Response{Model: e.id.Name, Version: e.id.Version, ID: request.ID}
	for _, o := range e.outputs() {
		if i := slices.IndexFunc(wanted, func(w inference.Wanted) bool { return w.Name == o.Name }); i >= 0 {
			response.Outputs, response.Binary = append(response.Outputs, o.tensor(out)), append(response.Binary, wanted[i].Binary)
		}
	}
	return response, nil
}

// readInference reads a body that is no larger than the most that a request of this model may need.
func (s *Server) readInference(c *gin.Context, e *Engine) (*inference.Request, error) {
	side := int64(e.metadata.Spec.ImageSize)
	const jsonNumber, jsonRest = 24, 64 << 10 // bytes: "-1.2345678901234567e-300,", and all that is no number
	limit := min(s.opts.Limits.RequestBytes, maxInferImages*side*side*jsonNumber+jsonRest)
	tooLarge := problem(http.StatusRequestEntityTooLarge, "request_too_large", "send fewer images, or binary tensors",
		"the request has more than %d bytes", limit)
	if c.Request.ContentLength > limit {
		return nil, tooLarge
	}
	if coding := c.GetHeader("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, problem(http.StatusUnsupportedMediaType, "unsupported_media_type", "send it without a content encoding", "content encoding %q", coding)
	}
	b := &body{paced: pace(c.Writer, c.Request.Body, s.opts.ReadTimeout), lim: s.opts.Limits}
	text, err := io.ReadAll(http.MaxBytesReader(c.Writer, b.paced, limit))
	var size *http.MaxBytesError
	if errors.As(err, &size) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, b.failed(err, "malformed_body", "")
	}
	request, err := inference.ParseRequest(text, c.GetHeader(inference.HeaderLength))
	if err != nil {
		return nil, malformedInference("%v", err)
	}
	return request, nil
}

func malformedInference(format string, args ...any) error {
	return problem(http.StatusBadRequest, "malformed_inference", "GET the model's metadata under /v2/models: it says which tensors it takes", format, args...)
}

// inputs are the tensors of a request as the model takes them: images [n*S*S], all finite, and n view codes.
func (e *Engine) inputs(r *inference.Request) (images []float32, views []int64, err error) {
	side := int64(e.metadata.Spec.ImageSize)
	var image, view *inference.Tensor
	for i := range r.Inputs {
		t := &r.Inputs[i]
		switch {
		case t.Name == "image" && image == nil && t.Datatype == inference.FP32:
			image = t
		case t.Name == "view" && view == nil && t.Datatype == inference.INT64:
			view = t
		default:
			return nil, nil, malformedInference("input %q of %s: the model takes image of %s and view of %s, once", t.Name, t.Datatype, inference.FP32, inference.INT64)
		}
	}
	if image == nil || view == nil {
		return nil, nil, malformedInference("the model takes two inputs, image and view: one is missing")
	}
	if len(image.Shape) != 4 || image.Shape[0] < 1 || !slices.Equal(image.Shape[1:], []int64{1, side, side}) {
		return nil, nil, malformedInference("input \"image\" has shape %v, the model takes [N,1,%d,%d]", image.Shape, side, side)
	}
	n := image.Shape[0]
	switch {
	case n > maxInferImages:
		return nil, nil, problem(http.StatusRequestEntityTooLarge, "too_many_images", "send them in several requests", "%d images: a request may hold %d", n, maxInferImages)
	case !slices.Equal(view.Shape, []int64{n}):
		return nil, nil, malformedInference("input \"view\" has shape %v, %d images want [%d]", view.Shape, n, n)
	}
	for i, v := range view.Ints {
		if v < 0 || v >= model.NumViews {
			return nil, nil, malformedInference("input \"view\", number %d is %d: views are 0 to %d", i, v, model.NumViews-1)
		}
	}
	for i, v := range image.Floats {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, nil, malformedInference("input \"image\", number %d is not finite", i)
		}
	}
	return image.Floats, view.Ints, nil
}

// wanted are the outputs that a request asks for; all of them if it names none.
func (e *Engine) wanted(r *inference.Request) ([]inference.Wanted, error) {
	list, names := r.Outputs, []string{}
	for _, o := range e.outputs() {
		names = append(names, o.Name)
		if len(r.Outputs) == 0 {
			list = append(list, inference.Wanted{Name: o.Name, Binary: r.Binary})
		}
	}
	for i, w := range list {
		if !slices.Contains(names, w.Name) || slices.ContainsFunc(list[:i], func(other inference.Wanted) bool { return other.Name == w.Name }) {
			return nil, malformedInference("output %q: the model has %q, each once", w.Name, names)
		}
	}
	return list, nil
}
