package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/train/data"
)

// dataCommand parses and runs a command line of index or pack as the program does, and returns its JSON document.
func dataCommand(t *testing.T, args ...string) (doc map[string]any, err error) {
	t.Helper()
	var commands struct {
		Index IndexCmd `cmd:""`
		Pack  PackCmd  `cmd:""`
	}
	parser, err := kong.New(&commands)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	parsed.BindTo(context.Background(), (*context.Context)(nil))
	err = parsed.Run(&cli.Output{JSON: true, Stdout: &stdout, Stderr: t.Output()})
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &doc); err != nil {
			t.Fatalf("standard output is not JSON: %v\n%s", err, stdout.Bytes())
		}
	}
	return doc, err
}

func exitOf(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	if err != nil {
		return cli.ExitFailure
	}
	return cli.ExitOK
}

// nihTree is a ChestX-ray14 folder of n patients with an image each.
func nihTree(t *testing.T, n int) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "images"), 0o755); err != nil {
		t.Fatal(err)
	}
	table := "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position," +
		"OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
	for p := range n {
		name := fmt.Sprintf("%08d_000.png", 41000+p)
		table += fmt.Sprintf("%s,Edema,0,%d,58,M,PA,2682,2749,0.143,0.143\n", name, 41000+p)
		picture := image.NewGray(image.Rect(0, 0, 16, 16))
		for i := range picture.Pix {
			picture.Pix[i] = byte(i * (p + 1))
		}
		var body bytes.Buffer
		if err := png.Encode(&body, picture); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, "images", name), body.Bytes())
	}
	write(t, filepath.Join(root, "Data_Entry_2017_v2020.csv"), []byte(table))
	return root
}

func write(t *testing.T, path string, body []byte) {
	t.Helper()
	if err := os.WriteFile(path, body, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestIndexAndPack_FromFolderToPack(t *testing.T) {
	root, work := nihTree(t, 20), t.TempDir()
	index, pack, key := filepath.Join(work, "new", "nih.parquet"), filepath.Join(work, "pack"), filepath.Join(work, "key")
	write(t, key, bytes.Repeat([]byte("k"), 32))
	doc, err := dataCommand(t, "index", "nih", "--root", root, "--out", index, "--split-shares", "0.4,0.3,0.3", "--dataset", "west")
	if err != nil {
		t.Fatal(err)
	}
	if doc["dataset"] != "west" || doc["index"] != index {
		t.Errorf("index says %v", doc)
	}
	train := doc["counts"].(map[string]any)["train"].(map[string]any)
	if n := train["patients"].(float64); n < 1 || n > 19 || train["labels"].(map[string]any)["Edema"].(map[string]any)["positive"] != n {
		t.Errorf("train counts are %v", train)
	}
	doc, err = dataCommand(t, "pack", index, "--out", pack, "--recipe", "display", "--key-file", key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := data.Open(pack)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if m := doc["manifest"].(map[string]any); m["images"] != 20.0 || m["deidentified"] != true || p.Recipe.String() != "display" {
		t.Errorf("pack says %v", m)
	}
}

// Inputs that were left out are exit code 3: the rest is done all the same.
func TestIndexAndPack_LeaveOutAndSaySo(t *testing.T) {
	root, work := nihTree(t, 5), t.TempDir()
	index, pack := filepath.Join(work, "nih.parquet"), filepath.Join(work, "pack")
	if err := os.Remove(filepath.Join(root, "images", "00041001_000.png")); err != nil {
		t.Fatal(err)
	}
	doc, err := dataCommand(t, "index", "nih", "--root", root, "--out", index, "--split-shares", "1,0,0")
	if exitOf(err) != cli.ExitRefused {
		t.Fatalf("error %v with code %d, want %d", err, exitOf(err), cli.ExitRefused)
	}
	if text := fmt.Sprint(doc["remarks"]); !strings.Contains(text, "missing_image") || !strings.Contains(text, "00041001_000.png") {
		t.Errorf("remarks %s, want the missing image", text)
	}
	broken := filepath.Join(root, "images", "00041002_000.png")
	info, err := os.Stat(broken)
	if err != nil {
		t.Fatal(err)
	}
	write(t, broken, make([]byte, info.Size()))
	doc, err = dataCommand(t, "pack", index, "--out", pack)
	if exitOf(err) != cli.ExitRefused {
		t.Fatalf("error %v with code %d, want %d", err, exitOf(err), cli.ExitRefused)
	}
	if m := doc["manifest"].(map[string]any); m["images"] != 3.0 {
		t.Errorf("%v images, want 3", m["images"])
	}
}

func TestPack_KeyWithoutDeidentifyIsAUsageError(t *testing.T) {
	work := t.TempDir()
	key := filepath.Join(work, "key")
	write(t, key, []byte("k"))
	_, err := dataCommand(t, "pack", key, "--out", filepath.Join(work, "pack"), "--no-deidentify", "--key-file", key)
	if exitOf(err) != cli.ExitUsage {
		t.Errorf("error %v with code %d, want %d", err, exitOf(err), cli.ExitUsage)
	}
}
