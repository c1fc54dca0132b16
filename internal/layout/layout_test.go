// Package layout holds no code: its tests keep the arrows between the project's folders pointing one way.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/mvmae/mvmae/"

// mayImport is the table of folders: what the packages of a folder may import of this module besides their own folder and
// internal. "a" is package a alone, "a/..." also all below it. Of several rows that hold for a package the longest counts; a
// package without a row may not exist.
var mayImport = map[string][]string{
	"dicom":        {},
	"dicom/codec":  {"dicom"},
	"dicom/cxr":    {"dicom", "dicom/codec"},
	"dicom/pacs":   {"dicom", "dicom/codec"},
	"model":        {"dicom/cxr"}, // for recipe names
	"train":        {"model/...", "dicom/..."},
	"export":       {"model/..."},
	"serve":        {"serve/api", "model/...", "dicom/..."},
	"serve/api":    {"model/fuse"},
	"serve/client": {"serve/api"}, // and with it whoever calls a server: none of what a server is made of
	"cmd":          {"train/...", "export/...", "serve/...", "model/...", "dicom/..."},
	"internal":     {},
	"deploy":       {},
	"test":         {"train/...", "dicom/..."},
	"benchmarks":   {"test/...", "train/...", "export/...", "serve/...", "model/...", "dicom/..."},
}

// under says whether package path p is folder or lies in it.
func under(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// folderOf returns the row of mayImport that holds for a package.
func folderOf(p string) string {
	found := ""
	for folder := range mayImport {
		if under(p, folder) && len(folder) > len(found) {
			found = folder
		}
	}
	return found
}

func allowed(from, to string) bool {
	folder := folderOf(from)
	if folderOf(to) == folder || under(to, "internal") {
		return true
	}
	for _, ok := range mayImport[folder] {
		tree, isTree := strings.CutSuffix(ok, "/...")
		if to == ok || isTree && under(to, tree) {
			return true
		}
	}
	return false
}

func TestImports_PointOneWay(t *testing.T) {
	packages := 0
	for _, p := range list(t, "./...") {
		from := strings.TrimPrefix(p.ImportPath, module)
		if folderOf(from) == "" {
			t.Errorf("%s lies in none of the folders of the design", from)
			continue
		}
		packages++
		for _, imported := range p.Imports {
			if to, own := strings.CutPrefix(imported, module); own && !allowed(from, to) {
				t.Errorf("%s must not import %s", from, to)
			}
		}
	}
	if packages == 0 {
		t.Error("no package was checked")
	}
}

func TestServe_HoldsNoTrainingStack(t *testing.T) {
	seen := false
	for _, p := range list(t, "-deps", "./cmd/mvmae-serve") {
		seen = seen || p.ImportPath == module+"cmd/mvmae-serve"
		for _, barred := range []string{"github.com/gomlx", module + "train", module + "export"} {
			if under(p.ImportPath, barred) {
				t.Errorf("mvmae-serve holds %s", p.ImportPath)
			}
		}
	}
	if !seen {
		t.Error("mvmae-serve was not listed")
	}
}

func TestAllowed_FollowsTheTable(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"serve", "train", false},
		{"serve/web", "serve", true},
		{"train/data", "export", false},
		{"train/data", "dicom/cxr", true},
		{"export", "dicom/cxr", false},
		{"model/ort", "model", true},
		{"model", "dicom/cxr", true},
		{"model", "dicom", false},
		{"dicom/cxr", "model", false},
		{"dicom/pacs", "dicom/cxr", false},
		{"dicom/codec", "dicom", true},
		{"dicom", "dicom/cxr", false},
		{"dicom/pacs", "dicom", true},
		{"trainer", "model", false},
		{"internal/libs", "model", false},
		{"model/ort", "internal/libs", true},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("%s imports %s: allowed %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

type listed struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}
