package serve

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mvmae/mvmae/serve/studies"
)

// written is the JSON of a T as it was written, described as a T.
type written[T any] json.RawMessage

// MarshalJSON returns the text.
func (w written[T]) MarshalJSON() ([]byte, error) { return json.RawMessage(w).MarshalJSON() }

// Schema is that of a T.
func (w written[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// describeDurable describes the routes of studies that are taken in for good.
func describeDurable(doc *huma.OpenAPI, answers describer) {
	text := func(name, in, about string, values ...any) *huma.Param {
		return &huma.Param{Name: name, In: in, Description: about, Required: in == "path", Schema: &huma.Schema{Type: huma.TypeString, Enum: values}}
	}
	uid := uidParam("uid", "The Study Instance UID.")
	add := func(method, path, id, summary string, responses map[string]*huma.Response, params ...*huma.Param) *huma.Operation {
		responses["501"] = answers(StudyStatus{}, "", http.StatusNotImplemented)["501"]
		op := &huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Parameters: params, Responses: responses}
		doc.AddOperation(op)
		return op
	}
	// rename moves the good answer to its status.
	rename := func(status int, responses map[string]*huma.Response) map[string]*huma.Response {
		responses[fmt.Sprint(status)] = responses["200"]
		delete(responses, "200")
		return responses
	}
	take := add(http.MethodPost, pathStudies, "take-study", "Take one study in for good",
		rename(http.StatusAccepted, answers(StudyStatus{}, "Its objects are on disk: it will be classified, whatever becomes of the server.",
			http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
			http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
			http.StatusInsufficientStorage)),
		text("complete", "query", "false says that more of the study is to come.", "true", "false"), priorityParam())
	take.RequestBody = requestBody()
	take.Responses["202"].Headers = map[string]*huma.Param{"Location": {
		Description: "Where the study is.", Schema: &huma.Schema{Type: huma.TypeString},
	}}
	least, most := 1.0, float64(maxPageStudies)
	after := text("after", "query", "From the member next of the page before.")
	after.Schema.Pattern = `^2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z~[0-9.]{1,64}$`
	add(http.MethodGet, pathStudies, "list-studies", "The studies that are held", answers(StudyList{}, "A page of them.", http.StatusBadRequest),
		text("state", "query", "Only those in this state.", studyStates()...),
		&huma.Param{Name: "limit", In: "query", Description: "Of a page.", Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most}}, after)
	const one, version = pathStudies + "/{uid}", pathStudies + "/{uid}/versions/{version}"
	add(http.MethodGet, one, "get-study", "What became of a study", answers(StudyStatus{}, "The study.", http.StatusNotFound), uid)
	add(http.MethodGet, version, "get-version", "What became of one version of a study",
		answers(studies.Outcome{}, "The outcome.", http.StatusNotFound), uid, text("version", "path", "The version."))
	add(http.MethodPost, one+"/retry", "retry-study", "Try a dead letter again",
		answers(StudyStatus{}, "It is in the queue.", http.StatusNotFound, http.StatusConflict), uid)
	add(http.MethodPost, one+"/discard", "discard-study", "Give a dead letter up",
		answers(StudyStatus{}, "It counts as finished.", http.StatusNotFound, http.StatusConflict), uid)
	stream := maps.Clone(answers(Event{}, "The states of studies as they change, as server-sent events.", http.StatusNotFound))
	stream["200"].Content = map[string]*huma.MediaType{"text/event-stream": stream["200"].Content["application/json"]}
	add(http.MethodGet, pathEvents, "events", "Hear what becomes of studies", stream,
		text("study", "query", "Only this study; the first event says what it is now."))
}
