package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGenerate_CommittedCodeIsCurrent(t *testing.T) {
	want, err := generate(t.Context(), "..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../" + generatedFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is out of date; run go generate ./export/onnxpb (-want +got):\n%s", generatedFile, diff)
	}
}
