package serve

import (
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom/dicomjson"
)

// describeDicomweb describes the routes of DICOMweb, as far as PS3.18 leaves anything to say.
func describeDicomweb(doc *huma.OpenAPI, answers describer) {
	param := func(name, in, about, kind string) *huma.Param {
		return &huma.Param{Name: name, In: in, Description: about, Required: in == "path", Schema: &huma.Schema{Type: kind}}
	}
	add := func(method, path, id, summary string, responses map[string]*huma.Response, params ...*huma.Param) *huma.Operation {
		for _, name := range []string{"study", "series", "instance"} {
			if strings.Contains(path, "{"+name+"}") {
				params = append(params, uidParam(name, "A UID."))
			}
		}
		op := &huma.Operation{OperationID: id, Method: method, Path: pathWeb + path, Summary: summary, Parameters: params, Responses: responses}
		doc.AddOperation(op)
		return op
	}
	// inJSON gives an answer its media type.
	inJSON := func(responses map[string]*huma.Response) map[string]*huma.Response {
		content := responses["200"].Content
		content[typeJSON] = content["application/json"]
		delete(content, "application/json")
		return responses
	}
	include := describeInclude(doc)
	reading := []int{http.StatusBadRequest, http.StatusNotAcceptable, http.StatusServiceUnavailable, http.StatusNotImplemented}
	const study, series, instance = "/studies/{study}", "/studies/{study}/series/{series}", "/studies/{study}/series/{series}/instances/{instance}"

	for path, id := range map[string]string{"/studies": "stow", study: "stow-study"} {
		responses := inJSON(answers(dicomjson.Dataset{}, "All objects are on disk: the Store Instances Response Module.", append(reading,
			http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusInternalServerError)...))
		responses["202"] = &huma.Response{Description: "Some are, or all with warnings.", Content: responses["200"].Content}
		responses["409"] = &huma.Response{Description: "None is, for the reasons given.", Content: responses["200"].Content}
		op := add(http.MethodPost, path, id, "Store objects (STOW-RS)", responses,
			priorityParam(),
			param("complete", "query", "false says that more of the studies is to come.", huma.TypeBoolean),
			param("Study-Complete", "header", "Says the same, for callers who cannot add to the address.", huma.TypeBoolean))
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{typeRelated: requestBody().Content[typeRelated]}}
	}
	for path, id := range map[string]string{
		"/studies": "search-studies", "/series": "search-series", "/instances": "search-instances",
		study + "/series": "search-series-of-study", study + "/instances": "search-instances-of-study", series + "/instances": "search-instances-of-series",
	} {
		responses := inJSON(answers([]dicomjson.Dataset{}, "What was found.", reading...))
		responses["204"] = &huma.Response{Description: "Nothing was found."}
		add(http.MethodGet, path, id, "Search (QIDO-RS); other parameters are attributes to match by", responses,
			countParam("limit", "Of rows."), countParam("offset", "Rows to leave out."),
			include,
			param("fuzzymatching", "query", "Not supported: true is answered with a warning.", huma.TypeBoolean))
	}
	for path, id := range map[string]string{study: "study", series: "series", instance: "instance"} {
		responses := answers("", "The objects as they are stored.", append(reading, http.StatusNotFound)...)
		responses["200"].Content = map[string]*huma.MediaType{typeRelated: requestBody().Content[typeRelated]}
		add(http.MethodGet, path, "retrieve-"+id, "Retrieve objects (WADO-RS)", responses)
		add(http.MethodGet, path+"/metadata", "retrieve-"+id+"-metadata", "Retrieve metadata (WADO-RS)",
			inJSON(answers([]dicomjson.Dataset{}, "The headers, without pixels.", append(reading, http.StatusNotFound)...)))
	}
}

// uidParam is a UID in a path.
func uidParam(name, about string) *huma.Param {
	most := 64
	return &huma.Param{Name: name, In: "path", Description: about, Required: true,
		Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9.]+$", MaxLength: &most}}
}

func countParam(name, about string) *huma.Param {
	least, most := 0.0, float64(maxCount)
	return &huma.Param{Name: name, In: "query", Description: about, Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most}}
}

// describeInclude adds the parameter that names attributes. It lists those that are held; others are taken, and answered with nothing.
func describeInclude(doc *huma.OpenAPI) *huma.Param {
	names := []any{"all"}
	for t := range fields {
		names = append(names, tag.MustFind(t).Keyword)
	}
	slices.SortFunc(names, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	doc.Components.Parameters = map[string]*huma.Param{"includefield": {
		Name: "includefield", In: "query", Description: "Attributes to answer with beside those that always are: keywords, tags, or all.",
		Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Enum: names}},
	}}
	return &huma.Param{Ref: "#/components/parameters/includefield"}
}
