package main

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/test/faults"
	"github.com/mvmae/mvmae/test/peers"
)

// program is the program as a file.
func program(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("mvmae-serve")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFaults_KilledUnderLoad and the next are the short forms of benchmarks/faults.
func TestFaults_KilledUnderLoad(t *testing.T) {
	model := modelFile(t)
	killed(t, faults.Config{Program: program(t), Model: model, Kills: 6})
}

func TestFaults_ClusterLosesServers(t *testing.T) {
	model := modelFile(t)
	nats, err := peers.NATSServer()
	if err != nil {
		codecprog.Skip(t, err.Error())
	}
	killed(t, faults.Config{Program: program(t), Model: model, NATS: nats, Kills: 4})
}

func killed(t *testing.T, c faults.Config) {
	t.Helper()
	c.Dir, c.Seed, c.Log, c.DICOM = t.TempDir(), 1, t.Logf, true
	report, err := faults.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if report.Accepted == 0 || report.Stored < report.Accepted {
		t.Errorf("nothing was tested: %+v", report)
	}
}

// TestFaults_DiskRefusesTheRest limits the size of files, as a quota does: what fits is kept and answered, the rest is refused
// as that of a full disk.
func TestFaults_DiskRefusesTheRest(t *testing.T) {
	model := modelFile(t)
	small := servetest.Object{Study: "1.2"}.Bytes(t)
	large := append(servetest.Object{Study: "1.3"}.Bytes(t), make([]byte, 2<<20)...)
	t.Setenv("MVMAE_TEST_PROGRAM", program(t))
	script := writeFile(t, t.TempDir()+"/limited", []byte("#!/bin/sh\nulimit -f 2048\nexec \"$MVMAE_TEST_PROGRAM\" \"$@\"\n")) // 1 MiB
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	url, terminate := upProgram(t, script, "--model", model, "--data", t.TempDir())
	for _, c := range []struct {
		data   []byte
		status int
	}{{large, 507}, {small, 202}, {large, 507}} {
		response, err := http.Post(url+"/v1/studies", "application/dicom", bytes.NewReader(c.data))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%d bytes: status %d, want %d", len(c.data), response.StatusCode, c.status)
		}
	}
	events, err := http.Get(url + "/v1/events?study=1.2")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	awaitState(t, events.Body, "done")
	if code, log := terminate(); code != 0 {
		t.Errorf("exit code %d: %s", code, log)
	}
}
