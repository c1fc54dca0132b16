package serve

import (
	"bytes"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/serve/studies"
)

// scrape reads /metrics with Prometheus's own parser.
func scrape(t *testing.T, s *Server) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", pathMetrics, nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("status %d, %v", w.Code, err)
	}
	return families
}

// value is that of the metric with these labels, a histogram's count; -1 if there is none.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	for _, m := range families[name].GetMetric() {
		var have []string
		for _, l := range m.Label {
			have = append(have, l.GetName()+"="+l.GetValue())
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(have, l) }) {
			switch {
			case m.Histogram != nil:
				return float64(m.Histogram.GetSampleCount())
			case m.Counter != nil:
				return m.Counter.GetValue()
			}
			return m.Gauge.GetValue()
		}
	}
	return -1
}

// observed is a server whose model is observed too.
func observed(t *testing.T, opts ServerOptions) *Server {
	t.Helper()
	opts.Telemetry, opts.Logger = newMetrics(), quiet
	s := NewServer(opts)
	ready(s, fakeEngine(t, &fakeModel{}, Options{Observe: opts.Telemetry.Observe}))
	return s
}

func TestMetrics_CountWhatHappened(t *testing.T) {
	s := observed(t, ServerOptions{DICOM: func() pacs.Counts {
		return pacs.Counts{Associations: 3, Open: 1, Objects: 2, Bytes: 1000, Refused: map[pacs.Refusal]int64{pacs.RefusedTLS: 4}}
	}})
	form, body := formOf(t, files(t, servetest.Study("1.2.3", 1)...))
	for range 2 {
		resultOf(t, post(s, form, bytes.NewReader(body)))
	}
	problemOf(t, post(s, "text/plain", strings.NewReader("x")))
	problemOf(t, post(s, typeDICOM, bytes.NewReader(servetest.Object{BodyPart: "KNEE"}.Bytes(t))))
	for _, method := range []string{"BREW", "PURGE"} {
		s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/DOE", nil))
	}
	families := scrape(t, s)
	for name, want := range map[string]float64{
		"mvmae_stage_seconds stage=run model=fake device=cpu":                         4,
		"mvmae_stage_seconds stage=decode":                                            4,
		"mvmae_stage_seconds stage=queue":                                             9,
		"mvmae_stage_seconds stage=fuse":                                              2,
		"mvmae_batch_images model=fake device=cpu":                                    4,
		"mvmae_studies_total via=classify outcome=done":                               2,
		"mvmae_studies_total code=unsupported_media_type":                             1,
		"mvmae_rejected_objects_total code=not_chest":                                 1,
		"mvmae_http_refusals_total code=not_found":                                    2,
		"mvmae_http_refusals_total code=unsupported_media_type route=" + pathClassify: 1,
		"mvmae_http_request_seconds route=" + pathClassify:                            2,
		"mvmae_http_request_seconds status=415 method=POST":                           1,
		"mvmae_http_request_seconds method=_OTHER status=404":                         2,
		"mvmae_studies_in_house via=classify":                                         0,
		"mvmae_studies_in_house_limit via=classify":                                   float64(cap(s.house)),
		"mvmae_waiting_objects model=fake version=7":                                  0,
		"mvmae_model_info model=fake sha256=0123 device=cpu":                          1,
		"mvmae_model_files state=stale":                                               1, // the tests have no file

		"mvmae_model_files state=failed":          0,
		"mvmae_ready":                             1,
		"mvmae_build_info":                        1,
		"mvmae_dicom_events_total event=accepted": 3,
		"mvmae_dicom_refusals_total code=tls":     4,
		"mvmae_dicom_associations_open":           1,
		"mvmae_dicom_received_bytes_total":        1000,
		"mvmae_kept_studies":                      -1, // nothing is kept
	} {
		fields := strings.Fields(name)
		if got := value(families, fields[0], fields[1:]...); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if value(families, name) <= 0 {
			t.Errorf("no %s", name)
		}
	}
}

