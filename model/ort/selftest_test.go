package ort_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// A file whose weights are not those that were tested, by however little a person would see, is not opened.
func TestOpen_SelfTestFindsADamagedFile(t *testing.T) {
	libs.ForTests(t)
	s := exporttest.Spec(t, "nano")
	for _, precision := range []export.Precision{export.FP32, export.FP16, export.INT8} {
		graph := export.Graph{Precision: precision, Opset: 23}
		build := func(meta model.Metadata, weights model.Tensors) []byte {
			t.Helper()
			f, err := graph.Build(meta, weights)
			if err != nil {
				t.Fatal(err)
			}
			return marshal(t, f)
		}
		meta := exporttest.Metadata(s)
		var err error
		if meta.SelfTest, err = open(t, build(meta, exporttest.Weights(s))).SelfTest(); err != nil {
			t.Fatal(err)
		}
		open(t, build(meta, exporttest.Weights(s)))
		if meta.SelfTest.Logits[0][0] == meta.SelfTest.Logits[1][0] {
			t.Errorf("%s: two images look the same", precision)
		}

		damaged := exporttest.Weights(s)
		for name, w := range damaged {
			if strings.Contains(name, "head.") {
				for i := range w.Data {
					w.Data[i] = -w.Data[i]
				}
			}
		}
		silent := meta // one logit of the test is off, or none
		silent.SelfTest = &model.SelfTest{Views: meta.SelfTest.Views, Logits: append([][]float32{}, meta.SelfTest.Logits...)}
		row := append([]float32{}, silent.SelfTest.Logits[1]...)
		row[3] += 1
		silent.SelfTest.Logits[1] = row
		for name, data := range map[string][]byte{"weights": build(meta, damaged), "logit": build(silent, exporttest.Weights(s))} {
			_, err := ort.OpenBytes("bad.onnx", data, ort.Options{})
			var failed *model.SelfTestError
			if !errors.As(err, &failed) || hint.Of(err) == "" {
				t.Errorf("%s, %s: error %v", precision, name, err)
			} else if name == "logit" && (failed.Image != 1 || failed.Label != model.Labels[3]) {
				t.Errorf("%s, %s: %+v", precision, name, failed)
			}
		}
	}
}

func TestSelfTest_NaNIsFound(t *testing.T) {
	s := exporttest.Spec(t, "nano")
	same := func(v float32) func([]float32, int64) ([model.NumLabels]float32, error) {
		return func([]float32, int64) (row [model.NumLabels]float32, err error) {
			row[5] = v
			return row, nil
		}
	}
	test, err := model.NewSelfTest(s, same(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := test.Check(s, 1, same(0)); err != nil {
		t.Error(err)
	}
	if err := test.Check(s, 1, same(float32(math.NaN()))); err == nil {
		t.Error("a logit that is no number passes")
	}
}
