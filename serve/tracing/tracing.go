// Package tracing sends spans to OpenTelemetry by OTLP over HTTP, where the environment (OTEL_EXPORTER_OTLP_ENDPOINT and its kin)
// names a receiver; without one nothing is done. Attributes are names of routes, codes and stages and hashes of UIDs: whoever calls
// this package hands it no other text.
package tracing

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/version"
)

// Tracer sends spans: one for each request and for each try of a study that is kept, and under it one for each piece of work
// of a stage. A nil Tracer does nothing.
type Tracer struct {
	provider *trace.TracerProvider
	tracer   oteltrace.Tracer
}

// Open reads the environment as OpenTelemetry defines it, and returns nil where it names no receiver.
func Open(ctx context.Context) (*Tracer, error) {
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	endpoint := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
	switch {
	case os.Getenv("OTEL_SDK_DISABLED") == "true", exporter == "none", exporter == "" && endpoint == "":
		return nil, nil
	case exporter != "" && exporter != "otlp":
		return nil, hint.Wrap(fmt.Errorf("OTEL_TRACES_EXPORTER is %s", exporter), "spans are sent by otlp, or none")
	case protocol != "http/protobuf":
		return nil, hint.Wrap(fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %s", protocol), "spans are sent by http/protobuf alone, most often to port 4318")
	}
	client, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OpenTelemetry: %w", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "mvmae-serve"), attribute.String("service.version", version.String())),
		resource.WithFromEnv()) // last: the environment has the last word
	if err != nil {
		return nil, fmt.Errorf("OpenTelemetry: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { slog.Warn("OpenTelemetry", "error", err) }))
	p := trace.NewTracerProvider(trace.WithBatcher(client), trace.WithResource(about))
	return &Tracer{p, p.Tracer("github.com/mvmae/mvmae/serve")}, nil
}

// spansLimit is how long the last spans may take to leave.
const spansLimit = 5 * time.Second

// Close sends the spans that are left.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spansLimit)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// Stage is a span of work that is over.
func (t *Tracer) Stage(ctx context.Context, stage string, start time.Time, took time.Duration) {
	if t == nil || !oteltrace.SpanFromContext(ctx).IsRecording() {
		return
	}
	_, span := t.tracer.Start(ctx, stage, oteltrace.WithTimestamp(start))
	span.End(oteltrace.WithTimestamp(start.Add(took)))
}

// Request begins the span of a request, as part of the caller's trace where it names one. end says what became of it.
func (t *Tracer) Request(r *http.Request, method, route string) (ctx context.Context, end func(study, code string, status int)) {
	if t == nil {
		return r.Context(), func(string, string, int) {}
	}
	ctx = propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, method+" "+route, oteltrace.WithSpanKind(oteltrace.SpanKindServer),
		oteltrace.WithAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route)))
	return ctx, func(study, code string, status int) {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		endSpan(span, study, code, status >= 500)
	}
}

// Try begins the span of a try to classify a study that is kept, called by the hash of its UID. end says what became of it.
func (t *Tracer) Try(ctx context.Context, study string) (inside context.Context, end func(state string, failed bool)) {
	if t == nil {
		return ctx, func(string, bool) {}
	}
	ctx, span := t.tracer.Start(ctx, "classify kept study", oteltrace.WithSpanKind(oteltrace.SpanKindConsumer))
	return ctx, func(state string, failed bool) {
		span.SetAttributes(attribute.String("mvmae.state", state))
		endSpan(span, study, "", failed)
	}
}

// endSpan ends a span. An error's text may name what a log must not, so only its code is told.
func endSpan(span oteltrace.Span, study, code string, failed bool) {
	if study != "" {
		span.SetAttributes(attribute.String("mvmae.study", study))
	}
	if code != "" {
		span.SetAttributes(attribute.String("error.type", code))
	}
	if failed {
		span.SetStatus(codes.Error, code)
	}
	span.End()
}
