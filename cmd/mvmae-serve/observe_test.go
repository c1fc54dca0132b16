package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// The program as it is started: metrics of all its parts, a log of JSON lines, spans to where the environment says.
func TestUp_TellsOfItself(t *testing.T) {
	var spans atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/v1/traces" && bytes.Contains(body, []byte("POST /v1/studies:classify")) {
			spans.Add(1)
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	url, terminate := up(t, "--model", modelFile(t), "--data", t.TempDir(), "--dicom", "127.0.0.1:0", "--log-format", "json")
	if status, answer := post(t, url, filepath.Join(studyDir(t, "1.2.3"), "0.dcm")); status != 200 {
		t.Fatalf("%s", answer)
	}
	response, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	metrics, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`mvmae_stage_seconds_count{device="cpu",model=`, `mvmae_studies_total{code="",outcome="done",via="classify"} 1`, `mvmae_queue_tasks 0`,
		`mvmae_studies_in_house_limit{via="kept"}`, `mvmae_dicom_associations_open 0`, `mvmae_model_files{state="ready"} 1`, `mvmae_ready 1`,
	} {
		if !strings.Contains(string(metrics), "\n"+line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	code, log := terminate()
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "interrupted:") { // for a person at the terminal
			continue
		}
		var entry struct{ Msg, Route string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg == "" {
			t.Errorf("%v: %s", err, line)
		}
	}
	if spans.Load() == 0 {
		t.Error("no span of the request has arrived when the program is gone")
	}
}

func TestUp_TracingThatCannotBeIsAUsageError(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	code, _, stderr := command(t, "up", "--listen", "127.0.0.1:0", "--model", modelFile(t))
	if code != 2 || !strings.Contains(stderr, "OTEL_EXPORTER_OTLP_PROTOCOL is grpc") || !strings.Contains(stderr, "hint: ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
