package main

import (
	"os/exec"
	"testing"

	"github.com/mvmae/mvmae/test/faults"
)

// TestFaults_KilledUnderLoad is the short form of benchmarks/faults.
func TestFaults_KilledUnderLoad(t *testing.T) {
	model := modelFile(t)
	program, err := exec.LookPath("mvmae-serve")
	if err != nil {
		t.Fatal(err)
	}
	report, err := faults.Run(t.Context(), faults.Config{Program: program, Model: model, Dir: t.TempDir(), Kills: 6, Seed: 1, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if report.Accepted == 0 || report.Stored < report.Accepted {
		t.Errorf("nothing was tested: %+v", report)
	}
	t.Logf("%+v", report)
}
