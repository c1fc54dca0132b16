package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom"
)

// serveCheck exports a fold's finetuned model and asks mvmae-serve about its first test image, as a DICOM object of the published
// pixels: the probability must be the one that was scored.
func serveCheck(ctx context.Context, report *paired.Report, f fold, projections map[string]string) error {
	file := f.path("model.onnx")
	if _, err := command(ctx, filepath.Join(bin, "mvmae-export"), "--run", f.path("finetune"), file); err != nil {
		return err
	}
	first := f.scores["finetune"][0]
	object := f.path("test.dcm")
	if err := writeObject(filepath.Join(f.data, "images", first.image+".png"), object, projections[first.image]); err != nil {
		return err
	}
	doc, err := command(ctx, filepath.Join(bin, "mvmae-serve"), "classify", "--model", file, "--json", object)
	if err != nil {
		return err
	}
	var answer struct{ Probabilities map[string]float64 }
	if err := json.Unmarshal(doc, &answer); err != nil {
		return err
	}
	want, got := first.row.Scores[pneumonia], answer.Probabilities[label]
	if !(math.Abs(want-got) <= 1e-4) { // the exporter's own bound, on logits
		return fmt.Errorf("served: %s is %v, the trainer says %v", label, got, want)
	}
	report.Printf("\nThe first fold's finetuned model, exported, says of a test image sent as DICOM: %s %.5f (trainer: %.5f).\n", label, got, want)
	return nil
}

// writeObject writes an 8-bit PNG as a DICOM object.
func writeObject(from, to, projection string) error {
	body, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	picture, err := png.Decode(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	grey, ok := picture.(*image.Gray)
	if !ok {
		return fmt.Errorf("%s is a %T: want 8-bit grey", from, picture)
	}
	var object bytes.Buffer
	err = dicom.Write(&object, dicom.ExplicitVRLittleEndian, []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: "1.2.3.1"},
		{Tag: tag.StudyInstanceUID, Value: "1.2.3"}, {Tag: tag.SeriesInstanceUID, Value: "1.2.3.4"},
		{Tag: tag.Modality, Value: "DX"}, {Tag: tag.BodyPartExamined, Value: "CHEST"}, {Tag: tag.ViewPosition, Value: projection},
		{Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"}, {Tag: tag.SamplesPerPixel, Value: 1},
		{Tag: tag.Rows, Value: grey.Rect.Dy()}, {Tag: tag.Columns, Value: grey.Rect.Dx()},
		{Tag: tag.BitsAllocated, Value: 8}, {Tag: tag.BitsStored, Value: 8}, {Tag: tag.HighBit, Value: 7},
		{Tag: tag.PixelRepresentation, Value: 0}, {Tag: tag.PixelData, VR: "OB", Value: grey.Pix},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(to, object.Bytes(), 0o644)
}
