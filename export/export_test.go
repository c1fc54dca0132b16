package export

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

func TestExport_WritesVerifiedFile(t *testing.T) {
	dir, out := writeRun(t, "tiny"), filepath.Join(t.TempDir(), "model.onnx")
	writeFile(t, out, []byte("an older file"))
	seen, total := 0, 0
	summary, err := Export(t.Context(), dir, out, Options{Progress: func(_ string, n, of int) { seen, total = seen+n, of }})
	if err != nil {
		t.Fatal(err)
	}
	contents, err := Inspect(out)
	if err != nil {
		t.Fatal(err)
	}
	if contents.SHA256 != summary.SHA256 || contents.Bytes != summary.Bytes || contents.Nodes != summary.Nodes {
		t.Errorf("Export says %+v, the file is %+v", summary, contents)
	}
	if n := exporttest.ParityImages; seen != n || total != n || summary.Compared != n {
		t.Errorf("%d images of %d, %d compared: want %d", seen, total, summary.Compared, n)
	}
	checkpoint, err := model.FileDigest(filepath.Join(dir, model.RunCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	want := exporttest.Metadata(exporttest.Spec(t, "tiny"))
	want.CheckpointSHA256, want.Precision = checkpoint, "fp32"
	if _, doc := CardPaths(out); summary.Card != strings.TrimSuffix(doc, "json")+"md" {
		t.Errorf("the card is %s", summary.Card)
	}
	m, err := ort.Open(out, ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if want.SelfTest, err = m.SelfTest(); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]model.Metadata{"Inspect": contents.Metadata, "ort.Open": m.Metadata()} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("metadata of %s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff([]string{"model.card.json", "model.card.md", "model.onnx"}, listDir(t, filepath.Dir(out))); diff != "" {
		t.Errorf("the folder (-want +got):\n%s", diff)
	}
}

func TestExport_SameRunGivesSameBytes(t *testing.T) {
	dir := writeRun(t, "nano")
	held := heldOutStudies(t, dir, 20)
	for _, o := range []Options{
		{}, {Graph: Graph{Opset: 20, Attention: true}}, {Graph: Graph{Part: Encoder}},
		{Graph: Graph{Precision: FP16}, HeldOut: held, Force: true}, {Graph: Graph{Precision: INT8}, HeldOut: held, Force: true, MaxFileBytes: 10_000},
	} {
		var folders [2]map[string]string
		for i := range folders {
			folder := t.TempDir()
			_, err := Export(t.Context(), dir, filepath.Join(folder, "model.onnx"), o)
			must(t, err)
			folders[i] = map[string]string{}
			for _, name := range listDir(t, folder) {
				folders[i][name], err = model.FileDigest(filepath.Join(folder, name))
				must(t, err)
			}
		}
		if diff := cmp.Diff(folders[0], folders[1]); diff != "" {
			t.Errorf("%+v: SHA-256 of the files (-first +second):\n%s", o.Graph, diff)
		}
	}
}

func TestExport_OtherLogitsAreRefused(t *testing.T) {
	dir, out := writeRun(t, "tiny"), filepath.Join(t.TempDir(), "model.onnx")
	path := filepath.Join(dir, model.RunParity)
	tensors, _, err := model.ReadSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	tensors["logits"].Data[10*model.NumLabels+3] += 3e-4 // the last image: three tolerances off
	writeTensors(t, path, tensors)
	_, err = Export(t.Context(), dir, out, Options{})
	var parity *ParityError
	if !errors.As(err, &parity) || parity.Image != 10 || parity.Label != model.Labels[3] || hint.Of(err) == "" {
		t.Errorf("error %v, hint %q: want image 10, %s and a hint", err, hint.Of(err), model.Labels[3])
	}
	if names := listDir(t, filepath.Dir(out)); len(names) != 0 {
		t.Errorf("the folder holds %v: want nothing", names)
	}
}

func TestExport_CancelledLeavesNoFile(t *testing.T) {
	dir, out := writeRun(t, "nano"), filepath.Join(t.TempDir(), "model.onnx")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Export(ctx, dir, out, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v: want context.Canceled", err)
	}
	if names := listDir(t, filepath.Dir(out)); len(names) != 0 {
		t.Errorf("the folder holds %v: want nothing", names)
	}
}

func TestExport_DamagedRunIsNamed(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string // in the error, which must come with a hint
	}{
		{"no folder", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }, "no such folder"},
		{"no metadata", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, model.RunMetadata))) }, model.RunMetadata},
		{"metadata not JSON", func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, model.RunMetadata), []byte("{")) },
			model.RunMetadata},
		{"metadata incomplete", func(t *testing.T, dir string) {
			writeFile(t, filepath.Join(dir, model.RunMetadata), []byte(`{"format_version":1}`))
		}, "labels: 0 of them"},
		{"no checkpoint", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, model.RunCheckpoint))) }, model.RunCheckpoint},
		{"checkpoint cut short", func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, model.RunCheckpoint)) }, model.RunCheckpoint},
		{"checkpoint of another network", func(t *testing.T, dir string) {
			writeTensors(t, filepath.Join(dir, model.RunCheckpoint), exporttest.Weights(exporttest.Spec(t, "tiny")))
		}, "encoder.patchify.weight has shape [192 64]: want [32 64]"},
		{"checkpoint without head", func(t *testing.T, dir string) {
			weights := exporttest.Weights(exporttest.Spec(t, "nano"))
			delete(weights, "head.weight")
			writeTensors(t, filepath.Join(dir, model.RunCheckpoint), weights)
		}, "parameter head.weight [14 32] is missing"},
		{"no parity file", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, model.RunParity))) }, model.RunParity},
		{"parity file cut short", func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, model.RunParity)) }, model.RunParity},
		{"parity file of another size", func(t *testing.T, dir string) {
			writeTensors(t, filepath.Join(dir, model.RunParity), model.Tensors{"view": {Dims: []int{2}, Data: []float32{0, 1}}})
		}, "image [], view [2], logits []: want [n,1,32,32], [n], [n,14]"},
		{"parity file with NaN", func(t *testing.T, dir string) {
			zero := float32(0)
			writeTensors(t, filepath.Join(dir, model.RunParity), model.Tensors{
				"image": {Dims: []int{2, 1, 32, 32}, Data: make([]float32, 2048)}, "view": {Dims: []int{2}, Data: []float32{0, 1}},
				"logits": {Dims: []int{2, 14}, Data: slices.Repeat([]float32{zero / zero}, 28)},
			})
		}, "the trainer had NaN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, out := writeRun(t, "nano"), filepath.Join(t.TempDir(), "model.onnx")
			c.damage(t, dir)
			_, err := Export(t.Context(), dir, out, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) || hint.Of(err) == "" {
				t.Errorf("error %v, hint %q: want %q and a hint", err, hint.Of(err), c.want)
			}
			if names := listDir(t, filepath.Dir(out)); len(names) != 0 {
				t.Errorf("the folder holds %v: want nothing", names)
			}
		})
	}
}

