package serve

import (
	"context"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/internal/version"
	"github.com/mvmae/mvmae/serve/tracing"
)

const pathMetrics = "/metrics"

// Telemetry is what a server tells about itself: metrics for Prometheus, and spans for OpenTelemetry where the environment asks for
// them. One is shared by the models, the HTTP server and the studies that are kept. Labels and attributes hold names of routes,
// codes, models and stages: nothing that a caller or a patient could put there, but for the hash of a study's UID in spans.
type Telemetry struct {
	registry *prometheus.Registry
	tracer   *tracing.Tracer // nil: off

	stages, batches, requests   *prometheus.HistogramVec
	studies, refusals, rejected *prometheus.CounterVec
}

// NewTelemetry begins to count, and to send spans where the environment says so (OTEL_EXPORTER_OTLP_ENDPOINT and its kin).
func NewTelemetry(ctx context.Context) (*Telemetry, error) {
	tracer, err := tracing.Open(ctx)
	if err != nil {
		return nil, err
	}
	t := newMetrics()
	t.tracer = tracer
	return t, nil
}

// The buckets of the histograms: from a header's parsing to a request that waited for its turn.
var secondsBuckets = []float64{1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

func newMetrics() *Telemetry {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	t := &Telemetry{
		registry: prometheus.NewRegistry(),
		stages: histogram("mvmae_stage_seconds", "Time of one piece of work of a stage: read, queue, parse, decode, preprocess, run, fuse.",
			secondsBuckets, "stage", "model", "device"),
		batches:  histogram("mvmae_batch_images", "Images in one run of the model.", prometheus.ExponentialBuckets(1, 2, 8), "model", "device"),
		requests: histogram("mvmae_http_request_seconds", "Time of HTTP requests.", secondsBuckets, "method", "route", "status"),
		studies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mvmae_studies_total",
			Help: "Studies by how they came (classify: answered at once; kept: taken in for good) and what became of them, with the problem's code.",
		}, []string{"via", "outcome", "code"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mvmae_http_refusals_total", Help: "Requests that were refused or failed, by the problem's code.",
		}, []string{"route", "code"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mvmae_rejected_objects_total", Help: "Objects of studies that were not used, by why.",
		}, []string{"code"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mvmae_build_info", Help: "1, with the program's version.",
		ConstLabels: prometheus.Labels{"version": version.String(), "go_version": runtime.Version()},
	})
	build.Set(1)
	t.registry.MustRegister(t.stages, t.batches, t.requests, t.studies, t.refusals, t.rejected, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return t
}

// Close sends the spans that are left.
func (t *Telemetry) Close(ctx context.Context) error { return t.tracer.Close(ctx) }

// Observe is the observer of one model, for Options.Observe.
func (t *Telemetry) Observe(m ModelID, device string) Observer {
	o := &modelObserver{tracer: t.tracer, rejected: t.rejected, batches: t.batches.WithLabelValues(m.Name, device), stages: map[Stage]prometheus.Observer{}}
	for _, s := range stages() {
		o.stages[s] = t.stages.WithLabelValues(string(s), m.Name, device)
	}
	return o
}

type modelObserver struct {
	tracer   *tracing.Tracer
	rejected *prometheus.CounterVec
	batches  prometheus.Observer
	stages   map[Stage]prometheus.Observer
}

func (o *modelObserver) Stage(ctx context.Context, s Stage, start time.Time, took time.Duration) {
	o.stages[s].Observe(took.Seconds())
	o.tracer.Stage(ctx, string(s), start, took)
}

func (o *modelObserver) Batch(images int) { o.batches.Observe(float64(images)) }

func (o *modelObserver) Rejected(code string) { o.rejected.WithLabelValues(code).Inc() }

// knownMethod is a method as labels and spans have it: anybody may invent one.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "_OTHER"
}

// request counts a request that was answered.
func (t *Telemetry) request(method, route, code string, status int, took time.Duration) {
	t.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
	if code != "" {
		t.refusals.WithLabelValues(route, code).Inc()
	}
	if route == pathClassify && method == http.MethodPost {
		t.studies.WithLabelValues("classify", outcome(status), code).Inc()
	}
}

