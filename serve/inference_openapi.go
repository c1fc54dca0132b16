package serve

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mvmae/mvmae/serve/inference"
)

// InferenceRequest is the JSON of an inference request.
type InferenceRequest struct {
	ID      string              `json:"id,omitempty" doc:"Comes back in the answer."`
	Inputs  []InferenceInput    `json:"inputs" doc:"image and view."`
	Outputs []InferenceSelected `json:"outputs,omitempty" doc:"Which outputs to answer with (default: all)."`
}

// InferenceInput is a tensor of a request.
type InferenceInput struct {
	Name       string             `json:"name" enum:"image,view"`
	Datatype   string             `json:"datatype" enum:"FP32,INT64"`
	Shape      []int64            `json:"shape"`
	Data       []any              `json:"data,omitempty" doc:"Row by row, flat or nested."`
	Parameters *InferenceInputHow `json:"parameters,omitempty"`
}

// InferenceInputHow says where a tensor is.
type InferenceInputHow struct {
	Size int64 `json:"binary_data_size,omitempty" minimum:"0" doc:"The tensor's bytes follow the JSON, little endian."`
}

// InferenceSelected is an output that is asked for.
type InferenceSelected struct {
	Name       string                `json:"name" enum:"logits,probability,embedding,attention"`
	Parameters *InferenceSelectedHow `json:"parameters,omitempty"`
}

// InferenceSelectedHow says where an output is wanted.
type InferenceSelectedHow struct {
	Binary bool `json:"binary_data,omitempty" doc:"After the JSON, not in it."`
}

// InferenceAnswer is the JSON of a model's answer.
type InferenceAnswer struct {
	Model   string            `json:"model_name"`
	Version string            `json:"model_version,omitempty"`
	ID      string            `json:"id,omitempty"`
	Outputs []InferenceOutput `json:"outputs"`
}

// InferenceOutput is a tensor of an answer.
type InferenceOutput struct {
	Name       string             `json:"name"`
	Datatype   string             `json:"datatype" enum:"FP32"`
	Shape      []int64            `json:"shape"`
	Data       []float32          `json:"data,omitempty"`
	Parameters *InferenceInputHow `json:"parameters,omitempty"`
}

// describeInference describes the Open Inference Protocol. Its problems have its own form.
func describeInference(doc *huma.OpenAPI, answers describer) {
	content := func(v any, media string) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{media: {Schema: doc.Components.Schemas.Schema(reflect.TypeOf(v), true, "")}}
	}
	add := func(method, path, id, summary string, ok any, okText string, problems ...int) *huma.Operation {
		op := &huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Responses: answers(ok, okText, problems...)}
		for status, answer := range op.Responses {
			if status != "200" {
				answer.Content = content(InferenceProblem{}, "application/json")
			}
		}
		doc.AddOperation(op)
		return op
	}
	unavailable := http.StatusServiceUnavailable
	add(http.MethodGet, pathInference, "inference-server", "What this server is", InferenceServer{}, "Its name.")
	add(http.MethodGet, pathV2Live, "inference-live", "Whether the process answers", InferenceLive{}, "It does.")
	add(http.MethodGet, pathV2Ready, "inference-ready", "Whether the model is warm", InferenceReady{}, "It is.", unavailable)
	text := func(name, in, about string) *huma.Param {
		return &huma.Param{Name: name, In: in, Description: about, Required: in == "path", Schema: &huma.Schema{Type: huma.TypeString}}
	}
	for path, suffix := range map[string]string{"/v2/models/{name}": "", "/v2/models/{name}/versions/{version}": "-version"} {
		params := []*huma.Param{text("name", "path", "The model's name, as /v1/models lists it.")}
		if suffix != "" {
			params = append(params, text("version", "path", "Its version."))
		}
		add(http.MethodGet, path, "inference-model"+suffix, "Which tensors a model takes and gives", InferenceModel{}, "The model.",
			http.StatusNotFound, unavailable).Parameters = params
		add(http.MethodGet, path+"/ready", "inference-model-ready"+suffix, "Whether a model is ready", InferenceReady{}, "It is.",
			http.StatusNotFound, unavailable).Parameters = params
		op := add(http.MethodPost, path+"/infer", "infer"+suffix, "Run a model on images that are prepared", InferenceAnswer{}, "Its outputs.",
			http.StatusBadRequest, http.StatusNotFound, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, unavailable)
		op.Description = "image is float32 [N,1,S,S] in [0,1], as mvmae-serve inspect --npy writes it; view is int64 [N]: 0 frontal, 1 lateral, 2 unknown."
		op.Parameters = append(params, &huma.Param{
			Name: inference.HeaderLength, In: "header", Schema: &huma.Schema{Type: huma.TypeInteger},
			Description: "How many bytes of the body are JSON, where binary tensors follow.",
		})
		op.RequestBody = &huma.RequestBody{Required: true, Content: content(InferenceRequest{}, "application/json")}
		op.Responses["200"].Content["application/octet-stream"] = &huma.MediaType{
			Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "The JSON, then the binary tensors in its order."},
		}
	}
}
