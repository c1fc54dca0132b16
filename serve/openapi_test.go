package serve

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/serve/api"
)

func getPage(t *testing.T, s *Server, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", path, w.Code, w.Body)
	}
	return w
}

func TestOpenAPI_IsTheOneOnFile(t *testing.T) {
	w := getPage(t, NewServer(ServerOptions{Logger: quiet}), "/openapi.json")
	var text bytes.Buffer
	if err := json.Indent(&text, w.Body.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	text.WriteByte('\n')
	golden(t, "testdata/openapi.json", text.Bytes())
}

// What the router has is what the document has: no route without a description, no description without a route.
func TestOpenAPI_HasEveryRoute(t *testing.T) {
	s := NewServer(ServerOptions{Logger: quiet})
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}
	if err := json.Unmarshal(getPage(t, s, "/openapi.json").Body.Bytes(), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Fatal(doc.OpenAPI, err)
	}
	described, routed := map[string]bool{}, map[string]bool{}
	for path, item := range doc.Paths {
		for method := range item {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	parameter := regexp.MustCompile(`/:(\w+)`)
	undescribed := regexp.MustCompile(`^/openapi|/(rendered|thumbnail|bulkdata|pixeldata|frames/\*rest)$`) // the document itself; what DICOMweb has and this server has not
	for _, r := range s.handler.(*gin.Engine).Routes() {
		if !undescribed.MatchString(r.Path) {
			routed[r.Method+" "+parameter.ReplaceAllString(strings.ReplaceAll(r.Path, `\:`, ":"), "/{$1}")] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(routed)), slices.Sorted(maps.Keys(described))); diff != "" {
		t.Errorf("operations (-routed +described)\n%s", diff)
	}
}

// The pages work without a network and without scripts, and a browser that keeps to the policy shows them as they are.
func TestDocs_NeedNothingFromElsewhere(t *testing.T) {
	s := NewServer(ServerOptions{Logger: quiet})
	for path, parts := range map[string][]string{
		pathDocs:       {`id="classify-study"`, "/v1/studies:classify", `id="infer"`, `href="#Result"`, `id="Result"`, "DICOMweb", "routine | stat"},
		api.PathErrors: {`id="busy"`, "The server has all it can do", "<code>gdcmconv --raw</code>", `id="far_from_training"`},
	} {
		w := getPage(t, s, path)
		page := w.Body.String()
		for _, part := range parts {
			if !strings.Contains(page, part) {
				t.Errorf("%s lacks %s", path, part)
			}
		}
		for _, foreign := range []string{"<script", "src=", "http:", "https:", "@import", "url(", "style=\""} {
			if strings.Contains(page, foreign) {
				t.Errorf("%s has %s", path, foreign)
			}
		}
		style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(page)
		if policy := w.Header().Get("Content-Security-Policy"); style == nil || style[1] != docsCSS || !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") {
			t.Errorf("%s: policy %q", path, policy)
		}
		for _, link := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(page, -1) {
			if !strings.Contains(page, `id="`+link[1]+`"`) {
				t.Errorf("%s: the link to %s leads nowhere", path, link[1])
			}
		}
	}
}