// outcome is what became of a study that was answered with a status.
func outcome(status int) string {
	switch {
	case status < 300:
		return "done"
	case status == statusClientGone:
		return "gone"
	case status < 500, status == http.StatusServiceUnavailable:
		return "refused"
	}
	return "failed"
}

// kept counts a study that was taken in for good and has come to its end.
func (t *Telemetry) kept(state, code string) { t.studies.WithLabelValues("kept", state, code).Inc() }

// metricsHandler serves /metrics of a server and of all it has.
func (s *Server) metricsHandler() gin.HandlerFunc {
	t := s.opts.Telemetry
	t.registry.MustRegister(&state{s})
	handler := promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{Registry: t.registry, EnableOpenMetrics: true})
	return func(c *gin.Context) {
		_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(writeTimeout))
		handler.ServeHTTP(c.Writer, c.Request)
	}
}

// state is a server's state at the moment it is asked.
type state struct{ *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mvmae_"+name, help, labels, nil)
}

// What state tells.
var (
	descInHouse  = desc("studies_in_house", "Studies that are being read, waiting or worked on, by how they came.", "via")
	descPlaces   = desc("studies_in_house_limit", "How many may be: more are refused with busy.", "via")
	descWaiting  = desc("waiting_objects", "Objects that wait for a core.", "model", "version")
	descModel    = desc("model_info", "1 for each model that is served.", "model", "version", "sha256", "device")
	descFiles    = desc("model_files", "Model files by what became of them.", "state")
	descReady    = desc("ready", "Whether /readyz answers 200.")
	descKept     = desc("kept_studies", "Studies that are held, by state, at the last sweep of the folder. dead is a dead letter.", "state")
	descTasks    = desc("queue_tasks", "Tasks in the queue: studies to classify, outcomes to deliver.")
	descOpen     = desc("dicom_associations_open", "DICOM associations now.")
	descDICOM    = desc("dicom_events_total", "What the DICOM node did: associations accepted and released, objects kept, echoes, commitments reported.", "event")
	descBytes    = desc("dicom_received_bytes_total", "Bytes of the data sets that were kept over DICOM.")
	descRefusals = desc("dicom_refusals_total", "What the DICOM node refused, by code.", "code")
)

func (s *state) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInHouse, descPlaces, descWaiting, descModel, descFiles, descReady, descKept, descTasks, descOpen, descDICOM,
		descBytes, descRefusals} {
		c <- d
	}
}

func (s *state) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	ready := 1
	if s.unready() != nil {
		ready = 0
	}
	gauge(descReady, ready)
	gauge(descInHouse, len(s.house), "classify")
	gauge(descPlaces, cap(s.house), "classify")
	files := map[string]int{ModelReady: 0, ModelStale: 0, ModelFailed: 0}
	for _, m := range s.opts.Models.List() {
		files[m.State]++
	}
	for _, e := range s.opts.Models.engines() {
		gauge(descModel, 1, e.id.Name, e.id.Version, e.id.SHA256, e.device)
		gauge(descWaiting, e.Waiting(), e.id.Name, e.id.Version)
	}
	for state, n := range files {
		gauge(descFiles, n, state)
	}
	if d := s.opts.Durable; d != nil {
		gauge(descInHouse, len(s.intake), "kept")
		gauge(descPlaces, cap(s.intake), "kept")
		for state, n := range d.tally() {
			gauge(descKept, n, state)
		}
		ctx, cancel := context.WithTimeout(context.Background(), publishLimit)
		defer cancel()
		if n, err := d.queue.Waiting(ctx); err == nil { // a cluster that does not answer has no number
			gauge(descTasks, int(n))
		}
	}
	if s.opts.DICOM != nil {
		collectDICOM(c, s.opts.DICOM())
	}
}

func collectDICOM(c chan<- prometheus.Metric, n pacs.Counts) {
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	c <- prometheus.MustNewConstMetric(descOpen, prometheus.GaugeValue, float64(n.Open))
	count(descBytes, n.Bytes)
	for event, v := range map[string]int64{
		"accepted": n.Associations, "released": n.Released, "object": n.Objects, "echo": n.Echoes, "commitment": n.Commitments,
	} {
		count(descDICOM, v, event)
	}
	for code, v := range n.Refused {
		count(descRefusals, v, string(code))
	}
}
