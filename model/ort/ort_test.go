package ort_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model/ort"
)

// file returns a model with random weights. (The exporter makes it: the only arrow that points up, and from tests alone.)
func file(t testing.TB, preset string) *onnxpb.ModelProto {
	t.Helper()
	libs.ForTests(t)
	s := exporttest.Spec(t, preset)
	f, err := export.Build(exporttest.Metadata(s), exporttest.Weights(s))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func marshal(t testing.TB, f *onnxpb.ModelProto) []byte {
	t.Helper()
	data, err := proto.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func open(t testing.TB, data []byte) *ort.Model {
	t.Helper()
	m, err := ort.OpenBytes("test.onnx", data, ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestOpen_SaysWhatTheFileIs(t *testing.T) {
	data := marshal(t, file(t, "nano"))
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := ort.Open(path, ort.Options{Device: ort.Auto, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	contents, err := export.Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(contents.Metadata, m.Metadata()); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if m.SHA256() != contents.SHA256 {
		t.Errorf("SHA-256 %s: want %s", m.SHA256(), contents.SHA256)
	}
	if want := map[bool]string{true: ort.CUDA, false: ort.CPU}[ort.Probe(ort.CUDA) == nil]; m.Device() != want {
		t.Errorf("device %s: want %s", m.Device(), want)
	}
}

func TestOpen_BadFilesAreNamed(t *testing.T) {
	whole := marshal(t, file(t, "nano"))
	edited := func(edit func(f *onnxpb.ModelProto)) []byte {
		f := file(t, "nano")
		edit(f)
		return marshal(t, f)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, c := range []struct {
		name string
		data []byte
		want string // in the error
		hint string // in the hint
	}{
		{"empty", nil, "not an ONNX file that can be loaded", "mvmae-export"},
		{"random bytes", noise, "not an ONNX file that can be loaded", "mvmae-export"},
		{"cut in the middle", whole[:len(whole)/2], "not an ONNX file that can be loaded", "mvmae-export"},
		{"cut by one byte", whole[:len(whole)-1], "not an ONNX file that can be loaded", "mvmae-export"},
		{"unknown operator", edited(func(f *onnxpb.ModelProto) { f.Graph.Node[3].OpType = "Frobnicate" }), "Frobnicate", "mvmae-export"},
		{"no metadata", edited(func(f *onnxpb.ModelProto) { f.MetadataProps = nil }), `without the metadata "mvmae"`, "mvmae-export"},
		{"metadata of a later program", edited(func(f *onnxpb.ModelProto) { f.MetadataProps[0].Value = `{"format_version":2}` }),
			"format_version is 2", "mvmae-export"},
		{"metadata incomplete", edited(func(f *onnxpb.ModelProto) { f.MetadataProps[0].Value = `{"format_version":1}` }), "image_size", "mvmae-export"},
		{"metadata of another size", edited(func(f *onnxpb.ModelProto) {
			f.MetadataProps[0].Value = strings.Replace(f.MetadataProps[0].Value, `"image_size":32`, `"image_size":64`, 1)
		}), "image", "mvmae-export"},
		{"output of another size", edited(func(f *onnxpb.ModelProto) {
			f.MetadataProps[0].Value = file(t, "tiny").MetadataProps[0].Value
			f.MetadataProps[0].Value = strings.Replace(f.MetadataProps[0].Value, `"image_size":64`, `"image_size":32`, 1)
		}), "embedding", "mvmae-export"},
		{"missing output", edited(func(f *onnxpb.ModelProto) { f.Graph.Output = f.Graph.Output[:2] }), "embedding", "mvmae-export"},
		{"missing input", edited(func(f *onnxpb.ModelProto) {
			f.Graph.Input[1].Name = "views"
			for _, n := range f.Graph.Node {
				for i := range n.Input {
					if n.Input[i] == "view" {
						n.Input[i] = "views"
					}
				}
			}
		}), "view", "mvmae-export"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ort.OpenBytes("bad.onnx", c.data, ort.Options{})
			if err == nil || !strings.Contains(err.Error(), "model bad.onnx: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v: want the name of the file and %q", err, c.want)
			}
			if !strings.Contains(hint.Of(err), c.hint) {
				t.Errorf("hint %q: want %q", hint.Of(err), c.hint)
			}
		})
	}
}

func TestOpen_NoFileNamesTheCure(t *testing.T) {
	libs.ForTests(t)
	path := filepath.Join(t.TempDir(), "none.onnx")
	_, err := ort.Open(path, ort.Options{})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) || !strings.Contains(hint.Of(err), "mvmae-export") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

func TestOpen_UnknownDeviceIsRefused(t *testing.T) {
	data := marshal(t, file(t, "nano"))
	if _, err := ort.OpenBytes("test.onnx", data, ort.Options{Device: "tpu"}); err == nil || !strings.Contains(err.Error(), `"tpu"`) {
		t.Errorf("error %v: want the device named", err)
	}
}

func TestRun_BatchAndSingleAgree(t *testing.T) {
	m := open(t, marshal(t, file(t, "nano")))
	const n = 5
	images, views := exporttest.Inputs(n, m.Metadata().Spec)
	all, err := m.Run(t.Context(), images, views)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Logits) != n || len(all.Probability) != n || len(all.Embedding) != n || len(all.Embedding[0]) != 32 {
		t.Fatalf("%d logits, %d probabilities, %d embeddings: want %d", len(all.Logits), len(all.Probability), len(all.Embedding), n)
	}
	if all.Logits[0] == all.Logits[1] {
		t.Error("different images have the same logits")
	}
	var group errgroup.Group // concurrently, as a server runs the views of a study
	for i := range n {
		group.Go(func() error {
			one, err := m.Run(t.Context(), images[i*32*32:][:32*32], views[i:i+1])
			if err != nil {
				return err
			}
			for j := range one.Logits[0] {
				if d := one.Logits[0][j] - all.Logits[i][j]; d > 1e-5 || d < -1e-5 { // float32 sums in another order
					return fmt.Errorf("image %d, logit %d: %g alone, %g in a batch", i, j, one.Logits[0][j], all.Logits[i][j])
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

func TestRun_BadInputIsNamed(t *testing.T) {
	m := open(t, marshal(t, file(t, "nano")))
	image := make([]float32, 32*32)
	for _, c := range []struct {
		name   string
		images []float32
		views  []int64
		want   string
	}{
		{"nothing", nil, nil, "input view"},
		{"views without images", nil, []int64{0}, "input image: 0 values: want 1024"},
		{"half an image", image[:512], []int64{0}, "input image: 512 values"},
		{"one view too many", image, []int64{0, 0}, "input image: 1024 values: want 2048"},
		{"view too large", image, []int64{3}, "input view: number 0 is 3"},
		{"view negative", image, []int64{-1}, "input view: number 0 is -1"},
	} {
		if _, err := m.Run(t.Context(), c.images, c.views); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.name, err, c.want)
		}
	}
}

func TestRun_EndedContextGivesItsCause(t *testing.T) {
	m := open(t, marshal(t, file(t, "nano")))
	images, views := exporttest.Inputs(1, m.Metadata().Spec)
	cause := errors.New("deadline of the study")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := m.Run(ctx, images, views); !errors.Is(err, cause) {
		t.Errorf("error %v: want the context's cause", err)
	}
}

// ending is a context that ends when a Run begins to watch it, which is after it has looked whether it has ended already.
type ending struct {
	context.Context
	cancel context.CancelFunc
}

// AfterFunc is what context.AfterFunc calls of a context that is not of its own making.
func (e ending) AfterFunc(f func()) (stop func() bool) {
	e.cancel()
	return context.AfterFunc(e.Context, f)
}

// Value hides that there is a context of its own making inside.
func (e ending) Value(any) any { return nil }

func TestRun_ContextThatEndsMeanwhileTerminatesIt(t *testing.T) {
	f := file(t, "nano")
	exporttest.Endless(f)
	m := open(t, marshal(t, f))
	images, _ := exporttest.Inputs(1, m.Metadata().Spec)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := m.Run(ending{ctx, cancel}, images, []int64{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v: want context.Canceled", err)
	}
	if _, err := m.Run(t.Context(), images, []int64{0}); err != nil {
		t.Errorf("the next Run: %v", err)
	}
}

func TestClose_LaterRunsAreRefused(t *testing.T) {
	m := open(t, marshal(t, file(t, "nano")))
	images, views := exporttest.Inputs(1, m.Metadata().Spec)
	for range 2 { // the second does nothing
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Run(t.Context(), images, views); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("error %v: want ErrClosed", err)
	}
}

func TestOpen_TheFileMayChangeAfterwards(t *testing.T) {
	data := marshal(t, file(t, "nano"))
	m := open(t, data)
	images, views := exporttest.Inputs(1, m.Metadata().Spec)
	before, err := m.Run(t.Context(), images, views)
	if err != nil {
		t.Fatal(err)
	}
	copy(data, bytes.Repeat([]byte{0xff}, len(data)))
	after, err := m.Run(t.Context(), images, views)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the session reads bytes it was made of (-before +after):\n%s", diff)
	}
}