func TestExport_UnwritableFolderIsNamed(t *testing.T) {
	dir, file := writeRun(t, "nano"), filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	for _, out := range []string{filepath.Join(file, "model.onnx"), filepath.Join(t.TempDir(), "nowhere", "model.onnx"), t.TempDir()} {
		_, err := Export(t.Context(), dir, out, Options{})
		if err == nil || !strings.Contains(err.Error(), out) || hint.Of(err) == "" {
			t.Errorf("%s: error %v, hint %q: want the path and a hint", out, err, hint.Of(err))
		}
	}
}

func TestDefaultRun_TakesTheNewest(t *testing.T) {
	root := t.TempDir()
	t.Setenv(RunsEnv, root)
	if _, err := DefaultRun(); !errors.Is(err, ErrNoRun) || hint.Of(err) == "" {
		t.Errorf("error %v, hint %q: want ErrNoRun and a hint", err, hint.Of(err))
	}
	for i, name := range []string{"c", "a", "b"} {
		must(t, os.Mkdir(filepath.Join(root, name), 0o755))
		path := filepath.Join(root, name, model.RunMetadata)
		writeFile(t, path, nil)
		at := time.Unix(int64(1000+i), 0)
		must(t, os.Chtimes(path, at, at))
	}
	must(t, os.Mkdir(filepath.Join(root, "z-without-metadata"), 0o755))
	if got, err := DefaultRun(); err != nil || got != filepath.Join(root, "b") {
		t.Errorf("run %s, error %v: want b", got, err)
	}
}

func TestBuild_EveryNodeAndWeightIsUsed(t *testing.T) {
	for _, pool := range []model.Pool{model.PoolCLS, model.PoolMean} {
		s := exporttest.Spec(t, "nano")
		s.Pool, s.QKNorm, s.Positions = pool, true, model.Learned
		file, err := Build(exporttest.Metadata(s), exporttest.Weights(s))
		if err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		for _, n := range file.Graph.Node {
			for _, in := range n.Input {
				used[in] = true
			}
		}
		for _, out := range file.Graph.Output {
			used[out.Name] = true
		}
		var made []string
		for _, n := range file.Graph.Node {
			made = append(made, n.Output...)
		}
		for _, w := range file.Graph.Initializer {
			made = append(made, w.Name)
		}
		for _, in := range file.Graph.Input {
			made = append(made, in.Name)
		}
		for _, name := range made {
			if !used[name] {
				t.Errorf("pool %s: nothing reads %s", pool, name)
			}
		}
	}
}

func TestInspect_BadFilesAreNamed(t *testing.T) {
	whole := build(t, exporttest.Spec(t, "nano"), exporttest.Weights(exporttest.Spec(t, "nano")))
	bare, err := proto.Marshal(&onnxpb.ModelProto{IrVersion: irVersions[0], Graph: &onnxpb.GraphProto{Name: "other"}})
	must(t, err)
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "not a whole ONNX file"},
		{"text", []byte("this is no model\n"), "not a whole ONNX file"},
		{"cut short", whole[:len(whole)/2], "not a whole ONNX file"},
		{"without metadata", bare, `without the metadata "mvmae"`},
	} {
		path := filepath.Join(t.TempDir(), "model.onnx")
		writeFile(t, path, c.data)
		_, err := Inspect(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || hint.Of(err) == "" {
			t.Errorf("%s: error %v, hint %q: want %q, the path and a hint", c.name, err, hint.Of(err), c.want)
		}
	}
}

func listDir(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func truncate(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, info.Size()/2))
}
