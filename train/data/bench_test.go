package data

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mvmae/mvmae/dicom/cxr"
)

// The packer must outrun the trainer it feeds by far: compare with the trainer's images/s.
func BenchmarkMakePack(b *testing.B) {
	const images = 256
	for _, c := range []struct {
		name string
		body func(seed uint64) []byte
	}{
		{"dicom512", func(seed uint64) []byte {
			uid := fmt.Sprint("1.2.", seed)
			return dx{patient: uid, study: uid, instance: uid + ".1.1", view: "PA", seed: seed, size: 512}.bytes(b)
		}},
		{"png256", func(seed uint64) []byte { return pngOf(b, pixels(seed, 256), 256) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := &Index{Dataset: "made", Root: b.TempDir()}
			for i := range images {
				id, body := fmt.Sprint(i), c.body(uint64(i))
				writeFile(b, x.Root, id, body)
				x.Images = append(x.Images, Image{Dataset: "made", PatientID: id, StudyID: id, ImageID: id, Path: id, Bytes: int64(len(body))})
			}
			index := filepath.Join(b.TempDir(), "made.parquet")
			if err := WriteIndex(index, x); err != nil {
				b.Fatal(err)
			}
			out := filepath.Join(b.TempDir(), "pack")
			for b.Loop() {
				if _, err := MakePack(context.Background(), []string{index}, PackOptions{Out: out, Recipe: cxr.Mimic}); err != nil {
					b.Fatal(err)
				}
				if err := os.RemoveAll(out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(images*b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}
