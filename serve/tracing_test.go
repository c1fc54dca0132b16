package serve

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/serve/studies"
)

// receiver takes spans as an OpenTelemetry collector does.
type receiver struct {
	mu    sync.Mutex
	raw   bytes.Buffer
	about map[string]string // the attributes of the resource
	spans []*otlp.Span
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(req.Body)
	}
	data, err := io.ReadAll(body)
	var message collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(data, &message)
	}
	if err != nil || req.URL.Path != "/v1/traces" || req.Header.Get("Authorization") != "Bearer x" {
		http.Error(w, "not what a collector takes", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.Write(data)
	for _, resource := range message.ResourceSpans {
		r.about = map[string]string{}
		for _, a := range resource.Resource.Attributes {
			r.about[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
}

// tracedTo is telemetry whose spans go to the receiver, as the environment says.
func tracedTo(t *testing.T, r *receiver) *Telemetry {
	t.Helper()
	ln := httptest.NewServer(r)
	t.Cleanup(ln.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ln.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_SERVICE_NAME", "reading-room")
	telemetry, err := NewTelemetry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return telemetry
}

func attributes(s *otlp.Span) map[string]any {
	found := map[string]any{}
	for _, a := range s.Attributes {
		if a.Value.GetStringValue() != "" {
			found[a.Key] = a.Value.GetStringValue()
		} else {
			found[a.Key] = a.Value.GetIntValue()
		}
	}
	return found
}

func TestTracing_SpansOfARequestAndItsStages(t *testing.T) {
	var r receiver
	telemetry := tracedTo(t, &r)
	s := NewServer(ServerOptions{Logger: quiet, Telemetry: telemetry})
	ready(s, fakeEngine(t, &fakeModel{}, Options{Observe: telemetry.Observe}))
	form, body := formOf(t, []Upload{
		{Name: "DOE_JANE.dcm", Data: servetest.Object{Study: "1.2.345", SOP: "1.2.345.1", Patient: "P77"}.Bytes(t)},
	})
	req := httptest.NewRequest("POST", pathClassify+"?attention=false", bytes.NewReader(body))
	req.Header.Set("Content-Type", form)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	req.Header.Set("Traceparent", "00-"+trace+"-"+parent+"-01")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, req)
	resultOf(t, w)
	s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("DOE", "/1.2.345", nil))
	s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", pathReady, nil)) // is not traced
	if err := telemetry.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.about["service.name"] != "reading-room" || r.about["service.version"] == "" {
		t.Errorf("the resource is %v", r.about)
	}
	names := map[string]int{}
	var root *otlp.Span
	for _, span := range r.spans {
		names[span.Name]++
		if span.Name == "POST "+pathClassify {
			root = span
		}
	}
	want := map[string]int{"POST " + pathClassify: 1, "_OTHER ": 1, "read": 1, "queue": 2, "parse": 1, "decode": 1, "preprocess": 2, "run": 1, "fuse": 1}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatalf("spans (-want +got)\n%s", diff)
	}
	if got := attributes(root); !maps.Equal(got, map[string]any{
		"http.request.method": "POST", "http.route": pathClassify, "http.response.status_code": int64(200), "mvmae.study": HashUID("1.2.345"),
	}) {
		t.Errorf("the request's attributes are %v", got)
	}
	if got := hex.EncodeToString(root.TraceId); got != trace || hex.EncodeToString(root.ParentSpanId) != parent {
		t.Errorf("trace %s, parent %s", got, hex.EncodeToString(root.ParentSpanId))
	}
	for _, span := range r.spans {
		if strings.Contains(span.Name, " ") {
			continue
		}
		if !bytes.Equal(span.ParentSpanId, root.SpanId) || span.StartTimeUnixNano < root.StartTimeUnixNano || span.EndTimeUnixNano > root.EndTimeUnixNano {
			t.Errorf("%s is not within its request", span.Name)
		}
	}
	for _, secret := range []string{"1.2.345", "DOE", "P77"} {
		if bytes.Contains(r.raw.Bytes(), []byte(secret)) {
			t.Errorf("the spans hold %q", secret)
		}
	}
}

func TestTracing_EachTryOfAKeptStudy(t *testing.T) {
	var r receiver
	telemetry := tracedTo(t, &r)
	d := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Millisecond, Telemetry: telemetry})
	tries := 0
	d.run(t, &fakeModel{during: func(context.Context) error {
		if tries++; tries == 1 {
			return context.DeadlineExceeded
		}
		return nil
	}})
	d.call(t, "POST", pathStudies, servetest.Object{Study: "1.2.345"})
	d.wait(t, "1.2.345", string(studies.Done))
	d.stop()
	if err := telemetry.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, span := range r.spans {
		if span.Name == "classify kept study" {
			a := attributes(span)
			if a["mvmae.study"] != HashUID("1.2.345") || (span.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR) != (a["mvmae.state"] != "done") {
				t.Errorf("%v, status %v", a, span.Status)
			}
			state, _ := a["mvmae.state"].(string)
			states = append(states, state)
		}
	}
	if !slices.Equal(states, []string{"", "done"}) {
		t.Errorf("tries %q", states)
	}
}

func TestTracing_AsTheEnvironmentSays(t *testing.T) {
	for _, c := range []struct{ name, variables, wrong string }{
		{"nothing", "", ""}, {"disabled", "OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_SDK_DISABLED=true", ""},
		{"none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_TRACES_EXPORTER=none", ""},
		{"another exporter", "OTEL_TRACES_EXPORTER=zipkin", "OTEL_TRACES_EXPORTER is zipkin"},
		{"gRPC", "OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_PROTOCOL is grpc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, v := range strings.Fields(c.variables) {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			telemetry, err := NewTelemetry(t.Context())
			if c.wrong != "" {
				if err == nil || err.Error() != c.wrong || hint.Of(err) == "" {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || telemetry.tracer != nil {
				t.Errorf("%v, %v: want no tracer", telemetry, err)
			}
		})
	}
}
