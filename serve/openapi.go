package serve

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/serve/api"
)

// describe serves the OpenAPI 3.1 document at /openapi.json, and returns it. Its schemas come from the Go types. The handlers are
// gin's own: huma would read a body of half a gigabyte into memory before it called one.
func describe(r *gin.Engine) *huma.OpenAPI {
	config := huma.DefaultConfig("MVMAE server", "1")
	config.Info.Description = "Classifies chest radiograph studies. Research use only."
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil
	doc := humagin.New(r, config).OpenAPI()

	answers := answersOf(doc)
	doc.AddOperation(&huma.Operation{
		OperationID: "classify-study", Method: http.MethodPost, Path: pathClassify, Summary: "Classify one study",
		Description: "Takes the DICOM objects of one study and answers with its findings. Objects that cannot be used are listed; " +
			"the study is refused only when none can.",
		Parameters: []*huma.Param{{
			Name: "attention", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"false", "true", "png"}},
			Description: "Whether to show the attention of each view, as numbers or as a picture too: refused with no_attention where the model has none.",
		}, {
			Name: "model", In: "query", Schema: &huma.Schema{Type: huma.TypeString}, Description: "The model's name, as /v1/models lists it (default: the default model's).",
		}, {
			Name: "version", In: "query", Schema: &huma.Schema{Type: huma.TypeString}, Description: "Its version (default: the newest).",
		}, priorityParam()},
		RequestBody: requestBody(),
		Responses: answers(Result{}, "The study's findings.", http.StatusBadRequest, http.StatusNotFound, http.StatusRequestTimeout,
			http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity,
			http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable),
	})
	doc.AddOperation(&huma.Operation{
		OperationID: "list-models", Method: http.MethodGet, Path: pathModels, Summary: "What became of each model file",
		Responses: answers(ModelList{}, "The models.", http.StatusInternalServerError),
	})
	doc.AddOperation(&huma.Operation{
		OperationID: "live", Method: http.MethodGet, Path: pathLive, Summary: "Whether the process answers",
		Responses: answers(Health{}, "It does."),
	})
	doc.AddOperation(&huma.Operation{
		OperationID: "ready", Method: http.MethodGet, Path: pathReady, Summary: "Whether the model is warm and studies are taken in",
		Responses: answers(Health{}, "They are.", http.StatusServiceUnavailable),
	})
	doc.AddOperation(&huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: pathMetrics, Summary: "Metrics for Prometheus",
		Responses: answeredAs(answers("", "In Prometheus's text format."), "text/plain"),
	})
	for path, what := range map[string]string{pathDocs: "This documentation", api.PathErrors: "What each code means"} {
		doc.AddOperation(&huma.Operation{
			OperationID: strings.ReplaceAll(path[1:], "/", "-"), Method: http.MethodGet, Path: path, Summary: what,
			Responses: answeredAs(answers("", "A page."), "text/html"),
		})
	}
	describeDurable(doc, answers)
	describeDicomweb(doc, answers)
	describeInference(doc, answers)
	complete(doc, answers)
	return doc
}

// answeredAs gives the good answer another media type.
func answeredAs(responses map[string]*huma.Response, media string) map[string]*huma.Response {
	ok := responses["200"]
	ok.Content = map[string]*huma.MediaType{media: ok.Content["application/json"]}
	return responses
}

// The chapters of the documentation, by the beginning of their paths: the first that fits.
var chapters = []struct{ path, tag, about string }{
	{pathClassify, "Studies", "Answered at once; nothing is kept."},
	{pathModels, "Studies", ""},
	{"/v1/", "Studies that are kept", "Taken in for good, of a server with --data."},
	{pathWeb, "DICOMweb", "PS3.18 over the studies that are kept."},
	{pathInference, "Open Inference Protocol", "The model itself (KServe v2), for callers who prepare images and fuse views themselves."},
	{"/", "Operations", "For those who run the server."},
}

// complete gives each operation its chapter and the answers that all have: to a caller without a token where one is asked for, to
// one who is past its limits, and of a server that fails.
func complete(doc *huma.OpenAPI, answers describer) {
	doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {
		Type: "http", Scheme: "bearer", Description: "Where the operator asks for one (--tokens). A client certificate (--client-ca) does as well.",
	}}
	doc.Security = []map[string][]string{{}, {"token": {}}}
	for _, c := range chapters {
		if c.about != "" {
			doc.Tags = append(doc.Tags, &huma.Tag{Name: c.tag, Description: c.about})
		}
	}
	for path, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post} {
			if op == nil {
				continue
			}
			for _, c := range chapters {
				if strings.HasPrefix(path, c.path) {
					op.Tags = []string{c.tag}
					break
				}
			}
			if isProbe(path) && path != pathMetrics {
				continue
			}
			for status, answer := range answers("", "", http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable) {
				if status == "200" || op.Responses[status] != nil {
					continue
				}
				if strings.HasPrefix(path, pathInference) {
					answer.Content = map[string]*huma.MediaType{"application/json": {
						Schema: doc.Components.Schemas.Schema(reflect.TypeFor[InferenceProblem](), true, ""),
					}}
				}
				op.Responses[status] = answer
			}
		}
	}
}

// priorityParam is the query's priority.
func priorityParam() *huma.Param {
	return &huma.Param{
		Name: "priority", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{priorityRoutine, priorityStat}},
		Description: "stat: the study goes before others wherever it waits, and finds a place where they have filled the server.",
	}
}

// describer describes the answers of an operation: the good one, and the problems by their statuses.
type describer func(ok any, okText string, problems ...int) map[string]*huma.Response

func answersOf(doc *huma.OpenAPI) describer {
	content := func(v any, media string) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{media: {Schema: doc.Components.Schemas.Schema(reflect.TypeOf(v), true, "")}}
	}
	return func(ok any, okText string, problems ...int) map[string]*huma.Response {
		m := map[string]*huma.Response{"200": {Description: okText, Content: content(ok, "application/json")}}
		for _, status := range problems {
			answer := &huma.Response{Description: http.StatusText(status), Content: content(Problem{}, "application/problem+json")}
			switch status {
			case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
				answer.Headers = map[string]*huma.Param{"Retry-After": {
					Description: "Seconds to wait.", Schema: &huma.Schema{Type: huma.TypeInteger},
				}}
			}
			m[fmt.Sprint(status)] = answer
		}
		return m
	}
}

// requestBody lists the ways to send a study.
func requestBody() *huma.RequestBody {
	object := &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "One DICOM object (PS3.10 file)."}
	objects := &huma.Schema{Type: huma.TypeArray, Items: object}
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		typeDICOM: {Schema: object},
		typeZip:   {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "The study's objects, in any folders."}},
		typeForm: {Schema: &huma.Schema{
			Type: huma.TypeObject, Description: "Every part is an object, whatever its name.",
			Properties: map[string]*huma.Schema{"file": objects},
		}},
		typeRelated: {Schema: objects},
	}}
}
