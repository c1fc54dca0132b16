package serve

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/serve/api"
)

const pathDocs = "/docs"

//go:embed docs.html
var docsHTML string

//go:embed docs.css
var docsCSS string

// docsRoutes serve the documentation as pages without a script or anything from elsewhere: of the OpenAPI document, and of the codes.
func (s *Server) docsRoutes(r *gin.Engine, doc *huma.OpenAPI) {
	pages := template.Must(template.New("").Funcs(template.FuncMap{
		"operations": operations, "kind": kindOf, "ref": refOf, "code": code,
		"css": func() template.CSS { return template.CSS(docsCSS) }, "has": slices.Contains[[]string],
	}).Parse(docsHTML))
	// html/template writes the style as it is, so its digest is known.
	digest := sha256.Sum256([]byte(docsCSS))
	policy := fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(digest[:]))
	for path, page := range map[string]struct {
		name string
		data any
	}{pathDocs: {"api", doc}, api.PathErrors: {"codes", api.Catalogue()}} {
		var text bytes.Buffer
		if err := pages.ExecuteTemplate(&text, page.name, page.data); err != nil {
			panic(err) // a template that does not fit: every test of the server finds it
		}
		r.GET(path, func(c *gin.Context) {
			c.Header("Content-Security-Policy", policy)
			c.Header("X-Content-Type-Options", "nosniff")
			s.send(c, http.StatusOK, "text/html; charset=utf-8", text.Bytes())
		})
	}
}

// operation is an operation with where it is.
type operation struct {
	Method, Path string
	*huma.Operation
}

// operations are those of a chapter, by their paths.
func operations(doc *huma.OpenAPI, tag string) (list []operation) {
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, o := range []operation{{http.MethodGet, path, item.Get}, {http.MethodPost, path, item.Post}} {
			if o.Operation != nil && slices.Contains(o.Tags, tag) {
				list = append(list, o)
			}
		}
	}
	return list
}

// refOf is the name of the schema that s refers to, itself or by its items; "" if it names none.
func refOf(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Items != nil:
		return refOf(s.Items)
	}
	return ""
}

// kindOf says what a schema is, up to the name that refOf has.
func kindOf(s *huma.Schema) string {
	switch {
	case s == nil || s.Ref != "":
		return ""
	case s.Type == huma.TypeArray:
		return strings.TrimSpace("array of " + kindOf(s.Items))
	case len(s.Enum) > 0:
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = fmt.Sprint(v)
		}
		return strings.Join(values, " | ")
	case s.AdditionalProperties != nil && s.Type == huma.TypeObject:
		if of, ok := s.AdditionalProperties.(*huma.Schema); ok {
			return "map of " + cmp.Or(kindOf(of), refOf(of))
		}
	}
	return strings.TrimSpace(cmp.Or(s.Format, s.Type))
}

// code sets what is between back quotes as code.
func code(text string) template.HTML {
	var out strings.Builder
	for i, part := range strings.Split(text, "`") {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		out.WriteString(part)
	}
	return template.HTML(out.String())
}