func TestMetrics_PassTheLinter(t *testing.T) {
	d := openDurable(t, t.TempDir(), DurableOptions{})
	if err := d.d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := observed(t, ServerOptions{Durable: d.d, DICOM: func() pacs.Counts {
		return pacs.Counts{Refused: map[pacs.Refusal]int64{pacs.RefusedTLS: 1}}
	}})
	resultOf(t, post(s, typeDICOM, bytes.NewReader(servetest.Object{}.Bytes(t))))
	faults, err := testutil.GatherAndLint(s.opts.Telemetry.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		if strings.HasPrefix(f.Metric, "mvmae_") {
			t.Errorf("%s: %s", f.Metric, f.Text)
		}
	}
}

// However many studies and callers there are, there are no more series, and none names them.
func TestMetrics_NoSeriesForEachStudy(t *testing.T) {
	s := observed(t, ServerOptions{})
	count := func() (n int, text string) {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", pathMetrics, nil))
		for line := range strings.Lines(w.Body.String()) {
			if strings.HasPrefix(line, "mvmae_") {
				n++
			}
		}
		return n, w.Body.String()
	}
	send := func(uid string) {
		resultOf(t, post(s, typeDICOM, bytes.NewReader(servetest.Object{Study: uid, SOP: uid + ".1", Patient: "P77"}.Bytes(t))))
		s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", pathStudies+"/"+uid, nil))
		s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/"+uid, nil))
	}
	send("1.2.1")
	count() // /metrics itself is a route
	before, _ := count()
	for _, uid := range []string{"1.2.34", "1.2.35", "1.2.36"} {
		send(uid)
	}
	after, text := count()
	if after != before {
		t.Errorf("%d series after one study, %d after four", before, after)
	}
	for _, secret := range []string{"1.2.3", HashUID("1.2.34"), "DOE", "P77"} {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics hold %q", secret)
		}
	}
}

func TestMetrics_KeptStudiesByState(t *testing.T) {
	telemetry := newMetrics()
	d := openDurable(t, t.TempDir(), DurableOptions{Quiet: time.Millisecond, Telemetry: telemetry})
	d.run(t, &fakeModel{})
	s := NewServer(ServerOptions{Logger: quiet, Durable: d.d, Telemetry: telemetry})
	for uid, body := range map[string]string{"1.2.3": "CHEST", "1.2.4": "KNEE"} {
		if w := d.call(t, "POST", pathStudies, servetest.Object{Study: uid, SOP: uid + ".1", BodyPart: body}); w.Code != 202 {
			t.Fatal(w.Body)
		}
		state := map[string]string{"CHEST": string(studies.Done), "KNEE": string(studies.Refused)}[body]
		d.wait(t, uid, state)
	}
	if err := d.d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	families := scrape(t, s)
	for name, want := range map[string]float64{
		"mvmae_kept_studies state=done": 1, "mvmae_kept_studies state=refused": 1, "mvmae_kept_studies state=dead": 0,
		"mvmae_studies_total via=kept outcome=done": 1, "mvmae_studies_total via=kept code=no_usable_view": 1,
	} {
		fields := strings.Fields(name)
		if got := value(families, fields[0], fields[1:]...); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if value(families, "mvmae_queue_tasks") < 0 {
		t.Error("no mvmae_queue_tasks")
	}
}

// What telling costs: a stage is one piece of work of milliseconds.
func BenchmarkStage(b *testing.B) {
	for name, o := range map[string]Observer{"unobserved": unobserved{}, "metrics": newMetrics().Observe(ModelID{Name: "m"}, "cpu")} {
		b.Run(name, func(b *testing.B) {
			start := time.Now()
			for b.Loop() {
				o.Stage(b.Context(), StageRun, start, time.Millisecond)
			}
		})
	}
}

// Only the server's own failures are worth an alarm: one that is stopping or full has refused.
func TestMetrics_OutcomeOfAStatus(t *testing.T) {
	for status, want := range map[int]string{200: "done", 422: "refused", 429: "refused", 499: "gone", 500: "failed", 503: "refused"} {
		if got := outcome(status); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}
